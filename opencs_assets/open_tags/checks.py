"""Checks on tags: enough samples are tagged, and enough keep a tag."""

import dagster as dg
import polars as pl

from opencs_assets.wiring.checks import Finding, build_check, few_not_ok
from opencs_assets.wiring.partitions import Partitions

MOST_NOT_TAGGED = 0.2
MOST_WITHOUT_TAG = 0.5


def few_not_tagged(tags: pl.DataFrame) -> Finding:
    """At most 20 % of the samples have no readable tags."""
    return few_not_ok(tags, MOST_NOT_TAGGED, "samples", "could not be tagged", share_of_none=1.0)


def few_without_tag(tags: pl.DataFrame) -> Finding:
    """At most half of the samples lose all their tags, and none disappears without a reason."""
    empty = tags.filter(pl.col("tags").list.len() == 0)
    unexplained = empty["reason"].null_count()
    share = empty.height / tags.height if tags.height else 1.0
    return Finding(
        share <= MOST_WITHOUT_TAG and not unexplained,
        f"{empty.height} of {tags.height} samples ({share:.1%}) have no tag left, "
        f"{unexplained} of them without a reason",
        {
            "by_reason": dict(empty["reason"].drop_nulls().value_counts().iter_rows()),
            "limit": MOST_WITHOUT_TAG,
        },
    )


def build_tag_checks(partitions: Partitions) -> list[dg.AssetChecksDefinition]:
    """The checks on ``open_tags`` and ``normalized_tags``."""
    return [
        build_check("open_tags", few_not_tagged, partitions.dataset),
        build_check("normalized_tags", few_without_tag, partitions.dataset),
    ]

"""Checks on a raw dataset: its samples are sound, and few rows were rejected."""

import dagster as dg
import polars as pl

from opencs_assets.wiring.checks import Finding, build_check
from opencs_assets.wiring.partitions import Partitions

MOST_REJECTED = 0.5


def sound_samples(samples: pl.DataFrame) -> Finding:
    """There are samples, and none is blank or occurs twice."""
    blank = samples.filter(
        (pl.col("instruction").str.strip_chars() == "")
        | (pl.col("response").str.strip_chars() == "")
    ).height
    repeated = samples.height - samples["sample_id"].n_unique()
    return Finding(
        samples.height > 0 and not blank and not repeated,
        f"{samples.height} samples, {blank} blank, {repeated} repeated",
        {"samples": samples.height, "blank": blank, "repeated": repeated},
    )


def few_rejected(rejected: pl.DataFrame, samples: pl.DataFrame) -> Finding:
    """At most half of the file's rows were rejected (duplicates aside)."""
    bad = rejected.filter(pl.col("reason") != "duplicate").height
    rows = rejected.height + samples.height
    share = bad / rows if rows else 1.0
    return Finding(
        share <= MOST_REJECTED,
        f"{bad} of {rows} rows ({share:.1%}) can't be read as samples",
        {"rejected": bad, "rows": rows, "limit": MOST_REJECTED},
    )


def build_dataset_checks(partitions: Partitions) -> list[dg.AssetChecksDefinition]:
    """The checks on ``raw_dataset`` and ``rejected_rows``."""
    return [
        build_check("raw_dataset", sound_samples, partitions.dataset),
        build_check("rejected_rows", few_rejected, partitions.dataset, "raw_dataset"),
    ]

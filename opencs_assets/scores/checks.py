"""Whether scores stand on what they should stand on."""

import dagster as dg
import polars as pl

from opencs_assets.checks import Finding, build_check
from opencs_assets.partitions import Partitions

MOST_UNREAD = 0.1


def both_orders(comparisons: pl.DataFrame) -> Finding:
    """Every pair was shown in both orders, once each."""
    pairs = comparisons.group_by("cluster", "sample_a", "sample_b").agg(
        orders=pl.col("shown_first").n_unique(), rows=pl.len()
    )
    wrong = pairs.filter((pl.col("orders") != 2) | (pl.col("rows") != 2)).height
    return Finding(
        not wrong,
        f"{pairs.height} pairs, {wrong} not judged once in each order",
        {"pairs": pairs.height, "wrong": wrong},
    )


def few_unread(replies: pl.DataFrame) -> Finding:
    """At most 10 % of the replies could not be read."""
    unread = replies.filter(pl.col("status") != "ok")
    share = unread.height / replies.height if replies.height else 0.0
    return Finding(
        share <= MOST_UNREAD,
        f"{unread.height} of {replies.height} replies ({share:.1%}) could not be read",
        {
            "by_status": dict(unread["status"].value_counts().sort("status").iter_rows()),
            "limit": MOST_UNREAD,
        },
    )


def every_candidate(scores: pl.DataFrame, clusters: pl.DataFrame) -> Finding:
    """Every candidate has a row in its primary cluster, and the scores are within 1 and 100."""
    candidates = clusters.filter(pl.col("is_candidate") & pl.col("is_primary"))
    lost = candidates.join(scores, on=["cluster", "sample_id"], how="anti").height
    outside = scores.filter(~pl.col("score").is_between(1, 100)).height
    return Finding(
        not lost and not outside,
        f"{candidates.height} candidates, {lost} without a row, {outside} scores out of range",
        {"candidates": candidates.height, "lost": lost, "out_of_range": outside},
    )


def build_score_checks(partitions: Partitions) -> list[dg.AssetChecksDefinition]:
    """The checks on comparisons, contrastive and single scores."""
    dataset = partitions.dataset
    return [
        # Judging in one order is what profile faithful does, so it is shown and does not block.
        build_check(
            "score_comparisons", "both_orders", both_orders, partitions_def=dataset, blocking=False
        ),
        build_check("score_comparisons", "few_unread", few_unread, partitions_def=dataset),
        build_check(
            "contrastive_scores",
            "every_candidate",
            every_candidate,
            partitions_def=dataset,
            inputs={"sample_clusters": dg.AssetIn("sample_clusters")},
        ),
        build_check("single_scores", "few_unread", few_unread, partitions_def=dataset),
    ]

"""Checks on comparisons and scores: enough of them are readable, and quality decides them."""

import dagster as dg
import polars as pl

from opencs_assets.wiring.checks import Finding, build_check, few_not_ok, missing_and_unknown
from opencs_assets.wiring.partitions import Partitions

MOST_UNREAD = 0.1
MOST_UNBALANCED = 0.1
# Where the sample shown first wins a share of the comparisons between these two, the samples decide
# and not their positions.
LEAST_FIRST, MOST_FIRST = 0.1, 0.9


def balanced_orders(comparisons: pl.DataFrame) -> Finding:
    """Nearly all samples are shown first about as often as second."""
    samples = (
        pl.concat(
            comparisons.select(
                "cluster",
                sample_id=f"sample_{side}",
                lead=pl.when(pl.col("shown_first") == side).then(1).otherwise(-1),
            )
            for side in ("a", "b")
        )
        .group_by("cluster", "sample_id")
        .agg(shown=pl.len(), lead=pl.col("lead").sum().abs())
    )
    shown, lead = pl.col("shown"), pl.col("lead")
    # A sample that was shown an odd number of times leads by one at least; a sample that was shown
    # once has stood in one position only.
    unbalanced = (lead > pl.max_horizontal(shown % 2, shown // 3)) | (shown == 1)
    wrong = samples.filter(unbalanced).height
    return Finding(
        wrong <= MOST_UNBALANCED * samples.height,
        f"{samples.height} samples, {wrong} shown in one position much oftener than in the other",
        {"samples": samples.height, "wrong": wrong, "limit": MOST_UNBALANCED},
    )


def decided_by_quality(comparisons: pl.DataFrame) -> Finding:
    """The scorer tells samples apart, and not by which of the two is shown first."""
    a_first = pl.col("shown_first") == "a"
    ahead = pl.col("score_a") - pl.col("score_b")
    leads = comparisons.drop_nulls(["score_a", "score_b"]).select(
        lead=pl.when(a_first).then(ahead).otherwise(-ahead)
    )["lead"]
    told_apart = leads.filter(leads != 0)
    first = (told_apart > 0).mean()
    share = float(first) if isinstance(first, float) else None
    return Finding(
        not leads.len() or (share is not None and LEAST_FIRST <= share <= MOST_FIRST),
        f"{leads.len()} readable comparisons, {leads.len() - told_apart.len()} of them equal"
        + ("" if share is None else f"; the sample shown first wins {share:.0%} of the others"),
        {
            "equal": leads.len() - told_apart.len(),
            **({} if share is None else {"first_wins": share}),
        },
    )


def few_unread(replies: pl.DataFrame) -> Finding:
    """At most 10 % of the replies could not be read."""
    return few_not_ok(replies, MOST_UNREAD, "replies", "could not be read")


def every_candidate(scores: pl.DataFrame, clusters: pl.DataFrame) -> Finding:
    """Every candidate has a row in its primary cluster, and the scores are within 1 and 100."""
    candidates = clusters.filter(pl.col("is_candidate") & pl.col("is_primary"))
    lost = missing_and_unknown(candidates.select("cluster", "sample_id"), scores)[0].height
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
        # The profile `faithful` compares in one order, so an imbalance is shown and does not block.
        *(
            build_check(table, find, dataset, blocking=False)
            for table in ("score_comparisons", "whole_set_comparisons")
            for find in (balanced_orders, decided_by_quality)
        ),
        *(
            build_check(table, few_unread, dataset)
            for table in ("score_comparisons", "whole_set_comparisons", "single_scores")
        ),
        build_check("contrastive_scores", every_candidate, dataset, "sample_clusters"),
    ]

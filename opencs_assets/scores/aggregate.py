"""From comparisons to one score of each sample in each cluster.

``bradley_terry``: how a sample would do against the average of its cluster, whomever it happened
to meet. ``mean``: the mean of the scores that it was given, as published. Scores rank within a
cluster only.
"""

from dataclasses import dataclass

import numpy as np
import polars as pl
from scipy.special import expit, ndtri, stdtrit

from opencs_assets.scores.bradley_terry import Comparisons, Floats, Ints, fit
from opencs_assets.scores.contrast import HIGH, LOW
from opencs_assets.tables.scores import CONTRASTIVE_SCORES
from resources.settings import Aggregate

# The share of intervals that hold the score that the scorer would give in the long run.
LEVEL = 0.95
# The strengths of a cluster with more samples are represented by so many of their quantiles.
QUANTILES = 200


@dataclass(frozen=True)
class Scores:
    """Scores of a dataset, one row a cluster and sample (schema ``CONTRASTIVE_SCORES``).

    ``position`` is how many points a sample gains by being shown first beside an equal one;
    ``None`` where that was not estimated.
    """

    table: pl.DataFrame
    position: float | None


def outcome(first: pl.Expr, second: pl.Expr) -> pl.Expr:
    """How far the first did better, 0 to 1: the scores' difference as a share of the largest.

    Where the scores are read from the probabilities of labels, it is the probability of the first.
    """
    return 0.5 + (first - second) / (2 * (HIGH - LOW))


def numbered(comparisons: pl.DataFrame, samples: pl.DataFrame) -> Comparisons:
    """Readable comparisons as numbers; a sample's number is its row in ``samples``.

    ``samples`` has a row for each cluster and sample, so a sample has a number in each cluster.
    """
    number = samples.select("cluster", "sample_id", number=pl.int_range(pl.len()))
    a_first = pl.col("shown_first") == "a"
    shown = comparisons.drop_nulls(["score_a", "score_b"]).select(
        "cluster",
        first=pl.when(a_first).then("sample_a").otherwise("sample_b"),
        second=pl.when(a_first).then("sample_b").otherwise("sample_a"),
        share=pl.when(a_first)
        .then(outcome(pl.col("score_a"), pl.col("score_b")))
        .otherwise(outcome(pl.col("score_b"), pl.col("score_a"))),
    )
    placed = shown.join(
        number, left_on=["cluster", "first"], right_on=["cluster", "sample_id"]
    ).join(
        number, left_on=["cluster", "second"], right_on=["cluster", "sample_id"], suffix="_second"
    )
    return Comparisons(
        placed["number"].to_numpy().astype(np.int64),
        placed["number_second"].to_numpy().astype(np.int64),
        placed["share"].to_numpy(),
        samples.height,
    )


def contrastive_scores(
    comparisons: pl.DataFrame,
    samples: pl.DataFrame,
    aggregate: Aggregate,
    *,
    intervals: bool = True,
) -> Scores:
    """The score of each candidate in each cluster that it was to be compared in.

    Args:
        comparisons: Rows of ``score_comparisons``.
        samples: ``cluster`` and ``sample_id`` of the candidates; a candidate without any readable
            comparison keeps a row with a null score.
        aggregate: How comparisons become a score.
        intervals: Whether intervals are computed; otherwise ``low`` and ``high`` are null.
    """
    samples = samples.select("cluster", "sample_id").sort("cluster", "sample_id")
    sides = _sides(comparisons)
    score, first = pl.col("score"), pl.col("first")
    counted = sides.group_by("cluster", "sample_id").agg(
        comparisons=score.count().cast(pl.Int64),
        opponents=pl.col("opponent").filter(score.is_not_null()).n_unique().cast(pl.Int64),
        missing=score.null_count().cast(pl.Int64),
        order_gap=score.filter(first).mean() - score.filter(~first).mean(),
    )
    counts = ("comparisons", "opponents", "missing")
    counted = samples.join(
        counted, on=["cluster", "sample_id"], how="left", maintain_order="left"
    ).with_columns(pl.col(counts).fill_null(0))
    if aggregate == "mean":
        scored, position = _by_mean(samples, sides, intervals=intervals), None
    else:
        scored, position = _by_strength(comparisons, samples, intervals=intervals)
    compared = pl.col("comparisons") > 0
    table = pl.concat([counted, scored], how="horizontal").with_columns(
        pl.when(compared).then(name).alias(name) for name in ("score", "low", "high")
    )
    return Scores(table.select(list(CONTRASTIVE_SCORES.columns)), position)


def _sides(comparisons: pl.DataFrame) -> pl.DataFrame:
    """Each comparison seen from each of its samples."""
    return pl.concat(
        comparisons.select(
            "cluster",
            sample_id=pl.col(f"sample_{side}"),
            opponent=pl.col(f"sample_{other}"),
            score=pl.col(f"score_{side}"),
            first=pl.col("shown_first") == side,
        )
        for side, other in (("a", "b"), ("b", "a"))
    )


def _by_strength(
    comparisons: pl.DataFrame, samples: pl.DataFrame, *, intervals: bool
) -> tuple[pl.DataFrame, float]:
    known = fit(numbered(comparisons, samples), deviations=intervals)
    edges = {"score": known.strengths}
    if intervals:
        reach = float(ndtri((1 + LEVEL) / 2)) * known.deviations
        edges |= {"low": known.strengths - reach, "high": known.strengths + reach}
    cluster = samples["cluster"].to_numpy()
    scores = pl.DataFrame(
        {name: expected(strengths, known.strengths, cluster) for name, strengths in edges.items()},
    ).with_columns(
        pl.lit(None, dtype=pl.Float64).alias(name) for name in {"low", "high"} - edges.keys()
    )
    return scores, float((HIGH - LOW) * (2 * expit(known.position) - 1))


def expected(strengths: Floats, all_strengths: Floats, cluster: Ints) -> Floats:
    """The score in [1, 100], float64 (n,), that each sample would get on average in its cluster.

    Args:
        strengths: Strength of each sample at which its score is computed, float64 (n,).
        all_strengths: Strength of each sample as an opponent, float64 (n,).
        cluster: Cluster of each sample, int64 (n,), ascending.
    """
    scores = np.empty(len(cluster))
    starts = np.flatnonzero(np.diff(cluster, prepend=cluster[:1] - 1))
    for start, end in zip(starts, [*starts[1:], len(cluster)], strict=True):
        others = all_strengths[start:end]
        if len(others) > QUANTILES:
            others = np.quantile(others, (np.arange(QUANTILES) + 0.5) / QUANTILES)
        chances = expit(strengths[start:end, None] - others[None, :])
        scores[start:end] = LOW + (HIGH - LOW) * chances.mean(axis=1)
    return scores


def _by_mean(samples: pl.DataFrame, sides: pl.DataFrame, *, intervals: bool) -> pl.DataFrame:
    score = pl.col("score")
    means = samples.join(
        sides.drop_nulls("score")
        .group_by("cluster", "sample_id")
        .agg(score.mean(), scores=pl.len(), squares=((score - score.mean()) ** 2).sum()),
        on=["cluster", "sample_id"],
        how="left",
        maintain_order="left",
    )
    # One sample has too few comparisons to tell how far they differ, but all samples together do.
    freedom = int((means["scores"].cast(pl.Int64) - 1).sum())
    reach: pl.Expr = pl.lit(None, dtype=pl.Float64)
    if freedom and intervals:
        deviation = (float(means["squares"].sum()) / freedom) ** 0.5
        quantile = float(stdtrit(freedom, (1 + LEVEL) / 2))
        reach = quantile * deviation / pl.col("scores").sqrt()
    ends = {"low": score - reach, "high": score + reach}
    return means.select(score, **{name: end.clip(LOW, HIGH) for name, end in ends.items()})

"""Which samples of a cluster are compared, and in which order they are shown."""

from dataclasses import dataclass

import polars as pl

from opencs_assets.config.profiles import Constants

# Number of the one cluster that holds the whole set, for the ablation without clusters.
WHOLE_SET = -1


@dataclass(frozen=True)
class Comparison:
    """One question to the scorer, asked in a 0-based round: two samples of a cluster, in an order.

    ``shown_first`` is ``a`` or ``b``.
    """

    cluster: int
    sample_a: str
    sample_b: str
    shown_first: str
    round: int = 0


def adjacent_pairs(count: int) -> list[tuple[int, int]]:
    """Neighbours 0-1, 2-3, ... as published; where the count is odd, the last is in no pair."""
    return [(first, first + 1) for first in range(0, count - 1, 2)]


def ring_pairs(count: int) -> list[tuple[int, int]]:
    """Each with the next and the last with the first, so that everyone has two opponents.

    Two samples make one pair; one makes none.
    """
    if count < 3:
        return adjacent_pairs(count)
    return [(first, (first + 1) % count) for first in range(count)]


def candidates(samples: pl.DataFrame, constants: Constants) -> pl.DataFrame:
    """The candidates among rows of ``sample_clusters``: ``cluster`` and ``sample_id``, sorted."""
    chosen = samples.filter("is_candidate")
    if constants.one_cluster_each:
        chosen = chosen.filter("is_primary")
    return chosen.select("cluster", "sample_id").sort("cluster", "sample_id")


def whole_set(samples: pl.DataFrame) -> pl.DataFrame:
    """All samples in one cluster: the candidates of the ablation without clusters."""
    return samples.select(cluster=pl.lit(WHOLE_SET, dtype=pl.Int64), sample_id="sample_id").sort(
        "sample_id"
    )


def comparisons(scored: pl.DataFrame, rows: pl.DataFrame, constants: Constants) -> list[Comparison]:
    """The comparisons for a dataset by cluster; the order of the input's rows does not matter.

    Args:
        scored: ``cluster`` and ``sample_id`` of the candidates.
        rows: ``sample_id`` and ``row``, the place in the source file.
        constants: They say with whom a sample is compared, and in which orders.
    """
    # Neighbours in a file are often alike or duplicates. Ids are hashes, so sorting by them
    # separates neighbours as a shuffle does, and most pairs stay when a cluster's samples change.
    order = "sample_id" if constants.ring else "row"
    ordered = scored.join(rows.select("sample_id", "row"), on="sample_id").sort("cluster", order)
    cluster_comparisons = []
    for (cluster,), group in ordered.group_by("cluster", maintain_order=True):
        members = group["sample_id"].to_list()
        pairs = (ring_pairs if constants.ring else adjacent_pairs)(len(members))
        cluster_comparisons += [
            Comparison(int(str(cluster)), members[first], members[second], shown_first)
            for first, second in pairs
            for shown_first in ("a", "b")[: 2 if constants.both_orders else 1]
        ]
    return cluster_comparisons

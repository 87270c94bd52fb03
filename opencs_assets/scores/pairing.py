"""Which samples of a cluster are compared, and in which order they are shown."""

from dataclasses import dataclass

import numpy as np
import polars as pl

from opencs_assets.profiles import Constants


@dataclass(frozen=True)
class Comparison:
    """One question to the scorer: two samples of a cluster, in the order they are shown.

    Attributes:
        cluster: The cluster that both are in.
        sample_a: First sample of the pair.
        sample_b: Second sample of the pair.
        shown_first: ``a`` or ``b``.
    """

    cluster: int
    sample_a: str
    sample_b: str
    shown_first: str


def adjacent_pairs(count: int) -> list[tuple[int, int]]:
    """Neighbours 0-1, 2-3, ... as published; of an odd count the last is in no pair."""
    return [(first, first + 1) for first in range(0, count - 1, 2)]


def ring_pairs(count: int) -> list[tuple[int, int]]:
    """Each with the next, the last with the first: two opponents for everyone.

    Two make one pair; one makes none.
    """
    if count < 3:
        return adjacent_pairs(count)
    return [(first, (first + 1) % count) for first in range(count)]


def comparisons(
    samples: pl.DataFrame, rows: pl.DataFrame, constants: Constants
) -> list[Comparison]:
    """The comparisons for a dataset.

    Args:
        samples: Rows of ``sample_clusters``; only candidates are compared.
        rows: ``sample_id`` and ``row``, the order in the source file.
        constants: The choices of the profile: in which clusters a sample is compared, with
            whom, and in which orders.

    Returns:
        Comparisons by cluster; the order of the input's rows does not matter.
    """
    chosen = samples.filter("is_candidate")
    if constants.one_cluster_each:
        chosen = chosen.filter("is_primary")
    ordered = chosen.join(rows.select("sample_id", "row"), on="sample_id").sort("cluster", "row")
    found = []
    for (cluster,), group in ordered.group_by("cluster", maintain_order=True):
        members = group["sample_id"].to_list()
        if constants.ring:
            # Neighbours in a file are often alike or duplicates; a seeded shuffle parts them.
            rng = np.random.default_rng([constants.seed, int(str(cluster))])
            members = [members[place] for place in rng.permutation(len(members))]
        pairs = (ring_pairs if constants.ring else adjacent_pairs)(len(members))
        found += [
            Comparison(int(str(cluster)), members[first], members[second], shown_first)
            for first, second in pairs
            for shown_first in ("a", "b")[: 2 if constants.both_orders else 1]
        ]
    return found

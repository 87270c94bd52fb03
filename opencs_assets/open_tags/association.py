"""The association step: a tag that nearly always comes with another becomes the other."""

from typing import NamedTuple

import numpy as np
import polars as pl
from scipy import sparse

from opencs_assets.open_tags.pairs import Ints, Pairs, rename


class Associations(NamedTuple):
    """What each tag becomes (String, (t,)), and how many rounds that took."""

    became: pl.Series
    rounds: int


def association(pairs: Pairs, *, support: int, confidence: float) -> Associations:
    """Merge tags by rules A → B, round after round until none holds (InsTag: 40 and 99 %).

    InsTag takes the rules from FP-growth over the samples' tags. Only rules between two single
    tags say that one may stand for the other, and all of those lie in the sparse product of the
    sample-tag matrix with itself, so that is what is computed. A rule of confidence near 1 holds
    from the rarer tag to the commoner one; a tag with several rules follows the most confident.

    Args:
        pairs: Samples and their tags.
        support: Fewest samples that carry both.
        confidence: Least share of the samples with A that also carry B, in (0.5, 1].
    """
    became, rounds = np.arange(len(pairs.names)), 0
    current = pairs
    while True:
        rounds += 1
        targets = _targets(current, support, confidence)
        if (targets == np.arange(len(targets))).all():
            return Associations(current.names.gather(became), rounds)
        current, numbers = rename(current, current.names.gather(targets))
        became = numbers[became]


def _targets(pairs: Pairs, support: int, confidence: float) -> Ints:
    """The tag that each tag merges into, int64 (t,): itself where no rule holds."""
    counts = pairs.counts
    targets = np.arange(len(counts))
    frequent = np.flatnonzero(counts >= support)
    if len(frequent) < 2:
        return targets
    column = np.full(len(counts), -1)
    column[frequent] = np.arange(len(frequent))
    is_frequent = column[pairs.tags] >= 0
    carried = sparse.csr_matrix(
        (
            np.ones(int(is_frequent.sum()), np.int64),
            (pairs.samples[is_frequent], column[pairs.tags[is_frequent]]),
        ),
        shape=(int(pairs.samples[-1]) + 1, len(frequent)),
    )
    together = (carried.T @ carried).tocoo()
    tag, other, both = frequent[together.row], frequent[together.col], together.data
    # A tag merges only into a commoner one, or into an equally common one that is earlier by name,
    # so that no two merge into each other.
    larger = (counts[other] > counts[tag]) | ((counts[other] == counts[tag]) & (other < tag))
    # Counts are compared, with room for the rounding of a product like 0.99 * 100.
    holds = larger & (both >= support) & (both >= confidence * counts[tag] - 1e-9)
    tag, other, both = tag[holds], other[holds], both[holds]
    best_last = np.lexsort((-other, counts[other], both, tag))
    targets[tag[best_last]] = other[best_last]
    # Where A becomes B and B becomes C, A becomes C.
    while (targets != targets[targets]).any():
        targets = targets[targets]
    return targets

"""How often judges agree, vote by vote, and Cohen's kappa.

As FastChat's ``compute_agreement.py`` counts: each vote of the one judge about an item is compared
with each of the other's about it, so that several people who vote on one pair count one by one.
What an item is (question, turn and the pair of models) and which way round a vote is meant is up
to the caller; votes without an outcome are left out before.
"""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

Ints = npt.NDArray[np.int64]
Table = npt.NDArray[np.int64]

# Votes are -1 for the one model, 0 for a tie, 1 for the other.
OUTCOMES = 3
TIE = 1


@dataclass(frozen=True)
class Agreement:
    """How far two judges agree.

    Attributes:
        votes: How many votes were compared.
        agree: How many of these were the same.
        share: ``agree / votes``; NaN without votes.
        kappa: Cohen's kappa: how far agreement goes beyond what chance gives judges who vote as
            often for each outcome as these, 1 at most; NaN without votes, or where both always
            voted for the same.
    """

    votes: int
    agree: int
    share: float
    kappa: float


def between(
    items: npt.ArrayLike,
    votes: npt.ArrayLike,
    other_items: npt.ArrayLike,
    other_votes: npt.ArrayLike,
) -> Table:
    """Count the votes of two judges against each other.

    Args:
        items: Number of what each vote of the one judge is about, int (m,).
        votes: -1 for the one model, 0 for a tie, 1 for the other, int (m,).
        other_items: The other judge's, int (k,).
        other_votes: Likewise, the same way round.

    Returns:
        Int64 (3, 3): how often the one voted as the row and the other as the column.

    Raises:
        ValueError: For arrays of different lengths or votes that are none.
    """
    one, other = _checked(items, votes), _checked(other_items, other_votes)
    found, place = np.unique(np.concatenate([one[0], other[0]]), return_inverse=True)
    counts = _counts(place[: len(one[0])], one[1], len(found))
    return np.asarray(counts.T @ _counts(place[len(one[0]) :], other[1], len(found)))


def within(items: npt.ArrayLike, votes: npt.ArrayLike) -> Table:
    """Count the votes of one group of judges against each other: each two about the same item.

    Args:
        items: Number of what each vote is about, int (m,).
        votes: -1 for the one model, 0 for a tie, 1 for the other, int (m,).

    Returns:
        Int64 (3, 3), symmetric, in which each two votes are counted once at each side of the
        diagonal and twice on it; see ``agreement``'s ``both_ways``.

    Raises:
        ValueError: As of ``between``.
    """
    numbers, outcome = _checked(items, votes)
    found, place = np.unique(numbers, return_inverse=True)
    counts = _counts(place, outcome, len(found))
    # A vote is not compared with itself.
    return np.asarray(counts.T @ counts - np.diag(counts.sum(axis=0)))


def agreement(table: Table, *, ties: bool = True, both_ways: bool = False) -> Agreement:
    """Agreement and kappa of a table of votes.

    Args:
        table: Int (3, 3), of ``between`` or ``within``.
        ties: Whether ties count; without, every comparison in which either voted for a tie is
            left out.
        both_ways: Whether each comparison is in the table twice, as of ``within``.
    """
    kept = np.asarray(table) if ties else np.delete(np.delete(table, TIE, 0), TIE, 1)
    votes, agree = int(kept.sum()), int(np.trace(kept))
    share = agree / votes if votes else float("nan")
    by_chance = float(kept.sum(0) @ kept.sum(1)) / votes**2 if votes else 1.0
    kappa = (share - by_chance) / (1 - by_chance) if by_chance < 1 else float("nan")
    times = 2 if both_ways else 1
    return Agreement(votes // times, agree // times, share, kappa)


def _checked(items: npt.ArrayLike, votes: npt.ArrayLike) -> tuple[Ints, Ints]:
    numbers, given = np.asarray(items), np.asarray(votes)
    if numbers.shape != given.shape or numbers.ndim != 1:
        raise ValueError(f"{given.shape} votes about {numbers.shape} items: one of each a vote")
    if len(wrong := np.flatnonzero(~np.isin(given, (-1, 0, 1)))):
        raise ValueError(
            f"vote {wrong[0]} is {given[wrong[0]]}: votes are -1, 0 (a tie) or 1; leave out those "
            "without an outcome"
        )
    return numbers.astype(np.int64), given.astype(np.int64) + 1


def _counts(place: Ints, outcome: Ints, items: int) -> Table:
    return np.bincount(place * OUTCOMES + outcome, minlength=items * OUTCOMES).reshape(-1, OUTCOMES)

"""How often judges agree, vote by vote, and Cohen's kappa.

Votes are counted as in FastChat's ``compute_agreement.py``: each vote of the one judge about an
item is compared with each vote of the other about it, so that several people who vote on one pair
count one by one. The caller decides what an item is (question, turn and the pair of models) and
which of its models is the one, and leaves out votes without an outcome.
"""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

# Place of a tie among the outcomes.
TIE = 1


@dataclass(frozen=True)
class Agreement:
    """How far two judges agree.

    Attributes:
        votes: How many votes were compared.
        agree: How many of these were the same.
        share: ``agree / votes``; NaN without votes.
        kappa: Cohen's kappa, 1 at most: how far agreement exceeds that of judges who vote as often
            for each outcome, but by chance; NaN without votes, or where both judges always voted
            for the same.
    """

    votes: int
    agree: int
    share: float
    kappa: float


def agreement(table: npt.NDArray[np.int64], *, ties: bool = True) -> Agreement:
    """Agreement and kappa of a table of votes.

    Args:
        table: Int (3, 3): how often the one judge voted as the row and the other as the column, in
            the order one model, tie, other model.
        ties: Whether comparisons in which either vote is a tie count.
    """
    counted = np.asarray(table) if ties else np.delete(np.delete(table, TIE, 0), TIE, 1)
    votes, agree = int(counted.sum()), int(np.trace(counted))
    share = agree / votes if votes else float("nan")
    by_chance = float(counted.sum(0) @ counted.sum(1)) / votes**2 if votes else 1.0
    kappa = (share - by_chance) / (1 - by_chance) if by_chance < 1 else float("nan")
    return Agreement(votes, agree, share, kappa)

"""Stopping as soon as it is clear which of two models is better.

Questions are judged in a random order that the seed decides, in batches. After each batch an
interval of the mean (a win counts 1, a tie 0.5) is looked at that holds at all looks together, and
judging stops where it leaves out 0.5. What it tells is about questions like these: they are taken
as independent draws from all that could be asked.
"""

import hashlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import groupby

from opencs_assets.protocols.merging import Result
from opencs_assets.protocols.tasks import JudgedQuestion, PairTask
from opencs_assets.statistics.sequential import interval

EVEN = 0.5
VALUES: Mapping[Result, float] = {"win": 1.0, "tie": 0.5, "lose": 0.0}


@dataclass(frozen=True)
class EarlyStop:
    """When to stop: the interval's level, questions between two looks, seed of their order."""

    level: float
    batch: int
    seed: int


@dataclass(frozen=True)
class Look:
    """What is known after some questions: the mean, 0.5 where nothing is known, and its interval.

    The ``unread`` ones of the ``questions`` have no outcome and are left out of the mean.
    """

    questions: int
    unread: int
    mean: float
    low: float
    high: float

    @property
    def is_clear(self) -> bool:
        """Whether the interval leaves out that both are equally good."""
        return not self.low <= EVEN <= self.high


def batches(tasks: Sequence[PairTask], early: EarlyStop) -> Iterator[list[PairTask]]:
    """The tasks in batches of whole questions, in the seed's order.

    A question's place depends on nothing but itself and the seed, so that adding questions leaves
    the others in their order. The tasks must stand question by question.
    """
    by_question = [list(together) for _, together in groupby(tasks, lambda task: task.question)]
    by_question.sort(key=lambda together: _place(together[0].question, early.seed))
    for start in range(0, len(by_question), early.batch):
        yield [task for together in by_question[start : start + early.batch] for task in together]


def look(outcomes: Mapping[JudgedQuestion, Sequence[Result]], level: float) -> Look:
    """What the outcomes of each question's turns tell so far.

    A question counts with the mean of its turns, and not at all where one of them has no outcome:
    turns differ, and their mix must stay the same.
    """
    values = [
        sum(VALUES[result] for result in results) / len(results)
        for results in outcomes.values()
        if all(result in VALUES for result in results)
    ]
    mean = sum(values) / len(values) if values else EVEN
    low, high = interval(mean, len(values), level)
    return Look(len(outcomes), len(outcomes) - len(values), mean, low, high)


def _place(question: JudgedQuestion, seed: int) -> bytes:
    key = f"{seed}\x1f{question.benchmark}\x1f{question.question_id}"
    return hashlib.sha256(key.encode()).digest()

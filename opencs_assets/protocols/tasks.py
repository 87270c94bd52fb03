"""Which judgments are expected: they follow from the questions, not from the answers there are.

Answers are joined to the questions by question and turn, never by row: an answer that is missing
leaves a judgment that can't be asked for, never one judgment less.
"""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from itertools import groupby
from typing import Literal

import polars as pl

from opencs_assets.tables.answers import UNANSWERED

# The published protocol shows a reference where an answer is right or wrong.
REFERENCE_CATEGORIES = frozenset({"math", "reasoning", "coding"})
WHOLE = 0
# Statuses of what is not asked: an answer is missing, or the result was clear before.
NO_ANSWER = "no_answer"
STOPPED = "stopped"

Side = Literal["a", "b"]
ORDERS: tuple[Side, Side] = ("a", "b")


@dataclass(frozen=True)
class JudgedQuestion:
    """A benchmark's question.

    Attributes:
        turns: What the user asks, turn by turn.
        references: Reference answers by turn; empty where the judge is shown none.
    """

    benchmark: str
    question_id: str
    category: str
    turns: tuple[str, ...]
    references: tuple[str, ...]


@dataclass(frozen=True)
class _Task:
    """Something to be judged of a question: the first turns, or the whole where ``turn`` is 0."""

    question: JudgedQuestion
    turn: int

    @property
    def asked(self) -> tuple[str, ...]:
        """What the user asks up to that turn."""
        return self.question.turns[: self.turn or None]

    @property
    def references(self) -> tuple[str, ...]:
        """Reference answers up to that turn as the benchmark has them, empty ones among them."""
        return self.question.references[: self.turn or None]


@dataclass(frozen=True)
class SingleTask(_Task):
    """One answer to be judged, the last of ``answers``; ``None`` where one is missing."""

    answers: tuple[str, ...] | None

    @property
    def answered(self) -> bool:
        """Whether there is something to judge."""
        return self.answers is not None


@dataclass(frozen=True)
class PairTask(_Task):
    """Two conversations to be compared in one order; ``None`` where an answer is missing."""

    shown_first: Side
    answers_a: tuple[str, ...] | None
    answers_b: tuple[str, ...] | None

    @property
    def answered(self) -> bool:
        """Whether there is something to judge."""
        return self.answers_a is not None and self.answers_b is not None

    @property
    def shown(self) -> tuple[tuple[str, ...], tuple[str, ...]]:
        """Answers in the order in which they are shown."""
        both = (self.answers_a or (), self.answers_b or ())
        return both if self.shown_first == "a" else both[::-1]


def single_tasks(questions: pl.DataFrame, answers: pl.DataFrame) -> list[SingleTask]:
    """Every turn of every question of the benchmarks that were answered, question by question.

    ``answers`` are rows of ``model_answers`` of one experiment.
    """
    given = _answers(answers)
    judged_questions = _questions(questions, set(answers["benchmark"]))
    return [
        SingleTask(question, turn, _conversation(given, question, turn))
        for question in judged_questions
        for turn in range(1, len(question.turns) + 1)
    ]


def pair_tasks(
    questions: pl.DataFrame,
    answers_a: pl.DataFrame,
    answers_b: pl.DataFrame,
    benchmark: str,
    *,
    by_turn: bool,
) -> list[PairTask]:
    """Every question of the matchup's benchmark in both orders, question by question.

    Answers are rows of ``model_answers`` of each model. ``by_turn`` says whether each turn is
    judged, or the whole conversation at once.
    """
    given_a, given_b = _answers(answers_a), _answers(answers_b)
    return [
        PairTask(
            question,
            turn,
            shown_first,
            _conversation(given_a, question, turn or len(question.turns)),
            _conversation(given_b, question, turn or len(question.turns)),
        )
        for question in _questions(questions, {benchmark})
        for turn in (range(1, len(question.turns) + 1) if by_turn else (WHOLE,))
        for shown_first in ORDERS
    ]


def by_benchmark(tasks: Sequence[SingleTask]) -> list[list[SingleTask]]:
    """The tasks of each benchmark, in their order."""
    return [list(group) for _, group in groupby(tasks, lambda task: task.question.benchmark)]


def most_turns(questions: pl.DataFrame, benchmark: str) -> int:
    """Turns of the benchmark's longest question; 0 where it has none."""
    turns = questions.filter(pl.col("benchmark") == benchmark)["turns"].list.len().max()
    return int(turns) if isinstance(turns, int) else 0


def _questions(questions: pl.DataFrame, benchmarks: Collection[str]) -> list[JudgedQuestion]:
    return [
        JudgedQuestion(
            benchmark=row["benchmark"],
            question_id=row["question_id"],
            category=row["category"],
            turns=tuple(row["turns"]),
            references=tuple(row["references"]) if row["category"] in REFERENCE_CATEGORIES else (),
        )
        for row in questions.filter(pl.col("benchmark").is_in(list(benchmarks)))
        .sort("benchmark", "question_id")
        .iter_rows(named=True)
    ]


def _answers(answers: pl.DataFrame) -> dict[tuple[str, str, int], str]:
    """Answers by benchmark, question and turn; a turn that was not asked, or failed, has none."""
    asked = answers.filter(~pl.col("finish_reason").is_in(UNANSWERED))
    return {
        (benchmark, question_id, turn): answer
        for benchmark, question_id, turn, answer in asked.select(
            "benchmark", "question_id", "turn", "answer"
        ).iter_rows()
    }


def _conversation(
    given: Mapping[tuple[str, str, int], str], question: JudgedQuestion, turns: int
) -> tuple[str, ...] | None:
    keys = [(question.benchmark, question.question_id, turn) for turn in range(1, turns + 1)]
    return tuple(given[key] for key in keys) if all(key in given for key in keys) else None

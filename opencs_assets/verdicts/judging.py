"""Judging: which judgments are expected, the call for each, and what its reply means.

Judgments follow from the benchmark's questions, joined to the answers by question and turn: an
answer that is missing leaves a verdict of status ``no_answer``, never one judgment less. A reply
that can't be read is a verdict without a value, neither a tie nor a score.
"""

import hashlib
import json
import math
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from typing import Any, Literal

import polars as pl

from opencs_assets.schemas import PAIRWISE_VERDICTS, SINGLE_VERDICTS
from opencs_assets.verdicts.prompts import (
    LABELS,
    REFERENCE_CATEGORIES,
    pair_messages,
    single_messages,
)
from resources.llm.readings import expected_number, parse_score, parse_score_pair, preference
from resources.llm.types import Call, Message, Outcome, Reply
from resources.settings import Reading

LOW, HIGH = 1.0, 10.0
MAX_ATTEMPTS = 3
GENERATED_TOKENS = 256
TOP_LOGPROBS = 40
LABEL_GRAMMAR = 'root ::= "A" | "B"'
# One token must hold the whole rating: 10 would take two.
DIGITS = (1, 9)
DIGIT_GRAMMAR = "root ::= [1-9]"
NO_ANSWER = "no_answer"
# Finish reasons of turns without an answer; an empty answer that simply ended is one.
UNANSWERED = ("too_long", "refused", "failed", "garbled")
_PARSERS = {"single": "score-1..10/digit-1..9", "pair": "scores-1..10/log-odds-A-B"}

Side = Literal["a", "b"]
ORDERS: tuple[Side, Side] = ("a", "b")


@dataclass(frozen=True)
class Question:
    """A benchmark's question.

    Attributes:
        benchmark: The benchmark.
        question_id: Its id there.
        category: Its category.
        turns: What the user asks, turn by turn.
        references: Reference answers by turn; empty where the judge is shown none.
    """

    benchmark: str
    question_id: str
    category: str
    turns: tuple[str, ...]
    references: tuple[str, ...]


@dataclass(frozen=True)
class SingleTask:
    """One answer to be judged.

    Attributes:
        question: The question.
        turn: 1-based turn that is judged.
        answers: Answers up to that turn; ``None`` where one is missing.
    """

    question: Question
    turn: int
    answers: tuple[str, ...] | None

    @property
    def answered(self) -> bool:
        """Whether there is something to judge."""
        return self.answers is not None

    @property
    def references(self) -> tuple[str, ...]:
        """Reference of the turn that is judged, if there is one (files hold empty ones too)."""
        return tuple(filter(str.strip, self.question.references[self.turn - 1 : self.turn]))


@dataclass(frozen=True)
class PairTask:
    """Two conversations to be compared in one order.

    Attributes:
        question: The question.
        shown_first: Whose answers are shown first.
        answers_a: Answers of model a to all turns; ``None`` where one is missing.
        answers_b: Answers of model b, likewise.
    """

    question: Question
    shown_first: Side
    answers_a: tuple[str, ...] | None
    answers_b: tuple[str, ...] | None

    @property
    def answered(self) -> bool:
        """Whether there is something to judge."""
        return self.answers_a is not None and self.answers_b is not None


@dataclass(frozen=True)
class PairScores:
    """Scores in [1, 10] of the conversation shown first and of the one shown second."""

    first: float
    second: float


@cache
def prompt_version(protocol: Literal["single", "pair"], reading: Reading) -> str:
    """Version of a protocol's prompts and parser: a hash of all that it can ask.

    A reply's prompt differs with turn and reference, but the version is one for the protocol, so
    that the verdicts of one result share it.
    """
    generated = reading == "generated"
    probe = ("<q1>", "<q2>")
    asked: list[Sequence[Message]] = []
    for references in ((), ("<r1>", "<r2>")):
        for turns in (1, 2):
            shown, known = probe[:turns], references[:turns]
            if protocol == "single":
                asked.append(single_messages(shown, shown, known, generated=generated))
            else:
                asked.append(pair_messages(shown, shown, shown, known, generated=generated))
    fixed = _fixed(protocol, reading)
    text = json.dumps([asked, fixed, _PARSERS[protocol]], sort_keys=True, ensure_ascii=False)
    return f"judge-{protocol}-{reading}-{hashlib.sha256(text.encode()).hexdigest()[:8]}"


def single_tasks(questions: pl.DataFrame, answers: pl.DataFrame) -> list[SingleTask]:
    """Every turn of every question of the benchmarks that were answered.

    Args:
        questions: Rows of ``benchmark_questions``.
        answers: Rows of ``model_answers`` of one experiment.
    """
    given = _answers(answers)
    wanted = _questions(questions, set(answers["benchmark"]))
    return [
        SingleTask(question, turn, _conversation(given, question, turn))
        for question in wanted
        for turn in range(1, len(question.turns) + 1)
    ]


def pair_tasks(
    questions: pl.DataFrame, answers_a: pl.DataFrame, answers_b: pl.DataFrame, benchmark: str
) -> list[PairTask]:
    """Every question of the benchmark in both orders.

    Args:
        questions: Rows of ``benchmark_questions``.
        answers_a: Rows of ``model_answers`` of model a.
        answers_b: Rows of ``model_answers`` of model b.
        benchmark: The matchup's benchmark.
    """
    given_a, given_b = _answers(answers_a), _answers(answers_b)
    return [
        PairTask(
            question,
            shown_first,
            _conversation(given_a, question, len(question.turns)),
            _conversation(given_b, question, len(question.turns)),
        )
        for question in _questions(questions, {benchmark})
        for shown_first in ORDERS
    ]


def single_call(task: SingleTask, attempt: int, reason: str | None, reading: Reading) -> Call:
    """The call for one answer; ``reason`` is why the attempt before could not be read."""
    messages = single_messages(
        task.question.turns[: task.turn],
        task.answers or (),
        task.references,
        generated=reading == "generated",
        reason=reason,
    )
    return _call("single", messages, attempt, reading)


def pair_call(task: PairTask, attempt: int, reason: str | None, reading: Reading) -> Call:
    """The call for one order of a pair; ``reason`` is why the last could not be read."""
    shown = (task.answers_a or (), task.answers_b or ())
    first, second = shown if task.shown_first == "a" else shown[::-1]
    messages = pair_messages(
        task.question.turns,
        first,
        second,
        tuple(filter(str.strip, task.question.references)),
        generated=reading == "generated",
        reason=reason,
    )
    return _call("pair", messages, attempt, reading)


def read_single(reply: Reply, reading: Reading) -> float:
    """The score in [1, 10].

    Reading ``logprobs``, it is the expected value over the digits 1 to 9, mapped linearly onto
    [1, 10].

    Raises:
        Unparsable: The reply holds no such score.
    """
    if reading == "generated":
        return parse_score(reply.text, LOW, HIGH)
    low, high = DIGITS
    return LOW + (HIGH - LOW) * (expected_number(reply, low, high) - low) / (high - low)


def read_pair(reply: Reply, reading: Reading) -> PairScores:
    """The two scores in [1, 10], in the order shown.

    Reading ``logprobs``, with p the probability of ``A`` against ``B``, they are 1 + 9p and
    1 + 9(1 - p).

    Raises:
        Unparsable: The reply holds no such scores.
    """
    if reading == "generated":
        return PairScores(*parse_score_pair(reply.text, LOW, HIGH))
    odds = max(-50.0, min(50.0, preference(reply, LABELS)))
    share = 1 / (1 + math.exp(-odds))
    return PairScores(LOW + (HIGH - LOW) * share, LOW + (HIGH - LOW) * (1 - share))


def winner(score_a: float, score_b: float) -> Literal["a", "b", "tie"]:
    """Who has the higher score; only equal scores are a tie."""
    if score_a == score_b:
        return "tie"
    return "a" if score_a > score_b else "b"


def single_table(
    tasks: Sequence[SingleTask],
    outcomes: Mapping[SingleTask, Outcome[float]],
    *,
    judge: str,
    reading: Reading,
) -> pl.DataFrame:
    """One row an expected judgment (schema ``SINGLE_VERDICTS``).

    Args:
        tasks: All expected judgments.
        outcomes: What came of those that were asked.
        judge: The judge's model.
        reading: How it was read.
    """
    rows = [
        {
            **_identity(task.question),
            "turn": task.turn,
            "score": None if (outcome := outcomes.get(task)) is None else outcome.value,
            "status": _status(outcome),
            "with_reference": bool(task.references),
            "protocol": "single",
            **_provenance("single", judge, reading, outcome),
        }
        for task in tasks
    ]
    return pl.DataFrame(rows, schema=SINGLE_VERDICTS.schema)


def pair_table(
    tasks: Sequence[PairTask],
    outcomes: Mapping[PairTask, Outcome[PairScores]],
    *,
    model_a: str,
    model_b: str,
    judge: str,
    reading: Reading,
) -> pl.DataFrame:
    """One row an expected judgment (schema ``PAIRWISE_VERDICTS``), swapped back to a and b.

    Args:
        tasks: All expected judgments.
        outcomes: What came of those that were asked; scores in the order shown.
        model_a: First model of the matchup.
        model_b: Second model.
        judge: The judge's model.
        reading: How it was read.
    """
    rows = []
    for task in tasks:
        outcome = outcomes.get(task)
        scores = outcome.value if outcome else None
        score_a = score_b = None
        if scores:
            score_a, score_b = scores.first, scores.second
            if task.shown_first == "b":
                score_a, score_b = score_b, score_a
        rows.append(
            {
                **_identity(task.question),
                "turn": 0,
                "model_a": model_a,
                "model_b": model_b,
                "shown_first": task.shown_first,
                "winner": None if score_a is None or score_b is None else winner(score_a, score_b),
                "score_a": score_a,
                "score_b": score_b,
                "status": _status(outcome),
                "protocol": "scores" if reading == "generated" else "preference",
                **_provenance("pair", judge, reading, outcome),
            }
        )
    return pl.DataFrame(rows, schema=PAIRWISE_VERDICTS.schema)


def _questions(questions: pl.DataFrame, benchmarks: Collection[str]) -> list[Question]:
    return [
        Question(
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
    given: Mapping[tuple[str, str, int], str], question: Question, turns: int
) -> tuple[str, ...] | None:
    keys = [(question.benchmark, question.question_id, turn) for turn in range(1, turns + 1)]
    return tuple(given[key] for key in keys) if all(key in given for key in keys) else None


def _fixed(protocol: str, reading: Reading) -> dict[str, Any]:
    if reading == "generated":
        return {"max_tokens": GENERATED_TOKENS, "temperature": 0.0}
    return {
        "max_tokens": 1,
        "temperature": 0.0,
        "grammar": DIGIT_GRAMMAR if protocol == "single" else LABEL_GRAMMAR,
        "top_logprobs": TOP_LOGPROBS,
    }


def _call(
    protocol: Literal["single", "pair"],
    messages: tuple[Message, ...],
    attempt: int,
    reading: Reading,
) -> Call:
    return Call(
        messages=messages,
        prompt_version=prompt_version(protocol, reading),
        attempt=attempt,
        **_fixed(protocol, reading),
    )


def _identity(question: Question) -> dict[str, str]:
    return {
        "benchmark": question.benchmark,
        "question_id": question.question_id,
        "category": question.category,
    }


def _status(outcome: Outcome[Any] | None) -> str:
    return NO_ANSWER if outcome is None else outcome.status


def _provenance(
    protocol: Literal["single", "pair"], judge: str, reading: Reading, outcome: Outcome[Any] | None
) -> dict[str, str]:
    return {
        "reading": reading,
        "judge": judge,
        "prompt_version": prompt_version(protocol, reading),
        "sampling": json.dumps(_fixed(protocol, reading), sort_keys=True),
        "reply_id": outcome.reply.reply_id if outcome else "",
    }

"""The records that files of all forms become, and reading their parts.

A pair is put in the order of its models' names, whatever order the file had, so that two files that
claim the same judgment can be compared.
"""

import math
import re
from collections.abc import Mapping
from typing import Any, Final, NamedTuple

from opencs_assets.imports.errors import VerdictRowError
from opencs_assets.imports.questions import KnownQuestion

# Judges are asked for 1 to 10, but some gave a 0, which the published means count.
LOWEST, HIGHEST = 0.0, 10.0
UNPARSABLE: Final = -1
SAMPLING_UNKNOWN: Final = "{}"
OTHER_SIDE: Final[Mapping[str, str]] = {"a": "b", "b": "a"}
# MT-Bench's votes give people names such as expert_17 and author_3.
_PERSON = re.compile(r"(expert|author|human|annotator|worker|crowd|person)(?:[_-]?\d+)?", re.I)


class ImportedVerdict(NamedTuple):
    """One verdict; fields as in ``tables.IMPORTED_VERDICTS``."""

    kind: str
    benchmark: str
    question_id: str
    category: str
    turn: int
    model_a: str
    model_b: str | None
    shown_first: str
    winner: str | None
    score_a: float | None
    score_b: float | None
    orders_disagree: bool | None
    status: str
    judge: str
    judge_group: str
    is_human: bool
    protocol: str
    prompt: str | None
    prompt_version: str
    sampling: str
    reply: str | None


class ImportedAnswer(NamedTuple):
    """A model's answers to the turns of one question."""

    model: str
    benchmark: str
    question_id: str
    category: str
    turns: tuple[str, ...]


class Judge(NamedTuple):
    """The model or person who judged, and with which prompt.

    The ``group`` counts as one judge; ``prompt`` is the name in the file, ``prompt_version`` the
    prompt's family.
    """

    name: str
    group: str
    is_human: bool
    prompt: str | None
    prompt_version: str


def _verdict(
    question: KnownQuestion, turn: int, judge: Judge, is_read: bool, **fields: Any
) -> ImportedVerdict:
    """A verdict with these fields; those that are not given are null."""
    nulls = dict.fromkeys(("model_b", "winner", "score_a", "score_b", "orders_disagree"))
    return ImportedVerdict(
        **{**nulls, **fields},
        benchmark=question.benchmark,
        question_id=question.question_id,
        category=question.category,
        turn=turn,
        status="ok" if is_read else "unparsable",
        judge=judge.name,
        judge_group=judge.group,
        is_human=judge.is_human,
        prompt=judge.prompt,
        prompt_version=judge.prompt_version,
        sampling=SAMPLING_UNKNOWN,
    )


def single(
    question: KnownQuestion,
    turn: int,
    model: str,
    score: float | None,
    judge: Judge,
    reply: str | None,
) -> ImportedVerdict:
    """The verdict on one answer; it is unparsable where the score is ``None``."""
    return _verdict(
        question,
        turn,
        judge,
        score is not None,
        kind="single",
        model_a=model,
        shown_first="unknown",
        score_a=score,
        protocol="single",
        reply=reply,
    )


def pair(
    question: KnownQuestion,
    turn: int,
    models: tuple[str, str],
    judge: Judge,
    *,
    protocol: str,
    shown_first: str,
    winner: str | None,
    scores: tuple[float, float] | None = None,
    orders_disagree: bool | None = None,
    reply: str | None = None,
) -> ImportedVerdict:
    """The verdict on two answers; it is unparsable where the winner is ``None``.

    The sides ``a`` and ``b`` are the models in the order of ``models``.

    Raises:
        VerdictRowError: A model is compared with itself.
    """
    first, second = models
    if first == second:
        raise VerdictRowError("self_pair", f"{first!r} is compared with itself")
    if second < first:
        first, second = second, first
        shown_first = OTHER_SIDE.get(shown_first, shown_first)
        winner = OTHER_SIDE.get(winner, winner) if winner else None
        scores = scores and (scores[1], scores[0])
    score_a, score_b = scores or (None, None)
    return _verdict(
        question,
        turn,
        judge,
        winner is not None,
        kind="pair",
        model_a=first,
        model_b=second,
        shown_first=shown_first,
        winner=winner,
        score_a=score_a,
        score_b=score_b,
        orders_disagree=orders_disagree,
        protocol=protocol,
        reply=reply,
    )


def two_scores(first: float | None, second: float | None) -> tuple[float, float] | None:
    """The scores of a pair, where both could be read."""
    return None if first is None or second is None else (first, second)


def winner_of(scores: tuple[float, float]) -> str:
    """The side with the higher score; only equal scores are a tie."""
    if scores[0] == scores[1]:
        return "tie"
    return "a" if scores[0] > scores[1] else "b"


def read_score(value: Any, name: str) -> float | None:
    """A score, or ``None`` for -1, which files write where the reply had no score.

    Raises:
        VerdictRowError: The value is no finite number, or out of range.
    """
    kind = type(value)
    if (kind is not int and kind is not float) or not math.isfinite(value):
        raise VerdictRowError("bad_score", f"`{name}` must be a number, not {_shown(value)}")
    if value == UNPARSABLE:
        return None
    if not LOWEST <= value <= HIGHEST:
        raise VerdictRowError(
            "score_out_of_range",
            f"`{name}` is {_shown(value)}, neither in [{LOWEST:g}, {HIGHEST:g}] nor -1",
        )
    return float(value)


def read_model(value: Any, name: str) -> str:
    """A model's name, exactly as it stands; a ``VerdictRowError`` where it is no text or blank."""
    if not isinstance(value, str) or not value.strip():
        raise VerdictRowError("no_model", f"`{name}` must be a model's name, not {_shown(value)}")
    return value


def read_turn(value: Any, question: KnownQuestion, *, lowest: int = 1) -> int:
    """The turn that was judged; ``lowest`` is 0 where the whole conversation may be meant.

    Raises:
        VerdictRowError: The question has no such turn.
    """
    if type(value) is int and lowest <= value <= len(question.turns):
        return value
    if type(value) is float and value.is_integer():
        return read_turn(int(value), question, lowest=lowest)
    raise VerdictRowError(
        "unknown_turn",
        f"the turn is {_shown(value)}, but question {question.question_id} of "
        f"{question.benchmark} has {len(question.turns)}",
    )


def person(name: str) -> str | None:
    """The kind of person that a judge's name says, such as ``expert``; ``None`` for a model."""
    match = _PERSON.fullmatch(name)
    return match.group(1).lower() if match else None


def text_or_none(value: Any) -> str | None:
    """The value where it is a text."""
    return value if isinstance(value, str) else None


def _shown(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 40 else text[:39] + "…"

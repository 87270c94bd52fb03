"""Two-score reviews: a judge's reply begins with two scores, and may be there for both orders.

AlpaGasus's files (``review``, ``score``) have one order; the other is a file of its own, imported
with the two models' names the other way. Cherry's (``review``, ``scores``, ``review_reverse``,
``scores_reverse``) have both, the reversed scores as the judge saw the answers; others have swapped
them back already. A row's own text tells which, and where no text does, ``--reversed`` must.
"""

import json
import re
from collections.abc import Sequence
from typing import Any, Final, Literal, NamedTuple

from opencs_assets.imports.errors import VerdictFileError, VerdictRowError
from opencs_assets.imports.forms.form import Form, Read, Row, answer_to
from opencs_assets.imports.options import ImportOptions
from opencs_assets.imports.questions import ByText, Questions
from opencs_assets.imports.rows import (
    ImportedAnswer,
    ImportedVerdict,
    Judge,
    pair,
    read_score,
    text_or_none,
    winner_of,
)

PROMPT_VERSION: Final = "two-scores"
ANSWERS: Final = ("Answer1", "Answer2")
_NUMBERS = re.compile(r"\s*(\d+(?:\.\d+)?)[\s,/]+(\d+(?:\.\d+)?)\s*")
Order = Literal["as-shown", "swapped-back"]


class _Fields(NamedTuple):
    scores: str
    scores_reversed: str


_NAMES = (_Fields("scores", "scores_reverse"), _Fields("score", "score_reverse"))


def _fields(row: Row) -> _Fields | None:
    if "review" not in row and "review_reverse" not in row:
        return None
    return next((names for names in _NAMES if names.scores in row), None)


def _reader(rows: Sequence[Row], options: ImportOptions, questions: Questions) -> Read:
    if not options.model_a or not options.model_b:
        raise VerdictFileError(
            "a two-score review file names no models; say which is Answer1's with --model-a NAME "
            "and which is the other with --model-b NAME"
        )
    if not options.judge:
        raise VerdictFileError("a two-score review file names no judge; say who with --judge NAME")
    models = (options.model_a, options.model_b)
    judge = Judge(options.judge, options.judge, options.human, None, PROMPT_VERSION)
    by_text = ByText(rows, questions, options.benchmark)
    convention = options.reversed or _convention(rows)

    def read(row: Row) -> list[ImportedVerdict | ImportedAnswer]:
        names = _fields(row)
        if names is None:
            raise VerdictRowError("other_form", "the row has no review with its scores")
        question = by_text.of(row)
        found: list[ImportedVerdict | ImportedAnswer] = []
        for scores_name, review_name, first in (
            (names.scores, "review", "a"),
            (names.scores_reversed, "review_reverse", "b"),
        ):
            if scores_name not in row:
                continue
            scores = _scores(row[scores_name], scores_name)
            if scores and first == "a":
                _check_first(row, scores)
            elif scores and (_order(row, names) or convention) == "as-shown":
                scores = (scores[1], scores[0])
            found.append(
                pair(
                    question,
                    1,
                    models,
                    judge,
                    protocol="scores",
                    shown_first=first,
                    winner=winner_of(scores) if scores else None,
                    scores=scores,
                    reply=text_or_none(row.get(review_name)),
                )
            )
        for model, name in zip(models, ANSWERS, strict=True):
            found += answer_to(question, model, row.get(name, row.get(model)))
        return found

    return read


def _scores(value: Any, name: str) -> tuple[float, float] | None:
    """Two scores, as a list or its text; ``None`` where the reply had none."""
    if isinstance(value, str):
        try:
            value = json.loads(value)
        except ValueError:
            raise VerdictRowError(
                "bad_score", f"`{name}` must be two numbers, not {value!r:.40}"
            ) from None
    if not isinstance(value, list) or len(value) != 2:
        raise VerdictRowError("bad_score", f"`{name}` must be two numbers, not {value!r:.40}")
    first, second = (read_score(each, name) for each in value)
    return None if first is None or second is None else (first, second)


def _said(review: Any) -> tuple[float, float] | None:
    """The two numbers that a reply's first line is."""
    if not isinstance(review, str):
        return None
    found = _NUMBERS.fullmatch(review.split("\n", 1)[0])
    return (float(found[1]), float(found[2])) if found else None


def _check_first(row: Row, scores: tuple[float, float]) -> None:
    said = _said(row.get("review"))
    if said is not None and said != scores:
        raise VerdictRowError(
            "contradicts_reply",
            f"the scores are {scores[0]:g} and {scores[1]:g}, but the review begins with "
            f"{said[0]:g} and {said[1]:g}",
        )


def _order(row: Row, names: _Fields) -> Order | None:
    """How a row's reversed scores stand, by its own text; ``None`` where that does not tell.

    Raises:
        VerdictRowError: They are neither what the text begins with, nor that swapped back.
    """
    scores = _scores(row[names.scores_reversed], names.scores_reversed)
    said = _said(row.get("review_reverse"))
    if scores is None or said is None:
        return None
    if said == scores:
        return "as-shown"
    if said == (scores[1], scores[0]):
        return "swapped-back"
    raise VerdictRowError(
        "contradicts_reply",
        f"the reversed scores are {scores[0]:g} and {scores[1]:g}, but the reversed review begins "
        f"with {said[0]:g} and {said[1]:g}",
    )


def _convention(rows: Sequence[Row]) -> Order | None:
    """How a file's reversed scores stand, by the texts that tell.

    Raises:
        VerdictFileError: A row needs it, and no text tells, or they tell both.
    """
    told: set[Order] = set()
    needed = False
    for row in rows:
        names = _fields(row)
        if names is None or names.scores_reversed not in row:
            continue
        try:
            scores = _scores(row[names.scores_reversed], names.scores_reversed)
            order = _order(row, names)
        except VerdictRowError:
            continue
        if scores is None or scores[0] == scores[1]:
            continue
        if order is None:
            needed = True
        else:
            told.add(order)
    if needed and len(told) != 1:
        raise VerdictFileError(
            "nothing in the file tells how the scores of the reversed order stand; say it with "
            "--reversed as-shown (the first score is Answer2's, which was shown first) or "
            "--reversed swapped-back (the first score is Answer1's)"
        )
    return next(iter(told)) if len(told) == 1 else None


FORM = Form(
    "two_scores",
    "two-score reviews, AlpaGasus or Cherry style (review, scores, review_reverse, scores_reverse)",
    lambda row: _fields(row) is not None,
    frozenset({"benchmark", "model_a", "model_b", "judge", "human", "reversed"}),
    _reader,
)

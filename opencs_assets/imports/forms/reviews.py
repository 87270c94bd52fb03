"""Two-score reviews: a judge's reply begins with two scores, and a row may have both orders.

AlpaGasus's files (``review``, ``score``) have one order; the other is a file of its own, which is
imported with the two models' names exchanged. Cherry's (``review``, ``scores``, ``review_reverse``,
``scores_reverse``) have both, with the reversed scores as the judge saw the answers; other files
have swapped them back. A row's own text tells which, and where no text does, ``--reversed`` must.
"""

import json
import re
from collections.abc import Sequence
from contextlib import suppress
from typing import Any, Final, Literal

from opencs_assets.imports.errors import VerdictFileError, VerdictRowError
from opencs_assets.imports.forms.form import Form, Read, Row, answers_of
from opencs_assets.imports.options import ImportOptions
from opencs_assets.imports.questions import ByText, Questions
from opencs_assets.imports.rows import (
    ImportedAnswer,
    ImportedVerdict,
    Judge,
    pair,
    read_score,
    text_or_none,
    two_scores,
    winner_of,
)

PROMPT_VERSION: Final = "two-scores"
ANSWERS: Final = ("Answer1", "Answer2")
_NUMBERS = re.compile(r"\s*(\d+(?:\.\d+)?)[\s,/]+(\d+(?:\.\d+)?)\s*")
Order = Literal["as-shown", "swapped-back"]


def _fields(row: Row) -> tuple[str, str] | None:
    """The names of a row's scores and of its reversed scores, where it has a review with scores."""
    if "review" in row or "review_reverse" in row:
        for name in ("scores", "score"):
            if name in row:
                return name, f"{name}_reverse"
    return None


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
        records: list[ImportedVerdict] = []
        for scores_name, review_name, first in (
            (names[0], "review", "a"),
            (names[1], "review_reverse", "b"),
        ):
            if scores_name not in row:
                continue
            scores = _scores(row[scores_name], scores_name)
            if scores and first == "a":
                _check_first(row, scores)
            elif scores and (_order(row, scores) or convention) == "as-shown":
                scores = (scores[1], scores[0])
            records.append(
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
        texts = [row.get(name, row.get(model)) for name, model in zip(ANSWERS, models, strict=True)]
        return [*records, *answers_of(question, models, texts)]

    return read


def _scores(value: Any, name: str) -> tuple[float, float] | None:
    """The two scores of a list or of its text; ``None`` where the reply had none."""
    if isinstance(value, str):
        with suppress(ValueError):
            value = json.loads(value)
    if not isinstance(value, list) or len(value) != 2:
        raise VerdictRowError("bad_score", f"`{name}` must be two numbers, not {value!r:.40}")
    return two_scores(*(read_score(score, name) for score in value))


def _review_scores(review: Any) -> tuple[float, float] | None:
    """The two numbers of a reply's first line, where it has nothing else."""
    if not isinstance(review, str):
        return None
    match = _NUMBERS.fullmatch(review.split("\n", 1)[0])
    return (float(match[1]), float(match[2])) if match else None


def _check_first(row: Row, scores: tuple[float, float]) -> None:
    review = _review_scores(row.get("review"))
    if review is not None and review != scores:
        raise VerdictRowError(
            "contradicts_reply",
            f"the scores are {scores[0]:g} and {scores[1]:g}, but the review begins with "
            f"{review[0]:g} and {review[1]:g}",
        )


def _order(row: Row, scores: tuple[float, float]) -> Order | None:
    """The order in which a row has its reversed scores, if its own text tells."""
    review = _review_scores(row.get("review_reverse"))
    if review is None:
        return None
    if review == scores:
        return "as-shown"
    if review == (scores[1], scores[0]):
        return "swapped-back"
    raise VerdictRowError(
        "contradicts_reply",
        f"the reversed scores are {scores[0]:g} and {scores[1]:g}, but the reversed review begins "
        f"with {review[0]:g} and {review[1]:g}",
    )


def _convention(rows: Sequence[Row]) -> Order | None:
    """The order in which a file has its reversed scores, if its texts tell the same one."""
    orders: set[Order] = set()
    needed = False
    for row in rows:
        names = _fields(row)
        if names is None or names[1] not in row:
            continue
        try:
            scores = _scores(row[names[1]], names[1])
            if scores is None or scores[0] == scores[1]:
                continue
            order = _order(row, scores)
        except VerdictRowError:
            continue
        if order is None:
            needed = True
        else:
            orders.add(order)
    if needed and len(orders) != 1:
        raise VerdictFileError(
            "nothing in the file tells how the scores of the reversed order stand; say it with "
            "--reversed as-shown (the first score is Answer2's, which was shown first) or "
            "--reversed swapped-back (the first score is Answer1's)"
        )
    return orders.pop() if len(orders) == 1 else None


FORM = Form(
    "two_scores",
    "two-score reviews, AlpaGasus or Cherry style (review, scores, review_reverse, scores_reverse)",
    lambda row: _fields(row) is not None,
    frozenset({"benchmark", "model_a", "model_b", "judge", "human", "reversed"}),
    _reader,
)

"""A plain CSV: a verdict a row, its columns named by a mapping, or as a mapping would name them."""

from collections.abc import Sequence
from typing import Any, Final

from opencs_assets.imports.errors import VerdictFileError, VerdictRowError
from opencs_assets.imports.forms.form import Form, Read, Row
from opencs_assets.imports.forms.votes import INCONSISTENT, judge_named
from opencs_assets.imports.options import COLUMNS, ImportOptions
from opencs_assets.imports.questions import ByText, KnownQuestion, Questions
from opencs_assets.imports.rows import (
    ImportedVerdict,
    Judge,
    pair,
    read_model,
    read_score,
    read_turn,
    single,
    winner_of,
)

PROMPT_VERSION: Final = "unknown"


def columns_of(header: Sequence[str], options: ImportOptions) -> dict[str, str]:
    """Which column holds what.

    Args:
        header: Names of the file's columns.
        options: The mapping and the names that were given.

    Raises:
        VerdictFileError: The mapping names a column that is not there, or too little is there.
    """
    for what, column in options.columns.items():
        if column not in header:
            raise VerdictFileError(
                f"the mapping says {what}={column}, but the file has no such column; it has "
                f"{', '.join(header)}"
            )
    by_name = {name.lower(): name for name in header}
    found = {what: by_name[what] for what in COLUMNS if what in by_name} | dict(options.columns)
    given = {"model_a": options.model_a, "model_b": options.model_b, "judge": options.judge}
    there = {*found, *(what for what, name in given.items() if name)}
    needed = {"question_id or question": {"question_id", "question"} & there}
    if "score" in found and not {"model_b", "winner", "score_a"} & found.keys():
        needed["model (or --model-a)"] = {"model", "model_a"} & there
    else:
        needed["score (of one model), or winner, or score_a and score_b (of two)"] = {
            "winner"
        } & there or ({"score_a"} & there and {"score_b"} & there)
        needed["model_a (or --model-a)"] = {"model_a"} & there
        needed["model_b (or --model-b)"] = {"model_b"} & there
    needed["judge (or --judge)"] = {"judge"} & there
    if "question_id" in found and not options.benchmark:
        needed["benchmark (or --benchmark)"] = {"benchmark"} & there
    missing = [what for what, names in needed.items() if not names]
    if missing:
        raise VerdictFileError(
            f"the CSV has no column for {'; '.join(missing)}. Its columns are "
            f"{', '.join(header)}; say which is which with --column what=column or --mapping FILE"
        )
    return found


def _reader(rows: Sequence[Row], options: ImportOptions, questions: Questions) -> Read:
    columns = columns_of(list(rows[0]), options) if rows else {}
    asks = [{"question": row.get(columns.get("question", ""))} for row in rows]
    by_text = ByText(asks if "question_id" not in columns else [], questions, options.benchmark)

    def cell(row: Row, what: str) -> str:
        return str(row[columns[what]]).strip() if what in columns else ""

    def model(row: Row, what: str, given: str | None) -> str:
        # Names are kept as they are, white space included.
        return read_model(row[columns[what]] if what in columns else given, what)

    def find(row: Row) -> KnownQuestion:
        if "question_id" not in columns:
            return by_text.of({"question": row[columns["question"]]})
        return questions.of(options.benchmark or cell(row, "benchmark"), cell(row, "question_id"))

    def judge(row: Row) -> Judge:
        found = judge_named(cell(row, "judge"), options)
        prompt = cell(row, "prompt") or None
        return found._replace(prompt=prompt, prompt_version=prompt or PROMPT_VERSION)

    def read(row: Row) -> list[ImportedVerdict]:
        question = find(row)
        turn = _turn(cell(row, "turn"), question)
        reply = cell(row, "reply") or None
        if "winner" not in columns and "score_a" not in columns:
            what = "model" if "model" in columns else "model_a"
            name = model(row, what, options.model_a)
            score = _score(cell(row, "score"), "score")
            if turn == 0:
                raise VerdictRowError("unknown_turn", "the turn is 0, but a score is of one turn")
            return [single(question, turn, name, score, judge(row), reply)]
        models = (model(row, "model_a", options.model_a), model(row, "model_b", options.model_b))
        scores = None
        if "score_a" in columns and "score_b" in columns:
            first = _score(cell(row, "score_a"), "score_a")
            second = _score(cell(row, "score_b"), "score_b")
            scores = None if first is None or second is None else (first, second)
        said = cell(row, "winner")
        winner = _side(said, models, "winner") if "winner" in columns else None
        if scores and "winner" not in columns:
            winner = winner_of(scores)
        return [
            pair(
                question,
                turn,
                models,
                judge(row),
                protocol="scores" if scores else "choice",
                shown_first=_shown_first(cell(row, "shown_first"), models, said),
                winner=winner,
                scores=scores if winner else None,
                orders_disagree=True if said == INCONSISTENT else None,
                reply=reply,
            )
        ]

    return read


def _score(text: str, name: str) -> float | None:
    """A cell's number; an empty cell is unparsable."""
    if not text:
        return None
    try:
        return read_score(float(text), name)
    except ValueError:
        raise VerdictRowError("bad_score", f"`{name}` must be a number, not {text!r:.40}") from None


def _turn(text: str, question: KnownQuestion) -> int:
    if not text:
        if len(question.turns) == 1:
            return 1
        raise VerdictRowError(
            "unknown_turn",
            f"question {question.question_id} of {question.benchmark} has "
            f"{len(question.turns)} turns; name the column of the turn (0: the whole conversation)",
        )
    value: Any = float(text) if text.replace(".", "", 1).isdecimal() else text
    return read_turn(value, question, lowest=0)


def _side(text: str, models: tuple[str, str], name: str) -> str | None:
    """``a``, ``b`` or ``tie``; an empty cell is unparsable."""
    if text in ("", "error"):
        return None
    words = {
        "tie": "tie",
        "draw": "tie",
        INCONSISTENT: "tie",
        "a": "a",
        "b": "b",
        "model_a": "a",
        "model_b": "b",
    }
    # A model's name comes first: one may be called `a`.
    for model, side in zip(models, "ab", strict=True):
        if text == model.strip():
            return side
    found = words.get(text.lower())
    if found is None:
        raise VerdictRowError(
            "bad_winner", f"`{name}` must be model_a, model_b, tie or a model's name: {text!r:.40}"
        )
    return found


def _shown_first(text: str, models: tuple[str, str], winner: str) -> str:
    if winner == INCONSISTENT or text == "merged":
        return "merged"
    if text in ("", "unknown"):
        return "unknown"
    found = _side(text, models, "shown_first")
    if found not in ("a", "b"):
        raise VerdictRowError("bad_winner", f"`shown_first` must be a side, not {text!r:.40}")
    return found


FORM = Form(
    "csv",
    "CSV with a header, its columns named as they are or by --column and --mapping",
    lambda row: True,
    frozenset({"benchmark", "model_a", "model_b", "judge", "human", "columns"}),
    _reader,
)

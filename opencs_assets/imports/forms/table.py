"""A plain CSV with a verdict a row; its columns have standard names, or a mapping names them."""

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
    two_scores,
    winner_of,
)

PROMPT_VERSION: Final = "unknown"
TIES: Final = ("tie", "draw", INCONSISTENT)
WORDS: Final = {"a": "a", "model_a": "a", "b": "b", "model_b": "b"} | dict.fromkeys(TIES, "tie")


def columns_of(header: Sequence[str], options: ImportOptions) -> dict[str, str]:
    """The columns of a file by what they hold, according to the options' mapping or their names.

    Raises:
        VerdictFileError: The mapping names a column that is not there, or a column is missing.
    """
    for what, column in options.columns.items():
        if column not in header:
            raise VerdictFileError(
                f"the mapping says {what}={column}, but the file has no such column; it has "
                f"{', '.join(header)}"
            )
    by_name = {name.lower(): name for name in header}
    columns = {what: by_name[what] for what in COLUMNS if what in by_name} | dict(options.columns)
    named = {*columns, *({"model_a", "model_b", "judge"} & options.values().keys())}
    is_there = {"question_id or question": bool({"question_id", "question"} & named)}
    if "score" in columns and not {"model_b", "winner", "score_a"} & columns.keys():
        is_there["model (or --model-a)"] = bool({"model", "model_a"} & named)
    else:
        is_there["score (of one model), or winner, or score_a and score_b (of two)"] = (
            "winner" in named or {"score_a", "score_b"} <= named
        )
        is_there["model_a (or --model-a)"] = "model_a" in named
        is_there["model_b (or --model-b)"] = "model_b" in named
    is_there["judge (or --judge)"] = "judge" in named
    if "question_id" in columns and not options.benchmark:
        is_there["benchmark (or --benchmark)"] = "benchmark" in named
    missing = [what for what, present in is_there.items() if not present]
    if missing:
        raise VerdictFileError(
            f"the CSV has no column for {'; '.join(missing)}. Its columns are "
            f"{', '.join(header)}; say which is which with --column what=column or --mapping FILE"
        )
    return columns


def _reader(rows: Sequence[Row], options: ImportOptions, questions: Questions) -> Read:
    columns = columns_of(list(rows[0]), options) if rows else {}
    texts = [{"question": row.get(columns.get("question", ""))} for row in rows]
    by_text = ByText(texts if "question_id" not in columns else [], questions, options.benchmark)

    def cell(row: Row, what: str) -> str:
        return str(row[columns[what]]).strip() if what in columns else ""

    def model(row: Row, what: str, named: str | None) -> str:
        # A name keeps its white space.
        return read_model(row[columns[what]] if what in columns else named, what)

    def find(row: Row) -> KnownQuestion:
        if "question_id" not in columns:
            return by_text.of({"question": row[columns["question"]]})
        return questions.of(options.benchmark or cell(row, "benchmark"), cell(row, "question_id"))

    def judge(row: Row) -> Judge:
        prompt = cell(row, "prompt") or None
        return judge_named(cell(row, "judge"), options)._replace(
            prompt=prompt, prompt_version=prompt or PROMPT_VERSION
        )

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
            scores = two_scores(*(_score(cell(row, name), name) for name in ("score_a", "score_b")))
        winner_text = cell(row, "winner")
        winner = _side(winner_text, models, "winner") if "winner" in columns else None
        if scores and "winner" not in columns:
            winner = winner_of(scores)
        return [
            pair(
                question,
                turn,
                models,
                judge(row),
                protocol="scores" if scores else "choice",
                shown_first=_shown_first(cell(row, "shown_first"), models, winner_text),
                winner=winner,
                scores=scores if winner else None,
                orders_disagree=True if winner_text == INCONSISTENT else None,
                reply=reply,
            )
        ]

    return read


def _score(text: str, name: str) -> float | None:
    """A cell's number; ``None`` where the cell is empty, which means unparsable."""
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
    """A cell's ``a``, ``b`` or ``tie``; ``None`` where it is empty, which means unparsable."""
    if text in ("", "error"):
        return None
    # A model's name goes before these words, because a model may be called `a`.
    for model, side in zip(models, "ab", strict=True):
        if text == model.strip():
            return side
    side_word = WORDS.get(text.lower())
    if side_word is None:
        detail = f"`{name}` must be model_a, model_b, tie or a model's name: {text!r:.40}"
        raise VerdictRowError("bad_winner", detail)
    return side_word


def _shown_first(text: str, models: tuple[str, str], winner: str) -> str:
    if winner == INCONSISTENT or text == "merged":
        return "merged"
    if text in ("", "unknown"):
        return "unknown"
    side = _side(text, models, "shown_first")
    if side not in ("a", "b"):
        raise VerdictRowError("bad_winner", f"`shown_first` must be a side, not {text!r:.40}")
    return side


FORM = Form(
    "csv",
    "CSV with a header, its columns named as they are or by --column and --mapping",
    lambda row: True,
    frozenset({"benchmark", "model_a", "model_b", "judge", "human", "columns"}),
    _reader,
)

"""All imported files, read afresh: verdicts with their states, answers, rows that did not fit."""

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import polars as pl

from opencs_assets.files.rejections import RejectedRowError
from opencs_assets.files.rows import WHOLE_FILE
from opencs_assets.imports.choices import Choice, read_choices
from opencs_assets.imports.claims import with_states
from opencs_assets.imports.errors import VerdictFileError, VerdictRowError
from opencs_assets.imports.kept import KeptFile, kept_files, read_kept
from opencs_assets.imports.questions import Questions
from opencs_assets.imports.recognize import recognize
from opencs_assets.imports.rows import ImportedAnswer, ImportedVerdict
from opencs_assets.tables.imports import IMPORTED_ANSWERS, IMPORTED_VERDICTS, REJECTED_VERDICTS
from resources.schema import Table, conform


@dataclass(frozen=True)
class ImportedTables:
    """What all imported files hold.

    Attributes:
        verdicts: Rows of ``imported_verdicts``.
        rejected: Rows of ``rejected_verdicts``.
        answers: Rows of ``imported_answers``.
        files: How many files they are from.
        duplicate_answers: Answers that another row gives as well.
        conflicting_answers: Questions to which a model has several answers; none of these is in
            ``answers``.
    """

    verdicts: pl.DataFrame
    rejected: pl.DataFrame
    answers: pl.DataFrame
    files: int
    duplicate_answers: int
    conflicting_answers: int


@dataclass(frozen=True)
class _Given:
    """An answer and where it is from."""

    answer: ImportedAnswer
    kept: KeptFile
    row: int
    excerpt: str
    alone: bool

    @property
    def key(self) -> tuple[str, str, str]:
        return self.answer.model, self.answer.benchmark, self.answer.question_id


class _Rows:
    """Rows of all files as they are read."""

    def __init__(self) -> None:
        self.verdicts: list[pl.DataFrame] = []
        self.rejected: list[tuple[Any, ...]] = []
        self.answers: list[_Given] = []

    def reject(self, kept: KeptFile, row: int, reason: str, detail: str, excerpt: str) -> None:
        self.rejected.append((kept.sha256, kept.name, row, reason, detail, excerpt))


def read_imports(home: Path, questions: pl.DataFrame) -> ImportedTables:
    """Read all imported files of a home.

    Raises:
        VerdictFileError: The choices, or what is known about a file, can't be read.
    """
    files = kept_files(home)
    choices = read_choices(home, files)
    known = Questions(questions)
    rows = _Rows()
    for kept in files:
        try:
            _read(kept, known, rows)
        except VerdictFileError as error:
            rows.reject(kept, WHOLE_FILE, "unreadable_file", str(error), "")
    answers, duplicates, conflicts = _answers(rows, choices)
    without_state = pl.Schema(
        {name: kind for name, kind in IMPORTED_VERDICTS.schema.items() if name != "state"}
    )
    verdicts = pl.concat([without_state.to_frame(), *rows.verdicts])
    return ImportedTables(
        conform(with_states(verdicts, choices), IMPORTED_VERDICTS),
        _frame(rows.rejected, REJECTED_VERDICTS),
        answers,
        len(files),
        duplicates,
        conflicts,
    )


def _read(kept: KeptFile, questions: Questions, rows: _Rows) -> None:
    recognized = recognize(read_kept(kept), kept.name)
    form = recognized.form
    read = form.reader(recognized.fields(), kept.options, questions)
    verdicts: list[ImportedVerdict] = []
    places: list[int] = []
    for raw in recognized.rows:
        try:
            if raw.problem is not None:
                raise raw.problem
            if not form.fits(raw.value):
                raise VerdictRowError(
                    "other_form", f"the file is {form.title}, and this row is not"
                )
            made = read(raw.value)
        except RejectedRowError as error:
            rows.reject(kept, raw.row, error.reason, error.detail, raw.excerpt())
            continue
        for each in made:
            if isinstance(each, ImportedVerdict):
                verdicts.append(each)
                places.append(raw.row)
            else:
                alone = len(made) == 1
                excerpt = raw.excerpt() if alone else ""
                rows.answers.append(_Given(each, kept, raw.row, excerpt, alone))
    if verdicts:
        rows.verdicts.append(_verdicts(verdicts, places, kept, form.name))


def _verdicts(
    verdicts: Sequence[ImportedVerdict], places: Sequence[int], kept: KeptFile, form: str
) -> pl.DataFrame:
    schema = IMPORTED_VERDICTS.schema
    columns = zip(ImportedVerdict._fields, zip(*verdicts, strict=True), strict=True)
    return pl.DataFrame(
        [pl.Series(name, values, dtype=schema[name]) for name, values in columns]
    ).with_columns(
        format=pl.lit(form),
        file=pl.lit(kept.sha256),
        file_name=pl.lit(kept.name),
        row=pl.Series(places, dtype=pl.Int64),
    )


def _answers(rows: _Rows, choices: Sequence[Choice]) -> tuple[pl.DataFrame, int, int]:
    """The answers that nothing contradicts; how many were there again; how many questions wait."""
    by_key: dict[tuple[str, str, str], list[_Given]] = {}
    for given in rows.answers:
        by_key.setdefault(given.key, []).append(given)
    answers: list[tuple[Any, ...]] = []
    duplicates = conflicts = 0
    for same in by_key.values():
        chosen = _chosen(same, choices)
        if chosen is None:
            conflicts += 1
            _reject_answers(rows, same)
            continue
        duplicates += sum(each.answer.turns == chosen.answer.turns for each in same) - 1
        answer, kept = chosen.answer, chosen.kept
        answers.extend(
            (
                answer.model,
                answer.benchmark,
                answer.question_id,
                answer.category,
                turn,
                text,
                kept.sha256,
                kept.name,
                chosen.row,
            )
            for turn, text in enumerate(answer.turns, 1)
        )
    return _frame(answers, IMPORTED_ANSWERS), duplicates, conflicts


def _chosen(same: Sequence[_Given], choices: Sequence[Choice]) -> _Given | None:
    """The first row of the only answer, or of the one that a person preferred."""
    if len({each.answer.turns for each in same}) == 1:
        return same[0]
    for choice in reversed(choices):
        fitting = [
            each
            for each in same
            if each.kept.sha256 == choice.sha256 and choice.row in (None, each.row)
        ]
        if fitting:
            return fitting[0] if len({each.answer.turns for each in fitting}) == 1 else None
    return None


def _reject_answers(rows: _Rows, same: Iterable[_Given]) -> None:
    """Say of rows that are nothing but an answer that another row contradicts them."""
    same = list(same)
    names = sorted({each.kept.name for each in same})
    for each in same:
        if each.alone:
            model, benchmark, question = each.key
            rows.reject(
                each.kept,
                each.row,
                "conflicting_answer",
                f"{model}'s answers to question {question} of {benchmark} differ between rows of "
                f"{', '.join(names)}; choose with `opencs prefer-verdicts FILE`",
                each.excerpt,
            )


def _frame(rows: Sequence[tuple[Any, ...]], table: Table) -> pl.DataFrame:
    frame = pl.DataFrame(rows, schema=table.schema, orient="row")
    return conform(frame.sort("file", "row") if table is REJECTED_VERDICTS else frame, table)


def by_reason(rejected: pl.DataFrame) -> dict[str, int]:
    """How many rows were rejected for which reason, the most frequent first."""
    return dict(Counter(rejected["reason"]).most_common())

"""Reading all imported files anew: verdicts with their states, answers, and rejected rows."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
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
    """The contents of all imported files, in tables of the stage's schemas.

    ``duplicate_answers`` counts the answers that another row gives too; ``conflicting_answers`` the
    questions with different answers of one model, of which none is in ``answers``.
    """

    verdicts: pl.DataFrame
    rejected: pl.DataFrame
    answers: pl.DataFrame
    files: int
    duplicate_answers: int
    conflicting_answers: int


@dataclass(frozen=True)
class _AnswerRow:
    """An answer and the row that it is from; ``alone`` says whether the row has nothing else."""

    answer: ImportedAnswer
    file: KeptFile
    row: int
    excerpt: str
    alone: bool

    @property
    def key(self) -> tuple[str, str, str]:
        return self.answer.model, self.answer.benchmark, self.answer.question_id


@dataclass
class _Rows:
    """Rows of all files that were read so far."""

    verdicts: list[pl.DataFrame] = field(default_factory=list)
    rejected: list[tuple[Any, ...]] = field(default_factory=list)
    answers: list[_AnswerRow] = field(default_factory=list)

    def reject(self, file: KeptFile, row: int, reason: str, detail: str, excerpt: str) -> None:
        self.rejected.append((file.sha256, file.name, row, reason, detail, excerpt))


def read_imports(home: Path, questions: pl.DataFrame) -> ImportedTables:
    """Read all imported files of a home.

    Raises:
        VerdictFileError: The choices, or the note beside a file, can't be read.
    """
    files = kept_files(home)
    choices = read_choices(home, files)
    known = Questions(questions)
    rows = _Rows()
    for file in files:
        try:
            _read(file, known, rows)
        except VerdictFileError as error:
            rows.reject(file, WHOLE_FILE, "unreadable_file", str(error), "")
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


def _read(file: KeptFile, questions: Questions, rows: _Rows) -> None:
    recognized = recognize(read_kept(file), file.name)
    form = recognized.form
    read_row = form.reader(recognized.fields(), file.options, questions)
    verdicts: list[ImportedVerdict] = []
    places: list[int] = []
    for raw in recognized.rows:
        try:
            if raw.problem is not None:
                raise raw.problem
            if not form.fits(raw.value):
                detail = f"the file is {form.title}, and this row is not"
                raise VerdictRowError("other_form", detail)
            contents = read_row(raw.value)
        except RejectedRowError as error:
            rows.reject(file, raw.row, error.reason, error.detail, raw.excerpt())
            continue
        for content in contents:
            if isinstance(content, ImportedVerdict):
                verdicts.append(content)
                places.append(raw.row)
            else:
                alone = len(contents) == 1
                excerpt = raw.excerpt() if alone else ""
                rows.answers.append(_AnswerRow(content, file, raw.row, excerpt, alone))
    if verdicts:
        rows.verdicts.append(_verdicts(verdicts, places, file, form.name))


def _verdicts(
    verdicts: Sequence[ImportedVerdict], places: Sequence[int], file: KeptFile, form: str
) -> pl.DataFrame:
    schema = IMPORTED_VERDICTS.schema
    columns = zip(ImportedVerdict._fields, zip(*verdicts, strict=True), strict=True)
    return pl.DataFrame(
        [pl.Series(name, values, dtype=schema[name]) for name, values in columns]
    ).with_columns(
        format=pl.lit(form),
        file=pl.lit(file.sha256),
        file_name=pl.lit(file.name),
        row=pl.Series(places, dtype=pl.Int64),
    )


def _answers(rows: _Rows, choices: Sequence[Choice]) -> tuple[pl.DataFrame, int, int]:
    """The answers that nothing contradicts, and the numbers of duplicates and of conflicts."""
    by_key: dict[tuple[str, str, str], list[_AnswerRow]] = {}
    for answer_row in rows.answers:
        by_key.setdefault(answer_row.key, []).append(answer_row)
    answers: list[tuple[Any, ...]] = []
    duplicates = conflicts = 0
    for same in by_key.values():
        chosen = _chosen(same, choices)
        if chosen is None:
            conflicts += 1
            _reject_answers(rows, same)
            continue
        duplicates += sum(row.answer.turns == chosen.answer.turns for row in same) - 1
        answer, file = chosen.answer, chosen.file
        answers.extend(
            (*chosen.key, answer.category, turn, text, file.sha256, file.name, chosen.row)
            for turn, text in enumerate(answer.turns, 1)
        )
    return _frame(answers, IMPORTED_ANSWERS), duplicates, conflicts


def _chosen(same: Sequence[_AnswerRow], choices: Sequence[Choice]) -> _AnswerRow | None:
    """The first row with the only answer, or with the answer that a person preferred."""
    if _agree(same):
        return same[0]
    for choice in reversed(choices):
        if fitting := [row for row in same if choice.fits(row.file.sha256, row.row)]:
            return fitting[0] if _agree(fitting) else None
    return None


def _agree(rows: Sequence[_AnswerRow]) -> bool:
    return len({row.answer.turns for row in rows}) == 1


def _reject_answers(rows: _Rows, same: Sequence[_AnswerRow]) -> None:
    """Reject rows that hold nothing but an answer, because another row contradicts it."""
    names = ", ".join(sorted({row.file.name for row in same}))
    for row in same:
        if row.alone:
            model, benchmark, question = row.key
            detail = (
                f"{model}'s answers to question {question} of {benchmark} differ between rows of "
                f"{names}; choose with `opencs prefer-verdicts FILE`"
            )
            rows.reject(row.file, row.row, "conflicting_answer", detail, row.excerpt)


def _frame(rows: Sequence[tuple[Any, ...]], table: Table) -> pl.DataFrame:
    frame = pl.DataFrame(rows, schema=table.schema, orient="row")
    return conform(frame.sort("file", "row") if table is REJECTED_VERDICTS else frame, table)


def by_reason(rejected: pl.DataFrame) -> dict[str, int]:
    """How many rows were rejected for each reason, the most frequent first."""
    return dict(Counter(rejected["reason"]).most_common())

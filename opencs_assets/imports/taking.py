"""Importing the files that a person names, and saying what became of each file and row."""

from collections import Counter, defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import polars as pl

from opencs_assets.imports.choices import Choice, add_choice
from opencs_assets.imports.claims import STATES
from opencs_assets.imports.errors import VerdictFileError
from opencs_assets.imports.kept import KeptFile, files_under, find_kept, keep
from opencs_assets.imports.options import ImportOptions
from opencs_assets.imports.recognize import ALL_FORMS, refusal, unused
from opencs_assets.tables.lake import Lake


@dataclass(frozen=True)
class Taken:
    """The files of a person that are kept now, and messages about the others.

    A message in ``refused`` says why a file was not kept; one in ``notes`` says for instance that
    an option means nothing to a file.
    """

    kept_files: Sequence[KeptFile]
    refused: Sequence[str]
    notes: Sequence[str]


def take(home: Path, paths: Sequence[Path], options: ImportOptions) -> Taken:
    """Keep the files at the paths, those of folders included.

    A file of a folder that can't be imported is left out with a note, as long as others can be.

    Raises:
        VerdictFileError: A path is not there, or a folder is empty.
    """
    files = list(dict.fromkeys(file for path in paths for file in files_under(path)))
    kept_files: list[KeptFile] = []
    refused: list[str] = []
    left_out: list[str] = []
    notes: list[str] = []
    forms = {form.name: form for form in ALL_FORMS}
    for file in files:
        try:
            kept_file = keep(home, file, options)
        except VerdictFileError as error:
            if file in paths:
                refused.append(refusal(error))
            else:
                left_out.append(str(error))
            continue
        kept_files.append(kept_file)
        if kept_file.state == "unchanged":
            notes.append(f"{file}: imported already, nothing changed")
        elif kept_file.state == "other options":
            values = ", ".join(
                f"{name} {kept}" for name, kept in kept_file.options.values().items()
            )
            notes.append(f"{file}: imported already; now read with {values or 'no options'}")
        form = forms[kept_file.form]
        unused_names = ", ".join(f"--{name}".replace("_", "-") for name in unused(form, options))
        # Where there are several files, each may need other options.
        if unused_names and len(files) == 1:
            notes.append(f"{file}: {unused_names} says nothing here: the file is {form.title}")
    if not kept_files:
        return Taken([], [*refused, *left_out], notes)
    return Taken(kept_files, refused, [*notes, *(f"left out: {message}" for message in left_out)])


def outcomes(lake: Lake, kept_files: Sequence[KeptFile]) -> list[dict[str, Any]]:
    """One row a file, with the numbers of its rows in the tables by state or reason."""
    verdicts = _counts(lake.read("imported_verdicts", {}), "state")
    rejected = _counts(lake.read("rejected_verdicts", {}), "reason")
    answers = Counter(lake.read("imported_answers", {})["file"])
    rows = {}
    for file in kept_files:
        states, reasons = verdicts[file.sha256], rejected[file.sha256]
        rows[file.sha256] = {
            "file": file.name,
            "sha256": file.sha256[:8],
            "form": file.form,
            "state": file.state,
            **{state: states[state] for state in STATES},
            "answers": answers[file.sha256],
            "rejected": reasons.total(),
            "reasons": ", ".join(f"{reason} {reasons[reason]:,}" for reason in sorted(reasons)),
        }
    return list(rows.values())


def first_details(lake: Lake, kept_files: Sequence[KeptFile]) -> list[str]:
    """Describe the first rejected row of each file and reason, and say how many more there are."""
    rejected = lake.read("rejected_verdicts", {}).filter(
        pl.col("file").is_in([file.sha256 for file in kept_files])
    )
    by_reason = rejected.group_by("file", "reason", maintain_order=True).agg(
        pl.col("file_name", "row", "detail").first(), more=pl.len() - 1
    )
    return [
        f"{name}{'' if row < 0 else f', row {row}'}: {detail} ({reason}"
        + (f", and {more:,} more)" if more else ")")
        for name, row, detail, reason, more in by_reason.select(
            "file_name", "row", "detail", "reason", "more"
        ).iter_rows()
    ]


def prefer(home: Path, lake: Lake, named: str, row: int | None, reason: str) -> KeptFile:
    """Note that a file, or one row of it, is right where others claim something else.

    Raises:
        VerdictFileError: There is no such file, or nothing of it is in conflict.
    """
    file = find_kept(home, named)
    verdicts, rejected = lake.read("imported_verdicts", {}), lake.read("rejected_verdicts", {})
    disputed = pl.concat(
        [
            verdicts.select("file", "row", "state"),
            rejected.filter(reason="conflicting_answer").select(
                "file", "row", state=pl.lit("conflict")
            ),
        ]
    ).filter(pl.col("file") == file.sha256, pl.col("state").is_in(["conflict", "overruled"]))
    if row is not None:
        disputed = disputed.filter(pl.col("row") == row)
    if disputed.is_empty():
        where = f"row {row} of {file.name}" if row is not None else file.name
        raise VerdictFileError(
            f"nothing of {where} is in conflict or overruled, so there is nothing to prefer; "
            "`opencs import-verdicts` says what is"
        )
    add_choice(home, Choice(file.sha256, row, reason))
    return file


def _counts(frame: pl.DataFrame, column: str) -> defaultdict[str, Counter[str]]:
    """How often each file has each value of a column."""
    counts: defaultdict[str, Counter[str]] = defaultdict(Counter)
    for file, value, count in frame.group_by("file", column).len().iter_rows():
        counts[file][value] = count
    return counts

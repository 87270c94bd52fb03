"""Taking files in for a person: which were kept, which not and why, and what became of them."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import polars as pl

from opencs_assets.imports.choices import Choice, add_choice
from opencs_assets.imports.errors import VerdictFileError
from opencs_assets.imports.kept import KeptFile, files_under, find_kept, keep
from opencs_assets.imports.options import ImportOptions
from opencs_assets.imports.recognize import ALL_FORMS, refusal, unused
from opencs_assets.tables.lake import Lake

STATES: Final = ("used", "duplicate", "conflict", "overruled")


@dataclass(frozen=True)
class Taken:
    """What became of the files that a person named.

    Attributes:
        kept: Files that are kept now, whether they were before or not.
        refused: Why others are not; each message names its file.
        notes: Other news for a person, such as an option that means nothing to a file.
    """

    kept: Sequence[KeptFile]
    refused: Sequence[str]
    notes: Sequence[str]


def take(home: Path, paths: Sequence[Path], options: ImportOptions) -> Taken:
    """Keep the files that the paths mean, those of folders included.

    Of a folder, what is no such file is left out with a note, as long as others are.

    Raises:
        VerdictFileError: A path is not there, or a folder is empty.
    """
    files = list(dict.fromkeys(file for path in paths for file in files_under(path)))
    kept: list[KeptFile] = []
    refused: list[str] = []
    left_out: list[str] = []
    notes: list[str] = []
    forms = {form.name: form for form in ALL_FORMS}
    for file in files:
        try:
            one = keep(home, file, options)
        except VerdictFileError as error:
            if file in paths:
                refused.append(refusal(error))
            else:
                left_out.append(str(error))
            continue
        kept.append(one)
        if one.state == "unchanged":
            notes.append(f"{file}: imported already, nothing changed")
        elif one.state == "other options":
            notes.append(f"{file}: imported already; now read with {_in_words(one.options)}")
        left = unused(forms[one.form], options)
        # Where several files are given, each may need other options.
        if left and len(files) == 1:
            notes.append(
                f"{file}: {', '.join(f'--{name}'.replace('_', '-') for name in left)} says nothing "
                f"here: the file is {forms[one.form].title}"
            )
    if not kept:
        return Taken([], [*refused, *left_out], notes)
    return Taken(kept, refused, [*notes, *(f"left out: {each}" for each in left_out)])


def outcomes(lake: Lake, kept: Sequence[KeptFile]) -> list[dict[str, Any]]:
    """One row a file: what its rows became, as the tables have it now."""
    verdicts = _counts(lake.read("imported_verdicts", {}), "state")
    rejected = _counts(lake.read("rejected_verdicts", {}), "reason")
    answers = dict(lake.read("imported_answers", {})["file"].value_counts().iter_rows())
    rows = {}
    for file in kept:
        states, reasons = verdicts.get(file.sha256, {}), rejected.get(file.sha256, {})
        rows[file.sha256] = {
            "file": file.name,
            "sha256": file.sha256[:8],
            "form": file.form,
            "state": file.state,
            **{state: states.get(state, 0) for state in STATES},
            "answers": answers.get(file.sha256, 0),
            "rejected": sum(reasons.values()),
            "reasons": ", ".join(
                f"{reason} {count:,}" for reason, count in sorted(reasons.items())
            ),
        }
    return list(rows.values())


def first_details(lake: Lake, kept: Sequence[KeptFile]) -> list[str]:
    """For each file and reason, its first rejected row, what is wrong with it, and how many are."""
    rejected = lake.read("rejected_verdicts", {}).filter(
        pl.col("file").is_in([file.sha256 for file in kept])
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
    """Write down that a file, or one row of it, is right where others say otherwise.

    Raises:
        VerdictFileError: There is no such file, or nothing of it is in conflict.
    """
    kept = find_kept(home, named)
    verdicts, rejected = lake.read("imported_verdicts", {}), lake.read("rejected_verdicts", {})
    disputed = pl.concat(
        [
            verdicts.select("file", "row", "state"),
            rejected.filter(reason="conflicting_answer").select(
                "file", "row", state=pl.lit("conflict")
            ),
        ]
    ).filter(pl.col("file") == kept.sha256, pl.col("state").is_in(["conflict", "overruled"]))
    if row is not None:
        disputed = disputed.filter(pl.col("row") == row)
    if disputed.is_empty():
        where = f"row {row} of {kept.name}" if row is not None else kept.name
        raise VerdictFileError(
            f"nothing of {where} is in conflict or overruled, so there is nothing to prefer; "
            "`opencs import-verdicts` says what is"
        )
    add_choice(home, Choice(kept.sha256, row, reason))
    return kept


def _counts(frame: pl.DataFrame, column: str) -> dict[str, dict[str, int]]:
    counts: dict[str, dict[str, int]] = {}
    for file, value, count in frame.group_by("file", column).len().iter_rows():
        counts.setdefault(file, {})[value] = count
    return counts


def _in_words(options: ImportOptions) -> str:
    return ", ".join(f"{name} {value}" for name, value in options.given().items()) or "no options"

"""The verdicts that were imported: each file as it came, each row from its file."""

import hashlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import polars as pl

from opencs_assets.benchmarks.questions import read_benchmarks
from opencs_assets.imports.errors import VerdictFileError
from opencs_assets.imports.kept import BESIDE, FOLDER, KeptFile, kept_files
from opencs_assets.imports.reading import read_imports
from opencs_assets.tables.catalog import TABLES
from opencs_assets.tables.lake import Lake
from opencs_assets.verification.comparing import differences
from opencs_assets.verification.findings import Findings, VerificationFault
from opencs_assets.verification.tables import check_files, read_table

IMPORTED = ("imported_verdicts", "rejected_verdicts", "imported_answers")
_FILES = "imported files"
_SHORT = 12


def check_imported(lake: Lake, home: Path, findings: Findings) -> None:
    """Look at the imported files, and at every row that is said to come from them."""
    for name in IMPORTED:
        check_files(lake, name, "imported", findings)
    try:
        files = kept_files(home)
    except VerdictFileError as error:
        findings.add(_FILES, [_of_file("unreadable", "", str(error), "what was said about it")])
        return
    broken = _broken(files, home, findings)
    there = {name: _table(lake, name, findings) for name in IMPORTED}
    known = {kept.sha256 for kept in files}
    if not files and all(frame is None or not frame.height for frame in there.values()):
        return
    if all(frame is None for frame in there.values()):
        findings.note(
            f"{len(files)} imported files are not in the tables yet; "
            "materialize them: opencs materialize imported_verdicts"
        )
        return
    read = read_imports(home, read_benchmarks(home, {}))
    expected = dict(zip(IMPORTED, (read.verdicts, read.rejected, read.answers), strict=True))
    for name, frame in there.items():
        if frame is None:
            continue
        what = f"{name}: rows"
        findings.count("imported", what, max(frame.height, expected[name].height))
        _lost(frame, known, what, findings)
        whole = ~pl.col("file").is_in(list(broken))
        wanted = expected[name].filter(whole)
        if broken and name == "imported_verdicts":
            # What a file that is not whole says decides about the rows of others.
            wanted = wanted.drop("state")
        rows = frame.filter(whole & pl.col("file").is_in(list(known)))
        for fault in differences(
            rows, wanted, TABLES[name].key, layer="imported", table=name, named=_named
        ):
            findings.add(what, [fault])


def _table(lake: Lake, name: str, findings: Findings) -> pl.DataFrame | None:
    if not lake.exists(name, {}):
        return None
    return read_table(lake, name, {}, "imported", findings)


def _broken(files: list[KeptFile], home: Path, findings: Findings) -> set[str]:
    """Hashes of the files that are gone or not what they were."""
    broken = set()
    for kept in files:
        findings.count("imported", _FILES)
        file = f"{kept.name} ({kept.sha256[:_SHORT]})"
        if not kept.path.is_file():
            broken.add(kept.sha256)
            fault = _of_file("missing", file, "no file", "the file as it was imported")
            findings.add(_FILES, [fault])
            continue
        sha256 = hashlib.sha256(kept.path.read_bytes()).hexdigest()
        if sha256 != kept.sha256:
            broken.add(kept.sha256)
            fault = _of_file("edited", file, f"SHA-256 {sha256}", f"SHA-256 {kept.sha256}")
            findings.add(_FILES, [fault])
    expected = {kept.path.name for kept in files} | {f"{kept.sha256}{BESIDE}" for kept in files}
    folder = home / FOLDER
    for path in sorted(folder.iterdir()) if folder.is_dir() else ():
        if path.name not in expected and not path.name.startswith("."):
            fault = _of_file(
                "unknown", path.name, "a file that nothing is known about", "imported files only"
            )
            findings.add(_FILES, [fault])
    return broken


def _lost(frame: pl.DataFrame, known: set[str], what: str, findings: Findings) -> None:
    """Rows of files of which nothing is kept, one fault a file."""
    lost = frame.filter(~pl.col("file").is_in(list(known)))
    for sha256, name, rows in (
        lost.group_by("file", "file_name", maintain_order=True).len().iter_rows()
    ):
        named = f"{name} ({sha256[:_SHORT]})"
        fault = _of_file("missing", named, f"{rows} rows of a file that is not kept", "the file")
        findings.add(what, [fault])


def _of_file(kind: Any, row: str, found: str, expected: str) -> VerificationFault:
    return VerificationFault("imported", kind, "files", "", row, found, expected)


def _named(row: Mapping[str, Any]) -> str:
    names = []
    if "model" in row:
        question = f"{row['benchmark']} question {row['question_id']} turn {row['turn']}"
        names.append(f"{row['model']} on {question}")
    if "file" in row:
        names.append(f"file {row['file'][:_SHORT]}")
    if "row" in row:
        names.append(f"row {row['row']}")
    if "shown_first" in row:
        names.append(f"turn {row['turn']}, {row['shown_first']} shown first")
    return ", ".join(names)

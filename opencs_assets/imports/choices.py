"""A person's choices where files claim the same judgment: ``verdict_choices.csv`` in the home.

Its columns are ``file`` (a SHA-256, or its first 8 characters or more), ``row`` (0-based in that
file; empty for all rows) and ``reason``. The last line about a judgment decides.
"""

import csv
import io
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from opencs_assets.files import versions
from opencs_assets.files.reading import every_row
from opencs_assets.files.rows import AcceptedFiles
from opencs_assets.imports.errors import VerdictFileError
from opencs_assets.imports.kept import SHORTEST_PREFIX, KeptFile
from resources.files import SHARED, write_whole

NAME: Final = "verdict_choices.csv"
COLUMNS: Final = ("file", "row", "reason")
_ACCEPTED: Final = AcceptedFiles(VerdictFileError, exact_header=COLUMNS)


@dataclass(frozen=True)
class Choice:
    """One line of the file: it prefers one row of an imported file, or all if ``row`` is None."""

    sha256: str
    row: int | None
    reason: str

    def fits(self, sha256: str, row: int) -> bool:
        """Whether it prefers this row of a file."""
        return sha256 == self.sha256 and self.row in (None, row)


def read_choices(home: Path, files: Sequence[KeptFile]) -> list[Choice]:
    """The choices of a home, in the file's order.

    Raises:
        VerdictFileError: The columns are wrong, a line is damaged, a row is no number, or a hash
            fits no imported file or several.
    """
    path = home / NAME
    if not path.exists():
        return []
    rows = every_row(path, _ACCEPTED)
    return [_choice(record, files, f"{path}, {place}") for place, record in rows]


def add_choice(home: Path, choice: Choice) -> None:
    """Add a choice to the end of the file.

    Raises:
        VerdictFileError: The file can't be written.
    """
    path = home / NAME
    with versions.writing(home, VerdictFileError):
        text = path.read_text(encoding="utf-8-sig") if path.exists() else ""
        text = text or ",".join(COLUMNS)
        if not text.endswith("\n"):
            text += "\n"
        line = io.StringIO()
        csv.writer(line, lineterminator="\n").writerow(
            [choice.sha256, "" if choice.row is None else choice.row, choice.reason]
        )
        write_whole(path, (text + line.getvalue()).encode(), SHARED)


def _choice(record: dict[str, Any], files: Sequence[KeptFile], where: str) -> Choice:
    start, row, reason = (record[column].strip() for column in COLUMNS)
    start = start.lower()
    if len(start) < SHORTEST_PREFIX:
        raise VerdictFileError(
            f"{where}: give at least the first {SHORTEST_PREFIX} characters of a file's SHA-256, "
            f"not {start!r}"
        )
    fitting = [file for file in files if file.sha256.startswith(start)]
    if len(fitting) != 1:
        raise VerdictFileError(
            f"{where}: {start!r} fits {len(fitting)} imported files; "
            + ("give more of the hash" if fitting else "import it, or remove the line")
        )
    if row and not row.isdecimal():
        raise VerdictFileError(f"{where}: the row must be a number or empty, not {row!r}")
    return Choice(fitting[0].sha256, int(row) if row else None, reason)

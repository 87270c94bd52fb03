"""Rows of a person's file, each with its value or with the reason why it can't be read."""

import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Final

from opencs_assets.files.contents import printable
from opencs_assets.files.rejections import DamagedRowError
from resources.errors import MendableError

EXCERPT_CHARS: Final = 200
WHOLE_FILE: Final = -1
"""The number that stands for a row where a rejection is about the whole file."""


@dataclass(frozen=True, slots=True)
class RawRow:
    """One row as it stands in the file.

    Attributes:
        row: 0-based number in the file's order; ``WHOLE_FILE`` where the file ends too early.
        line: 1-based line where the row begins; None in JSON documents and Parquet.
        value: The row's fields; empty where there is a problem.
        problem: Why the row can't be read.
        text: The row's source text for the excerpt, where the file has one.
    """

    row: int
    line: int | None
    value: dict[str, Any]
    problem: DamagedRowError | None = None
    text: str | None = None

    @property
    def place(self) -> str:
        """Where the row stands, for a person."""
        if self.row == WHOLE_FILE:
            return "at its end"
        return f"row {self.row}" if self.line is None else f"line {self.line}"

    def excerpt(self) -> str:
        """Return the row's first 200 characters, fit to be stored as UTF-8."""
        text = self.text
        if text is None:
            text = json.dumps(self.value, ensure_ascii=False, separators=(",", ":"), default=str)
        return printable(text.strip()[:EXCERPT_CHARS])


@dataclass(frozen=True)
class FileRows:
    """A file whose container is known, with its rows, which are read as they are iterated once.

    The container is ``json``, ``jsonl``, ``csv`` or ``parquet``, with ``+gzip`` where compressed;
    the encoding is ``utf-8``, ``utf-8-sig``, ``utf-16`` or, for Parquet, ``binary``. Only a CSV has
    a header.
    """

    container: str
    encoding: str
    rows: Iterator[RawRow]
    header: Sequence[str] = ()


@dataclass(frozen=True)
class AcceptedFiles:
    """The files that a stage accepts, and the errors that refuse others.

    Attributes:
        error: It is raised for a file that can't be used as a whole.
        not_understood: It is raised for a file of another kind, if given, in place of ``error``.
        markers: Fields of which a row has at least one. They tell an object that is a row from one
            that holds the list of rows.
        columns: The columns of a table that are read, whatever their case; a CSV's header and a
            Parquet file must name one of the markers. Without any, Parquet is refused, and a CSV
            may have any header and gives all its columns.
        exact_header: The only header that is allowed; with it, a file must be CSV.
        tables: Whether CSV is accepted at all.
        most_unpacked: The bytes that a gzip may unpack to; None stands for any number.
    """

    error: type[MendableError]
    not_understood: type[MendableError] | None = None
    markers: Sequence[str] = ()
    columns: Sequence[str] = ()
    exact_header: Sequence[str] = ()
    tables: bool = True
    most_unpacked: int | None = None

    def kinds(self, word: str = "or") -> str:
        """The accepted containers, for a person, joined by a word."""
        names = [] if self.exact_header else ["JSON", "JSONL"]
        names += ["Parquet"] if self.columns else []
        names += ["a CSV with a header"] if self.tables else []
        return f" {word} ".join([", ".join(names[:-1]), names[-1]] if names[1:] else names)

    def refusal(self, message: str) -> MendableError:
        """The error for a file of another kind."""
        return (self.not_understood or self.error)(message)

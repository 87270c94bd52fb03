"""From a person's file to its text: gzip, encodings, and the kinds of files that hold no rows.

A file that is damaged at its end is read up to the damage, which ``Contents.damage`` describes.
"""

import codecs
import gzip
import io
import re
import zlib
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final, TextIO

from resources.errors import MendableError

PARQUET: Final = b"PAR1"
_GZIP: Final = b"\x1f\x8b"
_KINDS: Final[Mapping[bytes, str]] = {
    PARQUET: "a Parquet file",
    b"PK\x03\x04": "a zip archive or a spreadsheet",
    b"\x89PNG": "a PNG image",
    b"\xff\xd8\xff": "a JPEG image",
    b"GIF8": "a GIF image",
    b"%PDF": "a PDF",
    b"SQLite format 3": "an SQLite database",
    b"\x28\xb5\x2f\xfd": "compressed with zstd",
    b"BZh": "compressed with bzip2",
    b"\xfd7zXZ\x00": "compressed with xz",
    b"7z\xbc\xaf": "a 7z archive",
}
# Bytes that are not UTF-8 are read as halves of surrogate pairs, so that their row can be named.
_NOT_TEXT: Final = re.compile("[\0\ud800-\udfff]")


@contextmanager
def opened(path: Path, error: type[MendableError]) -> Iterator[io.BufferedReader]:
    """Open a person's file for reading; where that fails, the caller's ``error`` is raised."""
    advice = "Name a file that exists and may be read."
    if path.exists() and not path.is_file() and not path.is_dir():
        raise error(f"{path}: is not a regular file. {advice}")
    try:
        with path.open("rb") as stream:
            yield stream
    except OSError as problem:
        why = problem.strerror or problem
        raise error(f"{path}: can't be read ({why}). {advice}") from problem


class Contents:
    """A file's unpacked bytes: all in ``stream``, the first in ``start``.

    A gzip that unpacks to more than ``most_unpacked`` bytes raises ``too_large``.
    """

    def __init__(
        self, file: io.BufferedReader, most_unpacked: int | None, too_large: MendableError
    ) -> None:
        self.stream = file
        self.is_gzip = self.stream.peek(2).startswith(_GZIP)
        self._gzip: _Unpacked | None = None
        self._cut_character: str | None = None
        if self.is_gzip:
            self._gzip = _Unpacked(self.stream, most_unpacked, too_large)
            self.stream = io.BufferedReader(self._gzip)
        self.start = self.stream.peek(16)

    @property
    def damage(self) -> str | None:
        """Why the content ends too early, if it does; known once it was read to its end."""
        return (self._gzip and self._gzip.damage) or self._cut_character

    @property
    def kind(self) -> str | None:
        """What the file is, where it is known not to be text."""
        return next((kind for magic, kind in _KINDS.items() if self.start.startswith(magic)), None)

    def text(self) -> tuple[str, TextIO]:
        """The encoding by the byte order mark, and the text, whose lines end at line feeds only."""
        if self.start.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)):
            data = self.stream.read()
            if len(data) % 2:
                self._cut_character = "the UTF-16 text ends in the middle of a character"
                data = data[:-1]
            return "utf-16", io.StringIO(data.decode("utf-16", "surrogatepass"), newline="\n")
        encoding = "utf-8-sig" if self.start.startswith(codecs.BOM_UTF8) else "utf-8"
        decoded = io.TextIOWrapper(self.stream, "utf-8-sig", errors="surrogateescape", newline="\n")
        return encoding, decoded


class _Unpacked(io.RawIOBase):
    """The unpacked bytes of a gzip, which end where the gzip is damaged."""

    def __init__(
        self, packed: io.BufferedReader, most: int | None, too_large: MendableError
    ) -> None:
        self._file = gzip.GzipFile(fileobj=packed)
        self._most, self._too_large = most, too_large
        self._size = 0
        self.damage: str | None = None

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        try:
            data = self._file.read1(len(buffer))
        except EOFError:
            self.damage = f"the gzip data is broken: it ends after {self._size:,} unpacked bytes"
            return 0
        except (gzip.BadGzipFile, zlib.error) as error:
            self.damage = f"the gzip data is broken after {self._size:,} unpacked bytes ({error})"
            return 0
        buffer[: len(data)] = data
        self._size += len(data)
        if self._most is not None and self._size > self._most:
            raise self._too_large
        return len(data)


def undecodable_byte(text: str) -> int | None:
    """The 1-based byte at which a text holds something that is no character, if there is one."""
    match = _NOT_TEXT.search(text)
    return None if match is None else len(text[: match.start()].encode("utf-8", "replace")) + 1


def printable(text: str) -> str:
    """The text as it can be stored as UTF-8, with a mark in place of all that is no character."""
    return _NOT_TEXT.sub("�", text)

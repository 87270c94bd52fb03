"""Containers: reading a file into raw rows, without being told what it is.

JSON, JSONL, CSV and Parquet, each gzipped or not, are recognized by their content; the extension
only breaks a tie. What a row means belongs in ``shapes``.
"""

import codecs
import csv
import gzip
import io
import itertools
import json
import re
import sys
import zlib
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO, Final, TextIO, cast

import polars as pl

from opencs_assets.datasets.errors import DatasetError, DatasetRowError
from opencs_assets.datasets.shapes import FIELDS, MARKERS, shape_of

EXCERPT_CHARS: Final = 200

_ARCHIVES: Final[Mapping[bytes, str]] = {
    b"PK\x03\x04": "a zip archive or a spreadsheet",
    b"\x28\xb5\x2f\xfd": "compressed with zstd",
    b"BZh": "compressed with bzip2",
    b"\xfd7zXZ\x00": "compressed with xz",
}
_GZIP: Final = b"\x1f\x8b"
_PARQUET: Final = b"PAR1"
_JSONL_SUFFIXES: Final = frozenset({".jsonl", ".ndjson"})
_SNIFFED_LINES: Final = 20
_LONGEST_HEADER: Final = 100_000
_BATCH: Final = 10_000
# What the error handler `surrogateescape` leaves in place of a byte that is not UTF-8.
_ESCAPED_BYTE: Final = re.compile("[\udc80-\udcff]")


@dataclass(frozen=True, slots=True)
class RawRow:
    """One row as it stands in the file.

    Attributes:
        row: 0-based, in the file's order.
        line: 1-based line where the row begins; None in JSON documents and Parquet.
        value: The row's value, usually a mapping; None where there is a problem.
        problem: Why the row can't be read at all.
        text: The row's source text where the file has one, for the excerpt.
    """

    row: int
    line: int | None
    value: Any
    problem: DatasetRowError | None = None
    text: str | None = None

    def excerpt(self) -> str:
        """Return the row's first 200 characters, fit to be stored as UTF-8."""
        text = self.text
        if text is None:
            text = json.dumps(self.value, ensure_ascii=False, default=str)
        return text.strip()[:EXCERPT_CHARS].encode("utf-8", "replace").decode("utf-8")


@dataclass(frozen=True)
class RawFile:
    """An open file: what it is, and its rows.

    Attributes:
        container: ``json``, ``jsonl``, ``csv`` or ``parquet``, with ``+gzip`` where compressed.
        encoding: ``utf-8``, ``utf-8-sig``, ``utf-16`` or, for Parquet, ``binary``.
        rows: Every row once, read while it is iterated.
    """

    container: str
    encoding: str
    rows: Iterator[RawRow]


@contextmanager
def open_rows(path: Path) -> Iterator[RawFile]:
    """Open a file and recognize its container.

    Args:
        path: A JSON, JSONL, CSV or Parquet file, gzipped or not.

    Raises:
        DatasetError: The file is absent, empty, no such file, or broken as a whole; also while rows
            are read. The message names the file, the place and what to do.
    """
    try:
        with path.open("rb") as raw:
            magic = raw.read(8)
            raw.seek(0)
            _check_magic(path, magic)
            if magic.startswith(_GZIP):
                with gzip.open(raw, "rb") as unpacked:
                    yield _recognize(path, cast(BinaryIO, unpacked), "+gzip")
            else:
                yield _recognize(path, raw, "")
    except (gzip.BadGzipFile, EOFError, zlib.error) as error:
        raise DatasetError(
            f"{path}: the gzip data is broken ({error}). Download or compress the file again."
        ) from error
    except OSError as error:
        why = error.strerror or error
        raise DatasetError(
            f"{path}: can't be read ({why}). Name a file that exists and may be read."
        ) from error


def _check_magic(path: Path, magic: bytes) -> None:
    if not magic:
        raise DatasetError(f"{path}: is empty (0 bytes). Name a file with samples.")
    for start, kind in _ARCHIVES.items():
        if magic.startswith(start):
            raise DatasetError(
                f"{path}: is {kind}. Unpack it, or save it as JSON, JSONL, CSV or Parquet."
            )


def _recognize(path: Path, stream: BinaryIO, packed: str) -> RawFile:
    magic = stream.read(4)
    stream.seek(0)
    if magic == _PARQUET:
        return RawFile(f"parquet{packed}", "binary", _parquet_rows(path, stream))
    encoding = _encoding(magic)
    if encoding == "utf-16":
        stream = _as_utf8(path, stream)
    lines = _first_lines(stream)
    if not lines:
        raise DatasetError(f"{path}: is empty (nothing but white space). Name a file with samples.")
    delimiter = _csv_delimiter(lines[0])
    if delimiter is not None:
        rows = _csv_rows(_text(stream, newline=""), delimiter)
        return RawFile(f"csv{packed}", encoding, rows)
    if _is_jsonl(lines, path):
        return RawFile(f"jsonl{packed}", encoding, _jsonl_rows(_text(stream, newline="\n")))
    _check_json(path, lines)
    document = _document(path, stream)
    if isinstance(document, dict) and shape_of(document) is not None:
        # A JSONL file of one line, or one sample saved by itself.
        return RawFile(f"jsonl{packed}", encoding, iter([RawRow(0, 1, document)]))
    rows = (RawRow(row, None, value) for row, value in enumerate(_list_of(path, document)))
    return RawFile(f"json{packed}", encoding, rows)


def _encoding(magic: bytes) -> str:
    if magic.startswith(codecs.BOM_UTF8):
        return "utf-8-sig"
    if magic.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)):
        return "utf-16"
    return "utf-8"


def _as_utf8(path: Path, stream: BinaryIO) -> BinaryIO:
    """Convert UTF-16 as a whole: one lost byte shifts all that follows, so no row can be named."""
    try:
        return io.BytesIO(stream.read().decode("utf-16").encode())
    except UnicodeDecodeError as error:
        raise _undecodable(path, error) from error


def _text(stream: BinaryIO, newline: str) -> io.TextIOWrapper:
    """Decode a stream; a byte that is not UTF-8 becomes an escape, so its row can be named."""
    stream.seek(0)
    return io.TextIOWrapper(stream, "utf-8-sig", errors="surrogateescape", newline=newline)


def _first_lines(stream: BinaryIO) -> list[str]:
    """Return the first lines that are not blank."""
    text = _text(stream, newline="\n")
    filled = (line.strip() for line in text if not line.isspace())
    lines = list(itertools.islice(filled, _SNIFFED_LINES))
    text.detach()  # otherwise it would close the stream
    return lines


def _csv_delimiter(header: str) -> str | None:
    """Return what separates a CSV header that names a known field, or None for no such header."""
    if header.startswith(("{", "[")) or len(header) > _LONGEST_HEADER:
        return None
    for delimiter in ",;\t":
        try:
            fields = next(csv.reader(header.splitlines()[:1], delimiter=delimiter, strict=True))
        except csv.Error:
            continue
        if set(_header(fields)) & set(MARKERS):
            return delimiter
    return None


def _header(fields: Sequence[str]) -> list[str]:
    return [field.strip().lower() for field in fields]


def _is_jsonl(lines: Sequence[str], path: Path) -> bool:
    """Tell JSON lines from a JSON document by the file's first lines.

    What follows a complete first line can't belong to a document. Where that line is broken, the
    others decide: a document's lines are rarely JSON by themselves. One line alone is read as a
    document.
    """
    if len(lines) == 1:
        return False
    suffixes = {suffix.lower() for suffix in path.suffixes}
    if suffixes & _JSONL_SUFFIXES and not lines[0].startswith("["):
        return True
    complete = [_is_json(line) for line in lines]
    return complete[0] or 2 * sum(complete) >= len(lines)


def _is_json(line: str) -> bool:
    try:
        json.loads(line)
    except (ValueError, RecursionError):
        return False
    return True


def _check_json(path: Path, lines: Sequence[str]) -> None:
    if lines[0].startswith(("{", "[")) or path.suffix.lower() in {".json", *_JSONL_SUFFIXES}:
        return
    start = lines[0][:60].encode("utf-8", "replace").decode()
    raise DatasetError(
        f"{path}: is neither JSON, JSONL, Parquet nor a CSV with a header. It begins with "
        f"{start!r}. A CSV needs a header with {_names(MARKERS)}."
    )


def _names(fields: Sequence[str]) -> str:
    return " or ".join(f"`{field}`" for field in fields)


def _document(path: Path, stream: BinaryIO) -> object:
    stream.seek(0)
    try:
        return json.loads(stream.read().decode("utf-8-sig"))
    except UnicodeDecodeError as error:
        raise _undecodable(path, error) from error
    except json.JSONDecodeError as error:
        raise DatasetError(
            f"{path}: broken JSON at line {error.lineno}, column {error.colno}: {error.msg}. "
            "Mend the file there, or save it as JSONL, where a broken line costs one row."
        ) from error
    except (ValueError, RecursionError) as error:
        raise DatasetError(f"{path}: JSON that can't be read: {error}.") from error


def _undecodable(path: Path, error: UnicodeDecodeError) -> DatasetError:
    byte = error.object[error.start]
    return DatasetError(
        f"{path}: is not valid {error.encoding}: byte 0x{byte:02x} at byte offset {error.start}. "
        f"Convert it, for example with `iconv -f WINDOWS-1252 -t UTF-8 {path.name} > utf8.json`."
    )


def _list_of(path: Path, document: object) -> list[Any]:
    """Return a document's rows: the document itself, or the only list in an object."""
    if isinstance(document, list):
        return document
    if isinstance(document, dict):
        lists = {name: value for name, value in document.items() if isinstance(value, list)}
        if len(lists) == 1:
            return next(iter(lists.values()))
        found = ", ".join(f"`{str(name)[:40]}`" for name in list(lists)[:10]) or "none"
        raise DatasetError(
            f"{path}: a JSON object needs exactly one list of rows, such as `data`; lists found: "
            f"{found}. Keep one list, or save the rows as JSONL."
        )
    raise DatasetError(
        f"{path}: a JSON {type(document).__name__}, not rows. Save a list of objects, or JSONL."
    )


def _bad_bytes(text: str) -> DatasetRowError | None:
    found = _ESCAPED_BYTE.search(text)
    if found is None:
        return None
    byte = ord(found.group()) - 0xDC00
    return DatasetRowError(
        "bad_encoding",
        f"byte 0x{byte:02x} at character {found.start() + 1} of the row is not valid UTF-8",
    )


def _jsonl_rows(text: TextIO) -> Iterator[RawRow]:
    row = 0
    for number, line in enumerate(text, 1):
        if line.isspace():
            continue
        value, problem = None, _bad_bytes(line)
        if problem is None:
            try:
                value = json.loads(line)
            except json.JSONDecodeError as error:
                detail = f"line {number}, column {error.colno}: {error.msg}"
                problem = DatasetRowError("broken_json", detail)
            except (ValueError, RecursionError) as error:
                problem = DatasetRowError("broken_json", f"line {number}: {error}")
        yield RawRow(row, number, value, problem, line)
        row += 1


def _csv_rows(text: TextIO, delimiter: str) -> Iterator[RawRow]:
    # The csv module refuses fields over 128 KiB by default; how long a message may be is decided
    # later, where a row that is too long is counted.
    csv.field_size_limit(sys.maxsize)
    reader = csv.reader(text, delimiter=delimiter, strict=True)
    header = _header(next(fields for fields in reader if any(map(str.strip, fields))))
    for row in itertools.count():
        line = reader.line_num + 1
        try:
            fields = next(reader)
            while not fields:
                line = reader.line_num + 1
                fields = next(reader)
        except StopIteration:
            return
        except csv.Error as error:
            detail = f"line {line}: {error}; a quote may not be closed"
            yield RawRow(row, line, None, DatasetRowError("broken_csv", detail), "")
            continue
        source = delimiter.join(fields)
        problem = _bad_bytes(source)
        if problem is None and any(fields[len(header) :]):
            detail = f"line {line}: {len(fields)} fields, but the header has {len(header)}"
            problem = DatasetRowError("broken_csv", detail)
        value = dict(zip(header, fields, strict=False)) if problem is None else None
        yield RawRow(row, line, value, problem, source)


def _parquet_rows(path: Path, stream: BinaryIO) -> Iterator[RawRow]:
    try:
        frame = pl.read_parquet(stream)
    except (pl.exceptions.PolarsError, OSError) as error:
        raise DatasetError(f"{path}: broken Parquet: {error}. Write the file again.") from error
    if not set(MARKERS) & set(frame.columns):
        found = ", ".join(f"`{name}`" for name in frame.columns[:10]) or "none"
        raise DatasetError(
            f"{path}: no column named {_names(MARKERS)}; columns found: {found}. Rename them."
        )
    # Other columns, such as embeddings, would only cost memory.
    frame = frame.select([name for name in FIELDS if name in frame.columns])
    row = 0
    for batch in frame.iter_slices(_BATCH):
        for value in batch.iter_rows(named=True):
            yield RawRow(row, None, value)
            row += 1

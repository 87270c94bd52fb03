"""From a file's bytes to its rows, without believing its name.

JSON lines, a JSON document with one list of rows, and CSV, each gzipped or not, in UTF-8 (with or
without a byte order mark) or UTF-16. A row that can't be read stays a row with its reason; a
document that was cut gives the rows before the cut.
"""

import codecs
import csv
import io
import json
import re
import sys
import zlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final, Literal

import orjson

from opencs_assets.imports.errors import NotUnderstoodError, VerdictFileError, VerdictRowError

EXCERPT_CHARS: Final = 200
MOST_UNPACKED: Final = 2 << 30
_SNIFFED_LINES: Final = 20
_GZIP: Final = b"\x1f\x8b"
_MAGIC: Final[Mapping[bytes, str]] = {
    b"PAR1": "a Parquet file",
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
# What the error handler `surrogateescape` leaves in place of a byte that is not UTF-8.
_ESCAPED_BYTE: Final = re.compile("[\udc80-\udcff]")
_NOT_SPACE: Final = re.compile(rb"\S")
_FIRST_OBJECT: Final = re.compile(r"\[\s*(?=\{)")

Row = dict[str, Any]


@dataclass(frozen=True)
class Contents:
    """A file's rows.

    Attributes:
        container: How they are written.
        rows: Each row in the file's order: its fields, or why it can't be read.
        header: Names of a CSV's columns; empty otherwise.
        cut: Why the file ends in the middle, if it does and no row shows it.
        excerpt: The first characters of the row at an index.
    """

    container: Literal["jsonl", "json", "csv"]
    rows: Sequence[Row | VerdictRowError]
    excerpt: Callable[[int], str]
    header: Sequence[str] = ()
    cut: str | None = None


def read_contents(data: bytes, name: str) -> Contents:
    """The rows of a file.

    Args:
        data: The file's bytes.
        name: The file, for a person.

    Raises:
        VerdictFileError: It is empty, something else than text, or no JSON and no CSV.
    """
    if not data:
        raise VerdictFileError(f"{name} is empty (0 bytes)")
    cut = None
    if data.startswith(_GZIP):
        data, cut = _unpack(data, name)
    text = _as_utf8(data, name)
    begin = _NOT_SPACE.search(text)
    if begin is None:
        raise VerdictFileError(f"{name} is empty (nothing but white space)")
    first = begin.group()
    if first == b"<":
        raise NotUnderstoodError(_not_what_it_says(name, "an HTML or XML page"))
    lines = [line for line in text[: 64 << 20].split(b"\n", 400) if line.strip()]
    objects = [_is_object(line) for line in lines[:_SNIFFED_LINES]]
    # A line of a document is rarely JSON by itself. One line alone may be a document of one row.
    if len(objects) > 1 and (objects[0] or 2 * sum(objects) >= len(objects)):
        return _json_lines(text, cut)
    if first in b"[{":
        try:
            document = _parsed(text)
        except (ValueError, RecursionError) as error:
            if first == b"{" and any(objects):
                return _json_lines(text, cut)
            return _salvaged(text, name, error)
        return _document(document, name, cut)
    return _csv(text, name, cut)


def _unpack(data: bytes, name: str) -> tuple[bytes, str | None]:
    """What a gzip holds, and why it is not all where the file was cut."""
    parts: list[bytes] = []
    size = 0
    cut = None
    while data:
        unpacker = zlib.decompressobj(wbits=31)
        try:
            part = unpacker.decompress(data, MOST_UNPACKED - size + 1)
        except zlib.error as error:
            cut = f"the gzip data is broken after {size:,} unpacked bytes ({error})"
            break
        size += len(part)
        parts.append(part)
        if size > MOST_UNPACKED:
            raise VerdictFileError(
                f"{name} unpacks to more than {MOST_UNPACKED >> 30} GiB; split it"
            )
        if not unpacker.eof:
            cut = f"the gzip data is broken: it ends after {size:,} unpacked bytes"
            break
        data = unpacker.unused_data
    if cut and not size:
        raise VerdictFileError(f"{name}: {cut}; compress or download it again")
    return b"".join(parts), cut


def _as_utf8(data: bytes, name: str) -> bytes:
    """The text as UTF-8 without a byte order mark; bytes of a line that are not stay as they are.

    Raises:
        VerdictFileError: It is no text.
    """
    for magic, kind in _MAGIC.items():
        if data.startswith(magic):
            raise NotUnderstoodError(_not_what_it_says(name, kind))
    if data.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)):
        try:
            return data.decode("utf-16").encode()
        except UnicodeError as error:
            raise VerdictFileError(
                f"{name} begins as UTF-16, but is not ({error}); save it as UTF-8"
            ) from None
    if b"\x00" in data[:4096]:
        raise NotUnderstoodError(_not_what_it_says(name, "binary data"))
    return data.removeprefix(codecs.BOM_UTF8)


def _not_what_it_says(name: str, kind: str) -> str:
    return f"{name} is not what its name says: it is {kind}, not JSON, JSON lines or CSV"


def _is_object(line: bytes) -> bool:
    try:
        # A byte that is no UTF-8 makes a bad row, not another container.
        return isinstance(json.loads(line.decode("utf-8", "replace")), dict)
    except (ValueError, RecursionError):
        return False


def _value(line: bytes) -> Any:
    """The JSON value of a line.

    Raises:
        RowError: It is none.
    """
    try:
        return orjson.loads(line)
    except orjson.JSONDecodeError:
        pass
    # Python writes NaN, which is no JSON; and its messages name the place.
    try:
        found = json.loads(line.decode())
        json.dumps(found, ensure_ascii=False).encode()
    except UnicodeDecodeError as error:
        raise VerdictRowError("bad_encoding", f"byte {error.start + 1} is not UTF-8") from None
    except json.JSONDecodeError as error:
        raise VerdictRowError("broken_json", f"column {error.colno}: {error.msg}") from None
    except (ValueError, RecursionError) as error:
        raise VerdictRowError(
            "bad_encoding", f"it holds what is no Unicode text: {error}"
        ) from None
    return found


def _row(value: Any) -> Row | VerdictRowError:
    if isinstance(value, dict):
        return value
    return VerdictRowError("not_an_object", f"it is a JSON {type(value).__name__}, not an object")


def _json_lines(text: bytes, cut: str | None) -> Contents:
    rows: list[Row | VerdictRowError] = []
    kept = []
    loads = orjson.loads
    for number, line in enumerate(text.split(b"\n"), 1):
        if not line or line.isspace():
            continue
        kept.append(line)
        try:
            value = loads(line)
        except orjson.JSONDecodeError:
            try:
                value = _value(line)
            except VerdictRowError as error:
                rows.append(VerdictRowError(error.reason, f"line {number}, {error.detail}"))
                continue
        rows.append(value if type(value) is dict else _row(value))
    return Contents("jsonl", rows, lambda row: _shorten(kept[row]), cut=cut)


def _parsed(text: bytes) -> Any:
    try:
        return orjson.loads(text)
    except orjson.JSONDecodeError:
        document = json.loads(text.decode())
        json.dumps(document, ensure_ascii=False).encode()
        return document


def _document(document: Any, name: str, cut: str | None) -> Contents:
    rows = [_row(value) for value in _list_of(document, name)]
    if not rows:
        raise VerdictFileError(f"{name} has no rows: its list is empty")
    return Contents("json", rows, lambda row: _excerpt_of(rows[row]), cut=cut)


def _list_of(document: Any, name: str) -> list[Any]:
    """The rows of a document: the document itself, the only list in it, or the only row."""
    if isinstance(document, list):
        return document
    if isinstance(document, dict):
        lists = [
            value
            for value in document.values()
            if isinstance(value, list) and value and all(isinstance(each, dict) for each in value)
        ]
        # FastChat's answers have a list in the row itself.
        return lists[0] if len(lists) == 1 and "question_id" not in document else [document]
    raise NotUnderstoodError(f"{name} is a JSON {type(document).__name__}, not rows")


def _salvaged(text: bytes, name: str, error: Exception) -> Contents:
    """The rows of a document before the place where it breaks, and one row for what is behind."""
    said = text.decode("utf-8", "replace")
    begin = _FIRST_OBJECT.search(said)
    rows: list[Row | VerdictRowError] = []
    decoder = json.JSONDecoder()
    at = begin.end() if begin else 0
    while begin:
        try:
            value, at = decoder.raw_decode(said, at)
        except (ValueError, RecursionError):
            break
        rows.append(_row(value))
        behind = re.compile(r"\s*,\s*").match(said, at)
        if behind is None:
            break
        at = behind.end()
    if not rows:
        raise VerdictFileError(f"{name} is broken JSON: {error}; export or download it again")
    line = said.count("\n", 0, at) + 1
    rows.append(
        VerdictRowError("broken_json", f"line {line}: the file breaks here; all behind is lost")
    )
    rest = said[at : at + EXCERPT_CHARS]
    last = len(rows) - 1
    return Contents("json", rows, lambda row: rest if row == last else _excerpt_of(rows[row]))


def _csv(text: bytes, name: str, cut: str | None) -> Contents:
    said = text.decode("utf-8", "surrogateescape")
    first = said.lstrip().split("\n", 1)[0]
    delimiter = max(",;\t", key=first.count)
    if not first.count(delimiter):
        start = _ESCAPED_BYTE.sub("�", first[:60])
        raise NotUnderstoodError(
            f"{name} is neither JSON, JSON lines nor a CSV with a header; it begins with {start!r}"
        )
    # How long a text may be is not the csv module's to say.
    csv.field_size_limit(sys.maxsize)
    reader = csv.reader(io.StringIO(said.lstrip(), newline=""), delimiter=delimiter, strict=True)
    rows: list[Row | VerdictRowError] = []
    texts: list[str] = []
    header: list[str] | None = None
    while True:
        line = reader.line_num + 1
        try:
            fields = next(reader)
        except StopIteration:
            break
        except csv.Error as error:
            if header is None:
                raise VerdictFileError(
                    f"{name}: its first line is no CSV header: {error}"
                ) from None
            rows.append(
                VerdictRowError("broken_csv", f"line {line}: {error}; is a quote not closed?")
            )
            texts.append("")
            continue
        if not any(fields):
            continue
        if header is None:
            header = [field.strip() for field in fields]
            twice = sorted({field for field in header if header.count(field) > 1})
            if twice:
                raise VerdictFileError(f"{name}: its header names {twice[0]!r} more than once")
            continue
        source = delimiter.join(fields)
        texts.append(source)
        if _ESCAPED_BYTE.search(source):
            rows.append(VerdictRowError("bad_encoding", f"line {line} is not UTF-8"))
        elif len(fields) != len(header):
            rows.append(
                VerdictRowError(
                    "broken_csv",
                    f"line {line} has {len(fields)} fields, but the header has {len(header)}",
                )
            )
        else:
            rows.append(dict(zip(header, fields, strict=True)))
    if not rows:
        raise VerdictFileError(f"{name} has no rows below its header")
    return Contents(
        "csv",
        rows,
        lambda row: _ESCAPED_BYTE.sub("�", texts[row])[:EXCERPT_CHARS],
        header=header or (),
        cut=cut,
    )


def _shorten(line: bytes) -> str:
    return line[: 4 * EXCERPT_CHARS].decode("utf-8", "replace").strip()[:EXCERPT_CHARS]


def _excerpt_of(row: Row | VerdictRowError) -> str:
    return "" if isinstance(row, VerdictRowError) else _shorten(orjson.dumps(row))

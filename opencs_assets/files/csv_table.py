"""Rows of a CSV with a header, separated by commas, semicolons or tabs."""

import csv
import io
import itertools
import sys
from collections.abc import Iterable, Iterator, Sequence
from typing import Any, Final

from opencs_assets.files.contents import undecodable_byte
from opencs_assets.files.rejections import DamagedRowError
from opencs_assets.files.rows import AcceptedFiles, RawRow

_DELIMITERS: Final = ",;\t"
_LONGEST_HEADER: Final = 100_000


def delimiter_of(first_line: str, accepted: AcceptedFiles) -> str | None:
    """The delimiter of a CSV's header; ``None`` where the line is no header."""
    line = io.StringIO(first_line[:_LONGEST_HEADER], newline="").readline()

    def fits(delimiter: str) -> tuple[bool, int]:
        names = _names(next(csv.reader([line], delimiter=delimiter), []), accepted)
        return not set(names).isdisjoint(accepted.markers), line.count(delimiter)

    best = max(_DELIMITERS, key=fits)
    has_marker, separators = fits(best)
    is_header = has_marker if accepted.columns else separators
    return best if is_header or accepted.exact_header else None


def read_table(
    lines: Iterable[str], name: str, delimiter: str, accepted: AcceptedFiles
) -> tuple[list[str], Iterator[RawRow]]:
    """The header of a CSV and its rows; a record without any text counts as a blank line.

    Raises:
        MendableError: The header can't be read, is not the allowed one, or names a column twice.
    """
    # The stage limits the length of a text, not the csv module.
    csv.field_size_limit(sys.maxsize)
    reader = csv.reader(_physical(lines), delimiter=delimiter, strict=True)
    try:
        first = next((fields for fields in reader if any(map(str.strip, fields))), [])
    except csv.Error as error:
        raise accepted.error(f"{name}: its first line is no CSV header: {error}") from None
    header = _names(first, accepted)
    if undecodable_byte("".join(header)) is not None:
        raise accepted.error(f"{name}: its header is not UTF-8. Save the file as UTF-8.")
    if accepted.exact_header and header != list(accepted.exact_header):
        raise accepted.error(
            f"{name}, line {reader.line_num}: the columns must be "
            f"{','.join(accepted.exact_header)}, not {','.join(header)}"
        )
    for field in header:
        is_read = field and (field in accepted.columns or not accepted.columns)
        if is_read and header.count(field) > 1:
            raise accepted.error(f"{name}: its header names {field!r} more than once. Rename one.")
    return header, _rows(reader, header, delimiter)


def _names(fields: Sequence[str], accepted: AcceptedFiles) -> list[str]:
    names = [field.strip() for field in fields]
    return [name.lower() if name.lower() in accepted.columns else name for name in names]


def _physical(lines: Iterable[str]) -> Iterator[str]:
    """The lines, split after carriage returns too, as the csv module needs them."""
    for line in lines:
        yield from io.StringIO(line, newline="") if "\r" in line else (line,)


def _rows(reader: Any, header: Sequence[str], delimiter: str) -> Iterator[RawRow]:
    row = itertools.count()
    while True:
        line = reader.line_num + 1
        fields: list[str] = []
        problem = None
        try:
            fields = next(reader)
        except StopIteration:
            return
        except csv.Error as error:
            detail = f"line {line}: {error}; is a quote not closed?"
            problem = DamagedRowError("broken_csv", detail)
        if problem is None and not any(fields):
            continue
        text = delimiter.join(fields)
        if undecodable_byte(text) is not None:
            problem = DamagedRowError("bad_encoding", f"line {line} is not UTF-8")
        elif problem is None and (len(fields) < len(header) or any(fields[len(header) :])):
            detail = f"line {line} has {len(fields)} fields, but the header has {len(header)}"
            problem = DamagedRowError("broken_csv", detail)
        value = {} if problem else dict(zip(header, fields, strict=False))
        yield RawRow(next(row), line, value, problem, text)

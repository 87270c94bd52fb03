"""Rows of JSON lines and of JSON documents, which may be cut."""

import io
import itertools
import json
import re
from collections.abc import Iterable, Iterator
from typing import Any, Final

from opencs_assets.files.contents import undecodable_byte
from opencs_assets.files.rejections import DamagedRowError
from opencs_assets.files.rows import EXCERPT_CHARS, AcceptedFiles, RawRow

# A half of a surrogate pair that JSON spells out.
_ESCAPED_HALF: Final = re.compile(r"\\u[dD][89a-fA-F]")
_LIST_OF_OBJECTS: Final = re.compile(r"\[(?=\s*\{)")
_COMMA: Final = re.compile(r"\s*,\s*")
_MOST_LISTS: Final = 100
_SNIFFED_LINES: Final = 20


def json_type(line: str) -> type | None:
    """The Python type of a line that is JSON by itself; ``None`` where the line is not JSON."""
    try:
        return type(json.loads(line))
    except (ValueError, RecursionError):
        return None


def rows_of_lines(lines: Iterable[str]) -> Iterator[RawRow]:
    """The rows of JSON lines, without blank lines."""
    row = itertools.count()
    for number, line in enumerate(lines, 1):
        if line.isspace():
            continue
        value: Any = {}
        problem = None
        byte = undecodable_byte(line)
        if byte is not None:
            detail = f"line {number}, byte {byte} is not UTF-8"
            problem = DamagedRowError("bad_encoding", detail)
        else:
            try:
                value = json.loads(line.rstrip("\n"))
            except json.JSONDecodeError as error:
                detail = f"line {number}, column {error.colno}: {error.msg}"
                problem = DamagedRowError("broken_json", detail)
            except (ValueError, RecursionError) as error:
                problem = DamagedRowError("broken_json", f"line {number}: {error}")
            else:
                problem = _problem_of(value, suspect=bool(_ESCAPED_HALF.search(line)))
        yield RawRow(next(row), number, {} if problem else value, problem, line)


def rows_of_document(
    text: str, name: str, accepted: AcceptedFiles, damage: str | None
) -> tuple[str, Iterator[RawRow]]:
    """The container and the rows of a JSON document; where it breaks, the rows before the break.

    ``damage`` says why the text ends too early, if it does.

    Raises:
        MendableError: The document has no list of rows, or breaks before its first row.
    """
    try:
        document = json.loads(text)
    except (ValueError, RecursionError) as error:
        rows = _rows_before_the_break(text, accepted)
        if rows:
            return "json", iter(rows)
        if dict in map(json_type, text.split("\n", _SNIFFED_LINES)[:_SNIFFED_LINES]):
            return "jsonl", rows_of_lines(io.StringIO(text, newline="\n"))
        why = f"{damage}. Download or compress the file again." if damage else _why_broken(error)
        raise accepted.error(f"{name}: {why}") from error
    suspect = bool(_ESCAPED_HALF.search(text)) or undecodable_byte(text) is not None
    if isinstance(document, dict) and _is_row(document, accepted):
        # The file is JSON lines with one line, or one row was saved by itself.
        return "jsonl", iter([_row(0, document, suspect=suspect, line=1)])
    values = enumerate(_list_of(document, name, accepted))
    return "json", (_row(row, value, suspect=suspect) for row, value in values)


def _row(row: int, value: Any, *, suspect: bool, line: int | None = None) -> RawRow:
    problem = _problem_of(value, suspect=suspect)
    if problem is None:
        return RawRow(row, line, value)
    return RawRow(row, line, {}, problem, json.dumps(value, ensure_ascii=False))


def _problem_of(value: Any, *, suspect: bool) -> DamagedRowError | None:
    """Why a JSON value is no row; its texts are checked only where the file is suspect."""
    if not isinstance(value, dict):
        kind = type(value).__name__
        return DamagedRowError("not_an_object", f"it is a JSON {kind}, not an object")
    if suspect and undecodable_byte(json.dumps(value, ensure_ascii=False)) is not None:
        detail = "it holds bytes that are not UTF-8, or half a surrogate pair"
        return DamagedRowError("bad_encoding", detail)
    return None


def _is_row(document: dict[str, Any], accepted: AcceptedFiles) -> bool:
    return any(marker in document for marker in accepted.markers) or not any(
        isinstance(value, list) for value in document.values()
    )


def _list_of(document: Any, name: str, accepted: AcceptedFiles) -> list[Any]:
    """The rows of a document: the document itself, or the only list (of objects) in it."""
    if isinstance(document, list):
        return document
    if not isinstance(document, dict):
        kind = type(document).__name__
        raise accepted.refusal(
            f"{name}: a JSON {kind}, not rows. Save a list of objects, or JSONL."
        )
    lists = {field: value for field, value in document.items() if isinstance(value, list)}
    of_objects = [
        rows for rows in lists.values() if rows and all(isinstance(row, dict) for row in rows)
    ]
    for candidates in (list(lists.values()), of_objects):
        if len(candidates) == 1:
            return candidates[0]
    names = ", ".join(f"`{field[:40]}`" for field in list(lists)[:10])
    raise accepted.error(
        f"{name}: a JSON object needs exactly one list of rows, such as `data`; lists found: "
        f"{names}. Keep one list, or save the rows as JSONL."
    )


def _rows_before_the_break(text: str, accepted: AcceptedFiles) -> list[RawRow]:
    """The rows of a document before its break, and one rejected row for all that is behind."""
    at = _start_of_rows(text, accepted)
    decoder = json.JSONDecoder()
    rows: list[RawRow] = []
    while at is not None:
        try:
            value, at = decoder.raw_decode(text, at)
        except (ValueError, RecursionError):
            break
        rows.append(_row(len(rows), value, suspect=True))
        comma = _COMMA.match(text, at)
        if comma is None:
            break
        at = comma.end()
    if rows:
        line = text.count("\n", 0, at) + 1
        detail = f"line {line}: the file breaks here; all behind is lost"
        rest = text[at : (at or 0) + EXCERPT_CHARS]
        problem = DamagedRowError("broken_json", detail)
        rows.append(RawRow(len(rows), line, {}, problem, rest))
    return rows


def _start_of_rows(text: str, accepted: AcceptedFiles) -> int | None:
    """Where the first row of a broken document begins: the first object of its list of rows."""
    end = "]}" if text.lstrip().startswith("{") else "]"
    for bracket in itertools.islice(_LIST_OF_OBJECTS.finditer(text), _MOST_LISTS):
        try:
            # Closed here, the text is a document only if the list is at its top level.
            around = json.loads(text[: bracket.end()] + end)
        except (ValueError, RecursionError):
            continue
        if isinstance(around, list) or not _is_row(around, accepted):
            return text.index("{", bracket.end())
    return None


def _why_broken(error: Exception) -> str:
    if not isinstance(error, json.JSONDecodeError):
        return f"JSON that can't be read: {error}."
    return (
        f"broken JSON at line {error.lineno}, column {error.colno}: {error.msg}. Mend the file "
        "there, or save it as JSONL, where a broken line costs one row."
    )

"""Reading a person's file into rows; its content says what it is, and its name does not.

The same bytes give the same rows and the same rejected rows to every stage. A row that can't be
read stays a row with its reason, and a file that ends too early gives all rows before its end, and
one more that says so. The meaning of a row belongs to the stages.
"""

import io
import itertools
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final

import polars as pl

from opencs_assets.files.contents import PARQUET, Contents, opened, printable
from opencs_assets.files.csv_table import delimiter_of, read_table
from opencs_assets.files.json_rows import json_type, rows_of_document, rows_of_lines
from opencs_assets.files.rejections import DamagedRowError
from opencs_assets.files.rows import WHOLE_FILE, AcceptedFiles, FileRows, RawRow
from resources.errors import MendableError

_SNIFFED_LINES: Final = 20
_BATCH: Final = 10_000


@contextmanager
def open_rows(path: Path, accepted: AcceptedFiles) -> Iterator[FileRows]:
    """Open a file and recognize its container.

    Raises:
        MendableError: The file can't be read as a whole (``accepted.error``). The message names
            the file, the place and what to do.
    """
    with opened(path, accepted.error) as file:
        yield rows_of(file, str(path), accepted)


def rows_of(file: io.BufferedReader, name: str, accepted: AcceptedFiles) -> FileRows:
    """Recognize what an open file holds; it must stay open while the rows are read.

    Raises:
        MendableError: As for ``open_rows``.
    """
    too_large = accepted.error(f"{name}: unpacks to too many bytes. Split the file.")
    contents = Contents(file, accepted.most_unpacked, too_large)
    packed = "+gzip" if contents.is_gzip else ""
    if not contents.start and not contents.is_gzip:
        raise accepted.error(f"{name}: is empty (0 bytes). Name a file with rows.")
    if contents.start.startswith(PARQUET) and accepted.columns:
        rows = _parquet_rows(contents, name, accepted)
        return FileRows(f"parquet{packed}", "binary", _with_damage(rows, contents))
    if contents.kind is not None:
        raise _other_kind(name, contents.kind, accepted)
    encoding, text = contents.text()
    head = list(_until_sniffed(text))
    if not any(map(str.strip, head)):
        why = contents.damage or "is empty (nothing but white space). Name a file with rows"
        raise accepted.error(f"{name}: {why}.")
    lines = itertools.chain(head, text)
    container, rows, header = _recognize(head, lines, name, accepted, contents)
    return FileRows(f"{container}{packed}", encoding, _with_damage(rows, contents), header)


def every_row(path: Path, accepted: AcceptedFiles) -> Iterator[tuple[str, dict[str, Any]]]:
    """The rows of a file that means something only as a whole, each with its place.

    A pin, a choice, a question or a prompt that is left out changes the effect of the others, and
    no table counts the missing rows. Therefore the first row that can't be read is an error here,
    while datasets and imports keep it with its reason and go on.

    Raises:
        MendableError: As for ``open_rows``, or a row can't be read; the message names its place.
    """
    with open_rows(path, accepted) as file:
        for raw in file.rows:
            if raw.problem is not None:
                where = "" if raw.problem.detail.startswith("line ") else f"{raw.place}: "
                raise accepted.error(f"{path}, {where}{raw.problem.detail}")
            yield raw.place, raw.value


def _until_sniffed(text: Iterable[str]) -> Iterator[str]:
    """The first lines of a text, until ``_SNIFFED_LINES`` of them are not blank."""
    filled = 0
    for line in text:
        yield line
        filled += not line.isspace()
        if filled == _SNIFFED_LINES:
            return


def _recognize(
    head: Sequence[str],
    lines: Iterable[str],
    name: str,
    accepted: AcceptedFiles,
    contents: Contents,
) -> tuple[str, Iterator[RawRow], Sequence[str]]:
    """Tell the container by the file's first lines; return it, its rows and a CSV's header.

    If the first line is an object, the file is JSON lines. Where that line is broken, the others
    decide, because a document's lines are rarely objects by themselves. A file of one line is read
    as a document.
    """
    filled = [line.strip() for line in head if not line.isspace()]
    first = filled[0]
    if first.startswith("<"):
        raise _other_kind(name, "an HTML or XML page", accepted)
    if not accepted.exact_header:
        types = [json_type(line) for line in filled] if len(filled) > 1 else []
        if types and (types[0] is dict or 2 * types.count(dict) >= len(types)):
            return "jsonl", rows_of_lines(lines), ()
        if first.startswith(("{", "[")) or (not types and json_type(first)):
            text = "".join(lines)
            return *rows_of_document(text, name, accepted, contents.damage), ()
    if "\0" in first:
        raise _other_kind(name, "binary data", accepted)
    delimiter = delimiter_of(first, accepted) if accepted.tables else None
    if delimiter is None:
        hint = f" A CSV needs a header with {_markers(accepted)}." if accepted.columns else ""
        raise accepted.refusal(
            f"{name}: is neither {accepted.kinds('nor')}. It begins with "
            f"{printable(first[:60])!r}.{hint}"
        )
    header, rows = read_table(lines, name, delimiter, accepted)
    return "csv", rows, header


def _other_kind(name: str, kind: str, accepted: AcceptedFiles) -> MendableError:
    return accepted.refusal(
        f"{name}: is not what its name says, or nothing that can be read here: it is {kind}. "
        f"Unpack it, or save it as {accepted.kinds()}."
    )


def _markers(accepted: AcceptedFiles) -> str:
    return " or ".join(f"`{name}`" for name in accepted.markers)


def _with_damage(rows: Iterator[RawRow], contents: Contents) -> Iterator[RawRow]:
    """The rows, and one more where the file ends too early."""
    yield from rows
    if contents.damage is not None:
        problem = DamagedRowError("cut_file", contents.damage)
        yield RawRow(WHOLE_FILE, None, {}, problem, "")


def _parquet_rows(contents: Contents, name: str, accepted: AcceptedFiles) -> Iterator[RawRow]:
    try:
        # A Parquet file is read from its end, which an unpacked stream does not offer.
        source = io.BytesIO(contents.stream.read()) if contents.is_gzip else contents.stream
        frame = pl.read_parquet(source)
    except (pl.exceptions.PolarsError, OSError) as error:
        raise accepted.error(f"{name}: broken Parquet: {error}. Write the file again.") from error
    if set(accepted.markers).isdisjoint(frame.columns):
        names = ", ".join(f"`{column}`" for column in frame.columns[:10]) or "none"
        raise accepted.error(
            f"{name}: no column named {_markers(accepted)}; columns found: {names}. Rename them."
        )
    # Other columns, such as embeddings, would only cost memory.
    frame = frame.select([column for column in accepted.columns if column in frame.columns])
    batches = (batch.iter_rows(named=True) for batch in frame.iter_slices(_BATCH))
    for row, value in enumerate(itertools.chain.from_iterable(batches)):
        yield RawRow(row, None, value)

"""Exports replies from a store to a file, and imports them from one.

An archive is a Parquet or JSONL file with one row a reply: the store's columns and, as
``reading_*``, the reading by the row's own prompt version. Rows go through in pieces, so that
memory does not grow with their number. Other work on a store belongs to ``upkeep``.
"""

import gzip
import math
import re
import zlib
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass, field
from datetime import datetime
from functools import partial
from pathlib import Path
from typing import Any, get_args

import orjson
import pyarrow as pa
import pyarrow.parquet as pq
import sqlalchemy as sa

from resources.errors import InternalError
from resources.files import replacing
from resources.llm.database import Database
from resources.llm.errors import LLMError
from resources.llm.store import CHUNK, OWN_READING, READING_PARTS, READINGS, REPLIES, ReplyStore
from resources.llm.types import KEPT, Status
from resources.llm.upkeep import Size

# So many rows are fetched at once, and so many bytes go into one row group or transaction: a reply
# with token probabilities may have a megabyte.
_FETCHED_ROWS = 200
_PIECE_BYTES = 16 << 20
_FIRST_REASONS = 5
# The highest level takes four times as long and saves a few hundredths.
_GZIP_LEVEL = 5
_KEY = re.compile(r"[0-9a-f]{64}")
_READ = frozenset(get_args(Status)) | {"unparsable"}
_VIA = frozenset({"call", "batch"})
_MOST_INTEGER = 2**63 - 1
_ARROW: Mapping[type[Any], Any] = {str: pa.string(), int: pa.int64(), float: pa.float64()}
_STORES = (".sqlite", ".sqlite3", ".db")
_FORMS = ".parquet, .jsonl or .jsonl.gz"

Row = dict[str, Any]
Write = Callable[[Sequence[Row]], object]


class ArchiveError(LLMError):
    """An archive can't be read or written; the message names file and reason."""


@dataclass(frozen=True)
class ImportedReplies:
    """Counts of an archive's rows after their import.

    A reply to a call that has one in the store is ``already_there``. ``reasons`` give place and
    reason of the first rejected rows; ``unknown_columns`` were left out.
    """

    new: int
    already_there: int
    rejected: int
    reasons: tuple[str, ...]
    unknown_columns: tuple[str, ...]


def export_replies(
    store: ReplyStore,
    file: Path,
    *,
    dataset: str | None = None,
    stage: str | None = None,
    since: datetime | None = None,
    with_requests: bool = True,
) -> Size:
    """Write a store's replies to a Parquet or JSONL file, which is there whole or not at all.

    Only replies are written that ``stage`` asked for, for ``dataset`` and at ``since`` or later,
    where these are given. Their requests, which hold the prompts, can be left out.

    Raises:
        ArchiveError: The file can't be written.
        StoreError: The store can't be read.
    """
    opened = _opener(file)
    conditions: list[sa.ColumnElement[bool]] = []
    if dataset is not None:
        conditions.append(REPLIES.c.dataset == dataset)
    if stage is not None:
        conditions.append(REPLIES.c.stage == stage)
    if since is not None:
        conditions.append(REPLIES.c.created_at >= int(since.timestamp() * 1e6))
    written = 0
    with _replacing(file) as temporary, opened(temporary) as write:
        for piece in _pieces(_rows(store.database, conditions, with_requests=with_requests)):
            write(piece)
            written += len(piece)
    return Size(written, file.stat().st_size)


def import_replies(store: ReplyStore, source: str) -> ImportedReplies:
    """Add the replies of a source that a store does not have.

    The source is an archive, the file of a SQLite store, or another store's SQLAlchemy URL.

    Raises:
        ArchiveError: The source can't be read; replies that were read before are kept.
        StoreError: A store can't be read or written.
    """
    tally = _Tally()
    for piece in _pieces(_fitting(_source_rows(source), tally)):
        _take(store.database, piece, tally)
    return ImportedReplies(
        tally.new,
        tally.already_there,
        tally.rejected,
        tuple(tally.reasons),
        tuple(sorted(tally.unknown)),
    )


@dataclass
class _Tally:
    """Counts of the rows that were read so far."""

    new: int = 0
    already_there: int = 0
    rejected: int = 0
    reasons: list[str] = field(default_factory=list)
    unknown: set[str] = field(default_factory=set)

    def reject(self, where: str, reason: str) -> None:
        self.rejected += 1
        if len(self.reasons) < _FIRST_REASONS:
            self.reasons.append(f"{where}: {reason}")


class _Misfit(InternalError):  # noqa: N818 (a verdict on a row, not a fault)
    """A row does not fit the store; the message names the reason and quotes no reply."""


@contextmanager
def _parquet(path: Path) -> Iterator[Write]:
    """Write a Parquet file with one row group for each piece."""
    schema = pa.schema([(name, _ARROW[kind]) for name, kind in _kinds().items()])
    with pq.ParquetWriter(path, schema, compression="zstd") as writer:
        yield lambda rows: writer.write_table(pa.Table.from_pylist(list(rows), schema=schema))


@contextmanager
def _lines(path: Path, *, gzipped: bool) -> Iterator[Write]:
    """Write a file with one JSON object a line."""
    with gzip.open(path, "wb", _GZIP_LEVEL) if gzipped else path.open("wb") as file:
        yield lambda rows: file.write(b"".join(orjson.dumps(row) + b"\n" for row in rows))


def _opener(file: Path) -> Callable[[Path], AbstractContextManager[Write]]:
    name = file.name.lower()
    if name.endswith(".parquet"):
        return _parquet
    if name.endswith((".jsonl", ".jsonl.gz")):
        return partial(_lines, gzipped=name.endswith(".gz"))
    raise ArchiveError(f"{file}: the name must end in {_FORMS}")


@contextmanager
def _replacing(file: Path) -> Iterator[Path]:
    """A temporary path, which is moved into the file's place once all is written."""
    try:
        file.parent.mkdir(parents=True, exist_ok=True)
        with replacing(file) as written:
            yield written
    except (OSError, pa.ArrowException) as error:
        raise ArchiveError(
            f"{file} can't be written: {getattr(error, 'strerror', None) or error}; check that its "
            "folder may be written and that the disk has room"
        ) from None


def _kinds() -> dict[str, type[Any]]:
    """An archive's columns and their types."""
    # JSON takes no keys of SQLAlchemy's own text type.
    kinds = {str(column.name): column.type.python_type for column in REPLIES.c}
    return kinds | {f"reading_{name}": str for name in READING_PARTS}


def _rows(
    database: Database,
    conditions: Sequence[sa.ColumnElement[bool]] = (),
    *,
    with_requests: bool = True,
) -> Iterator[Row]:
    """All rows of a store in the order in which they came.

    An older store has fewer columns; it is read as it is and not brought up to date.
    """
    with database.reading() as connection:
        tables = sa.inspect(connection)
        if not tables.has_table(REPLIES.name):
            raise ArchiveError(f"{database.name} is no reply store: it has no table of replies")
        names = {column["name"] for column in tables.get_columns(REPLIES.name)}
        columns: list[sa.ColumnElement[Any]] = [
            column if with_requests or column.name != "request" else sa.literal("").label("request")
            for column in REPLIES.c
            if column.name in names
        ]
        source: sa.FromClause = REPLIES
        if tables.has_table(READINGS.name):
            columns += [READINGS.c[name].label(f"reading_{name}") for name in READING_PARTS]
            source = REPLIES.outerjoin(READINGS, OWN_READING)
        replies = (
            sa.select(*columns)
            .select_from(source)
            .where(*conditions)
            .order_by(REPLIES.c.created_at, REPLIES.c.reply_id)
        )
        in_pieces = connection.execution_options(stream_results=True, yield_per=_FETCHED_ROWS)
        for row in in_pieces.execute(replies).mappings():
            yield {str(name): value for name, value in row.items()}


def _pieces(rows: Iterable[Row]) -> Iterator[list[Row]]:
    """Split rows into pieces that fit well into memory."""
    piece: list[Row] = []
    characters = 0
    for row in rows:
        piece.append(row)
        characters += sum(len(value) for value in row.values() if isinstance(value, str))
        if len(piece) == CHUNK or characters >= _PIECE_BYTES:
            yield piece
            piece, characters = [], 0
    if piece:
        yield piece


def _source_rows(source: str) -> Iterator[tuple[str, Any]]:
    """Each row of a source after its place; a row that can't be read comes as its misfit."""
    if "://" in source:
        url = sa.make_url(source)
        if url.get_backend_name() == "sqlite":
            _must_be_there(Path(url.database or ""))
        yield from _rows_of_store(source)
        return
    path = Path(source)
    _must_be_there(path)
    name = path.name.lower()
    if name.endswith(_STORES):
        url = sa.URL.create("sqlite", database=str(path.absolute()))
        yield from _rows_of_store(url.render_as_string())
    elif name.endswith(".parquet"):
        with _reading(path):
            yield from _rows_of_parquet(path)
    elif name.endswith((".jsonl", ".jsonl.gz")):
        with _reading(path):
            yield from _rows_of_lines(path)
    else:
        raise ArchiveError(
            f"{path}: the name must end in {_FORMS}, or {_STORES[0]} for another store's file"
        )


def _must_be_there(path: Path) -> None:
    if not path.is_file():
        raise ArchiveError(f"{path} is not there, or no file")


def _rows_of_store(url: str) -> Iterator[tuple[str, Any]]:
    database = Database(url, durable=True)
    try:
        for row in _rows(database):
            yield f"reply {row.get('reply_id')}", row
    finally:
        database.close()


def _rows_of_parquet(path: Path) -> Iterator[tuple[str, Any]]:
    number = 0
    with pq.ParquetFile(path) as file:
        # Arrow would keep more and more of the file if it read all row groups in one go.
        for group in range(file.num_row_groups):
            for batch in file.iter_batches(_FETCHED_ROWS, row_groups=[group]):
                for row in batch.to_pylist():
                    number += 1
                    yield f"row {number}", row


def _rows_of_lines(path: Path) -> Iterator[tuple[str, Any]]:
    gzipped = path.name.lower().endswith(".gz")
    with gzip.open(path, "rb") if gzipped else path.open("rb") as file:
        for number, line in enumerate(file, start=1):
            if not line.strip():
                continue
            try:
                yield f"line {number}", orjson.loads(line)
            except orjson.JSONDecodeError:
                yield f"line {number}", _Misfit("is no JSON")


@contextmanager
def _reading(path: Path) -> Iterator[None]:
    try:
        yield
    except (OSError, EOFError, zlib.error, pa.ArrowException) as error:
        raise ArchiveError(
            f"{path} can't be read to its end: {getattr(error, 'strerror', None) or error}; what "
            "was read before is kept"
        ) from None


def _fitting(rows: Iterable[tuple[str, Any]], tally: _Tally) -> Iterator[Row]:
    """Yield the rows that fit the store, and count the others."""
    kinds = _kinds()
    for where, row in rows:
        try:
            if not isinstance(row, dict):
                raise row if isinstance(row, _Misfit) else _Misfit("is no JSON object")
            tally.unknown |= row.keys() - kinds.keys()
            yield _fitted(row, kinds)
        except _Misfit as misfit:
            tally.reject(where, str(misfit))


def _fitted(row: Mapping[str, Any], kinds: Mapping[str, type[Any]]) -> Row:
    fitted = {name: _value(row.get(name), name, kind) for name, kind in kinds.items()}
    if not _KEY.fullmatch(fitted["reply_id"]):
        raise _Misfit("reply_id is not 64 characters of 0-9 and a-f")
    _one_of(fitted["status"], "status", KEPT)
    _one_of(fitted["via"], "via", _VIA)
    if fitted["reading_status"] is None:
        if fitted["reading_value"] is not None or fitted["reading_detail"] is not None:
            raise _Misfit("reading_status is missing beside its value or detail")
    else:
        _one_of(fitted["reading_status"], "reading_status", _READ)
    if fitted["reading_value"] is not None and _json(fitted["reading_value"], _BROKEN) is _BROKEN:
        raise _Misfit("reading_value is no JSON")
    if fitted["logprobs"] is not None and not _are_alternatives(_json(fitted["logprobs"])):
        raise _Misfit("logprobs is no list of [token, log-probability] by token")
    return fitted


def _value(value: Any, name: str, kind: type[Any]) -> Any:
    """A column's value in the column's type; the store's default where the value is missing."""
    if value is None:
        column = REPLIES.c.get(name)
        if column is None or column.nullable:
            return None
        if not isinstance(column.server_default, sa.DefaultClause):
            raise _Misfit(f"{name} is missing")
        return kind(column.server_default.arg)
    if kind is float and isinstance(value, int) and not isinstance(value, bool):
        value = float(value)
    if not isinstance(value, kind) or isinstance(value, bool):
        raise _Misfit(f"{name} is no {_TYPE_WORDS[kind]}")
    if not isinstance(value, str) and (not math.isfinite(value) or not 0 <= value <= _MOST_INTEGER):
        raise _Misfit(f"{name} is out of range")
    return value


_TYPE_WORDS: Mapping[type[Any], str] = {str: "text", int: "whole number", float: "number"}
_BROKEN = object()


def _one_of(value: str, name: str, known: Collection[str]) -> None:
    if value not in known:
        raise _Misfit(f"{name} is none of {', '.join(sorted(known))}")


def _json(text: str | None, otherwise: Any = None) -> Any:
    try:
        return orjson.loads(text or "")
    except orjson.JSONDecodeError:
        return otherwise


def _are_alternatives(value: Any) -> bool:
    """Whether a value has the form in which the store keeps log-probabilities."""
    return isinstance(value, list) and all(
        isinstance(listed, list)
        and all(
            isinstance(pair, list)
            and len(pair) == 2
            and isinstance(pair[0], str)
            and isinstance(pair[1], int | float)
            for pair in listed
        )
        for listed in value
    )


def _take(database: Database, piece: Sequence[Row], tally: _Tally) -> None:
    """Put rows into a store that has no reply to their calls."""
    columns = [str(column.name) for column in REPLIES.c]
    keys = database.bound_keys(row["reply_id"] for row in piece)
    stored = sa.select(REPLIES.c.reply_id).where(database.among(REPLIES.c.reply_id))
    with database.reading() as connection:
        stored_keys: set[str] = set(connection.scalars(stored, keys))
    first: dict[str, Row] = {}
    for row in piece:
        if row["reply_id"] not in stored_keys:
            first.setdefault(row["reply_id"], row)
    tally.already_there += len(piece) - len(first)
    if not first:
        return
    with database.writing() as connection:
        replies = [{name: row[name] for name in columns} for row in first.values()]
        new = database.insert_new(connection, REPLIES, replies)
        # A reading belongs to its reply's text, and a reply of the store may have another text.
        readings = [
            {
                "reply_id": key,
                "prompt_version": first[key]["prompt_version"],
                **{name: first[key][f"reading_{name}"] for name in READING_PARTS},
            }
            for key in new
            if first[key]["reading_status"] is not None
        ]
        database.insert_new(connection, READINGS, readings)
    tally.new += len(new)
    tally.already_there += len(first) - len(new)

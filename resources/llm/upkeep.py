"""Looks after a reply store: counts, shows and deletes replies, and gives free space back.

Which replies are kept, and under which key, belongs to ``store``; files in and out to ``archive``.
Large changes go in short transactions, so that stages can keep their replies meanwhile.
"""

import re
import sqlite3
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import orjson
import sqlalchemy as sa
from sqlalchemy.engine import Connection

from resources.llm.database import Database
from resources.llm.errors import LLMError
from resources.llm.store import CHUNK, READINGS, REPLIES, SENT_CALLS, ReplyStore, chunked

_SHORTEST_PREFIX = 8
_LISTED = 20
_TABLES = (REPLIES, READINGS, SENT_CALLS)
_KEY_START = re.compile(r"[0-9a-f]+")


@dataclass(frozen=True)
class UnusableReplies:
    """How many replies no stage can use, what they had cost, and how many are of unknown price."""

    replies: int
    cost_usd: float
    unpriced: int


@dataclass(frozen=True)
class Size:
    """How many replies, and how many bytes, a store or an archive holds."""

    replies: int
    bytes: int


@dataclass(frozen=True)
class KeptReply:
    """One reply as it is kept, by the store's columns, with its readings (values as JSON)."""

    row: Mapping[str, Any]
    readings: Sequence[Mapping[str, Any]]

    @property
    def messages(self) -> Sequence[Mapping[str, Any]]:
        """The prompt's messages; empty where the request was not kept."""
        request = _json(self.row["request"])
        messages = request.get("messages") if isinstance(request, dict) else None
        return [message for message in messages or [] if isinstance(message, dict)]

    @property
    def created_at(self) -> datetime:
        """The moment when it was stored."""
        return _moment(self.row["created_at"])

    def as_dict(self) -> dict[str, Any]:
        """Row and readings, with all that is kept as JSON decoded."""
        decoded = {name: _json(self.row[name]) for name in ("request", "logprobs", "raw")}
        readings = [{**reading, "value": _json(reading["value"])} for reading in self.readings]
        return {
            **self.row,
            **decoded,
            "created_at": self.created_at.isoformat(),
            "readings": readings,
        }


def size_of(store: ReplyStore) -> Size:
    """Replies and bytes of a store."""
    with store.database.reading() as connection:
        replies = connection.scalar(sa.select(sa.func.count()).select_from(REPLIES))
    return Size(int(replies or 0), _bytes(store.database))


def unusable(store: ReplyStore) -> UnusableReplies:
    """Count the replies that ``drop_unusable`` would delete, and what they had cost."""
    totals = sa.select(
        sa.func.count(),
        sa.func.coalesce(sa.func.sum(REPLIES.c.cost_usd), 0.0),
        sa.func.count() - sa.func.count(REPLIES.c.cost_usd),
    ).where(_is_unusable())
    with store.database.reading() as connection:
        row: Any = connection.execute(totals).one()
    return UnusableReplies(int(row[0]), float(row[1]), int(row[2]))


def drop_unusable(store: ReplyStore) -> int:
    """Delete the replies that can't be used, so that their calls are sent again.

    A reply can't be used if its status is not ``ok``, or if readings of it exist and none is
    ``ok``. No ceiling counts the deleted replies' cost any more. Returns how many were deleted.
    """
    database = store.database

    def delete(connection: Connection, keys: Mapping[str, Any]) -> None:
        for table in (READINGS, REPLIES):
            connection.execute(table.delete().where(database.among(table.c.reply_id)), keys)

    return _in_pieces(database, _is_unusable(), delete)


def drop_raw(store: ReplyStore) -> int:
    """Delete the answers' bodies as they came, and return how many; all else stays."""
    database = store.database

    def forget(connection: Connection, keys: Mapping[str, Any]) -> None:
        among = database.among(REPLIES.c.reply_id)
        connection.execute(REPLIES.update().where(among).values(raw=None), keys)

    return _in_pieces(database, REPLIES.c.raw.is_not(None), forget)


def compact(store: ReplyStore) -> None:
    """Give free space back, without deleting anything.

    SQLite writes the file anew and empties its log, and needs as much free disk meanwhile.
    Postgres makes the space free for new rows, and returns only the tables' ends to the disk.

    Raises:
        StoreError: Another process wrote for longer than the busy timeout.
    """
    database = store.database
    with database.guard():
        if database.sqlite:
            _vacuum(database)
        else:
            with database.engine.connect() as connection:
                alone = connection.execution_options(isolation_level="AUTOCOMMIT")
                for table in _TABLES:
                    alone.execute(sa.text(f"vacuum (analyze) {table.name}"))


def find_replies(store: ReplyStore, prefix: str) -> list[dict[str, Any]]:
    """The first replies whose id begins with a prefix of 8 or more characters.

    Raises:
        LLMError: The prefix is too short, or no part of an id.
    """
    prefix = prefix.lower()
    if len(prefix) < _SHORTEST_PREFIX or not _KEY_START.fullmatch(prefix):
        raise LLMError(
            f"{prefix!r} is not a reply's id: give its first {_SHORTEST_PREFIX} or more characters "
            "(0-9, a-f), as they stand in the column reply_id"
        )
    names = ("reply_id", "role", "model", "stage", "dataset", "status", "created_at")
    # The index serves a range; g comes after every digit of an id.
    matching = (
        sa.select(*(REPLIES.c[name] for name in names))
        .where(REPLIES.c.reply_id >= prefix, REPLIES.c.reply_id < prefix + "g")
        .order_by(REPLIES.c.reply_id)
        .limit(_LISTED)
    )
    with store.database.reading() as connection:
        rows = connection.execute(matching).mappings().all()
    return [{**row, "created_at": _moment(row["created_at"])} for row in rows]


def read_reply(store: ReplyStore, reply_id: str) -> KeptReply:
    """One reply with its request.

    Raises:
        LLMError: There is none of this id.
    """
    replies = read_replies(store, [reply_id])
    if not replies:
        raise LLMError(f"there is no reply {reply_id} in {store.database.name}")
    return replies[reply_id]


def read_replies(store: ReplyStore, reply_ids: Sequence[str]) -> dict[str, KeptReply]:
    """Replies with their requests, by id, without the ids that the store does not have.

    The ids differ from each other; all rows are held at once.
    """
    database = store.database
    replies = sa.select(REPLIES).where(database.among(REPLIES.c.reply_id))
    readings = (
        sa.select(READINGS)
        .where(database.among(READINGS.c.reply_id))
        .order_by(READINGS.c.reply_id, READINGS.c.prompt_version)
    )
    kept_replies: dict[str, KeptReply] = {}
    for chunk in chunked(reply_ids):
        keys = database.bound_keys(chunk)
        with database.reading() as connection:
            rows = [dict(row) for row in connection.execute(replies, keys).mappings()]
            readings_of: dict[str, list[dict[str, Any]]] = {}
            for row in connection.execute(readings, keys).mappings():
                reading = dict(row)
                readings_of.setdefault(reading.pop("reply_id"), []).append(reading)
        kept_replies.update(
            (row["reply_id"], KeptReply(row, readings_of.get(row["reply_id"], []))) for row in rows
        )
    return kept_replies


def _moment(microseconds: int) -> datetime:
    return datetime.fromtimestamp(microseconds / 1e6, UTC)


def _json(text: str | None) -> Any:
    """The value of a JSON text; the text itself where it is none."""
    try:
        return orjson.loads(text or "null")
    except orjson.JSONDecodeError:
        return text


def _is_unusable() -> sa.ColumnElement[bool]:
    def read(condition: sa.ColumnElement[bool]) -> sa.ColumnElement[bool]:
        return sa.exists().where(READINGS.c.reply_id == REPLIES.c.reply_id, condition)

    # A newer prompt version may have read what an older one could not.
    unread = sa.and_(read(READINGS.c.status != "ok"), sa.not_(read(READINGS.c.status == "ok")))
    return sa.or_(REPLIES.c.status != "ok", unread)


def _in_pieces(
    database: Database,
    condition: sa.ColumnElement[bool],
    change: Callable[[Connection, Mapping[str, Any]], None],
) -> int:
    """Change the replies that meet a condition, in short transactions; return their number."""
    changed, last = 0, ""
    while True:
        following = (
            sa.select(REPLIES.c.reply_id)
            .where(condition, REPLIES.c.reply_id > last)
            .order_by(REPLIES.c.reply_id)
            .limit(CHUNK)
        )
        with database.writing() as connection:
            keys: list[str] = list(connection.scalars(following))
            if keys:
                change(connection, database.bound_keys(keys))
        if not keys:
            return changed
        changed, last = changed + len(keys), keys[-1]


def _bytes(database: Database) -> int:
    """Bytes on disk, the write-ahead log and the indexes included."""
    if database.path is not None:
        files = (database.path, Path(f"{database.path}-wal"))
        return sum(file.stat().st_size for file in files if file.exists())
    sizes = [sa.func.pg_total_relation_size(table.name) for table in _TABLES]
    with database.reading() as connection:
        row: Any = connection.execute(sa.select(*sizes)).one()
    return sum(row)


def _vacuum(database: Database) -> None:
    # SQLAlchemy would begin a transaction, which forbids this; the pool's own connection does not.
    pooled = database.engine.raw_connection()
    try:
        connection = pooled.driver_connection
        assert isinstance(connection, sqlite3.Connection)  # noqa: S101 (for the type checker)
        connection.execute("vacuum")
        connection.execute("pragma wal_checkpoint(truncate)").fetchall()
    finally:
        pooled.close()

"""Looking after a reply store: how much it holds, what may go, and a look at one reply.

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
from resources.llm.store import (
    CHUNK,
    READING_PARTS,
    READINGS,
    REPLIES,
    SENT_CALLS,
    ReplyStore,
    chunked,
)

_SHORTEST_PREFIX = 8
_LISTED = 20
_KEY_START = re.compile(r"[0-9a-f]+")


@dataclass(frozen=True)
class UnusableReplies:
    """Replies that no stage can use.

    Attributes:
        replies: How many.
        cost_usd: Dollars that those of known price had cost.
        unpriced: How many are of unknown price.
    """

    replies: int
    cost_usd: float
    unpriced: int


@dataclass(frozen=True)
class Size:
    """How much a store holds."""

    replies: int
    bytes: int


@dataclass(frozen=True)
class KeptReply:
    """One reply as it is kept.

    Attributes:
        row: Values by the store's columns.
        readings: What was read from it: prompt version, status, value (JSON), detail.
    """

    row: Mapping[str, Any]
    readings: Sequence[Mapping[str, Any]]

    @property
    def messages(self) -> Sequence[Mapping[str, Any]]:
        """The prompt's messages; empty where the request was not kept."""
        request = _json(self.row["request"])
        found = request.get("messages") if isinstance(request, dict) else None
        return [each for each in found or [] if isinstance(each, dict)]

    @property
    def created_at(self) -> datetime:
        """When it was stored."""
        return _moment(self.row["created_at"])

    def as_dict(self) -> dict[str, Any]:
        """All of it, what is kept as JSON decoded."""
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
    asked = sa.select(
        sa.func.count(),
        sa.func.coalesce(sa.func.sum(REPLIES.c.cost_usd), 0.0),
        sa.func.count() - sa.func.count(REPLIES.c.cost_usd),
    ).where(_is_unusable())
    with store.database.reading() as connection:
        row: Any = connection.execute(asked).one()
    return UnusableReplies(int(row[0]), float(row[1]), int(row[2]))


def drop_unusable(store: ReplyStore) -> int:
    """Delete the replies that can't be used, so that their calls are asked again.

    Those are: not ``ok`` when they came, or read by a stage and not found ``ok`` by any prompt
    version. What they had cost is counted by no ceiling any more.

    Returns:
        How many were deleted.
    """
    database = store.database

    def delete(connection: Connection, keys: Mapping[str, Any]) -> None:
        for table in (READINGS, REPLIES):
            connection.execute(table.delete().where(database.among(table.c.reply_id)), keys)

    return _in_pieces(database, _is_unusable(), delete)


def drop_raw(store: ReplyStore) -> int:
    """Forget the answers' bodies as they came; texts, tokens and costs stay.

    Returns:
        How many there were.
    """
    database = store.database

    def forget(connection: Connection, keys: Mapping[str, Any]) -> None:
        among = database.among(REPLIES.c.reply_id)
        connection.execute(REPLIES.update().where(among).values(raw=None), keys)

    return _in_pieces(database, REPLIES.c.raw.is_not(None), forget)


def compact(store: ReplyStore) -> None:
    """Give free space back; loses nothing that is kept.

    SQLite writes the file anew and empties its log, and needs as much free disk meanwhile.
    Postgres makes the space free for new rows, and returns to the disk what is at the tables' ends.

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
                for table in (REPLIES, READINGS, SENT_CALLS):
                    alone.execute(sa.text(f"vacuum (analyze) {table.name}"))


def find_replies(store: ReplyStore, prefix: str) -> list[dict[str, Any]]:
    """Replies whose id begins so, the first of them where there are many.

    Args:
        store: The store.
        prefix: At least 8 characters of the id.

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
    # A range, so that the index serves it; g comes after every digit of an id.
    asked = (
        sa.select(*(REPLIES.c[name] for name in names))
        .where(REPLIES.c.reply_id >= prefix, REPLIES.c.reply_id < prefix + "g")
        .order_by(REPLIES.c.reply_id)
        .limit(_LISTED)
    )
    with store.database.reading() as connection:
        rows = connection.execute(asked).mappings().all()
    return [{**row, "created_at": _moment(row["created_at"])} for row in rows]


def read_reply(store: ReplyStore, reply_id: str) -> KeptReply:
    """One reply with its request.

    Raises:
        LLMError: There is none of this id.
    """
    with store.database.reading() as connection:
        row = (
            connection.execute(sa.select(REPLIES).where(REPLIES.c.reply_id == reply_id))
            .mappings()
            .first()
        )
        readings = connection.execute(
            sa.select(*(READINGS.c[name] for name in ("prompt_version", *READING_PARTS)))
            .where(READINGS.c.reply_id == reply_id)
            .order_by(READINGS.c.prompt_version)
        ).mappings()
        found = [dict(reading) for reading in readings]
    if row is None:
        raise LLMError(f"there is no reply {reply_id} in {store.database.name}")
    return KeptReply(dict(row), found)


def read_replies(store: ReplyStore, reply_ids: Sequence[str]) -> dict[str, KeptReply]:
    """Replies with their requests, by id; those that are not there are left out.

    Args:
        store: The store.
        reply_ids: Ids, each once; all rows are held at once.
    """
    database = store.database
    asked = sa.select(REPLIES).where(database.among(REPLIES.c.reply_id))
    read = (
        sa.select(READINGS)
        .where(database.among(READINGS.c.reply_id))
        .order_by(READINGS.c.reply_id, READINGS.c.prompt_version)
    )
    found: dict[str, KeptReply] = {}
    for chunk in chunked(reply_ids):
        keys = {"keys": database.among_values(chunk)}
        with database.reading() as connection:
            rows = [dict(row) for row in connection.execute(asked, keys).mappings()]
            readings: dict[str, list[dict[str, Any]]] = {}
            for row in connection.execute(read, keys).mappings():
                reading = dict(row)
                readings.setdefault(reading.pop("reply_id"), []).append(reading)
        found.update(
            (row["reply_id"], KeptReply(row, readings.get(row["reply_id"], []))) for row in rows
        )
    return found


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
    """Change the replies that meet a condition, in short transactions: others write meanwhile."""
    changed, last = 0, ""
    while True:
        asked = (
            sa.select(REPLIES.c.reply_id)
            .where(condition, REPLIES.c.reply_id > last)
            .order_by(REPLIES.c.reply_id)
            .limit(CHUNK)
        )
        with database.writing() as connection:
            keys: list[str] = list(connection.scalars(asked))
            if keys:
                change(connection, {"keys": database.among_values(keys)})
        if not keys:
            return changed
        changed, last = changed + len(keys), keys[-1]


def _bytes(database: Database) -> int:
    """Bytes on disk, the write-ahead log and the indexes included."""
    if database.path is not None:
        files = (database.path, Path(f"{database.path}-wal"))
        return sum(each.stat().st_size for each in files if each.exists())
    with database.reading() as connection:
        sizes = sa.select(
            *(
                sa.func.pg_total_relation_size(table.name)
                for table in (REPLIES, READINGS, SENT_CALLS)
            )
        )
        row: Any = connection.execute(sizes).one()
    return sum(row)


def _vacuum(database: Database) -> None:
    # The pool's own connection: SQLAlchemy would begin a transaction, in which it can't be done.
    pooled = database.engine.raw_connection()
    try:
        connection = pooled.driver_connection
        assert isinstance(connection, sqlite3.Connection)  # noqa: S101 (for the type checker)
        connection.execute("vacuum")
        connection.execute("pragma wal_checkpoint(truncate)").fetchall()
    finally:
        pooled.close()

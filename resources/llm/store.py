"""The reply store: every completed call, kept for good.

It lies in SQLite on one machine and in Postgres on a cluster; any number of threads and processes
use it at once. A reply is on disk before anyone sees it. Rows also keep the request, so that a
number can be traced back to its prompt; headers and keys never come here. A call that is in flight
has a note, so that it counts as the most that it can cost where its process is killed before the
reply is kept.
"""

import time
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, fields, replace
from datetime import UTC, datetime
from itertools import islice
from pathlib import Path
from typing import Any, TypeVar

import orjson
import polars as pl
import sqlalchemy as sa
from sqlalchemy.engine import Connection

from resources.llm.database import Database, storable
from resources.llm.errors import StoreError
from resources.llm.replies_table import LLM_REPLIES
from resources.llm.types import Reply
from resources.schema import conform

T = TypeVar("T")
VERSION = 3
CHUNK = 5_000
_MEASURED_REPLIES = 1_000
_METADATA = sa.MetaData()


@dataclass(frozen=True, slots=True, kw_only=True)
class CallOrigin:
    """Who asked for a call, and where it was sent.

    ``stage`` is the asset that asked and ``run`` the run that pays; ``model`` is the model's label,
    ``provider`` the endpoint's host or ``embedded``, and ``endpoint`` its base URL.
    """

    role: str
    stage: str
    dataset: str | None
    run: str | None
    model: str
    provider: str
    endpoint: str
    prompt_version: str


def _origin_columns() -> list[sa.Column[Any]]:
    """The columns of ``CallOrigin``."""
    optional = ("dataset", "run")
    return [
        sa.Column(part.name, sa.Text, nullable=part.name in optional) for part in fields(CallOrigin)
    ]


REPLIES = sa.Table(
    "replies",
    _METADATA,
    sa.Column("reply_id", sa.Text, primary_key=True),
    *_origin_columns(),
    sa.Column("status", sa.Text, nullable=False),
    sa.Column("text", sa.Text, nullable=False),
    sa.Column("detail", sa.Text),
    sa.Column("logprobs", sa.Text),
    sa.Column("finish_reason", sa.Text),
    sa.Column("prompt_bytes", sa.BigInteger, nullable=False),
    sa.Column("prompt_tokens", sa.BigInteger, nullable=False),
    sa.Column("completion_tokens", sa.BigInteger, nullable=False),
    sa.Column("cost_usd", sa.Double),
    sa.Column("latency_s", sa.Double, nullable=False),
    sa.Column("request", sa.Text, nullable=False),
    sa.Column("created_at", sa.BigInteger, nullable=False),
    # Stores have these columns from version 2 on; see ``_SINCE_2``.
    sa.Column("cached_tokens", sa.BigInteger, nullable=False, server_default="0"),
    sa.Column("request_id", sa.Text),
    sa.Column("raw", sa.Text),
    sa.Column("via", sa.Text, nullable=False, server_default="call"),
)
# Version 1 was SQLite only, and its table was a strict one, which takes few names of types.
_SINCE_2 = (
    "cached_tokens integer not null default 0",
    "request_id text",
    "raw text",
    "via text not null default 'call'",
)
sa.Index("replies_by_model", REPLIES.c.model, REPLIES.c.role, REPLIES.c.created_at)
sa.Index("replies_by_spender", REPLIES.c.run, REPLIES.c.stage, REPLIES.c.cost_usd)
sa.Index("replies_by_time", REPLIES.c.created_at, REPLIES.c.cost_usd)

# A stage's readings of replies are kept to show which replies are unusable. They are derived: the
# same prompt version reads the same again.
READINGS = sa.Table(
    "readings",
    _METADATA,
    sa.Column("reply_id", sa.Text, primary_key=True),
    sa.Column("prompt_version", sa.Text, primary_key=True),
    sa.Column("status", sa.Text, nullable=False),
    sa.Column("value", sa.Text),
    sa.Column("detail", sa.Text),
)

READING_PARTS = ("status", "value", "detail")
# Joins a reply to its reading by the stage that asked for it.
OWN_READING = sa.and_(
    READINGS.c.reply_id == REPLIES.c.reply_id,
    READINGS.c.prompt_version == REPLIES.c.prompt_version,
)

# Batches handed to a provider and the calls in each are written before anything is sent.
BATCHES = sa.Table(
    "batches",
    _METADATA,
    sa.Column("batch_id", sa.Text, primary_key=True),
    sa.Column("role", sa.Text, nullable=False),
    sa.Column("stage", sa.Text, nullable=False),
    sa.Column("dataset", sa.Text),
    sa.Column("run", sa.Text),
    sa.Column("model", sa.Text, nullable=False),
    sa.Column("endpoint", sa.Text, nullable=False),
    sa.Column("state", sa.Text, nullable=False),
    sa.Column("file_id", sa.Text),
    sa.Column("provider_id", sa.Text),
    sa.Column("most_usd", sa.Double),
    sa.Column("detail", sa.Text),
    sa.Column("created_at", sa.BigInteger, nullable=False),
)
BATCH_CALLS = sa.Table(
    "batch_calls",
    _METADATA,
    sa.Column("batch_id", sa.Text, primary_key=True),
    sa.Column("reply_id", sa.Text, primary_key=True),
)
sa.Index("batch_calls_by_reply", BATCH_CALLS.c.reply_id)

# Notes of calls that are in flight, or were when their process was killed, from version 3 on.
SENT_CALLS = sa.Table(
    "sent_calls",
    _METADATA,
    sa.Column("reply_id", sa.Text, primary_key=True),
    # The owner is the process that sent the call, by its name in ``coordination``.
    sa.Column("owner", sa.Text, primary_key=True),
    *_origin_columns(),
    # This is null where the price is unknown.
    sa.Column("most_usd", sa.Double),
    sa.Column("sent_at", sa.BigInteger, nullable=False),
    # This is null as long as the owner lives.
    sa.Column("lost_at", sa.BigInteger),
    # A note comes and goes with every call, and without row numbers it is written to one tree.
    sqlite_with_rowid=False,
)
# Status of a lost call among the rows of ``llm_replies``.
LOST = "lost"

# A column of dollars, the moment that they count at, and which rows count.
_Dollars = tuple[sa.Column[Any], sa.Column[Any], Sequence[sa.ColumnElement[bool]]]
_PAID: Sequence[_Dollars] = (
    (REPLIES.c.cost_usd, REPLIES.c.created_at, ()),
    (BATCHES.c.most_usd, BATCHES.c.created_at, (BATCHES.c.state != "done",)),
)
_LOST: _Dollars = (
    SENT_CALLS.c.most_usd,
    SENT_CALLS.c.sent_at,
    (SENT_CALLS.c.lost_at.is_not(None),),
)

_VERSION_TABLE = sa.Table(
    "opencs_store", _METADATA, sa.Column("version", sa.Integer, primary_key=True)
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Record(CallOrigin):
    """One completed call as it is kept.

    ``request`` is the request's body as JSON, without headers, and ``raw`` the answer's body as it
    came; ``via`` is ``call``, or ``batch`` for the provider's Batch API.
    """

    reply: Reply
    request: str
    prompt_bytes: int
    raw: str | None = None
    via: str = "call"


@dataclass(frozen=True, slots=True, kw_only=True)
class SentCall(CallOrigin):
    """A call that is about to be sent, as it is noted.

    ``owner`` is the process that sends it, by its name in ``coordination``; ``most_usd`` is
    ``None`` where the price is unknown.
    """

    reply_id: str
    owner: str
    most_usd: float | None


_REPLY_PARTS = tuple(part.name for part in fields(Reply) if part.name != "stored")
_RECORD_PARTS = tuple(part.name for part in fields(Record) if part.name != "reply")
_SENT_CALL_PARTS = tuple(part.name for part in fields(SentCall))


@dataclass(frozen=True, slots=True)
class Flights:
    """How one owner's calls in flight change: some are about to be sent, some have ended.

    ``ended`` leaves out the calls whose replies are kept in the same step. Calls end before others
    are sent.
    """

    owner: str
    sent: Sequence[SentCall] = ()
    ended: Collection[str] = ()


@dataclass(frozen=True, slots=True)
class ReadingRow:
    """What a stage read from a reply: ``ok`` with its value as JSON, or why there is none."""

    reply_id: str
    prompt_version: str
    status: str
    value: str | None
    detail: str | None


@dataclass(frozen=True)
class Measured:
    """Means over a model's latest replies in one role."""

    completion_tokens: float
    latency_s: float
    tokens_per_byte: float


class ReplyStore:
    """The replies of one home or cluster, at a SQLAlchemy URL or the path of a SQLite file.

    The file is made where it is missing.

    Raises:
        StoreError: It can't be opened, is damaged, or is of another version. All methods raise it
            too when the store can't be read or written.
    """

    def __init__(self, where: str | Path) -> None:
        if isinstance(where, Path):
            # A path may have characters that mean something else in a URL.
            file = sa.URL.create("sqlite", database=str(where))
            where = file.render_as_string(hide_password=False)
        self.url = where
        self.database = Database(where, durable=True)
        try:
            self._prepare()
        except BaseException:
            self.database.close()
            raise
        self._select_replies = self._select(*_REPLY_PARTS)

    def _prepare(self) -> None:
        with self.database.reading() as connection:
            version = self._version(connection)
        if version == VERSION:
            return
        if version not in (0, 1, 2):
            raise StoreError(
                f"reply store {self.database.name} is of version {version}, this is version "
                f"{VERSION}; use the release that wrote it, or move it away"
            )
        with self.database.preparing() as connection:
            if self._version(connection) == 1:
                for column in _SINCE_2:
                    connection.exec_driver_sql(f"alter table replies add column {column}")
                for index in REPLIES.indexes:
                    index.create(connection, checkfirst=True)
            _METADATA.create_all(connection)
            if self.database.sqlite:
                connection.exec_driver_sql(f"pragma user_version = {VERSION}")
            else:
                self.database.insert_new(connection, _VERSION_TABLE, [{"version": VERSION}])

    def _version(self, connection: Connection) -> int:
        """Version of the store's tables; 0 where there are none yet."""
        if self.database.sqlite:
            return int(connection.exec_driver_sql("pragma user_version").scalar_one())
        if not sa.inspect(connection).has_table(_VERSION_TABLE.name):
            return 0
        return int(connection.scalar(sa.select(sa.func.max(_VERSION_TABLE.c.version))) or 0)

    def close(self) -> None:
        """Close it; the store can't be used afterwards."""
        self.database.close()

    def __enter__(self) -> "ReplyStore":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def get_many(self, keys: Sequence[str]) -> dict[str, Reply]:
        """Stored replies by key; keys without a reply are left out."""
        return {row[0]: _reply(row) for row in self._rows(self._select_replies, keys)}

    def requests(self, keys: Sequence[str]) -> dict[str, str]:
        """Bodies of the stored replies' requests as JSON, by key."""
        return {row[0]: row[1] for row in self._rows(self._select("reply_id", "request"), keys)}

    def _select(self, *columns: str) -> sa.Select[Any]:
        """A query for columns of the replies whose keys are given at execution."""
        among_keys = self.database.among(REPLIES.c.reply_id)
        return sa.select(*(REPLIES.c[name] for name in columns)).where(among_keys)

    def _rows(self, select: sa.Select[Any], keys: Sequence[str]) -> Iterator[Any]:
        for chunk in chunked(keys):
            with self.database.reading() as connection:
                rows = connection.execute(select, self.database.bound_keys(chunk)).fetchall()
            yield from rows

    def put(self, record: Record) -> Reply:
        """Keep one reply; see ``put_many``."""
        return self.put_many([record])[0]

    def put_many(self, records: Sequence[Record], flights: Flights | None = None) -> list[Reply]:
        """Keep replies, and note their owner's calls in flight, in one durable transaction.

        Returns:
            The reply that the store holds now for each record: the record's own, or the one that
            another process stored first, so that every table and the store agree.
        """
        if not records and flights is None:
            return []
        now = _now()
        replies: dict[str, Reply] = {}
        rows: list[Mapping[str, Any]] = []
        for record in records:
            if record.reply.reply_id not in replies:
                reply = replace(record.reply, text=storable(record.reply.text))
                replies[reply.reply_id] = reply
                rows.append(_row(record, now))
        with self.database.writing() as connection:
            late = replies.keys() - set(self.database.insert_new(connection, REPLIES, rows))
            if late:
                # A reply that another process inserted meanwhile can be read only now.
                keys = self.database.bound_keys(late)
                earlier = connection.execute(self._select_replies, keys).fetchall()
                replies |= {row[0]: _reply(row) for row in earlier}
            if flights is not None:
                self._note(connection, flights, replies, now)
        return [replies[record.reply.reply_id] for record in records]

    def _note(
        self, connection: Connection, flights: Flights, replies: Collection[str], now: int
    ) -> None:
        """Note how calls in flight change; calls with a reply have ended, lost or not."""
        ended = [*flights.ended, *replies]
        if ended:
            own = sa.and_(
                self.database.among(SENT_CALLS.c.reply_id), SENT_CALLS.c.owner == flights.owner
            )
            connection.execute(SENT_CALLS.delete().where(own), self.database.bound_keys(ended))
        rows = [_parts(call, _SENT_CALL_PARTS) | {"sent_at": now} for call in flights.sent]
        self.database.insert_new(connection, SENT_CALLS, rows)

    def owners_in_flight(self) -> set[str]:
        """Owners of calls that are noted as in flight."""
        owners = sa.select(SENT_CALLS.c.owner).where(SENT_CALLS.c.lost_at.is_(None)).distinct()
        with self.database.reading() as connection:
            return set(connection.scalars(owners))

    def lose_calls(self, owners: Collection[str]) -> None:
        """Count the calls that owners have in flight as lost, because the owners are gone.

        A call of an owner that lives after all counts by its reply again once that is kept.
        """
        gone = self.owners_in_flight().intersection(owners)
        if not gone:
            return
        open_notes = sa.and_(SENT_CALLS.c.owner.in_(gone), SENT_CALLS.c.lost_at.is_(None))
        with self.database.writing() as connection:
            if not self.database.sqlite:
                # An owner that lives after all may be removing the same notes, in another order.
                lock = sa.text(f"lock table {SENT_CALLS.name} in share row exclusive mode")
                connection.execute(lock)
            connection.execute(SENT_CALLS.update().where(open_notes).values(lost_at=_now()))

    def put_readings(self, rows: Sequence[ReadingRow]) -> None:
        """Keep readings of replies; one that the store has already stays as it is."""
        if not rows:
            return
        with self.database.writing() as connection:
            self.database.insert_new(connection, READINGS, [asdict(row) for row in rows])

    def usage_rows(self) -> pl.DataFrame:
        """One row a stored reply or lost call, without texts, in the schema of ``llm_replies``."""
        derived = {
            "readable": sa.case(
                (READINGS.c.status == "ok", True), (READINGS.c.status.is_not(None), False)
            )
        }
        names = list(LLM_REPLIES.columns)
        columns = [
            (derived[name] if name in derived else REPLIES.c[name]).label(name) for name in names
        ]
        replies = (
            sa.select(*columns)
            .select_from(REPLIES.outerjoin(READINGS, OWN_READING))
            .order_by(REPLIES.c.created_at, REPLIES.c.reply_id)
        )
        lost = (
            sa.select(SENT_CALLS)
            .where(SENT_CALLS.c.lost_at.is_not(None))
            .order_by(SENT_CALLS.c.sent_at, SENT_CALLS.c.reply_id, SENT_CALLS.c.owner)
        )
        with self.database.reading() as connection:
            rows = [tuple(row) for row in connection.execute(replies)]
            for call in connection.execute(lost).mappings():
                usage = _lost_usage(dict(call))
                rows.append(tuple(usage[name] for name in names))
        schema = dict(LLM_REPLIES.schema) | {"created_at": pl.Int64}
        frame = pl.DataFrame(rows, schema=schema, orient="row")
        created = pl.col("created_at").cast(pl.Datetime("us", "UTC"))
        return conform(frame.with_columns(created), LLM_REPLIES)

    def spent(
        self, *, run: str | None = None, stage: str | None = None, since: datetime | None = None
    ) -> float:
        """Dollars paid so far for calls, and the most that open batches and lost calls may cost.

        Only calls of the run and asset and from the moment on count, where these are given. A call
        of unknown price counts nothing.
        """
        return self._dollars((*_PAID, _LOST), run, stage, since)

    def lost_usd(
        self, *, run: str | None = None, stage: str | None = None, since: datetime | None = None
    ) -> float:
        """The part of ``spent`` with the same arguments that lost calls may have cost."""
        return self._dollars((_LOST,), run, stage, since)

    def _dollars(
        self,
        parts: Sequence[_Dollars],
        run: str | None,
        stage: str | None,
        since: datetime | None,
    ) -> float:
        total = 0.0
        with self.database.reading() as connection:
            for usd, moment, counts in parts:
                columns = usd.table.c
                dollars = sa.select(sa.func.coalesce(sa.func.sum(usd), 0.0)).where(*counts)
                if run is not None:
                    dollars = dollars.where(columns.run == run)
                if stage is not None:
                    dollars = dollars.where(columns.stage == stage)
                if since is not None:
                    dollars = dollars.where(moment >= int(since.timestamp() * 1e6))
                total += float(connection.scalar(dollars) or 0.0)
        return total

    def measured(self, model: str, role: str) -> Measured | None:
        """Means over the model's latest replies in a role; ``None`` where it has none."""
        latest = (
            sa.select(
                REPLIES.c.completion_tokens,
                REPLIES.c.latency_s,
                REPLIES.c.prompt_tokens,
                REPLIES.c.prompt_bytes,
            )
            .where(REPLIES.c.model == model, REPLIES.c.role == role, REPLIES.c.via == "call")
            .order_by(REPLIES.c.created_at.desc())
            .limit(_MEASURED_REPLIES)
            .subquery()
        )
        means = sa.select(
            sa.func.avg(latest.c.completion_tokens),
            sa.func.avg(latest.c.latency_s),
            sa.func.sum(latest.c.prompt_tokens),
            sa.func.sum(latest.c.prompt_bytes),
        )
        with self.database.reading() as connection:
            row: Any = connection.execute(means).one()
        completion, latency, tokens, prompt_bytes = row
        # Without a reply, the sum of bytes is null.
        if not prompt_bytes:
            return None
        return Measured(float(completion), float(latency), float(tokens) / float(prompt_bytes))


def month_start(now: datetime | None = None) -> datetime:
    """Start of the calendar month, in UTC."""
    return (now or datetime.now(UTC)).replace(day=1, hour=0, minute=0, second=0, microsecond=0)


def _now() -> int:
    """Microseconds since 1970."""
    return time.time_ns() // 1_000


def _lost_usage(call: Mapping[str, Any]) -> Mapping[str, Any]:
    """The row of ``llm_replies`` for a lost call, with its moment in microseconds."""
    return {
        **call,
        **dict.fromkeys(("readable", "request_id", "finish_reason")),
        **dict.fromkeys(("prompt_tokens", "cached_tokens", "completion_tokens"), 0),
        # The same call may be lost more than once, and may have a reply as well.
        "reply_id": f"{LOST}:{call['reply_id']}:{call['owner']}",
        "status": LOST,
        "via": "call",
        "cost_usd": call["most_usd"],
        "latency_s": 0.0,
        "created_at": call["sent_at"],
    }


def _parts(whole: Any, names: Sequence[str]) -> dict[str, Any]:
    return {name: getattr(whole, name) for name in names}


def _row(record: Record, now: int) -> Mapping[str, Any]:
    logprobs = record.reply.logprobs
    return {
        **_parts(record, _RECORD_PARTS),
        **_parts(record.reply, _REPLY_PARTS),
        "logprobs": orjson.dumps(logprobs).decode() if logprobs else None,
        "created_at": now,
    }


def _reply(row: Sequence[Any]) -> Reply:
    """The stored reply of a row with the columns ``_REPLY_PARTS``."""
    parts: dict[str, Any] = dict(zip(_REPLY_PARTS, row, strict=True))
    parts["logprobs"] = tuple(
        tuple((token, float(logprob)) for token, logprob in alternatives)
        for alternatives in orjson.loads(parts["logprobs"] or "[]")
    )
    return Reply(**parts, stored=True)


def chunked(values: Iterable[T], size: int = CHUNK) -> Iterator[list[T]]:
    """Split values into pieces of a size, which is by default what one statement takes."""
    iterator = iter(values)
    while chunk := list(islice(iterator, size)):
        yield chunk

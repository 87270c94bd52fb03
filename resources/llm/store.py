"""The reply store: every completed call, kept for good in one SQLite file.

Any number of threads and processes use it at once (write-ahead log, busy timeout). A reply is on
disk before anyone sees it. Rows also keep the request, for tracing a number back to its prompt;
headers and keys never come here.
"""

import json
import sqlite3
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import polars as pl
from filelock import FileLock

from opencs_assets.schemas import LLM_REPLIES, conform
from resources.llm.errors import StoreError
from resources.llm.types import Reply

VERSION = 1
_BUSY_S = 30.0
_CHUNK = 5_000
_MEASURED_REPLIES = 1_000

_DDL = """
create table if not exists replies (
    reply_id text primary key,
    role text not null,
    stage text not null,
    dataset text,
    run text,
    model text not null,
    provider text not null,
    endpoint text not null,
    prompt_version text not null,
    status text not null,
    text text not null,
    detail text,
    logprobs text,
    finish_reason text,
    prompt_bytes integer not null,
    prompt_tokens integer not null,
    completion_tokens integer not null,
    cost_usd real,
    latency_s real not null,
    request text not null,
    created_at integer not null
) strict;
create index if not exists replies_by_model on replies (model, role, created_at);
create index if not exists replies_by_run on replies (run) where run is not null;
"""
_INSERT = """
insert into replies values (
    :reply_id, :role, :stage, :dataset, :run, :model, :provider, :endpoint, :prompt_version,
    :status, :text, :detail, :logprobs, :finish_reason, :prompt_bytes, :prompt_tokens,
    :completion_tokens, :cost_usd, :latency_s, :request, :created_at
) on conflict do nothing
"""
_SELECT = """
select reply_id, status, text, detail, logprobs, finish_reason, prompt_tokens,
    completion_tokens, cost_usd, latency_s
from replies where reply_id in (select value from json_each(?))
"""
_MEASURED = """
select count(*), avg(completion_tokens), avg(latency_s), sum(prompt_tokens), sum(prompt_bytes)
from (
    select * from replies where model = ? and role = ? order by created_at desc limit ?
)
"""


@dataclass(frozen=True)
class Record:
    """One completed call as it is kept.

    Attributes:
        reply: What came back.
        role: tagger, scorer or judge.
        stage: Asset that asked.
        dataset: Dataset that it was asked for.
        run: Run that paid for it, where there is one.
        model: The model's label.
        provider: Host of the endpoint, or ``embedded``.
        endpoint: Base URL.
        prompt_version: Version of the prompt and its parser.
        request: Body of the request, without headers.
        prompt_bytes: Bytes of the messages in UTF-8.
    """

    reply: Reply
    role: str
    stage: str
    dataset: str | None
    run: str | None
    model: str
    provider: str
    endpoint: str
    prompt_version: str
    request: Mapping[str, Any]
    prompt_bytes: int


@dataclass(frozen=True)
class Measured:
    """Means over a model's latest replies in one role.

    Attributes:
        replies: Replies behind the means.
        completion_tokens: Mean tokens of a reply.
        latency_s: Mean seconds of a call.
        tokens_per_byte: Tokens of a prompt by its bytes.
    """

    replies: int
    completion_tokens: float
    latency_s: float
    tokens_per_byte: float


class ReplyStore:
    """The replies of one home.

    Args:
        path: The SQLite file; made with its folder where missing.

    Raises:
        StoreError: The file can't be opened, is damaged, or is of another version. All methods
            raise it too, when the file can't be read or written.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._lock = threading.Lock()
        with self._guard():
            path.parent.mkdir(parents=True, exist_ok=True)
            self._db = sqlite3.connect(
                path, timeout=_BUSY_S, isolation_level=None, check_same_thread=False
            )
            try:
                self._prepare()
            except BaseException:
                self._db.close()
                raise

    def _prepare(self) -> None:
        self._db.execute(f"pragma busy_timeout = {int(_BUSY_S * 1000)}")
        (found,) = self._db.execute("pragma user_version").fetchone()
        if found not in (0, VERSION):
            raise StoreError(
                f"{self._path} is a reply store of version {found}, this is version {VERSION}; "
                "use the release that wrote it, or move the file away"
            )
        if found == 0:
            # SQLite's busy timeout does not cover the switch to a write-ahead log.
            with FileLock(f"{self._path}.lock"):
                self._db.execute("pragma journal_mode = wal")
                self._db.executescript(f"begin immediate; {_DDL} commit;")
                self._db.execute(f"pragma user_version = {VERSION}")
        # A reply was paid for: it must survive a power cut, not only this process.
        self._db.execute("pragma synchronous = full")

    def close(self) -> None:
        """Close the file; the store can't be used afterwards."""
        with self._lock:
            self._db.close()

    def __enter__(self) -> "ReplyStore":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def get_many(self, keys: Sequence[str]) -> dict[str, Reply]:
        """Stored replies by key; keys without a reply are left out."""
        found: dict[str, Reply] = {}
        for start in range(0, len(keys), _CHUNK):
            chunk = json.dumps(keys[start : start + _CHUNK])
            with self._guard():
                rows = self._db.execute(_SELECT, (chunk,)).fetchall()
            found.update((row[0], _reply(row)) for row in rows)
        return found

    def put(self, record: Record) -> Reply:
        """Keep one reply; see ``put_many``."""
        return self.put_many([record])[0]

    def put_many(self, records: Sequence[Record]) -> list[Reply]:
        """Keep replies in one durable transaction.

        Args:
            records: Completed calls.

        Returns:
            What the store holds for each now: the given reply, or the one that another process
            stored first, so that every table and the store tell the same.
        """
        lost = []
        with self._guard():
            self._db.execute("begin immediate")
            try:
                for record in records:
                    if self._db.execute(_INSERT, _row(record)).rowcount == 0:
                        lost.append(record.reply.reply_id)
                self._db.execute("commit")
            except BaseException:
                if self._db.in_transaction:
                    self._db.execute("rollback")
                raise
        first = self.get_many(lost) if lost else {}
        return [first.get(record.reply.reply_id, record.reply) for record in records]

    def usage_rows(self) -> pl.DataFrame:
        """One row a stored reply, without texts, in the schema of ``llm_replies``."""
        names = list(LLM_REPLIES.columns)
        with self._guard():
            rows = self._db.execute(
                f"select {', '.join(names)} from replies order by created_at, reply_id"  # noqa: S608
            ).fetchall()
        schema = dict(LLM_REPLIES.schema) | {"created_at": pl.Int64}
        frame = pl.DataFrame(rows, schema=schema, orient="row")
        created = pl.col("created_at").cast(pl.Datetime("us", "UTC"))
        return conform(frame.with_columns(created), LLM_REPLIES)

    def spent(self, run: str) -> float:
        """Dollars that a run has paid so far; replies of unknown price count nothing."""
        with self._guard():
            row = self._db.execute(
                "select coalesce(sum(cost_usd), 0.0) from replies where run = ?", (run,)
            ).fetchone()
        return float(row[0])

    def measured(self, model: str, role: str) -> Measured | None:
        """Means over the model's latest replies in a role; ``None`` where there are none."""
        with self._guard():
            row = self._db.execute(_MEASURED, (model, role, _MEASURED_REPLIES)).fetchone()
        replies, completion, latency, tokens, prompt_bytes = row
        if not replies or not prompt_bytes:
            return None
        return Measured(replies, completion, latency, tokens / prompt_bytes)

    @contextmanager
    def _guard(self) -> Iterator[None]:
        """One user of the connection at a time; every fault of the file as one clear error."""
        try:
            with self._lock:
                yield
        except sqlite3.Error as error:
            raise StoreError(f"reply store {self._path}: {error}; {_advice(error)}") from None
        except OSError as error:
            raise StoreError(
                f"reply store {self._path}: {error.strerror}; make its folder writable or set "
                "OPENCS_HOME to one that is"
            ) from None


def _advice(error: sqlite3.Error) -> str:
    """What to do about a fault of the file."""
    text = str(error)
    if "locked" in text:
        return "another process holds it; end that process or wait for it, then run again"
    if "readonly" in text or "unable to open" in text:
        return "make the file and its folder writable, or set OPENCS_HOME to a folder that is"
    if "full" in text:
        return "free disk space and run again; earlier replies are kept"
    return (
        "the file is damaged or not a reply store; restore it from a copy, salvage it with "
        "sqlite3's .recover, or move it away to start empty"
    )


def _row(record: Record) -> dict[str, Any]:
    reply = record.reply
    logprobs = json.dumps(reply.logprobs, separators=(",", ":")) if reply.logprobs else None
    return {
        "reply_id": reply.reply_id,
        "role": record.role,
        "stage": record.stage,
        "dataset": record.dataset,
        "run": record.run,
        "model": record.model,
        "provider": record.provider,
        "endpoint": record.endpoint,
        "prompt_version": record.prompt_version,
        "status": reply.status,
        "text": reply.text,
        "detail": reply.detail,
        "logprobs": logprobs,
        "finish_reason": reply.finish_reason,
        "prompt_bytes": record.prompt_bytes,
        "prompt_tokens": reply.prompt_tokens,
        "completion_tokens": reply.completion_tokens,
        "cost_usd": reply.cost_usd,
        "latency_s": reply.latency_s,
        "request": json.dumps(record.request, ensure_ascii=False, separators=(",", ":")),
        "created_at": time.time_ns() // 1_000,
    }


def _reply(row: tuple[Any, ...]) -> Reply:
    reply = Reply(
        reply_id=row[0],
        status=row[1],
        text=row[2],
        detail=row[3],
        finish_reason=row[5],
        prompt_tokens=row[6],
        completion_tokens=row[7],
        cost_usd=row[8],
        latency_s=row[9],
        stored=True,
    )
    if row[4] is None:
        return reply
    tokens = json.loads(row[4])
    alternatives = tuple(tuple((str(a), float(b)) for a, b in token) for token in tokens)
    return replace(reply, logprobs=alternatives)

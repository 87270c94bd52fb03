"""Lets processes that share a reply store act as one.

They share which of them asks for a call (each call is sent once), how much of a key's rate limit is
taken, who may spend the rest of a budget, and what an endpoint can do. All of it loses its worth
when all of them restart: the replies are in ``store``, with notes of the calls that are in flight.
An owner's bookings are forgotten only after its calls in flight count as lost there, so that a
budget always has one or the other. Whoever locks ``owners`` may then lock the store, but never the
other way round.
"""

import os
import platform
import time
import uuid
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import orjson
import sqlalchemy as sa
from sqlalchemy.engine import Connection, make_url

from resources.llm.database import Database
from resources.llm.store import ReplyStore
from resources.processes import runs

HEARTBEAT_S = 5.0
# An owner that was not seen for so long is gone, whatever machine it is on.
_GONE_S = 30.0
# One lock guards all that owners hold, so that no two of them ever wait for each other.
_OWNERS_LOCK = 7216
_METADATA = sa.MetaData()

OWNERS = sa.Table(
    "owners",
    _METADATA,
    sa.Column("owner", sa.Text, primary_key=True),
    sa.Column("host", sa.Text, nullable=False),
    sa.Column("pid", sa.BigInteger, nullable=False),
    sa.Column("seen_at", sa.Double, nullable=False),
)
CLAIMS = sa.Table(
    "claims",
    _METADATA,
    sa.Column("reply_id", sa.Text, primary_key=True),
    sa.Column("owner", sa.Text, nullable=False),
)
sa.Index("claims_by_owner", CLAIMS.c.owner)
BUCKETS = sa.Table(
    "buckets",
    _METADATA,
    sa.Column("name", sa.Text, primary_key=True),
    sa.Column("requests_per_s", sa.Double),
    sa.Column("tokens_per_s", sa.Double),
    # The limits are used up until these moments, which move by 1/rate a request or token.
    sa.Column("requests_at", sa.Double, nullable=False),
    sa.Column("tokens_at", sa.Double, nullable=False),
    sa.Column("resume_at", sa.Double, nullable=False),
    # This is 1 while the limit of requests is only searched for.
    sa.Column("searching", sa.Integer, nullable=False),
)
BUCKET_USERS = sa.Table(
    "bucket_users",
    _METADATA,
    sa.Column("name", sa.Text, primary_key=True),
    sa.Column("owner", sa.Text, primary_key=True),
    sa.Column("used_at", sa.Double, nullable=False),
)
BOOKINGS = sa.Table(
    "bookings",
    _METADATA,
    sa.Column("scope", sa.Text, primary_key=True),
    sa.Column("owner", sa.Text, primary_key=True),
    sa.Column("usd", sa.Double, nullable=False),
)
ENDPOINTS = sa.Table(
    "endpoints",
    _METADATA,
    sa.Column("name", sa.Text, primary_key=True),
    sa.Column("known", sa.Text, nullable=False),
    sa.Column("known_at", sa.Double, nullable=False),
)

# So many seconds of a limit may be used at once: less than providers' shallowest buckets hold.
DEPTH_S = 0.25
# A part of a limit that nobody took for so long goes to whoever asks, fair or not.
_IDLE_S = 0.05
# A limit that nobody has used or learned for so long may have changed, and is not kept to.
_FORGOTTEN_S = 3_600.0
# A bucket is shared out among the users that asked within so many seconds; a user that waits asks
# at least every second.
_USING_S = 2.0


@dataclass(frozen=True, slots=True)
class Grant:
    """How many of the requested calls, in their order, a limit lets through now.

    The rest is to be asked for again after ``wait_s`` seconds. ``users`` are the processes that ask
    for calls at this time; a limit of requests that is not ``measured`` is merely searched for.
    """

    calls: int
    wait_s: float
    requests_per_s: float | None
    tokens_per_s: float | None
    users: int = 1
    measured: bool = True


class Coordination:
    """One process's view of what all processes share.

    Opening it counts the calls of owners that are gone as lost, where they are still noted as in
    flight, even if nothing else is known of the owner any more. A SQLite reply store is coordinated
    by a file beside it, a Postgres one by tables in the same database.

    Raises:
        StoreError: The database can't be used; all methods raise it too.
    """

    def __init__(self, replies_url: str) -> None:
        self._replies_url = replies_url
        self.database = Database(_beside(replies_url), durable=False)
        self.owner = uuid.uuid4().hex
        self._host = _host()
        # The database's clock counts for all; it is so many seconds ahead of this machine's.
        self._ahead = 0.0
        self._seen_at: float | None = None
        self._patient_until = 0.0
        # This owner has used its share of each limit until these moments.
        self._served_until: dict[str, float] = {}
        try:
            with self.database.preparing() as connection:
                _METADATA.create_all(connection)
            with ReplyStore(replies_url) as store:
                # An owner is known before it sends anything. So an owner of calls in flight that
                # is not known afterwards is gone.
                owners = store.owners_in_flight()
                self.beat()
                store.lose_calls(owners - self._owners())
        except BaseException:
            self.database.close()
            raise

    def close(self) -> None:
        """Give back this owner's claims and bookings, and close the database."""
        try:
            with self.database.writing() as connection:
                self._lock(connection)
                self._forget(connection, [self.owner])
        finally:
            self.database.close()

    def __enter__(self) -> "Coordination":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def beat(self) -> None:
        """Tell the others that this owner lives; due every ``HEARTBEAT_S``."""
        with self.database.writing() as connection:
            self._lock(connection)
            if not self.database.sqlite:
                clock = sa.select(sa.extract("epoch", sa.func.clock_timestamp()))
                self._ahead = float(connection.scalar(clock) or 0.0) - time.time()
            self._be_seen(connection)
            self._bury(connection)

    def claim(self, keys: Sequence[str], release: Sequence[str] = ()) -> set[str]:
        """Claim calls by their keys, and return those that are this owner's now.

        Other processes are asking for the rest. Calls of this owner that are done are released in
        the same step.
        """
        database = self.database
        with database.writing() as connection:
            self._lock(connection)
            self._be_seen(connection)
            if release:
                own = sa.and_(database.among(CLAIMS.c.reply_id), CLAIMS.c.owner == self.owner)
                connection.execute(CLAIMS.delete().where(own), database.bound_keys(release))
            if not keys:
                return set()
            claimed = database.bound_keys(keys)
            claims = sa.select(CLAIMS.c.reply_id, CLAIMS.c.owner).where(
                database.among(CLAIMS.c.reply_id)
            )
            owner_of: dict[str, str] = dict(connection.execute(claims, claimed).tuples().all())
            if set(owner_of.values()) - {self.owner} and self._bury(connection):
                owner_of = dict(connection.execute(claims, claimed).tuples().all())
            rows = [{"reply_id": key, "owner": self.owner} for key in set(keys) - owner_of.keys()]
            database.insert_new(connection, CLAIMS, rows)
            return {key for key in keys if owner_of.get(key, self.owner) == self.owner}

    def take(
        self,
        name: str,
        tokens: Sequence[float],
        limits: tuple[float | None, float | None],
        owed: float = 0.0,
    ) -> Grant:
        """Take calls out of a key's rate limit.

        The limit is a bucket that is ``DEPTH_S`` deep (or one call, where that is more). Users
        that ask at the same time get equal shares of its flow, however often each asks; the others
        take what one of them leaves. All processes know the limit by its name.

        ``tokens`` are those of each call, prompt and reply together; ``limits`` are requests and
        tokens per second, ``None`` where the stored limit holds. Earlier calls had ``owed`` more
        tokens than were taken for them, which may be negative.
        """
        now = self._now()
        database = self.database
        with database.writing() as connection:
            row = self._bucket(connection, name)
            connection.execute(
                database.upsert(BUCKET_USERS, "used_at"),
                {"name": name, "owner": self.owner, "used_at": now},
            )
            user_count = sa.select(sa.func.count()).where(
                BUCKET_USERS.c.name == name, BUCKET_USERS.c.used_at > now - _USING_S
            )
            users = max(connection.scalar(user_count) or 1, 1)
            stored = _stored_limits(row, now)
            requests_rate, tokens_rate = limits[0] or stored[0], limits[1] or stored[1]
            tokens_at = row["tokens_at"] + _takes(owed, tokens_rate)
            idle = max(row["requests_at"], tokens_at) < now - _IDLE_S
            share = DEPTH_S / users
            requests_at = max(row["requests_at"], now - _left_over(share, 1, requests_rate))
            largest = max(tokens, default=0.0)
            tokens_at = max(tokens_at, now - _left_over(share, largest, tokens_rate))
            served = max(self._served_until.get(name, now), now - DEPTH_S)
            granted, wait = 0, max(row["resume_at"] - now, 0.0)
            taken_tokens = 0.0
            for size in tokens if not wait else ():
                wait = max(
                    _wait(requests_at, granted, 1, requests_rate, share, now),
                    _wait(tokens_at, taken_tokens, size, tokens_rate, share, now),
                )
                if wait > 0:
                    break
                turn = users * max(_takes(1, requests_rate), _takes(size, tokens_rate))
                ahead = served + turn - now - max(DEPTH_S, turn)
                if ahead > 0 and users > 1 and not idle:
                    wait = min(ahead, _IDLE_S)
                    break
                served += turn
                granted += 1
                taken_tokens += size
            self._served_until[name] = served
            values: dict[str, Any] = {}
            if requests_rate and granted:
                values["requests_at"] = requests_at + granted / requests_rate
            if tokens_rate and (granted or owed):
                values["tokens_at"] = tokens_at + taken_tokens / tokens_rate
            if values:
                connection.execute(BUCKETS.update().where(BUCKETS.c.name == name).values(**values))
            measured = not row["searching"]
            return Grant(granted, wait, requests_rate, tokens_rate, users, measured)

    def limits(self, name: str) -> tuple[float | None, float | None]:
        """Requests and tokens per second that were learned of a limit; ``None`` where unknown."""
        bucket = sa.select(BUCKETS).where(BUCKETS.c.name == name)
        with self.database.reading() as connection:
            row = connection.execute(bucket).mappings().first()
        return (None, None) if row is None else _stored_limits(dict(row), self._now())

    def learn(
        self,
        name: str,
        *,
        requests_per_s: float | None = None,
        tokens_per_s: float | None = None,
        resume_at: float | None = None,
        measured: bool = True,
        emptied: bool = False,
    ) -> None:
        """Share with all users of a limit what this one learned of it; ``None`` changes nothing.

        Nothing may be sent before ``resume_at``, a Unix time that is never moved to the past. A
        limit that is not ``measured`` is searched for. Where a refused call shows that the bucket
        is ``emptied``, no more than one call is let through at once.
        """
        now = self._now()
        with self.database.writing() as connection:
            row = self._bucket(connection, name)
            values: dict[str, float] = {}
            if requests_per_s is not None:
                values |= {"requests_per_s": requests_per_s, "searching": int(not measured)}
                left = max(DEPTH_S - 1 / requests_per_s, 0.0) if emptied else 0.0
                values["requests_at"] = max(row["requests_at"], now + left)
            if tokens_per_s is not None:
                values["tokens_per_s"] = tokens_per_s
                values["tokens_at"] = max(row["tokens_at"], now)
            if resume_at is not None:
                values["resume_at"] = max(row["resume_at"], resume_at + self._ahead)
            if values:
                connection.execute(BUCKETS.update().where(BUCKETS.c.name == name).values(**values))

    def book(
        self,
        bookings: Mapping[str, float],
        limits: Mapping[str, float],
        spent: Callable[[str], float],
    ) -> bool:
        """Replace this owner's bookings, in dollars by scope, and return whether all fitted.

        Bookings and dollars spent of all owners stay within a scope's limit; where one booking does
        not fit, nothing changes.
        """
        with self.database.writing() as connection:
            self._lock(connection)
            self._be_seen(connection)
            self._bury(connection)
            for scope, usd in bookings.items():
                others = connection.scalar(
                    sa.select(sa.func.coalesce(sa.func.sum(BOOKINGS.c.usd), 0.0)).where(
                        BOOKINGS.c.scope == scope, BOOKINGS.c.owner != self.owner
                    )
                )
                if spent(scope) + float(others or 0.0) + usd > limits[scope]:
                    return False
            self._write_bookings(connection, bookings)
            return True

    def book_less(self, bookings: Mapping[str, float]) -> None:
        """Lower this owner's bookings, given in dollars by scope; that is never refused."""
        with self.database.writing() as connection:
            self._lock(connection)
            self._be_seen(connection)
            self._write_bookings(connection, bookings)

    def _write_bookings(self, connection: Connection, bookings: Mapping[str, float]) -> None:
        own = [{"scope": scope, "owner": self.owner, "usd": bookings[scope]} for scope in bookings]
        connection.execute(self.database.upsert(BOOKINGS, "usd"), own)

    def others_book(self, scopes: Sequence[str]) -> bool:
        """Whether another living owner has something booked in one of the scopes."""
        with self.database.writing() as connection:
            self._lock(connection)
            self._bury(connection)
            other_bookings = sa.select(sa.func.count()).where(
                BOOKINGS.c.scope.in_(list(scopes)),
                BOOKINGS.c.owner != self.owner,
                BOOKINGS.c.usd > 0,
            )
            return bool(connection.scalar(other_bookings))

    def remember(self, name: str, facts: Mapping[str, Any]) -> None:
        """Keep facts about an endpoint; they replace earlier ones of the same names."""
        with self.database.writing() as connection:
            self._lock(connection)
            earlier = self._known(connection, name)
            row = {
                "name": name,
                "known": orjson.dumps({**earlier, **facts}).decode(),
                "known_at": time.time(),
            }
            connection.execute(self.database.upsert(ENDPOINTS, "known", "known_at"), row)

    def known(self, name: str) -> dict[str, Any]:
        """The facts that are remembered about an endpoint."""
        with self.database.reading() as connection:
            return self._known(connection, name)

    def forget_endpoint(self, name: str) -> None:
        """Forget the facts about an endpoint, so that it is asked again."""
        with self.database.writing() as connection:
            connection.execute(ENDPOINTS.delete().where(ENDPOINTS.c.name == name))

    def _known(self, connection: Connection, name: str) -> dict[str, Any]:
        text = connection.scalar(sa.select(ENDPOINTS.c.known).where(ENDPOINTS.c.name == name))
        return dict(orjson.loads(text)) if text else {}

    def _bucket(self, connection: Connection, name: str) -> Mapping[str, Any]:
        bucket = sa.select(BUCKETS).where(BUCKETS.c.name == name).with_for_update()
        row = connection.execute(bucket).mappings().first()
        if row is None:
            moments = dict.fromkeys(("requests_at", "tokens_at", "resume_at"), 0.0)
            fresh = {"name": name, "searching": 0, **moments}
            self.database.insert_new(connection, BUCKETS, [fresh])
            row = connection.execute(bucket).mappings().one()
        return dict(row)

    def _now(self) -> float:
        return time.time() + self._ahead

    def _lock(self, connection: Connection) -> None:
        """Let one process write at a time; SQLite does so anyway."""
        if not self.database.sqlite:
            lock = sa.text("select pg_advisory_xact_lock(:number)")
            connection.execute(lock, {"number": _OWNERS_LOCK})

    def _be_seen(self, connection: Connection) -> None:
        """Note that this owner lives, unless it was noted a short time ago."""
        now, before = self._now(), self._seen_at
        if before is not None and 0 <= now - before < HEARTBEAT_S / 2:
            return
        if before is not None and now - before > _GONE_S / 2:
            # This process did not run for a while, as in a machine's sleep, so other owners that
            # were not seen may live as well.
            self._patient_until = now + 2 * HEARTBEAT_S
        row = {"owner": self.owner, "host": self._host, "pid": os.getpid(), "seen_at": now}
        connection.execute(self.database.upsert(OWNERS, "seen_at"), row)
        self._seen_at = now

    def _bury(self, connection: Connection) -> bool:
        """Forget the owners that are gone; ``False`` where none is."""
        gone = [
            row.owner
            for row in connection.execute(sa.select(OWNERS))
            if row.owner != self.owner and not self._lives(row)
        ]
        if gone:
            self._forget(connection, gone)
        return bool(gone)

    def _forget(self, connection: Connection, owners: Sequence[str]) -> None:
        """Forget what owners hold, after their calls in flight were counted as lost."""
        with ReplyStore(self._replies_url) as store:
            store.lose_calls(owners)
        for table in (CLAIMS, BUCKET_USERS, BOOKINGS, OWNERS):
            connection.execute(table.delete().where(table.c.owner.in_(list(owners))))

    def _owners(self) -> set[str]:
        with self.database.reading() as connection:
            return set(connection.scalars(sa.select(OWNERS.c.owner)))

    def _lives(self, owner: Any) -> bool:
        if owner.host == self._host and not runs(owner.pid):
            return False
        now = self._now()
        return now - owner.seen_at <= _GONE_S or now < self._patient_until


def _stored_limits(row: Mapping[str, Any], now: float) -> tuple[float | None, float | None]:
    requests_rate, tokens_rate = (
        row[f"{what}_per_s"] if now - row[f"{what}_at"] < _FORGOTTEN_S else None
        for what in ("requests", "tokens")
    )
    return requests_rate, tokens_rate


def _wait(
    used_until: float, taken: float, more: float, rate: float | None, share: float, now: float
) -> float:
    """Seconds until a call fits into a bucket; 0 where it does now."""
    if not rate:
        return 0.0
    # A bucket holds at least one call, however slow its limit.
    deep = max(share, more / rate)
    return max(used_until + (taken + more) / rate - now - deep, 0.0)


def _takes(amount: float, rate: float | None) -> float:
    """Seconds in which a limit lets an amount through; 0 without a limit."""
    return amount / rate if rate else 0.0


def _left_over(share: float, most: float, rate: float | None) -> float:
    """Seconds of a limit that nobody used and that may still be used now.

    The share of one user among several leaves room in the bucket for them.
    """
    if not rate:
        return 0.0
    return min(max(DEPTH_S - max(share, most / rate), 0.0), 2 * _IDLE_S)


def _beside(replies_url: str) -> str:
    url = make_url(replies_url)
    if url.get_backend_name() != "sqlite":
        return replies_url
    path = Path(url.database or "").with_name("coordination.sqlite")
    return url.set(database=str(path)).render_as_string(hide_password=False)


def _host() -> str:
    """Name of this machine's boot and pid namespace: a pid means something only there."""
    boot = Path("/proc/sys/kernel/random/boot_id")
    namespace = Path("/proc/self/ns/pid")
    try:
        return f"{platform.node()}:{boot.read_text().strip()}:{namespace.readlink()}"
    except OSError:
        return platform.node()

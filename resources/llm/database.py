"""The databases behind the language models' calls: SQLite on one machine, Postgres on a cluster.

This module opens them and turns every fault of theirs into one clear error. Their tables belong to
``store`` (replies, kept for good) and ``coordination`` (what processes share while they run).
"""

import errno
import sqlite3
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Literal

import orjson
import sqlalchemy as sa
from filelock import FileLock
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.engine import Connection, Engine, make_url

from resources.llm.completion import encodable
from resources.llm.errors import StoreError

BUSY_S = 30.0
_WRITE = "opencs_write"
_SECRET = ("password", "passfile", "sslpassword", "sslkey")


class Database:
    """One database, used by any number of threads and processes.

    The file of a SQLite URL is made with its folder where missing. Where it is ``durable``, a
    commit survives a power cut and not only this process.

    Raises:
        StoreError: The URL is not usable. All methods raise it too where the database can't be
            opened, read or written.
    """

    def __init__(self, url: str, *, durable: bool) -> None:
        try:
            parsed = make_url(url)
            self.sqlite = parsed.get_backend_name() == "sqlite"
            self.path = Path(parsed.database) if self.sqlite and parsed.database else None
            # A password is never shown. An unquoted @ in one would make its rest part of the host.
            if "@" in (parsed.host or ""):
                raise ValueError
            shown = parsed.difference_update_query(_SECRET)
            self.name = str(self.path) if self.path else shown.render_as_string(hide_password=True)
            with self.guard():
                if self.path:
                    self.path.parent.mkdir(parents=True, exist_ok=True)
                self.engine = _engine(parsed, self.sqlite, durable)
        except (sa.exc.ArgumentError, ModuleNotFoundError, ValueError) as error:
            # A ValueError quotes the text taken for the port, which may be part of a password.
            reason = "it can't be read" if isinstance(error, ValueError) else _first_line(error)
            raise StoreError(
                f"replies_url is not usable: {reason}; give an SQLAlchemy URL such as "
                "postgresql+psycopg://user@host/database (@, : and / in a password as %40, %3A "
                "and %2F)"
            ) from None

    def close(self) -> None:
        """Close all connections."""
        self.engine.dispose()

    @contextmanager
    def reading(self) -> Iterator[Connection]:
        """A connection that reads one consistent state."""
        with self.guard(), self.engine.connect() as connection:
            if not self.sqlite:
                connection = connection.execution_options(isolation_level="REPEATABLE READ")
            yield connection

    @contextmanager
    def writing(self) -> Iterator[Connection]:
        """A connection whose transaction is committed at the end of the block, unless it fails."""
        with self.guard(), self.engine.connect() as connection:
            connection = connection.execution_options(**{_WRITE: True})
            with connection.begin():
                yield connection

    @contextmanager
    def preparing(self) -> Iterator[Connection]:
        """A writing connection for making and changing tables, in one process at a time."""
        with self.writing() as connection:
            if not self.sqlite:
                connection.execute(sa.text("select pg_advisory_xact_lock(7215)"))
            yield connection

    def insert_new(
        self, connection: Connection, table: sa.Table, rows: Sequence[Mapping[str, Any]]
    ) -> list[Any]:
        """Insert the rows whose keys the table does not have.

        All rows go in one statement, as one JSON value: SQLite's driver gives up Python's lock
        with each statement, and where other threads are busy it waits long to get it back. So the
        rows, which all have the same columns, hold values of JSON's types only.

        Returns:
            The value of the key's first column in each row that was inserted.
        """
        if not rows:
            return []
        names = list(rows[0])
        keys = [column.name for column in table.primary_key.columns]
        # All processes insert in one order, lest two with the same keys wait for each other.
        rows = sorted(rows, key=lambda row: [row[key] for key in keys])
        if self.sqlite:
            values = ", ".join(f"json_extract(value, '$.{name}')" for name in names)
            source = "json_each(:rows) where true"
        else:
            values = ", ".join(names)
            types = (f"{name} {table.c[name].type.compile(connection.dialect)}" for name in names)
            source = f"json_to_recordset(cast(:rows as json)) as given({', '.join(types)})"
        statement = sa.text(
            f"insert into {table.name} ({', '.join(names)}) "  # noqa: S608 (names are our own)
            f"select {values} from {source} on conflict do nothing returning {keys[0]}"
        )
        rows = [
            {
                name: storable(value) if isinstance(value, str) else value
                for name, value in row.items()
            }
            for row in rows
        ]
        inserted = connection.execute(statement, {"rows": orjson.dumps(rows).decode()})
        return list(inserted.scalars())

    def upsert(self, table: sa.Table, *changed: str) -> Any:
        """An insert that replaces the named columns of a row whose key is there already."""
        dialect: Any = sqlite if self.sqlite else postgresql
        statement = dialect.insert(table)
        return statement.on_conflict_do_update(
            index_elements=list(table.primary_key.columns),
            set_={name: statement.excluded[name] for name in changed},
        )

    def among(self, column: sa.Column[str]) -> sa.ColumnElement[bool]:
        """Whether a text column is one of the keys that ``bound_keys`` binds at execution."""
        if self.sqlite:
            listed = sa.func.json_each(sa.bindparam("keys", type_=sa.String)).table_valued("value")
            return column.in_(sa.select(listed.c.value))
        return column == sa.any_(sa.bindparam("keys", type_=sa.ARRAY(sa.String)))

    def bound_keys(self, keys: Iterable[str]) -> dict[str, Any]:
        """The parameters that bind the keys of ``among``."""
        listed = list(keys)
        return {"keys": orjson.dumps(listed).decode() if self.sqlite else listed}

    @contextmanager
    def guard(self) -> Iterator[None]:
        """Raise every fault of the database as one clear error."""
        try:
            yield
        except (sa.exc.DBAPIError, sqlite3.Error) as error:
            cause = error.orig if isinstance(error, sa.exc.DBAPIError) else error
            reason = _first_line(cause)
            raise StoreError(f"reply store {self.name}: {reason}; {self._advice(reason)}") from None
        except sa.exc.TimeoutError:
            raise StoreError(f"reply store {self.name}: no connection came free") from None
        except OSError as error:
            advice = self._advice("full" if error.errno == errno.ENOSPC else "readonly")
            raise StoreError(f"reply store {self.name}: {error.strerror}; {advice}") from None

    def _advice(self, reason: str) -> str:
        if not self.sqlite:
            return "check replies_url and that the server runs; earlier replies are kept"
        if "locked" in reason:
            return "another process holds it; end that process or wait for it, then run again"
        if "readonly" in reason or "unable to open" in reason:
            return "make the file and its folder writable, or set OPENCS_HOME to a folder that is"
        if "full" in reason or "disk I/O" in reason:
            return "free disk space and run again; earlier replies are kept"
        return (
            "the file is damaged or not a reply store; restore it from a copy, salvage it with "
            "sqlite3's .recover, or move it away to start empty"
        )


def storable(text: str) -> str:
    """The text in a form that every database keeps: without NULs and half characters."""
    return encodable(text.replace("\x00", "\N{REPLACEMENT CHARACTER}") if "\x00" in text else text)


def _engine(url: sa.URL, sqlite: bool, durable: bool) -> Engine:
    if not sqlite:
        # The pool checks a connection before use, so that a server's restart is no failure.
        engine = sa.create_engine(url, pool_pre_ping=True, pool_size=4)
        if not durable:

            @sa.event.listens_for(engine, "begin")
            def lightly(connection: Connection) -> None:
                connection.exec_driver_sql("set local synchronous_commit = off")

        return engine
    engine = sa.create_engine(url, connect_args={"timeout": BUSY_S}, pool_size=4)
    level: Literal["full", "normal"] = "full" if durable else "normal"

    @sa.event.listens_for(engine, "connect")
    def opened(connection: sqlite3.Connection, _: Any) -> None:
        # Python's own rules would begin transactions late, so they are begun by hand below.
        connection.isolation_level = None
        connection.execute(f"pragma busy_timeout = {int(BUSY_S * 1000)}")
        if connection.execute("pragma journal_mode").fetchone() != ("wal",):
            # SQLite's busy timeout does not cover the switch to a write-ahead log.
            with FileLock(f"{url.database}.lock"):
                connection.execute("pragma journal_mode = wal")
        connection.execute(f"pragma synchronous = {level}")

    @sa.event.listens_for(engine, "begin")
    def begun(connection: Connection) -> None:
        writes = connection.get_execution_options().get(_WRITE)
        connection.exec_driver_sql("begin immediate" if writes else "begin")

    return engine


def _first_line(error: BaseException | None) -> str:
    text = str(error).strip()
    return text.splitlines()[0] if text else type(error).__name__

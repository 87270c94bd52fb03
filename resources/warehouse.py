"""The warehouse: one DuckDB file with one writer, published by an atomic replace.

A build works on a file beside the published one. Only a whole build takes its place, so that a
reader never waits for a writer, never sees half a build, and keeps what it opened.
"""

import glob
import shutil
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import duckdb
import polars as pl
from filelock import FileLock, Timeout

from resources.errors import MendableError
from resources.files import place

HOW_TO_BUILD = "opencs materialize group:evaluation"
# DuckDB calls a PIVOT whose columns it must look up first MULTI.
_READING = {
    duckdb.StatementType.SELECT,
    duckdb.StatementType.EXPLAIN,
    duckdb.StatementType.MULTI,
}
# The schema "main" holds what is published; other schemas hold what it is made of.
_TABLES = """
select table_name as "table", comment as description, estimated_size as rows
from duckdb_tables() where not internal and schema_name = 'main'
union all
select view_name, comment, null
from duckdb_views() where not internal and schema_name = 'main'
order by "table"
"""


class WarehouseError(MendableError):
    """The warehouse can't be read or built; the message says where, why and what to do."""


@dataclass(frozen=True)
class Warehouse:
    """The DuckDB file that results are queried in; its build and its lock stand beside it."""

    path: Path

    @property
    def build_path(self) -> Path:
        """The file that a build works on."""
        return self.path.with_name(f"{self.path.stem}.build.duckdb")

    @contextmanager
    def building(self, timeout_s: float = 600) -> Iterator[Path]:
        """Give the file to build in, and publish it when the block ends well.

        Where the block raises, the build is thrown away and the published file stays as it was.
        Another build may take ``timeout_s`` to end.

        Raises:
            WarehouseError: Another build does not end, the published file is not a DuckDB file,
                or the folder can't be written.
        """
        lock = FileLock(f"{self.path}.lock")
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            lock.acquire(timeout=timeout_s)
        except Timeout:
            raise WarehouseError(
                f"{self.path} is being built by another process for over {timeout_s:.0f} s; "
                "wait for it or end it, then try again"
            ) from None
        except OSError as error:
            raise WarehouseError(
                f"{self.path.parent} can't be written: {error.strerror or error}. "
                "Check that the folder may be written and that the disk has room."
            ) from None
        try:
            self._discard()
            self._check_published()
            yield self.build_path
            self._publish()
        finally:
            self._discard()
            lock.release()

    def query(self, sql: str) -> pl.DataFrame:
        """Run one reading statement on the published file, as the function ``query`` does."""
        return query(self.path, sql)

    def tables(self) -> pl.DataFrame:
        """The published tables: name, description and rows."""
        return query(self.path, _TABLES)

    def _check_published(self) -> None:
        """Refuse to take the place of a file that this version can't have built."""
        if not self.path.exists():
            return
        try:
            duckdb.connect(self.path, read_only=True).close()
        except duckdb.Error as error:
            if "Could not set lock" in str(error):
                # Another program writes to it, and keeps the file that it has opened.
                return
            raise WarehouseError(
                f"{self.path} is not a DuckDB file that this version reads: {_first_line(error)}. "
                "Move it away; the warehouse is built again from the lake."
            ) from None

    def _publish(self) -> None:
        try:
            with duckdb.connect(self.build_path) as connection:
                connection.execute("checkpoint")
            place(self.build_path, self.path)
        except (OSError, duckdb.Error) as error:
            raise WarehouseError(
                f"{self.build_path} can't be published as {self.path}: {_first_line(error)}"
            ) from None

    def _discard(self) -> None:
        for leftover in self.path.parent.glob(f"{glob.escape(self.build_path.name)}*"):
            if leftover.is_dir():
                shutil.rmtree(leftover, ignore_errors=True)
            else:
                leftover.unlink(missing_ok=True)


def query(path: Path, sql: str) -> pl.DataFrame:
    """Run one reading statement on a DuckDB file; a column name that stands twice is numbered.

    Raises:
        WarehouseError: There is no file, the statement writes, or DuckDB refuses it.
    """
    if not path.exists():
        raise WarehouseError(f"there is no warehouse at {path} yet; build it: {HOW_TO_BUILD}")
    try:
        _refuse_writing(sql)
        with duckdb.connect(path, read_only=True) as connection:
            rows = connection.sql(sql).to_arrow_table()
            return pl.DataFrame(pl.from_arrow(rows.rename_columns(_unique(rows.column_names))))
    except duckdb.CatalogException as error:
        known = ""
        if "Table with name" in str(error):
            names = query(path, _TABLES)["table"].to_list()
            known = f"; tables: {', '.join(names) or 'none'}"
        raise WarehouseError(f"{_first_line(error)}{known}") from None
    except duckdb.IOException as error:
        if "lock" in str(error):
            raise WarehouseError(
                f"{path} is open for writing in another program; close it there, or open it "
                "read-only (duckdb -readonly)"
            ) from None
        raise WarehouseError(f"{path} can't be read: {_first_line(error)}") from None
    except duckdb.Error as error:
        raise WarehouseError(str(error)) from None


def _refuse_writing(sql: str) -> None:
    statements = duckdb.extract_statements(sql)
    if len(statements) != 1:
        raise WarehouseError(f"one statement at a time, these are {len(statements)}")
    kind = statements[0].type
    # EXPLAIN ANALYZE runs what it explains, and a COPY in it would write a file.
    explains_by_running = kind == duckdb.StatementType.EXPLAIN and "analyze" in sql.lower()
    if kind not in _READING or explains_by_running:
        raise WarehouseError(
            f"the warehouse is read-only here, and this is {kind.name}: it is built from the lake "
            "by runs alone. To keep something, copy the file and work on the copy."
        )


def _unique(names: list[str]) -> list[str]:
    counts: Counter[str] = Counter()
    unique = []
    for name in names:
        counts[name] += 1
        unique.append(name if counts[name] == 1 else f"{name}_{counts[name]}")
    return unique


def _first_line(error: Exception) -> str:
    return str(error).strip().split("\n")[0]

"""The published marts against those that the lake gives now: every row and every column.

The warehouse is built once more, in a temporary folder, by the same dbt models.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import duckdb
import polars as pl

from opencs_assets.protocols.registry import protocol_facts
from opencs_assets.tables.evaluation import JUDGE_PROTOCOLS
from opencs_assets.tables.lake import Lake
from opencs_assets.verification.comparing import differences
from opencs_assets.verification.findings import Findings, Kind, VerificationFault, shown
from opencs_assets.verification.tables import check_files, read_table
from resources.dbt_project import NodeResult, dbt_build, mart_keys
from resources.warehouse import HOW_TO_BUILD, query

# Columns that say which row it is to a person, beside its key.
_NAMES = ("model", "matchup", "subject", "benchmark", "judge", "dataset", "file_name")
# Rows that are compared at once: a row of the trace holds whole answers.
_PIECE = 20_000
_BUILD_ANEW = f"build the warehouse anew: {HOW_TO_BUILD}"
_MARTS = """
select table_name as name from duckdb_tables() where schema_name = 'main' and not internal
union all
select view_name from duckdb_views() where schema_name = 'main' and not internal
"""
_HAS_CONTENTS = """
select table_name from duckdb_tables()
where schema_name = 'interim' and table_name = 'lake_contents'
"""
_CHANGED = """
select distinct coalesce(now.lake_table, built.lake_table) as lake_table
from rebuilt.interim.lake_contents as now
full join published.interim.lake_contents as built using (file, size, last_modified)
where now.file is null or built.file is null
order by lake_table
"""


@dataclass(frozen=True)
class Rebuilt:
    """A warehouse that was built to compare the published one with, in the file ``database``.

    ``keys`` are the columns that tell a mart's rows apart, ``results`` what became of each model.
    """

    database: Path
    keys: Mapping[str, Sequence[str]]
    results: Sequence[NodeResult]


def check_protocols(lake: Lake, findings: Findings) -> None:
    """Compare the facts of the judge protocols by which marts count with what they are now."""
    name = JUDGE_PROTOCOLS.name
    if not lake.exists(name, {}):
        # No warehouse of this release was built yet: building one writes the table.
        return
    check_files(lake, name, "marts", findings)
    rows = read_table(lake, name, {}, "marts", findings)
    if rows is not None:
        findings.count("marts", name, rows.height)
        key = JUDGE_PROTOCOLS.key
        for fault in differences(rows, protocol_facts(), key, layer="marts", table=name):
            findings.add(name, [fault])


def check_marts(lake_url: str, warehouse: Path, findings: Findings) -> None:
    """Compare each published mart with what the lake gives; nothing is written there.

    Raises:
        DbtError: dbt ended before it built anything.
        WarehouseError: The published warehouse can't be read.
    """
    if query(warehouse, _HAS_CONTENTS).is_empty():
        say = "no such table: an earlier release built the warehouse"
        fault = _of_table("missing", "interim.lake_contents", say, f"a table; {_BUILD_ANEW}")
        findings.add("interim.lake_contents", [fault])
        return
    with rebuilt(lake_url) as expected:
        compare(warehouse, expected, findings)


@contextmanager
def rebuilt(lake_url: str) -> Iterator[Rebuilt]:
    """Build the warehouse from the lake in a temporary folder, which goes when the block ends."""
    with TemporaryDirectory(prefix="opencs-verify-") as folder:
        home = Path(folder)
        database = home / "warehouse.build.duckdb"
        # A test that fails would keep the models behind it from being built.
        results = dbt_build(home, lake_url, database, tested=False)
        yield Rebuilt(database, mart_keys(), results)


def compare(warehouse: Path, expected: Rebuilt, findings: Findings) -> None:
    """Compare all tables and views of the published warehouse with those that were built anew.

    Raises:
        WarehouseError: The published warehouse can't be read.
    """

    def add(kind: Kind, mart: str, is_there: str, should_be: str) -> None:
        findings.add(mart, [_of_table(kind, mart, is_there, should_be)])

    published = set(query(warehouse, _MARTS)["name"])
    for result in expected.results:
        if result.broken and result.status != "skipped":
            add("unreadable", result.name, result.message, "rows that the lake gives")
    built = set(query(expected.database, _MARTS)["name"])
    for mart in sorted(published - expected.keys.keys()):
        add("unknown", mart, "a table", f"no such table; {_BUILD_ANEW}")
    with duckdb.connect() as connection:
        connection.execute(f"set temp_directory = {_quoted(expected.database.parent / 'spilled')}")
        for name, path in (("published", warehouse), ("rebuilt", expected.database)):
            connection.execute(f"attach {_quoted(path)} as {name} (read_only)")
        try:
            _note_changes(connection, findings)
        except duckdb.Error as error:
            add("unreadable", "interim.lake_contents", shown(str(error)), "its rows")
        for mart, key in expected.keys.items():
            if mart not in published:
                add("missing", mart, "no such table", f"a table; {_BUILD_ANEW}")
            elif mart in built:
                try:
                    _compare_mart(connection, mart, key, findings)
                except duckdb.Error as error:
                    # A view over a table that is gone is such a case.
                    add("unreadable", mart, shown(str(error)), "its rows")


def _compare_mart(
    connection: duckdb.DuckDBPyConnection, mart: str, key: Sequence[str], findings: Findings
) -> None:
    there, should = (
        {each[0]: each[1] for each in connection.sql(f'describe {name}."{mart}"').fetchall()}
        for name in ("published", "rebuilt")
    )
    wrong = _wrong_columns(mart, there, should)
    findings.add(mart, wrong)
    if any(fault.kind != "unknown" for fault in wrong):
        return
    published_mart, rebuilt_mart = (
        connection.sql(f'select {_names(should)} from {name}."{mart}"')  # noqa: S608
        for name in ("published", "rebuilt")
    )
    sizes = [published_mart.count("*").fetchall()[0][0], rebuilt_mart.count("*").fetchall()[0][0]]
    findings.count("marts", mart, max(sizes))
    for where in _pieces_that_differ(published_mart, rebuilt_mart, key, 1 + max(sizes) // _PIECE):
        rows = _rows_that_differ(
            connection, published_mart.filter(where), rebuilt_mart.filter(where), key
        )
        for fault in differences(*rows, key, layer="marts", table=mart, named=_named(key)):
            findings.add(mart, [fault])


def _pieces_that_differ(
    published_mart: duckdb.DuckDBPyRelation,
    rebuilt_mart: duckdb.DuckDBPyRelation,
    key: Sequence[str],
    pieces: int,
) -> list[str]:
    """The pieces, as conditions, in which the rows of both do not have the same hashes."""
    piece = f"hash({_names(key)}) % {pieces}"
    sums = [
        set(rows.aggregate(f"{piece}, count(*), sum(hash({_names(rows.columns)}))").fetchall())
        for rows in (published_mart, rebuilt_mart)
    ]
    return [f"{piece} = {number}" for number in sorted({each[0] for each in sums[0] ^ sums[1]})]


def _wrong_columns(
    mart: str, there: Mapping[str, str], should: Mapping[str, str]
) -> list[VerificationFault]:
    """What is wrong with the columns of a mart, which are given with their types."""
    faults = []
    if unknown := [column for column in there if column not in should]:
        say = f"no such columns; {_BUILD_ANEW}"
        faults.append(_of_table("unknown", mart, f"columns {unknown}", say))
    if lacking := [column for column in should if column not in there]:
        say = f"all of them; {_BUILD_ANEW}"
        faults.append(_of_table("missing", mart, f"no columns {lacking}", say))
    for column, dtype in should.items():
        if there.get(column, dtype) != dtype:
            say = f"{column} of type {dtype}; {_BUILD_ANEW}"
            faults.append(_of_table("edited", mart, f"{column} of type {there[column]}", say))
    return faults


def _rows_that_differ(
    connection: duckdb.DuckDBPyConnection,
    published_mart: duckdb.DuckDBPyRelation,
    rebuilt_mart: duckdb.DuckDBPyRelation,
    key: Sequence[str],
) -> tuple[pl.DataFrame, pl.DataFrame]:
    """The rows of both whose key has one that the other has not or has otherwise."""
    for name, rows in (("published_rows", published_mart), ("rebuilt_rows", rebuilt_mart)):
        connection.execute(f"drop table if exists {name}")
        rows.create(name)
    same = " and ".join(f'rows."{name}" is not distinct from different."{name}"' for name in key)
    there, should = (
        connection.sql(
            "with different as ("
            "(from published_rows except all from rebuilt_rows) union all "
            "(from rebuilt_rows except all from published_rows))"
            f"from {name} as rows semi join different on {same}"
        ).to_arrow_table()
        for name in ("published_rows", "rebuilt_rows")
    )
    return pl.DataFrame(pl.from_arrow(there)), pl.DataFrame(pl.from_arrow(should))


def _names(columns: Iterable[str]) -> str:
    return ", ".join(f'"{column}"' for column in columns)


def _of_table(kind: Kind, mart: str, is_there: str, should_be: str) -> VerificationFault:
    return VerificationFault("marts", kind, mart, "", "", is_there, should_be)


def _quoted(path: Path) -> str:
    return "'" + str(path).replace("'", "''") + "'"


def _note_changes(connection: duckdb.DuckDBPyConnection, findings: Findings) -> None:
    """Say so where the lake is newer than the warehouse, as no faults are to be looked for then."""
    if changed := [name for (name,) in connection.sql(_CHANGED).fetchall()]:
        findings.note(
            f"changed since the warehouse was built: {', '.join(changed)}; "
            f"build it anew ({HOW_TO_BUILD}) before looking for faults in marts"
        )


def _named(key: Sequence[str]) -> Any:
    def say(row: Mapping[str, Any]) -> str:
        names = [*key, *(name for name in _NAMES if name in row and name not in key)]
        return ", ".join(f"{name} {row[name]}" for name in names)

    return say

"""One writer and an atomic publish: what readers see while a build is going on and after it."""

import subprocess
import sys
from pathlib import Path

import duckdb
import pytest

from resources.warehouse import Warehouse, WarehouseError, query

READER = """
import sys, duckdb
connection = duckdb.connect(sys.argv[1], read_only=sys.argv[2] == "read")
for line in sys.stdin:
    print(connection.execute("select max(x) from numbers").fetchone()[0], flush=True)
"""


def other_program(path: Path, mode: str) -> subprocess.Popen:
    return subprocess.Popen(
        [sys.executable, "-c", READER, str(path), mode],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )


def ask(reader: subprocess.Popen) -> str:
    reader.stdin.write("\n")
    reader.stdin.flush()
    return reader.stdout.readline().strip()


def publish(warehouse: Warehouse, number: int | str) -> None:
    with warehouse.building() as database, duckdb.connect(database) as connection:
        connection.execute("create table numbers (x integer)")
        connection.execute("create table half_way as select 1")
        connection.execute("insert into numbers values (?)", [number])


def newest(warehouse: Warehouse) -> int:
    return warehouse.query("select max(x) as x from numbers").item()


@pytest.fixture
def warehouse(tmp_path: Path) -> Warehouse:
    made = Warehouse(tmp_path / "warehouse.duckdb")
    publish(made, 1)
    return made


def names(warehouse: Warehouse) -> set[str]:
    return {path.name for path in warehouse.path.parent.iterdir()} - {"warehouse.duckdb.lock"}


def test_a_build_starts_from_nothing(warehouse: Warehouse):
    publish(warehouse, 2)
    assert warehouse.query("select x from numbers order by x")["x"].to_list() == [2]
    assert names(warehouse) == {"warehouse.duckdb"}


def test_an_open_reader_never_blocks_a_publish_and_keeps_what_it_opened(warehouse: Warehouse):
    reader = other_program(warehouse.path, "read")
    try:
        assert ask(reader) == "1"
        publish(warehouse, 2)
        assert ask(reader) == "1"
        assert newest(warehouse) == 2
    finally:
        reader.communicate()


def test_queries_answer_while_a_build_is_going_on(warehouse: Warehouse):
    with warehouse.building() as database, duckdb.connect(database) as connection:
        connection.execute("create table numbers (x integer)")
        assert newest(warehouse) == 1
        connection.execute("insert into numbers values (3)")
        assert newest(warehouse) == 1
    assert newest(warehouse) == 3


def test_a_build_that_fails_leaves_what_was_published(warehouse: Warehouse):
    before = warehouse.path.read_bytes()
    with pytest.raises(duckdb.ConversionException):
        publish(warehouse, "not a number")
    assert warehouse.path.read_bytes() == before
    assert names(warehouse) == {"warehouse.duckdb"}


def test_the_first_build_that_fails_publishes_nothing(tmp_path: Path):
    warehouse = Warehouse(tmp_path / "new" / "warehouse.duckdb")
    with pytest.raises(duckdb.ConversionException):
        publish(warehouse, "not a number")
    assert not warehouse.path.exists()


def test_leftovers_of_a_killed_build_are_not_published(warehouse: Warehouse):
    warehouse.build_path.write_bytes(b"half a file")
    warehouse.build_path.with_name(f"{warehouse.build_path.name}.wal").write_bytes(b"half a log")
    publish(warehouse, 2)
    assert newest(warehouse) == 2
    assert names(warehouse) == {"warehouse.duckdb"}


def test_there_is_one_writer(warehouse: Warehouse):
    with (
        warehouse.building(),
        pytest.raises(WarehouseError, match="being built by another process"),
        warehouse.building(timeout_s=0.1),
    ):
        pass


def test_a_file_that_is_no_warehouse_is_named(tmp_path: Path):
    warehouse = Warehouse(tmp_path / "warehouse.duckdb")
    warehouse.path.write_bytes(b"not a database" * 1000)
    with pytest.raises(WarehouseError, match="Move it away"), warehouse.building():
        pass
    assert warehouse.path.exists()


def test_no_warehouse_yet_says_what_to_run(tmp_path: Path):
    with pytest.raises(WarehouseError, match=r"no warehouse .* build it: opencs materialize"):
        query(tmp_path / "warehouse.duckdb", "select 1")


def test_a_build_takes_the_place_of_a_file_that_another_program_writes(warehouse: Warehouse):
    writer = other_program(warehouse.path, "write")
    try:
        assert ask(writer) == "1"
        publish(warehouse, 2)
    finally:
        writer.communicate()
    assert newest(warehouse) == 2


def test_a_file_that_another_program_writes_is_named(warehouse: Warehouse):
    writer = other_program(warehouse.path, "write")
    try:
        assert ask(writer) == "1"
        with pytest.raises(WarehouseError, match="open for writing in another program"):
            warehouse.query("select 1")
    finally:
        writer.communicate()


@pytest.mark.parametrize(
    "sql",
    [
        "insert into numbers values (9)",
        "drop table numbers",
        "copy numbers to 'stolen.csv'",
        "explain analyze copy numbers to 'stolen.csv'",
        "attach 'other.duckdb'",
        "set threads = 1",
    ],
)
def test_writing_is_refused(warehouse: Warehouse, sql: str, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.chdir(warehouse.path.parent)
    with pytest.raises(WarehouseError, match="read-only here, and this is"):
        warehouse.query(sql)
    assert names(warehouse) == {"warehouse.duckdb"}


@pytest.mark.parametrize(
    ("sql", "message"),
    [
        ("select 1; drop table numbers", "one statement at a time, these are 2"),
        ("", "one statement at a time, these are 0"),
        ("selec 1", "syntax error"),
        ("select * from nowhere", "nowhere does not exist.*tables: half_way, numbers"),
        ("select y from numbers", '"y" not found'),
    ],
)
def test_what_is_wrong_with_a_query_is_said(warehouse: Warehouse, sql: str, message: str):
    with pytest.raises(WarehouseError, match=message):
        warehouse.query(sql)


@pytest.mark.parametrize(
    ("sql", "columns"),
    [
        ("from numbers", ["x"]),
        ("select x, x from numbers", ["x", "x_2"]),
        ("show tables", ["name"]),
        ("pivot numbers on x", ["1"]),
    ],
)
def test_reading_statements_are_answered(warehouse: Warehouse, sql: str, columns: list[str]):
    assert warehouse.query(sql).columns == columns

"""What a chain left behind, as a hash a table: of the lake, the warehouse and the checkpoints."""

import hashlib
from collections.abc import Iterator, Mapping
from pathlib import Path

import duckdb
import polars as pl
import polars.selectors as cs

from resources.warehouse import query

WALL_TIME = "is measured by the clock"
OWN_HOME = "is an absolute path in the home, and each round has its own"
# What may differ between two undisturbed runs, and nothing else.
LEFT_OUT: Mapping[str, str] = {
    "lake.llm_replies.run": "is the id of the run that paid, which is new for each run",
    "lake.llm_replies.created_at": WALL_TIME,
    "lake.llm_replies.latency_s": WALL_TIME,
    "lake.checkpoint.path": OWN_HOME,
    "lake.checkpoint.train_seconds": WALL_TIME,
    "lake.checkpoint.tokens_per_second": WALL_TIME,
    "lake.checkpoint.peak_memory_mb": "is measured of the process",
    "lake.checkpoint.resumed_from_step": "says that a training was stopped, which a kill does",
    "lake.checkpoint.log": "holds tokens a second; the weights are compared themselves",
    "lake.subset_exports.path": OWN_HOME,
    "warehouse.llm_usage.seconds": WALL_TIME,
    "warehouse.interim.lake_contents.last_modified": WALL_TIME,
    "warehouse.interim.lake_contents.size": "depends on the columns of the file that are left out",
}
# Besides, where the embedded server is killed; that kept replies stay is looked at by itself.
LEFT_OUT_EMBEDDED: Mapping[str, str] = {
    "lake.open_tags.tags": (
        "are the embedded model's words, which may change in the last bits of its arithmetic with "
        "what its server has cached, and a new server has cached nothing"
    ),
}
# Says what kills did to the calls, and is compared with what the model saw instead.
LEDGER = ("lost_calls", "lost_usd")
LOST = "lost"
# Sums of dollars depend on the order of their parts in the last bits.
DIGITS = 12
_TABLES = """
select schema_name, table_name from duckdb_tables() where not internal
order by all
"""


def endings(home: Path, left_out: Mapping[str, str] = LEFT_OUT) -> dict[str, str]:
    """Hash of the content of every table and checkpoint of a home, by name.

    Args:
        home: The home.
        left_out: Columns that are not compared, each with the reason.
    """
    parts = {name: _digest(_compared(name, frame, left_out)) for name, frame in _frames(home)}
    for weights in sorted((home / "checkpoints").rglob("*.safetensors")):
        name = f"weights.{weights.relative_to(home / 'checkpoints')}"
        parts[name] = hashlib.sha256(weights.read_bytes()).hexdigest()
    return parts


def differences(expected: Path, actual: Path, left_out: Mapping[str, str] = LEFT_OUT) -> list[str]:
    """What differs between two homes, a line a table, with the columns that make the difference."""
    ours, theirs = endings(expected, left_out), endings(actual, left_out)
    frames, others = (
        {name: _compared(name, frame, left_out) for name, frame in _frames(home)}
        for home in (expected, actual)
    )
    lines = []
    for name in sorted(ours.keys() | theirs.keys()):
        if ours.get(name) == theirs.get(name):
            continue
        if name not in ours or name not in theirs:
            lines.append(f"{name}: only {'expected' if name in ours else 'there'}")
        elif name not in frames:
            lines.append(f"{name}: other content")
        else:
            lines.append(f"{name}: {_columns_apart(frames[name], others[name])}")
    return lines


def _frames(home: Path) -> Iterator[tuple[str, pl.DataFrame]]:
    lake = home / "lake"
    for file in sorted(lake.rglob("part.parquet")):
        yield f"lake.{file.parent.relative_to(lake)}", pl.read_parquet(file)
    warehouse = home / "warehouse.duckdb"
    if not warehouse.exists():
        return
    with duckdb.connect(str(warehouse), read_only=True) as connection:
        names = connection.execute(_TABLES).fetchall()
    for schema, table in names:
        name = table if schema == "main" else f"{schema}.{table}"
        yield f"warehouse.{name}", query(warehouse, f'from "{schema}"."{table}"')


def _digest(frame: pl.DataFrame) -> str:
    rows = sorted(map(repr, frame.rows()))
    return hashlib.sha256("\n".join([repr(frame.schema), *rows]).encode()).hexdigest()


def _compared(name: str, frame: pl.DataFrame, left_out: Mapping[str, str]) -> pl.DataFrame:
    table = name.split("/", 1)[0]
    if table == "lake.llm_replies":
        frame = frame.filter(pl.col("status") != LOST)
    compared = [
        column
        for column in frame.columns
        if f"{table}.{column}" not in left_out and column not in LEDGER
    ]
    return frame.select(compared).with_columns(cs.float().round_sig_figs(DIGITS))


def _columns_apart(expected: pl.DataFrame, actual: pl.DataFrame) -> str:
    if expected.columns != actual.columns:
        return f"columns {expected.columns} and {actual.columns}"
    if expected.height != actual.height:
        return f"{expected.height} rows expected, {actual.height} there"
    apart = [
        column
        for column in expected.columns
        if sorted(map(repr, expected[column])) != sorted(map(repr, actual[column]))
    ]
    return f"columns {', '.join(apart) or '(the same values in other rows)'}"

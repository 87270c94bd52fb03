"""Two tables that should be the same, row by row and column by column."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import polars as pl

from opencs_assets.verification.findings import Fault, Layer, shown
from opencs_assets.verification.tables import duplicated_keys

TOLERANCE = 1e-9
_OTHER = "_expected"
Named = Callable[[Mapping[str, Any]], str]


def differences(
    found: pl.DataFrame,
    expected: pl.DataFrame,
    key: Sequence[str],
    *,
    layer: Layer,
    table: str,
    named: Named | None = None,
) -> Iterator[Fault]:
    """What is doubled, missing, too much or other than expected.

    Args:
        found: Rows that are there; may have more columns.
        expected: Rows that should be there; all of its columns are compared. Floats may differ by
            1e-9, relative to the greater of 1 and the expected value.
        key: Columns that tell a row from the others; none is null.
        layer: The layer, for the faults.
        table: The table, likewise.
        named: Says which row it is; unset: by its key.
    """
    say = named or _by_key(key)

    def fault(kind: Any, row: Mapping[str, Any], is_there: str, should_be: str) -> Fault:
        return Fault(layer, kind, table, "", say(row), is_there, should_be)

    found = found.with_columns(
        pl.col(name).cast(expected.schema[name]) for name in expected.columns
    )
    for row in duplicated_keys(found, key).iter_rows(named=True):
        yield fault("duplicated", row, f"{row['len']} rows", "one row")
    once = found.unique(key, keep="first", maintain_order=True)
    for row in expected.join(once, on=key, how="anti", maintain_order="left").iter_rows(named=True):
        yield fault("missing", row, "no row", _told(row, key))
    for row in once.join(expected, on=key, how="anti", maintain_order="left").iter_rows(named=True):
        yield fault("unknown", row, "a row", "no row: nothing that is kept gives it")
    both = once.join(expected, on=key, how="inner", suffix=_OTHER, maintain_order="left")
    for name, dtype in expected.schema.items():
        if name in key:
            continue
        for row in both.filter(_differs(name, dtype)).iter_rows(named=True):
            yield fault(
                "edited",
                row,
                f"{name} {shown(row[name])}",
                f"{name} {shown(row[name + _OTHER])}",
            )


def _differs(name: str, dtype: pl.DataType) -> pl.Expr:
    there, other = pl.col(name), pl.col(name + _OTHER)
    if not dtype.is_float():
        return there.ne_missing(other)
    near = (there - other).abs() <= TOLERANCE * pl.max_horizontal(pl.lit(1.0), other.abs())
    return ~(near.fill_null(False) | (there.is_null() & other.is_null()))


def _by_key(key: Sequence[str]) -> Named:
    return lambda row: ", ".join(f"{name} {row[name]}" for name in key)


def _told(row: Mapping[str, Any], key: Sequence[str]) -> str:
    values = [f"{name} {shown(value)}" for name, value in row.items() if name not in key]
    return "a row with " + ", ".join(values[:12])

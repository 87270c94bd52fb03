"""Two tables that should be the same, row by row and column by column."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import polars as pl

from opencs_assets.verification.findings import Layer, VerificationFault, shown

TOLERANCE = 1e-9
_OTHER = "_expected"
# Characters that are shown before those that differ.
_BEFORE = 20
Named = Callable[[Mapping[str, Any]], str]


def differences(
    there: pl.DataFrame,
    expected: pl.DataFrame,
    key: Sequence[str],
    *,
    layer: Layer,
    table: str,
    named: Named | None = None,
) -> Iterator[VerificationFault]:
    """What is doubled, missing, too much or other than expected.

    Args:
        there: Rows that are there; may have more columns.
        expected: Rows that should be there; all of its columns are compared. Floats, nested ones
            too, may differ by 1e-9, relative to the greater of 1 and the expected value.
        key: Columns that tell a row from the others; null is a value like any other.
        layer: Layer of the faults.
        table: Table of the faults.
        named: Says which row it is; unset: by its key.
    """
    say = named or _by_key(key)

    def fault(
        kind: Any, row: Mapping[str, Any], is_there: str, should_be: str
    ) -> VerificationFault:
        return VerificationFault(layer, kind, table, "", say(row), is_there, should_be)

    def absent(rows: pl.DataFrame, others: pl.DataFrame) -> pl.DataFrame:
        return rows.join(others, on=key, how="anti", nulls_equal=True, maintain_order="left")

    there = there.with_columns(
        pl.col(name).cast(expected.schema[name]) for name in expected.columns
    )
    once = there.unique(key, keep="first", maintain_order=True)
    rows = there.group_by(key, maintain_order=True).len()
    wanted = expected.group_by(key).len(_OTHER)
    counts = rows.join(wanted, on=key, how="left", nulls_equal=True, maintain_order="left")
    for row in counts.with_columns(pl.col(_OTHER).fill_null(1)).iter_rows(named=True):
        if row["len"] != row[_OTHER]:
            kind = "duplicated" if row["len"] > row[_OTHER] else "missing"
            yield fault(kind, row, _rows(row["len"]), _rows(row[_OTHER]))
    for row in absent(expected, once).iter_rows(named=True):
        yield fault("missing", row, "no row", _told(row, key))
    for row in absent(once, expected).iter_rows(named=True):
        yield fault("unknown", row, "a row", "no row: nothing that is kept gives it")
    both = once.join(
        expected.unique(key, keep="first"),
        on=key,
        how="inner",
        suffix=_OTHER,
        nulls_equal=True,
        maintain_order="left",
    )
    for name, dtype in expected.schema.items():
        if name in key:
            continue
        for row in both.filter(_differs(name, dtype)).iter_rows(named=True):
            if dtype.is_nested() and _are_near(row[name], row[name + _OTHER]):
                continue
            is_there, should_be = _shown_apart(row[name], row[name + _OTHER])
            yield fault("edited", row, f"{name} {is_there}", f"{name} {should_be}")


def _differs(name: str, dtype: pl.DataType) -> pl.Expr:
    there, other = pl.col(name), pl.col(name + _OTHER)
    if not dtype.is_float():
        return there.ne_missing(other)
    near = (there - other).abs() <= TOLERANCE * pl.max_horizontal(pl.lit(1.0), other.abs())
    return ~(near.fill_null(False) | (there.is_null() & other.is_null()))


def _are_near(there: Any, other: Any) -> bool:
    """Whether two nested values are the same but for what floats in them may differ by."""
    if isinstance(there, float) and isinstance(other, float):
        return abs(there - other) <= TOLERANCE * max(1.0, abs(other))
    if isinstance(there, list) and isinstance(other, list):
        return len(there) == len(other) and all(map(_are_near, there, other))
    if isinstance(there, dict) and isinstance(other, dict):
        return all(_are_near(there[name], other[name]) for name in other)
    return bool(there == other)


def _rows(count: int) -> str:
    return "one row" if count == 1 else f"{count} rows"


def _shown_apart(there: Any, other: Any) -> tuple[str, str]:
    """Both values, cut short to where they differ."""
    texts = shown(there), shown(other)
    if texts[0] != texts[1]:
        return texts
    one, two = str(there), str(other)
    apart = next((at for at, pair in enumerate(zip(one, two, strict=False)) if len({*pair}) > 1), 0)
    start = max(0, apart - _BEFORE)
    return shown(one[start:]), shown(two[start:])


def _by_key(key: Sequence[str]) -> Named:
    return lambda row: ", ".join(f"{name} {row[name]}" for name in key)


def _told(row: Mapping[str, Any], key: Sequence[str]) -> str:
    values = [f"{name} {shown(value)}" for name, value in row.items() if name not in key]
    return "a row with " + ", ".join(values[:12])

"""Two tables that should be the same: what counts as other, and what does not."""

import polars as pl
import pytest

from opencs_assets.verification.comparing import differences


def lines(found: list[dict], expected: list[dict]) -> list[str]:
    schema = {"key": pl.String, "costs": pl.List(pl.Struct({"usd": pl.Float64, "of": pl.String}))}
    frames = (pl.DataFrame(rows, schema=schema) for rows in (found, expected))
    return [fault.line() for fault in differences(*frames, ["key"], layer="marts", table="t")]


def row(usd: float | None, of: str = "a", times: int = 1) -> dict:
    return {"key": "k", "costs": [{"usd": usd, "of": of}] * times}


def test_nested_floats_may_differ_by_what_the_order_of_a_sum_does():
    assert lines([row(0.1 + 0.2)], [row(0.3)]) == []


@pytest.mark.parametrize("other", [row(0.31), row(None), row(0.3, of="b"), row(0.3, times=2)])
def test_nested_values_that_differ_are_named(other):
    (line,) = lines([other], [row(0.3)])
    assert line.startswith("edited: t, key k: costs ")


def test_rows_are_counted_where_more_than_one_should_be_there():
    assert lines([row(1.0)] * 2, [row(1.0)] * 2) == []
    assert lines([row(1.0)] * 2, [row(1.0)]) == ["duplicated: t, key k: 2 rows; should be: one row"]
    assert lines([row(1.0)], [row(1.0)] * 2) == ["missing: t, key k: one row; should be: 2 rows"]

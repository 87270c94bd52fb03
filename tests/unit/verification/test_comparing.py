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


@pytest.mark.parametrize(
    ("there", "expected", "same"),
    [
        (1.0, 1.0 + 5e-10, True),
        (1.0, 1.0 + 2e-9, False),
        (0.0, 5e-10, True),
        (0.0, 2e-9, False),
        (-1e6, -1e6 - 5e-4, True),
        (-1e6, -1e6 - 2e-3, False),
        (None, None, True),
        (None, 0.0, False),
        (0.0, None, False),
    ],
)
def test_floats_may_differ_by_a_billionth_of_what_is_expected(there, expected, same):
    schema = {"key": pl.Int64, "value": pl.Float64}
    frames = (pl.DataFrame([(None, value)], schema, orient="row") for value in (there, expected))
    found = list(differences(*frames, ["key"], layer="marts", table="t"))
    assert (found == []) is same


def test_rows_that_only_one_side_has_are_named_by_their_key_where_null_is_a_value():
    columns = ["a", "b", "text"]
    found = pl.DataFrame([(1, None, "x"), (2, None, "y" * 130 + "z")], columns, orient="row")
    expected = pl.DataFrame([(2, None, "y" * 131), (3, None, "w")], columns, orient="row")
    faults = differences(found, expected, ["a", "b"], layer="marts", table="t")
    assert [fault.line() for fault in faults] == [
        "missing: t, a 3, b None: no row; should be: a row with text 'w'",
        "unknown: t, a 1, b None: a row; should be: no row: nothing that is kept gives it",
        f"edited: t, a 2, b None: text '{'y' * 20}z'; should be: text '{'y' * 21}'",
    ]

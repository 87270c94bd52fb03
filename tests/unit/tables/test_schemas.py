import polars as pl
import pytest

from opencs_assets.tables.catalog import TABLES
from opencs_assets.tables.selection import SELECTED_SUBSET
from resources.schema import SchemaError, conform


def rows(**changes):
    row = {
        "rank": 0,
        "sample_id": "a",
        "cluster": 1,
        "score": 1.0,
        "reason": "x",
        "pinned": False,
        **changes,
    }
    return pl.DataFrame([row], schema={**SELECTED_SUBSET.schema})


def test_every_table_describes_every_column():
    for table in TABLES.values():
        assert all(column.description for column in table.columns.values())
        assert set(table.key) <= set(table.columns)
        conform(table.empty(), table)


def test_columns_are_put_in_order():
    shuffled = rows().select(sorted(SELECTED_SUBSET.columns))
    assert conform(shuffled, SELECTED_SUBSET).columns == list(SELECTED_SUBSET.columns)


def test_null_only_where_it_may_be():
    assert conform(rows(cluster=None, score=None), SELECTED_SUBSET).height == 1
    with pytest.raises(SchemaError, match=r"selected_subset.reason: null at row 0"):
        conform(rows(reason=None), SELECTED_SUBSET)


@pytest.mark.parametrize(
    ("frame", "message"),
    [
        (rows().drop("rank"), "missing columns \\['rank'\\]"),
        (rows().with_columns(more=1), "unknown columns \\['more'\\]"),
        (rows().with_columns(pl.col("rank").cast(pl.String)), "rank: is String"),
        (pl.concat([rows(), rows(rank=1)]), "stands more than once"),
    ],
)
def test_what_does_not_fit_is_refused(frame, message):
    with pytest.raises(SchemaError, match=message):
        conform(frame, SELECTED_SUBSET)

"""Rows of the lake's tables of which a test says only what it is about."""

import polars as pl


def filled(table, frame):
    """A frame with the table's other columns made up."""
    made_up = {pl.String: "x", pl.Int64: 1, pl.Float64: 1.0, pl.Boolean: False}
    columns = {name: column for name, column in table.columns.items() if name not in frame.columns}
    return frame.with_columns(
        pl.lit(made_up[column.dtype], dtype=column.dtype).alias(name)
        for name, column in columns.items()
        if name not in table.dimensions
    ).select(name for name in table.columns if name not in table.dimensions)

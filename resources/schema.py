"""The schema of a table: its columns, and holding a frame to them.

Which tables there are is not here, but in ``opencs_assets.tables``.
"""

from collections.abc import Mapping
from dataclasses import dataclass

import polars as pl

from resources.errors import MendableError


@dataclass(frozen=True)
class Column:
    """One column: its dtype and one sentence for a person."""

    dtype: pl.DataType | type[pl.DataType]
    description: str
    nullable: bool = False


@dataclass(frozen=True)
class Table:
    """One table of the lake.

    Attributes:
        name: Folder in the lake, asset name in the UI and source name in dbt.
        dimensions: Partition dimensions in folder order; empty for an unpartitioned table.
        key: Columns that are unique together within one partition.
        columns: Columns in file order, without the partition dimensions.
    """

    name: str
    dimensions: tuple[str, ...]
    key: tuple[str, ...]
    columns: Mapping[str, Column]

    @property
    def schema(self) -> pl.Schema:
        """The Polars schema of the file, without the partition dimensions."""
        return pl.Schema({name: column.dtype for name, column in self.columns.items()})

    def empty(self) -> pl.DataFrame:
        """A frame of zero rows in this schema."""
        return pl.DataFrame(schema=self.schema)


class SchemaError(MendableError):
    """A frame does not fit its table."""


def conform(frame: pl.DataFrame, table: Table) -> pl.DataFrame:
    """Return the rows of one partition in the table's column order.

    Raises:
        SchemaError: A column is missing, unknown, of another dtype, null where it may not be, or
            the key is not unique. The message names table, column and the first offending row.
    """
    missing = [name for name in table.columns if name not in frame.columns]
    unknown = [name for name in frame.columns if name not in table.columns]
    if missing or unknown:
        raise SchemaError(f"{table.name}: missing columns {missing}, unknown columns {unknown}")
    frame = frame.select(list(table.columns))
    for name, column in table.columns.items():
        dtype = frame.schema[name]
        if dtype != column.dtype:
            if dtype != pl.Null and frame.height:
                raise SchemaError(f"{table.name}.{name}: is {dtype}, must be {column.dtype}")
            frame = frame.with_columns(pl.col(name).cast(column.dtype))
        if not column.nullable and frame[name].null_count():
            first = frame[name].is_null().arg_true()[0]
            raise SchemaError(f"{table.name}.{name}: null at row {first}, but may not be null")
    if table.key and frame.height:
        duplicated = frame.select(table.key).is_duplicated()
        if duplicated.any():
            first = frame.select(table.key).row(duplicated.arg_true()[0], named=True)
            raise SchemaError(f"{table.name}: {first} stands more than once, but is the key")
    return frame

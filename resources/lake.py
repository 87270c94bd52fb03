"""The lake: one Parquet file an asset partition, in Hive-style folders, local or on object storage.

A file is written under a temporary name and moved into place, so that a partition is there whole
or not at all. Every table has a zero-row schema file from the start, because DuckDB can't read an
empty glob. The folders are the partition's columns; the files do not repeat them.
"""

import glob
import io
import json
from collections.abc import Mapping
from functools import cached_property
from pathlib import Path

import fsspec
import polars as pl
import pyarrow.parquet as pq
from fsspec.implementations.local import LocalFileSystem

from resources.errors import MendableError
from resources.files import write_whole
from resources.schema import Table, conform

SCHEMA_PARTITION = "__schema__"
SCHEMA_FILE = "schema.parquet"
# A change of folders or files that older releases could not read, or would damage, raises it.
FORMAT = 1
FORMAT_FILE = "format.json"


class LakeError(MendableError):
    """The lake can't be read or written; the message says where and what to do."""


class TableStore:
    """Tables as Parquet files under one folder or fsspec URL (``s3://bucket/lake``)."""

    def __init__(self, url: str, tables: Mapping[str, Table]) -> None:
        self._fs, self.root = fsspec.core.url_to_fs(url)
        self.tables = tables

    @cached_property
    def fs(self) -> fsspec.AbstractFileSystem:
        """The file system that holds the lake.

        Raises:
            LakeError: A newer release wrote the lake; nothing of it is read or changed.
        """
        path = f"{self.root}/{FORMAT_FILE}"
        try:
            written = json.loads(self._fs.cat_file(path))["format"]
        except (FileNotFoundError, NotADirectoryError):
            # A new lake, or one of the first release, which wrote no such file.
            return self._fs
        except (ValueError, KeyError, TypeError):
            raise LakeError(
                f"{path} does not say which format the lake has; restore it from a backup, or "
                f'write {{"format": {FORMAT}}} into it if this release made the lake'
            ) from None
        if not isinstance(written, int) or written > FORMAT:
            raise LakeError(
                f"the lake {self.root} has format {written}, which a newer release of OpenCS "
                f"wrote; this one reads formats up to {FORMAT}. Install the newer release "
                "again, or set OPENCS_HOME to another home; nothing was changed"
            )
        return self._fs

    def path(self, table: Table, partition: Mapping[str, str]) -> str:
        """Path of one partition's file."""
        folders = [f"{name}={partition[name]}" for name in table.dimensions]
        return "/".join([self.root, table.name, *folders, "part.parquet"])

    def exists(self, name: str, partition: Mapping[str, str]) -> bool:
        """Whether the partition has been written."""
        return bool(self.fs.exists(self.path(self.tables[name], partition)))

    def write(self, name: str, frame: pl.DataFrame, partition: Mapping[str, str]) -> str:
        """Write the rows of one partition, without its columns; return the file's path.

        Raises:
            SchemaError: The frame does not fit the table; nothing is written.
            LakeError: The file can't be written.
        """
        table = self.tables[name]
        frame = conform(frame, table)
        self._write_schema(table)
        path = self.path(table, partition)
        self._put(path, _parquet(frame))
        return path

    def read(self, name: str, partition: Mapping[str, str]) -> pl.DataFrame:
        """Read one partition, the partition's columns added.

        Raises:
            LakeError: It has not been materialized.
        """
        table = self.tables[name]
        path = self.path(table, partition)
        try:
            with self.fs.open(path, "rb") as file:
                arrow = pq.read_table(file)
        except FileNotFoundError:
            where = "|".join(partition[key] for key in table.dimensions)
            # The command line takes no matchup and no outside model: it materializes them with the
            # experiments that are compared.
            options = [
                f" --{'selector' if key == 'refined' else key} {partition[key]}"
                for key in table.dimensions
                if key not in ("matchup", "outside_model")
            ]
            options += [" --all"] if "outside_model" in table.dimensions else []
            raise LakeError(
                f"{name} has no rows for {where or 'its one partition'} yet ({path} is not there); "
                f"materialize it first: opencs materialize {name}{''.join(options)}"
            ) from None
        frame = pl.DataFrame(pl.from_arrow(arrow))
        return frame.with_columns(pl.lit(partition[key]).alias(key) for key in table.dimensions)

    def find(self, name: str, partition: Mapping[str, str]) -> pl.DataFrame | None:
        """Read one partition as ``read`` does; ``None`` where it has not been materialized."""
        return self.read(name, partition) if self.exists(name, partition) else None

    def partitions(self, name: str) -> list[dict[str, str]]:
        """The partitions that have been written, as dimension values."""
        table = self.tables[name]
        # The root may have characters that mean something in a pattern.
        within = f"{glob.escape(self.root)}/{name}"
        depth = len(table.dimensions)
        paths = sorted(self.fs.glob("/".join([within, *["*"] * depth, "part.parquet"])))
        return [
            dict(folder.split("=", 1) for folder in path.split("/")[-1 - depth : -1])
            for path in paths
        ]

    def ensure_schemas(self) -> None:
        """Give every table its zero-row file, so that the warehouse can be built at any time.

        Raises:
            LakeError: A newer release wrote the lake, or a file can't be written.
        """
        path = f"{self.root}/{FORMAT_FILE}"
        if not self.fs.exists(path):
            self._put(path, json.dumps({"format": FORMAT}).encode())
        for table in self.tables.values():
            self._write_schema(table)

    def _write_schema(self, table: Table) -> None:
        path = self.path(table, dict.fromkeys(table.dimensions, SCHEMA_PARTITION))
        path = path.removesuffix("part.parquet") + SCHEMA_FILE
        empty = table.empty()
        if self.fs.exists(path):
            with self.fs.open(path, "rb") as file:
                if pq.read_schema(file).equals(empty.to_arrow().schema):
                    return
        self._put(path, _parquet(empty))

    def _put(self, path: str, content: bytes) -> None:
        try:
            if isinstance(self.fs, LocalFileSystem):
                file = Path(path)
                file.parent.mkdir(parents=True, exist_ok=True)
                write_whole(file, content)
            else:
                # An object store shows an object only when its upload is complete.
                self.fs.pipe_file(path, content)
        except OSError as error:
            raise LakeError(
                f"{path} can't be written: {error.strerror or error}. "
                "Check that the folder may be written and that the disk has room."
            ) from None


def _parquet(frame: pl.DataFrame) -> bytes:
    buffer = io.BytesIO()
    pq.write_table(frame.to_arrow(), buffer, compression="zstd")
    return buffer.getvalue()

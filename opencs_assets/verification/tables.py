"""Reading the lake without trusting it: files that no run wrote, columns that are not there."""

from collections.abc import Mapping, Sequence

import polars as pl
import pyarrow as pa

from opencs_assets.tables.catalog import TABLES
from opencs_assets.tables.lake import Lake
from opencs_assets.verification.findings import (
    Findings,
    Layer,
    VerificationFault,
    partition_name,
    shown,
)
from resources.lake import SCHEMA_PARTITION, LakeError

_UNREADABLE = (LakeError, OSError, pa.ArrowInvalid, pl.exceptions.PolarsError)


def read_table(
    lake: Lake, name: str, partition: Mapping[str, str], layer: Layer, findings: Findings
) -> pl.DataFrame | None:
    """One partition in the table's schema; ``None``, with the fault kept, where it can't be read.

    Columns that an older release did not write are null. ``layer`` is what it is read for.
    """
    try:
        frame = lake.read(name, partition)
        held = {
            column: (pl.col(column) if column in frame.columns else pl.lit(None)).cast(dtype)
            for column, dtype in TABLES[name].schema.items()
        }
        return frame.select(**held)
    except _UNREADABLE as error:
        where, said = partition_name(partition), shown(str(error))
        fault = VerificationFault(layer, "unreadable", name, where, "", said, "a readable table")
        findings.add(f"{name}: files", [fault])
        return None


def check_files(lake: Lake, name: str, layer: Layer, findings: Findings) -> None:
    """A table's folder holds one file a partition, and an empty one for its schema.

    The warehouse reads every Parquet file below the folder, so that one more file is rows more.
    """
    table = TABLES[name]
    what = f"{name}: files"
    folder = f"{lake.root}/{name}"
    known = {lake.path(table, partition) for partition in lake.partitions(name)}
    schema = lake.path(table, dict.fromkeys(table.dimensions, SCHEMA_PARTITION))
    schema = schema.removesuffix("part.parquet") + "schema.parquet"
    for path in sorted(lake.fs.find(folder)) if lake.fs.exists(folder) else []:
        if not path.endswith(".parquet"):
            continue
        findings.count(layer, what)
        file = f"file {path.removeprefix(f'{folder}/')}"
        if path == schema:
            with lake.fs.open(path, "rb") as opened:
                rows = pl.read_parquet(opened).height
            if rows:
                fault = VerificationFault(layer, "unknown", name, "", file, f"{rows} rows", "none")
                findings.add(what, [fault])
        elif path not in known:
            there = "a file that no run wrote, whose rows are counted, too"
            fault = VerificationFault(
                layer, "duplicated", name, "", file, there, "one file a partition"
            )
            findings.add(what, [fault])


def duplicated_keys(frame: pl.DataFrame, key: Sequence[str]) -> pl.DataFrame:
    """The keys that stand more than once, with how often (``len``)."""
    return frame.group_by(key, maintain_order=True).len().filter(pl.col("len") > 1)

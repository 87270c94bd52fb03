"""What has changed in the lake since the warehouse was built, file by file.

Most verdicts stay as they are from one build to the next, so the warehouse reads those files again
that are new or replaced, and forgets what came from those that are gone. DuckDB tells when a file
was modified to the second, in which it may be replaced again; here it is told apart by more.
Everything is built anew where the project, the schemas or the benchmarks' questions have changed.
"""

import glob
import hashlib
from importlib.metadata import version
from pathlib import Path

import duckdb
import polars as pl

from opencs_assets.tables.catalog import TABLES
from opencs_assets.tables.lake import Lake
from resources.lake import SCHEMA_FILE, SCHEMA_PARTITION
from resources.provenance import content_hash

# Tables of which only changed files are read, and one of which it matters whether it is there.
FOLLOWED = (
    "single_verdicts",
    "pairwise_verdicts",
    "imported_verdicts",
    "model_answers",
    "outside_answers",
    "imported_answers",
    "contaminated_samples",
)
_PACKAGE = Path(__file__).parents[1]
# What the Python models reckon with.
_CODE = (
    "statistics/agreement.py",
    "statistics/bootstrap.py",
    "statistics/bradley_terry.py",
    "statistics/estimates.py",
    "evaluation/kept.py",
    "statistics/length_control.py",
    "statistics/sequential.py",
)
_NEEDED = ("dbt-core", "dbt-duckdb", "duckdb", "numpy", "scipy")
_CHANGED = """
create or replace table interim.changed_files as
select
    coalesce(now.lake_table, last.lake_table) as lake_table,
    coalesce(now.file, last.file) as file,
    coalesce(now.dataset, last.dataset) as dataset,
    coalesce(now.subject, last.subject) as subject,
    case
        when now.is_schema then 'schema'
        when now.file is null then 'removed'
        when last.file is null then 'new'
        else 'replaced'
    end as change
from found as now
full join interim.lake_files as last using (lake_table, file)
-- The zero-row file is always read, so that there is a file.
where now.stamp is distinct from last.stamp or now.is_schema
"""
# Verdicts on questions that no benchmark has: counted where verdicts are read, and in no mart.
_STRAYS = """
create table if not exists interim.stray_verdicts (
    kind varchar, source varchar, dataset varchar, subject varchar, benchmark varchar,
    question_id varchar, verdicts bigint
)
"""
_FILES = """
create table if not exists interim.lake_files (
    lake_table varchar, file varchar, dataset varchar, subject varchar, stamp varchar,
    is_schema boolean
)
"""


def follow(lake_url: str, database: Path, project: str) -> bool:
    """Note in the database that is built which files of the lake have changed.

    They stand in ``interim.changed_files`` (``lake_table``, ``file`` as DuckDB's ``read_parquet``
    takes it, ``dataset`` and ``subject`` for the values of the table's two dimensions, ``change``:
    new, replaced or removed), all there are in ``interim.lake_files``. The database is emptied
    where it can't be built on.

    Args:
        lake_url: Folder or URL of the lake.
        database: DuckDB file to build in, which may hold the last build.
        project: Hash of the dbt project.

    Returns:
        Whether what the database holds is built on.

    Raises:
        LakeError: The lake can't be read.
    """
    lake = Lake(lake_url)
    found = _found(lake, lake_url)
    basis = _basis(lake, lake_url, project)
    kept = _was_built_on(database, basis)
    if not kept:
        # Free of what an older project left there, too.
        for path in (database, database.with_name(f"{database.name}.wal")):
            path.unlink(missing_ok=True)
    with duckdb.connect(database) as connection:
        connection.execute("create schema if not exists interim")
        connection.execute(_FILES)
        connection.execute(_STRAYS)
        connection.execute(_CHANGED)
        connection.execute("create or replace table interim.lake_files as from found")
        connection.execute("create or replace table interim.basis as select ? as basis", [basis])
    del found
    return kept


def _found(lake: Lake, lake_url: str) -> pl.DataFrame:
    rows = [
        (
            name,
            glob.escape(f"{_root(lake_url)}/{each.path}"),
            *(*each.partition.values(), "", "")[:2],
            each.stamp,
            SCHEMA_PARTITION in each.partition.values() or each.path.endswith(SCHEMA_FILE),
        )
        for name in FOLLOWED
        for each in lake.files(name)
    ]
    schema = {
        "lake_table": pl.String,
        "file": pl.String,
        "dataset": pl.String,
        "subject": pl.String,
        "stamp": pl.String,
        "is_schema": pl.Boolean,
    }
    return pl.DataFrame(rows, schema=schema, orient="row")


def _root(lake_url: str) -> str:
    return lake_url.rstrip("/") if "://" in lake_url else str(Path(lake_url).absolute())


def _basis(lake: Lake, lake_url: str, project: str) -> str:
    """Hash of what a build depends on beside the files that are followed."""
    digest = hashlib.sha256(f"{project}\0{_root(lake_url)}\0".encode())
    for package in _NEEDED:
        digest.update(f"{package} {version(package)}\0".encode())
    for name in _CODE:
        digest.update(name.encode() + b"\0" + (_PACKAGE / name).read_bytes() + b"\0")
    for table in TABLES.values():
        digest.update(f"{table.name}{table.dimensions}{table.schema}\0".encode())
    if lake.exists("benchmark_questions", {}):
        questions = lake.read("benchmark_questions", {})
        asked = questions.select("benchmark", "question_id", "category", "turns")
        digest.update(content_hash(asked.sort("benchmark", "question_id").rows()).encode())
    return digest.hexdigest()


def _was_built_on(database: Path, basis: str) -> bool:
    if not database.exists():
        return False
    try:
        with duckdb.connect(database, read_only=True) as connection:
            return connection.execute("select basis from interim.basis").fetchone() == (basis,)
    except duckdb.Error:
        # No such table: an older release built it, or nothing did.
        return False

"""The warehouse over a million verdicts: built anew, and again after a thousand new ones.

dbt itself takes some seconds to start and some for each of its models and tests, whatever they do;
that is measured on a lake without rows, and told apart. SQL seconds are those that dbt waited for
DuckDB, one statement at a time (with two threads it waits for itself, too).
"""

import os
import re
import resource
import shutil
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from opencs_assets.evaluation.dbt_project import dbt_build
from tests.benchmarks import side, verdict_lake
from tests.benchmarks.tags import Row

NEW = 1_000
MOST_SECONDS, MOST_MEGABYTES, MOST_NEW_SECONDS = 15, 2_048, 3
_WAITED = re.compile(r"SQL status: OK in ([0-9.]+) seconds")
_NODES = re.compile(r"Finished running .* \(([0-9.]+)s\)")


def warehouse_rows() -> Iterator[Row]:
    """The rows, measured together."""
    found: dict[str, Any] = side.measure(__name__, measured.__name__, 1).result
    size = f"{found['verdicts']:,} verdicts"

    def row(name: str, size: str, seconds: float, target: str, met: bool | None) -> Row:
        return Row(name, size, side.Side(None, seconds, found["megabytes"]), None, "", target, met)

    fits = found["megabytes"] <= MOST_MEGABYTES
    yield row("dbt's own empty build: whole command", "no rows", found["empty"], "", None)
    yield row(
        "dbt build: models and tests",
        size,
        found["nodes"],
        f"<= {MOST_SECONDS} s, 2 GB",
        found["nodes"] <= MOST_SECONDS and fits,
    )
    yield row("dbt build: whole command", size, found["whole"], "", None)
    size = f"{NEW:,} new of {found['verdicts'] + NEW:,}"
    yield row(
        "built again: SQL",
        size,
        found["new_sql"],
        f"<= {MOST_NEW_SECONDS} s",
        found["new_sql"] <= MOST_NEW_SECONDS,
    )
    over = found["new_whole"] - found["empty"]
    yield row(
        "built again: whole command",
        size,
        found["new_whole"],
        f"<= empty + {MOST_NEW_SECONDS} s",
        over <= MOST_NEW_SECONDS,
    )


def measured(scale: int) -> Callable[[], dict[str, Any]]:
    """Make the lake; the work builds its warehouse and builds it again."""
    folder = tempfile.TemporaryDirectory(prefix="opencs-warehouse-")
    home, empty = Path(folder.name) / "home", Path(folder.name) / "empty"
    verdicts = verdict_lake.write(home, scale=scale)
    empty.mkdir()

    def work() -> dict[str, Any]:
        # The first build of a home reads the project, which later ones need not.
        _built(empty)
        seconds = [_built(empty)[0] for _ in range(2)]
        found: dict[str, Any] = {"verdicts": verdicts, "empty": min(seconds)}
        _built(home)
        _database(home).unlink()
        found["whole"], found["nodes"], _ = _built(home)
        found["megabytes"] = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss / 1024
        assert verdict_lake.add(home) == NEW
        before = _database(home).with_name("before.duckdb")
        shutil.copyfile(_database(home), before)
        found["new_whole"], _, _ = _built(home)
        before.replace(_database(home))
        # Told statement by statement, which takes time of its own.
        os.environ.update(DBT_LOG_LEVEL_FILE="debug", OPENCS_DBT_THREADS="1")
        _, _, found["new_sql"] = _built(home)
        folder.cleanup()
        return found

    return work


def _built(home: Path) -> tuple[float, float, float]:
    """Seconds of the whole command, of its models and tests, and of what they waited for."""
    lake = str(home / "lake")
    file = home / "dbt" / "logs" / "dbt.log"
    file.unlink(missing_ok=True)
    started = time.perf_counter()
    results = dbt_build(home, lake, _database(home))
    seconds = time.perf_counter() - started
    broken = [result for result in results if result.broken]
    assert not broken, broken
    text = file.read_text(encoding="utf-8")
    return seconds, float(_NODES.search(text)[1]), sum(map(float, _WAITED.findall(text)))


def _database(home: Path) -> Path:
    return home / "warehouse.build.duckdb"

"""The whole warehouse over the verdicts of the published grid, and over a million.

Every build is whole. dbt itself takes some seconds to start, some to read the project and some for
each of its models and tests, whatever they do; that is measured on a lake without rows, and told
apart. CPU seconds are those of the whole command, imports and reading the project among them.
"""

import re
import resource
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from opencs_assets.evaluation.declared import prepare_lake
from resources.dbt_project import dbt_build
from tests.benchmarks import side, verdict_lake
from tests.benchmarks.tags import Row

# Per cent of the lake's million verdicts: those of the published grid, and all.
GRID, WHOLE = 5, 100
MOST_SECONDS, MOST_MEGABYTES = 15, 2_048
_NODES = re.compile(r"Finished running .* \(([0-9.]+)s\)")


def warehouse_rows() -> Iterator[Row]:
    """The rows, each size measured in a process of its own."""
    for percent in (0, GRID, WHOLE):
        found: dict[str, Any] = side.measure(__name__, measured.__name__, percent).result
        size = f"{found['verdicts']:,} verdicts"

        def row(name: str, seconds: float, target: str = "", met: bool | None = None) -> Row:
            ours = side.Side(None, seconds, found["megabytes"])  # noqa: B023
            return Row(name, size, ours, None, "", target, met)  # noqa: B023

        fits = found["megabytes"] <= MOST_MEGABYTES
        target = f"<= {MOST_SECONDS} s, 2 GB"
        whole, nodes = (
            (target, fits and found[name] <= MOST_SECONDS) if percent == limited else ()
            for name, limited in (("whole", GRID), ("nodes", WHOLE))
        )
        yield row("dbt build: whole command, in a new home", found["whole"], *whole)
        yield row("dbt build: models and tests", found["nodes"], *nodes)
        yield row("dbt build: whole command, CPU seconds", found["cpu"])


def measured(percent: int) -> Callable[[], dict[str, Any]]:
    """Make the lake; the work builds its warehouse twice, the first time in a new home."""
    folder = tempfile.TemporaryDirectory(prefix="opencs-warehouse-")
    home = Path(folder.name)
    verdicts = verdict_lake.write(home, scale=percent / 100) if percent else 0

    def work() -> dict[str, Any]:
        builds = [_built(home) for _ in range(2)]
        megabytes = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss / 1024
        folder.cleanup()
        return {
            "verdicts": verdicts,
            "megabytes": megabytes,
            **builds[0],
            "nodes": builds[1]["nodes"],
        }

    return work


def _built(home: Path) -> dict[str, float]:
    """Seconds of the whole command, by the clock and of the CPU, and of its models and tests."""
    lake = str(home / "lake")
    prepare_lake(lake)
    database = home / "warehouse.build.duckdb"
    database.unlink(missing_ok=True)
    file = home / "dbt" / "logs" / "dbt.log"
    file.unlink(missing_ok=True)
    before, started = _cpu_seconds(), time.perf_counter()
    results = dbt_build(home, lake, database)
    seconds = time.perf_counter() - started
    broken = [result for result in results if result.broken]
    assert not broken, broken
    nodes = float(_NODES.search(file.read_text(encoding="utf-8"))[1])
    return {"whole": seconds, "cpu": _cpu_seconds() - before, "nodes": nodes}


def _cpu_seconds() -> float:
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime

"""Reading and running the dbt project, with everything that dbt writes kept under the home.

dbt runs as a process of its own: it keeps state in globals, and a run's worker must not inherit
it. It is called directly, because Dagster's command-line resource first asks dbt for its version,
which looks for updates on the internet and takes as long as the build.
"""

import glob
import hashlib
import json
import os
import subprocess
import sys
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from importlib.metadata import version
from pathlib import Path
from typing import Any

import yaml
from filelock import FileLock

from resources.errors import MendableError
from resources.files import write_whole

ROOT = Path(__file__).parents[1]
PROJECT = ROOT / "dbt_eval"
MARTS = PROJECT / "models" / "marts" / "_marts.yml"
# This URL stands for the lake where only the names of its tables matter.
_ANY_LAKE = "s3://lake"
_SOURCES = ("*.yml", "*.sql", "*.py", "*.md")
# A build whose run was killed must not write on beside the next one.
_MODULE = (
    "from resources.processes import end_with_parent; end_with_parent({parent}); "
    "from dbt.cli.main import cli; cli()"
)


class DbtError(MendableError):
    """dbt could not read the project or build it; the message holds what dbt said."""


@dataclass(frozen=True)
class NodeResult:
    """The outcome of one model or test, by dbt's id such as ``model.opencs_eval.win_rates``.

    The status is ``success`` or ``pass``, else ``warn``, ``fail``, ``error`` or ``skipped``;
    ``failures`` are rows that fail a test. ``table`` is what was built, with its schema unless that
    is ``main``; it is empty for a test.
    """

    unique_id: str
    status: str
    seconds: float
    message: str
    failures: int
    table: str = ""

    @property
    def name(self) -> str:
        """Name of the model or test."""
        return self.unique_id.split(".")[2]

    @property
    def ok(self) -> bool:
        """Whether it did what it should; a warning is not a failure but is not ``ok`` either."""
        return self.status in ("success", "pass")

    @property
    def broken(self) -> bool:
        """Whether it keeps the build from being published."""
        return self.status not in ("success", "pass", "warn")


def dbt_manifest(home: Path, project: Path = PROJECT) -> Path:
    """Path of the project's manifest in a home, parsed where it is missing or out of date.

    The file is named after a hash of all that determines its content, which is the same for every
    home: it says which tables there are, and not where.

    Raises:
        DbtError: The project can't be parsed, or the home not written.
    """
    folder = home / "dbt" / "manifests"
    manifest = folder / f"{_fingerprint(project)}.json"
    if manifest.exists():
        return manifest
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with _dbt_lock(home):
            if not manifest.exists():
                _parse(home, project, manifest)
    except OSError as error:
        raise DbtError(
            f"{error.filename or folder} can't be written: {error.strerror or error}; `dbt` in "
            "OPENCS_HOME must be a folder that may be written, and is made anew where it is missing"
        ) from None
    return manifest


def dbt_build(
    home: Path, lake: str, database: Path, project: Path = PROJECT, *, tested: bool = True
) -> list[NodeResult]:
    """Build every model from a lake's folder or URL into a new DuckDB file, and run its tests.

    A failing test keeps the models behind it from being built; without ``tested`` no test is run.
    Results are those of each model and test, failed ones too, in the order in which they ended.

    Raises:
        DbtError: dbt ended before it ran anything.
    """
    artifact = _target(home) / "run_results.json"
    with _dbt_lock(home):
        artifact.unlink(missing_ok=True)
        _code, output = _run(["build" if tested else "run"], home, lake, database, project)
        if not artifact.exists():
            raise DbtError(f"dbt could not build {database}:\n{output}\nLog: {_log(home)}")
        return _read_results(artifact)


@cache
def declared_marts() -> Mapping[str, Mapping[str, Any]]:
    """What the dbt project declares of each mart, by its name; read once, without dbt."""
    models = yaml.safe_load(MARTS.read_text(encoding="utf-8"))["models"]
    return {model["name"]: model for model in models}


@cache
def mart_keys() -> Mapping[str, Sequence[str]]:
    """The columns that tell the rows of each mart apart.

    A test of the mart names them, or its ``meta`` where testing would take too long or is done of
    the mart that an old name shows.
    """
    keys: dict[str, Sequence[str]] = {}
    for name, mart in declared_marts().items():
        if key := mart.get("config", {}).get("meta", {}).get("key"):
            keys[name] = key
        for test in mart.get("data_tests", ()):
            if "unique_together" in test:
                keys[name] = test["unique_together"]["arguments"]["columns"]
    return keys


def refuse_broken(results: Sequence[NodeResult], home: Path) -> None:
    """Raise where a model or test failed, so that the build is not published.

    Raises:
        DbtError: A model or test failed; the message names each, and why.
    """
    lines = [
        f"  {result.name}: {result.message or result.status}"
        for result in results
        if result.broken and result.status != "skipped"
    ]
    if any(result.broken for result in results):
        raise DbtError(
            "\n".join(
                [
                    "the warehouse is not published, the last one stays as it was; failed:",
                    *lines,
                    f"Log: {_log(home)}",
                ]
            )
        )


def _parse(home: Path, project: Path, manifest: Path) -> None:
    code, output = _run(["parse"], home, _ANY_LAKE, home / "warehouse.build.duckdb", project)
    parsed = _target(home) / "manifest.json"
    if code or not parsed.exists():
        raise DbtError(f"dbt could not parse {project}:\n{output}\nLog: {_log(home)}")
    for older in manifest.parent.glob("*.json"):
        older.unlink(missing_ok=True)
    write_whole(manifest, parsed.read_bytes())


def _run(
    arguments: Sequence[str], home: Path, lake: str, database: Path, project: Path
) -> tuple[int, str]:
    process = subprocess.Popen(  # noqa: S603
        [
            sys.executable,
            "-c",
            _MODULE.format(parent=os.getpid()),
            "--no-use-colors",
            *arguments,
        ],
        cwd=database.parent,
        env={**os.environ, **_environment(home, lake, database, project)},
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    try:
        output, _ = process.communicate()
    except BaseException:
        process.kill()
        process.wait()
        raise
    return process.returncode, output.strip()


def _environment(home: Path, lake: str, database: Path, project: Path) -> Mapping[str, str]:
    return {
        "OPENCS_DBT_LAKE": _quoted_location(lake),
        "OPENCS_DBT_DATABASE": database.name,
        "DBT_PROJECT_DIR": str(project),
        "DBT_PROFILES_DIR": str(project),
        "DBT_TARGET_PATH": str(_target(home)),
        "DBT_LOG_PATH": str(_log(home).parent),
        # Writing each statement into the log takes as long as all that dbt does beside it.
        "DBT_LOG_LEVEL_FILE": os.environ.get("DBT_LOG_LEVEL_FILE", "info"),
        "DBT_SEND_ANONYMOUS_USAGE_STATS": "false",
        "DO_NOT_TRACK": "1",
        "PYTHONDONTWRITEBYTECODE": "1",
        # dbt's Python models import from here.
        "PYTHONPATH": os.pathsep.join(filter(None, (str(ROOT), os.environ.get("PYTHONPATH")))),
    }


def _quoted_location(lake: str) -> str:
    """The lake as it stands inside a quoted glob inside dbt's format string."""
    literal = lake if "://" in lake else glob.escape(str(Path(lake).absolute()))
    return literal.replace("'", "''").replace("{", "{{").replace("}", "}}")


def _fingerprint(project: Path) -> str:
    digest = hashlib.sha256()
    for part in (version("dbt-core"), version("dbt-duckdb")):
        digest.update(part.encode() + b"\0")
    for path in _sources(project):
        digest.update(str(path.relative_to(project)).encode() + b"\0")
        digest.update(path.read_bytes() + b"\0")
    return digest.hexdigest()[:16]


def _sources(project: Path) -> Iterable[Path]:
    return sorted(path for pattern in _SOURCES for path in project.rglob(pattern))


def _read_results(artifact: Path) -> list[NodeResult]:
    content: dict[str, Any] = json.loads(artifact.read_text(encoding="utf-8"))
    return [
        NodeResult(
            unique_id=result["unique_id"],
            status=result["status"],
            seconds=result["execution_time"],
            message=" ".join((result["message"] or "").split()),
            failures=result["failures"] or 0,
            table=_table(result.get("relation_name") or ""),
        )
        for result in content["results"]
    ]


def _table(relation: str) -> str:
    """A relation such as ``"warehouse"."main"."win_rates"`` without database and ``main``."""
    parts = [part for part in relation.replace('"', "").split(".")[1:] if part != "main"]
    return ".".join(parts)


def _dbt_lock(home: Path) -> FileLock:
    return FileLock(home / "dbt" / ".lock")


def _target(home: Path) -> Path:
    return home / "dbt" / "target"


def _log(home: Path) -> Path:
    return home / "dbt" / "logs" / "dbt.log"

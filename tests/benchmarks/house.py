"""The state of the house: what a newcomer meets, and what each command pays for imports."""

import ast
import os
import resource
import subprocess
import sys
import tempfile
import tomllib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from importlib.metadata import Distribution, PackageNotFoundError, distribution
from pathlib import Path

from packaging.requirements import Requirement

ROOT = Path(__file__).parents[2]
LONG_FUNCTION = 80
REPEATS = 3
# Any command line of this kind pays these imports; ratios are to them.
BARE = ("-c", "import typer, duckdb")


@dataclass(frozen=True)
class Measure:
    """One figure, beside what it is to reach.

    Attributes:
        what: What was counted.
        figure: The figure, as a person reads it.
        wanted: What it is to reach.
    """

    what: str
    figure: str
    wanted: str


def measures() -> list[Measure]:
    """All figures of the house."""
    root = sorted(path.name for path in (ROOT / "opencs_assets").glob("*.py"))
    contracts = subprocess.run(
        [str(Path(sys.executable).with_name("lint-imports")), "--no-logo"],
        cwd=ROOT,
        capture_output=True,
        text=True,
    )
    kept = next(line for line in contracts.stdout.splitlines() if line.startswith("Contracts:"))
    bare = _cpu_seconds(BARE)
    shown = _cpu_seconds(("-m", "opencs_assets.cli", "--help"))
    queried = _cpu_seconds(("-m", "opencs_assets.cli", "sql", "select 1"))
    long = sorted(_long_functions(), reverse=True)
    named = ", ".join(f"{name} {lines}" for lines, name in long[:5])
    packages = _users_packages()
    megabytes = sum(map(_bytes, packages)) / 1e6
    return [
        Measure("modules at the root of opencs_assets", str(len(root) - 1), "0"),
        Measure("imports from resources to opencs_assets", str(_climbs()), "0"),
        Measure("import contracts", kept.removeprefix("Contracts: "), "none broken"),
        Measure("opencs --help, CPU s", _beside(shown, bare), "<= 0.6"),
        Measure(
            "opencs sql on an empty home, CPU s",
            f"{queried:.2f} ({queried / bare:.1f}x bare)",
            "<= 0.9",
        ),
        Measure("packages that a user's install brings", str(len(packages)), "<= 193"),
        Measure("MB of their files", f"{megabytes:,.0f}", "<= 2,780"),
        Measure("lines of the product", f"{_lines():,}", "<= 41,000"),
        Measure(f"functions over {LONG_FUNCTION} lines", f"{len(long)} ({named}, …)", "0"),
    ]


def _users_packages() -> list[Distribution]:
    """What pyproject.toml requires without extras and groups, and what those packages require."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    packages: dict[str, Distribution] = {}
    seen: set[tuple[str, str]] = set()
    waiting = [Requirement(line) for line in project["dependencies"]]
    while waiting:
        requirement = waiting.pop()
        for extra in ("", *requirement.extras):
            if (requirement.name, extra) in seen:
                continue
            seen.add((requirement.name, extra))
            try:
                package = distribution(requirement.name)
            except PackageNotFoundError:
                continue
            packages[package.name] = package
            waiting += [
                needed
                for needed in map(Requirement, package.requires or [])
                if needed.marker is None or needed.marker.evaluate({"extra": extra})
            ]
    return list(packages.values())


def _bytes(package: Distribution) -> int:
    paths = (Path(str(package.locate_file(file))) for file in package.files or [])
    return sum(path.stat().st_size for path in paths if path.is_file())


def _beside(seconds: float, bare: float) -> str:
    return f"{seconds:.2f} ({seconds / bare:.1f}x bare)"


def _product() -> Iterator[Path]:
    listed = subprocess.run(
        ["git", "ls-files", "opencs_assets", "resources", "definitions.py", "dbt_eval"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=True,
    ).stdout.split()
    for name in listed:
        if name.endswith(".py") or (name.endswith(".sql") and name.startswith("dbt_eval")):
            yield ROOT / name


def _lines() -> int:
    return sum(path.read_bytes().count(b"\n") for path in _product())


def _climbs() -> int:
    return sum(
        line.strip().startswith(("from opencs_assets", "import opencs_assets"))
        for path in (ROOT / "resources").rglob("*.py")
        for line in path.read_text().splitlines()
    )


def _long_functions() -> Iterator[tuple[int, str]]:
    for path in _product():
        if path.suffix != ".py":
            continue
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
                lines = (node.end_lineno or node.lineno) - node.lineno + 1
                if lines > LONG_FUNCTION:
                    yield lines, f"{path.relative_to(ROOT)}:{node.name}"


def _cpu_seconds(words: Sequence[str]) -> float:
    """CPU seconds of a Python process, the least of several."""
    least = float("inf")
    with tempfile.TemporaryDirectory() as home:
        for _ in range(REPEATS):
            before = resource.getrusage(resource.RUSAGE_CHILDREN)
            subprocess.run(
                [sys.executable, *words],
                cwd=ROOT,
                env={**os.environ, "OPENCS_HOME": home},
                capture_output=True,
            )
            after = resource.getrusage(resource.RUSAGE_CHILDREN)
            spent = after.ru_utime - before.ru_utime + after.ru_stime - before.ru_stime
            least = min(least, spent)
    return least

"""Dagster's own commands in a clone: they know the project, and open the instance of its home."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from resources.home import prepare_folders

PROJECT = Path(__file__).resolve().parents[3]


@pytest.fixture
def clone(tmp_path: Path) -> Path:
    """A folder with what Dagster reads of a clone, ``.env`` as ``make install`` writes it."""
    words = ["make", "--dry-run", "--always-make", "install", f"OPENCS_HOME={tmp_path / '.opencs'}"]
    steps = subprocess.run(words, cwd=PROJECT, capture_output=True, text=True, check=True).stdout
    writing = steps[steps.index("grep -qs") :].split(">> .env\n")[0] + ">> .env\n"
    subprocess.run(writing, shell=True, cwd=tmp_path, check=True)
    for name in ("pyproject.toml", "opencs_assets", "resources", "definitions.py", "dbt_eval"):
        (tmp_path / name).symlink_to(PROJECT / name)
    return tmp_path


def ran(clone: Path, *words: str, **variables: str) -> str:
    left_out = {"OPENCS_HOME", "DAGSTER_HOME"}
    environment = {name: value for name, value in os.environ.items() if name not in left_out}
    done = subprocess.run(
        [Path(sys.executable).with_name(words[0]), *words[1:]],
        cwd=clone,
        env={**environment, "PYTHONPATH": str(PROJECT), "DAGSTER_DISABLE_TELEMETRY": "1"}
        | variables,
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr[-2000:]
    return done.stdout


def test_an_instance_is_that_of_the_clones_home_or_of_the_one_that_is_named(clone):
    other = clone / "other"
    for home in (clone / ".opencs", other):
        prepare_folders(home)
    shown = ran(clone, "dagster", "instance", "info")
    assert f"$DAGSTER_HOME: {clone / '.opencs' / 'dagster'}\n" in shown
    shown = ran(clone, "dagster", "instance", "info", OPENCS_HOME=str(other))
    assert f"$DAGSTER_HOME: {other / 'dagster'}\n" in shown


def test_dg_knows_the_project(clone):
    prepare_folders(clone / ".opencs")
    assert "All definitions loaded successfully" in ran(clone, "dg", "check", "defs")
    assert '"win_rates"' in ran(clone, "dg", "list", "defs", "--json")

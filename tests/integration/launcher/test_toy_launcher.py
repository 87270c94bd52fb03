"""A third launcher is one module with its settings; no file of the product knows it."""

import os
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import dagster as dg
import polars as pl
import pytest

from opencs_assets.cli.doctor import examine
from resources import settings
from resources.launcher.resource import TrainingLauncher
from resources.launcher.work import Work
from resources.settings import load_settings
from tests.integration.cluster.counting import HOLD

ROOT = Path(__file__).resolve().parents[3]
SCRIPT = """
import sys
from pathlib import Path
import dagster as dg
from tests.integration.launcher.test_toy_launcher import asked
with dg.DagsterInstance.from_config(sys.argv[2]) as instance:
    asked(Path(sys.argv[1]), instance, steps=40, step_s=0.1)
"""


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    package = tmp_path / "toy-1.dist-info"
    package.mkdir()
    (package / "METADATA").write_text("Name: toy\nVersion: 1\n")
    entry = "toy = tests.integration.launcher.toy:ToySettings"
    (package / "entry_points.txt").write_text(f"[opencs.launchers]\n{entry}\n")
    (tmp_path / "settings.toml").write_text('[launcher]\nkind = "toy"\ntoy = {shell = "sh"}\n')
    (tmp_path / "dagster.yaml").write_text("telemetry: {enabled: false}\n")
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.setenv("PYTHONPATH", f"{tmp_path}{os.pathsep}{ROOT}")
    settings.launcher_class.cache_clear()
    yield tmp_path
    settings.launcher_class.cache_clear()


def asked(home: Path, instance: dg.DagsterInstance, **job) -> tuple[dict | None, list[str]]:
    """A run that asks for a work: its result, and all messages of its log."""
    tables = {"table": pl.DataFrame({"x": [1, 2]})}
    module = "tests.integration.cluster.counting"
    work = Work(module, {"output": str(home / "out"), "steps": 3, **job}, tables, provenance="p")
    results: list[dict] = []
    failures: list[str] = []

    @dg.asset
    def asks(context: dg.AssetExecutionContext) -> None:
        try:
            results.append(TrainingLauncher(home=str(home)).run(context, work))
        except dg.Failure as failure:
            failures.append(str(failure.description))
            raise

    ended = dg.materialize([asks], instance=instance, raise_on_error=False)
    entries = instance.all_logs(ended.run_id)
    return (results or [None])[0], [*failures, *(entry.user_message for entry in entries)]


def wait(until) -> None:
    ends = time.monotonic() + 60
    while not until():
        assert time.monotonic() < ends
        time.sleep(0.05)


def let_go_on_when_taken_over(home: Path) -> None:
    """Hold the job until the second run waits for it, however late that comes."""
    try:
        wait(lambda: len(list(home.glob("jobs/*/*/runs/*"))) == 2)
    finally:
        (home / "out" / HOLD).unlink()


def begun(home: Path) -> list[int]:
    return [int(line.split()[0]) for line in (home / "out/begun").read_text().splitlines()]


def looked_at(home: Path) -> tuple[str, str]:
    (found,) = [each for each in examine(load_settings(home)) if each.what == "launcher"]
    return found.state, found.detail


def test_a_job_is_started_watched_to_its_end_and_removed(home):
    with dg.DagsterInstance.ephemeral() as instance:
        result, messages = asked(home, instance)
        assert result is not None, messages
        assert (result["rows"], result["attempts"]) == (2, 1)
        assert [each for each in messages if each.startswith("step")] == [
            "step 1",
            "step 2",
            "step 3",
        ]
        assert looked_at(home) == ("ok", "toy; 0 jobs of sh")
        failed, messages = asked(home, instance, do="refuse", at=4, when=[2], steps=5)
    assert failed is None
    assert messages[0] == "counting: ended with 2"


@pytest.mark.parametrize("wanted", [False, True], ids=["killed", "terminated"])
def test_a_job_is_taken_over_after_a_kill_and_stopped_where_a_person_ends_its_run(home, wanted):
    process = subprocess.Popen([sys.executable, "-c", SCRIPT, str(home), str(home)])
    wait(lambda: (home / "out/state").exists() and (home / "out/state").read_text() >= "2")
    with dg.DagsterInstance.from_config(str(home)) as instance:
        if wanted:
            instance.report_run_canceling(instance.get_runs()[0])
            process.terminate()
        else:
            (home / "out" / HOLD).touch()
            process.kill()
            threading.Thread(target=let_go_on_when_taken_over, args=(home,), daemon=True).start()
        process.wait()
        assert looked_at(home) == ("ok", f"toy; {0 if wanted else 1} jobs of sh")
        result, messages = asked(home, instance, steps=40, step_s=0.1)
    assert result is not None, messages
    assert any("it is taken over" in line for line in messages) is not wanted
    assert len(begun(home)) == 1 + wanted
    assert [line for line in messages if line.startswith("step")][-1] == "step 40"

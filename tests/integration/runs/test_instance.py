"""A home's instance: its configuration through releases, damaged databases, servers left behind."""

import os
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import dagster as dg
import psutil
import pytest

from opencs_assets.cli.doctor import examine
from opencs_assets.tables.home import prepare_home
from resources.home import HomeError
from resources.instance import open_instance
from resources.runs.dead import note_process
from resources.runs.health import damaged_databases, growth
from resources.runs.leftovers import end_leftovers
from tests.integration.runs.conftest import CONFIG, ROOT, Place, until
from tests.integration.servers.started import first_line, running_process

# What the release before this one put into homes.
FIRST_LINE = (
    "# Dagster's instance on one machine. `opencs` puts a copy into OPENCS_HOME/dagster when there "
    "is none.\n"
)
EARLIER = f"""{FIRST_LINE}\
telemetry:
  enabled: false

concurrency:
  runs:
    # A fine-tuning and a tagging run at once would only slow each other down.
    max_concurrent_runs: 2
  pools:
    # One writer of the warehouse, one training, one stage that calls a model at a time.
    default_limit: 1
    granularity: op

run_retries:
  enabled: true
  max_retries: 0
  retry_on_asset_or_op_failure: false

run_monitoring:
  enabled: true
  start_timeout_seconds: 300
"""


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.delenv("DAGSTER_HOME", raising=False)
    monkeypatch.setenv("OPENCS_HOME", str(tmp_path / "home"))
    prepare_home()
    return tmp_path / "home"


def test_an_earlier_releases_configuration_becomes_this_ones(home):
    config = home / "dagster" / "dagster.yaml"
    config.write_text(EARLIER)
    prepare_home()
    assert config.read_bytes() == CONFIG.read_bytes()
    with open_instance(home) as instance:
        assert instance.run_launcher.supports_check_run_worker_health


def test_a_configuration_that_somebody_changed_stays_and_doctor_says_what_it_lacks(home):
    config = home / "dagster" / "dagster.yaml"
    changed = EARLIER.replace("max_concurrent_runs: 2", "max_concurrent_runs: 3")
    config.write_text(changed)
    settings = prepare_home()
    assert config.read_text() == changed
    (lacking,) = [each for each in examine(settings) if each.what == "run monitoring"]
    assert lacking.state == "warning"
    assert "deploy/laptop/dagster.yaml" in lacking.detail


def test_no_two_processes_see_half_a_configuration(home, monkeypatch):
    config = home / "dagster" / "dagster.yaml"
    config.write_text(EARLIER)

    def breaks(_descriptor: int) -> None:
        raise OSError(28, "No space left on device", "dagster.yaml")

    with monkeypatch.context() as patched:
        patched.setattr("os.fsync", breaks)
        with pytest.raises(HomeError, match="No space left"):
            prepare_home()
    assert config.read_text() == EARLIER


def findings(home: Path) -> dict[str, tuple[str, str]]:
    return {each.what: (each.state, each.detail) for each in examine(prepare_home(home))}


def test_doctor_finds_nothing_in_a_new_home(home):
    seen = findings(home)
    assert seen["dead runs"] == ("ok", "none")
    assert seen["pools"] == ("ok", "no run holds a place")
    assert seen["queue"] == ("ok", "empty; no daemon runs: `opencs ui` starts one")
    assert seen["sizes"][0] == "ok"
    assert "dagster database" not in seen


def test_doctor_names_a_dead_run_and_what_it_holds_and_changes_nothing(home):
    with open_instance(home) as instance:
        place = Place(home / "dagster", instance, home / "go")
        killed = place.holding()
        killed.kill()
        (run,) = place.runs(dg.DagsterRunStatus.STARTED)
        for _ in range(2):
            state, detail = findings(home)["dead runs"]
            assert state == "warning"
            assert f"run {run.run_id[:8]} of holding_job died" in detail
            assert "opencs materialize" in detail
            assert f"llm_api is held by run {run.run_id[:8]}" in findings(home)["pools"][1]
        assert place.holders() == {run.run_id}


def test_doctor_names_an_ended_run_that_holds_a_place(home):
    with open_instance(home) as instance:
        instance.event_log_storage.set_concurrency_slots("gpu", 1)
        instance.event_log_storage.claim_concurrency_slot("gpu", "12345678-9", "step")
    state, detail = findings(home)["dead runs"]
    assert state == "warning"
    assert "run 12345678 has ended and holds a place" in detail


def test_doctor_says_that_an_instance_cant_be_opened(home):
    (home / "dagster" / "dagster.yaml").write_text("run_launcher: {module: nowhere, class: None}")
    state, detail = findings(home)["dagster instance"]
    assert state == "problem"
    assert "nowhere" in detail


def damage(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[100:4096] = os.urandom(4096 - 100)
    path.write_bytes(content)


@pytest.mark.parametrize(
    "name", ["history/runs.db", "history/runs/index.db", "schedules/schedules.db"]
)
def test_doctor_names_a_damaged_database_and_fails(home, name):
    path = home / "dagster" / name
    with open_instance(home) as instance:
        instance.add_dynamic_partitions("dataset", ["d"])
        instance.all_instigator_state()
    damage(path)
    before = path.read_bytes()
    state, detail = findings(home)["dagster database"]
    assert state == "problem"
    assert str(path) in detail
    assert "opencs add" in detail
    assert path.read_bytes() == before
    done = opencs(home, "doctor")
    assert done.returncode == 1


def opencs(home: Path, *words: str) -> "subprocess.CompletedProcess[str]":
    return subprocess.run(
        [sys.executable, "-m", "opencs_assets.cli", *words],
        env={**os.environ, "OPENCS_HOME": str(home), "COLUMNS": "300"},
        capture_output=True,
        text=True,
        timeout=300,
    )


def test_a_command_says_that_a_database_is_damaged_in_one_sentence(home):
    sample = home / "few.jsonl"
    sample.write_text('{"instruction": "Say yes", "output": "Yes"}\n')
    assert opencs(home, "add", str(sample)).returncode == 0
    assert opencs(home, "materialize", "raw_dataset", "--dataset", "few").returncode == 0
    damage(home / "dagster" / "history" / "runs.db")
    done = opencs(home, "materialize", "raw_dataset", "--dataset", "few")
    assert done.returncode == 1
    assert "Traceback" not in done.stderr
    assert "database" in done.stderr
    assert "opencs doctor" in done.stderr
    # What doctor says to do is true: the instance is moved away, and the home goes on.
    shutil.move(home / "dagster", home / "damaged")
    assert opencs(home, "add", str(sample)).returncode == 0
    done = opencs(home, "materialize", "raw_dataset", "--dataset", "few")
    assert done.returncode == 0, done.stderr


def test_a_plain_file_where_a_folder_must_be_is_one_sentence(home):
    shutil.rmtree(home / "dbt", ignore_errors=True)
    (home / "dbt").write_text("in the way")
    done = opencs(home, "materialize", "raw_dataset", "--dry-run")
    assert done.returncode == 1
    assert "Traceback" not in done.stderr
    assert "`dbt` in OPENCS_HOME must be a folder" in " ".join(done.stderr.split())


def test_a_sound_database_that_is_in_use_is_not_called_damaged(place):
    place.holding()
    assert damaged_databases(place.folder) == {}


def test_growth_is_of_all_files_since_the_first(tmp_path):
    (tmp_path / "a").write_bytes(b"12345")
    (tmp_path / "below").mkdir()
    (tmp_path / "below" / "b").write_bytes(b"123")
    two_days_ago = time.time() - 2 * 86_400
    os.utime(tmp_path / "a", (two_days_ago, two_days_ago))
    grown = growth(tmp_path)
    assert grown.bytes == 8
    assert 1.9 < grown.days < 2.1
    assert growth(tmp_path / "none").bytes == 0


SERVER = "import sys, time; print('up', flush=True); time.sleep(600)"


@pytest.fixture
def serve() -> Iterator[object]:
    with ExitStack() as running:

        def start(*words: str, instance: str) -> "subprocess.Popen[str]":
            command = [sys.executable, "-c", SERVER, *words]
            environment = {**os.environ, "DAGSTER_HOME": instance}
            process = running.enter_context(
                running_process(command, stdout=subprocess.PIPE, env=environment)
            )
            first_line(process)
            return process

        yield start


def test_only_servers_of_this_instance_that_a_killed_ui_left_behind_are_ended(serve, tmp_path):
    here, elsewhere = str(tmp_path / "a"), str(tmp_path / "b")
    left = [
        serve("dagster_webserver", "--shutdown-pipe", "5", instance=here),
        serve("dagster._daemon", "run", "--shutdown-pipe", "7", instance=here),
    ]
    kept = [
        serve("dagster_webserver", "--shutdown-pipe", "5", instance=elsewhere),
        # Somebody's own service.
        serve("dagster._daemon", "run", instance=here),
        serve("another", "--shutdown-pipe", "5", instance=here),
    ]
    lines = end_leftovers(Path(here))
    assert len(lines) == 2
    assert all(process.wait(10) is not None for process in left)
    assert all(process.poll() is None for process in kept)
    assert end_leftovers(Path(here)) == []


PARENT = """
import subprocess, sys
child = subprocess.Popen([sys.executable, "-c", sys.argv[1], *sys.argv[3].split()])
print(child.pid, flush=True)
child.wait()
"""


def test_the_servers_of_a_living_ui_are_left_alone_and_those_of_a_killed_one_end(tmp_path):
    with subprocess.Popen(
        [sys.executable, "-c", PARENT, SERVER, "dev", "dagster_webserver --shutdown-pipe 5"],
        env={**os.environ, "DAGSTER_HOME": str(tmp_path)},
        stdout=subprocess.PIPE,
        cwd=ROOT,
    ) as dev:
        child = psutil.Process(int(dev.stdout.readline()))
        until(lambda: len(child.cmdline()) > 3, "the server's command line")
        assert end_leftovers(tmp_path) == []
        assert child.is_running()
        dev.kill()
        dev.wait()
        assert len(end_leftovers(tmp_path)) == 1
        psutil.wait_procs([child], timeout=10)
        assert not child.is_running()


def test_a_runs_tag_is_of_that_run_alone():
    assert note_process("a") != note_process("b")

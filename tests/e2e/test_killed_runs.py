"""Killed runs hold nothing, waiting runs say for what, and living runs are let be."""

import os
import signal
import time
from collections.abc import Iterator
from pathlib import Path

import dagster as dg
import pytest

from opencs_assets.tables.lake import Lake
from tests.e2e.killing.homes import copy_home
from tests.e2e.killing.processes import Command, ended_after, is_alive, kill, processes_of
from tests.e2e.killing.workshop import WORDS, Workshop, open_instance

pytestmark = pytest.mark.e2e
GOES_ON_S = 30
ENDS_S = 5
# Longest that one of these commands takes if nothing holds it up.
COMMAND_S = 200
# Far longer than any test looks at a run that holds a pool.
NEVER_S = 300.0
TAGS = WORDS["tag"]
WAREHOUSE = WORDS["warehouse"]
LLM_POOL, WAREHOUSE_POOL = "llm_api", "warehouse"


def holders(home: Path, pool: str) -> set[str]:
    """Ids of the runs that hold a pool's slots."""
    with open_instance(home) as instance:
        return set(instance.event_log_storage.get_concurrency_info(pool).active_run_ids)


def status(home: Path, run_id: str) -> dg.DagsterRunStatus:
    with open_instance(home) as instance:
        run = instance.get_run_by_id(run_id)
    assert run is not None
    return run.status


def holding(command: Command, pool: str) -> str:
    """Wait until a command's run holds a pool, and return the run's id."""
    known = holders(command.home, pool)
    (run_id,) = command.until(lambda: holders(command.home, pool) - known, 60, f"it holds {pool}")
    return run_id


def started(command: Command, known: set[str]) -> str:
    """Wait until a command has a run that goes on, besides those known, and return its id."""

    def look() -> str | None:
        with open_instance(command.home) as instance:
            runs = instance.get_runs(dg.RunsFilter(statuses=[dg.DagsterRunStatus.STARTED]))
        return next((run.run_id for run in runs if run.run_id not in known), None)

    run_id = command.until(look, 60, "a run")
    assert run_id
    return run_id


def assert_says_dead(printed: str, run_id: str) -> str:
    """Fail unless one line, and only one, says that a run died; returns the line."""
    lines = [line for line in printed.splitlines() if "died" in line and run_id[:8] in line]
    assert len(lines) == 1, f"no line, or several, on the death of {run_id[:8]} in:\n{printed}"
    return lines[0]


def assert_says_freed(printed: str, run_id: str) -> None:
    """Fail unless one line, and only one, says that a run died and what it held was freed."""
    assert "freed" in assert_says_dead(printed, run_id)


def tagging(workshop: Workshop, home: Path, latency: float = NEVER_S) -> tuple[Command, str]:
    """Start tagging in a home, wait until its calls are answered, and return its run too."""
    workshop.model.reset(latency)
    command = workshop.command(home, TAGS)
    run_id = holding(command, LLM_POOL)
    command.until(lambda: workshop.model.count() >= 2, 60, "no call of the tagging")
    return command, run_id


def dbt_of(home: Path) -> int | None:
    """The process that builds the warehouse."""
    for process in processes_of(home):
        if "dbt.cli.main" in process.command and " build" in process.command:
            return process.pid
    return None


def building(workshop: Workshop, home: Path) -> tuple[Command, str, int]:
    """Start a warehouse build; its run and its dbt process."""
    command = workshop.command(home, WAREHOUSE)
    run_id = holding(command, WAREHOUSE_POOL)
    pid = command.until(lambda: dbt_of(home), 60, "no dbt process")
    assert pid
    return command, run_id, pid


@pytest.fixture(scope="module")
def with_manifest(workshop: Workshop) -> Path:
    """A home with a dataset, whose dbt project has been read."""
    return workshop.done(workshop.untrained("parsed"), (*TAGS, "--dry-run"))


@pytest.fixture
def home(with_manifest: Path, tmp_path: Path) -> Iterator[Path]:
    """A home with a dataset of which nothing was made; nothing in it outlives the test."""
    with ended_after(copy_home(with_manifest, tmp_path / "home")) as home:
        yield home


@pytest.fixture(scope="module")
def dead(with_manifest: Path, workshop: Workshop) -> Iterator[tuple[Path, str]]:
    """A home with a run that was killed while it held the pool of calls, and the run's id."""
    with ended_after(copy_home(with_manifest, workshop.root / "dead")) as home:
        command, run_id = tagging(workshop, home)
        kill(command.pid)
        yield home, run_id


@pytest.fixture
def dead_home(dead: tuple[Path, str], tmp_path: Path) -> Iterator[tuple[Path, str]]:
    """A copy of that home for one test."""
    with ended_after(copy_home(dead[0], tmp_path / "dead")) as home:
        assert holders(home, LLM_POOL) == {dead[1]}
        yield home, dead[1]


def test_the_command_goes_on_where_a_killed_one_stopped(dead_home, workshop):
    home, run_id = dead_home
    workshop.model.reset(0.05)
    again = workshop.command(home, TAGS)
    again.until(
        lambda: "▸ open_tags" in again.lines or again.ended(), GOES_ON_S, "no tagging again"
    )
    assert again.wait(COMMAND_S) == 0, again.report()
    assert_says_freed(again.printed, run_id)
    assert status(home, run_id) == dg.DagsterRunStatus.FAILURE
    assert not holders(home, LLM_POOL)


def test_dead_runs_do_not_stop_the_queue_of_the_ui(home, workshop):
    settings = home / "settings.toml"
    settings.write_text(settings.read_text().replace('"select"', '"ingest"'))
    first, holder = tagging(workshop, home)
    second = workshop.command(home, TAGS)
    waiter = started(second, {holder})
    kill(first.pid, second.pid)
    assert {status(home, each) for each in (holder, waiter)} == {dg.DagsterRunStatus.STARTED}

    workshop.model.reset(0.05)
    ui = workshop.ui(home)
    ui.wait()
    landed = home / "landing" / "dropped.jsonl"
    landed.write_text('{"instruction": "Say yes", "output": "Yes"}\n')
    lake = Lake(str(home / "lake"))
    ui.command.until(
        lambda: lake.exists("raw_dataset", {"dataset": "dropped"}),
        # A tick of the sensor, and a run's start.
        GOES_ON_S + 30,
        "the dropped file was not read",
    )
    assert_says_freed(ui.command.printed, holder)
    # It was killed before it had asked for a place.
    assert_says_dead(ui.command.printed, waiter)
    assert {status(home, each) for each in (holder, waiter)} == {dg.DagsterRunStatus.FAILURE}


def test_a_killed_build_of_the_warehouse_goes_on(home, workshop):
    command, run_id, _ = building(workshop, home)
    time.sleep(1)
    kill(command.pid)
    again = workshop.command(home, WAREHOUSE)

    def builds() -> bool:
        children = [each for each in processes_of(home) if each.parent == again.pid]
        return again.ended() or any("dbt.cli.main" in each.command for each in children)

    again.until(builds, GOES_ON_S, "the build did not go on")
    assert again.wait(COMMAND_S) == 0, again.report()
    assert_says_freed(again.printed, run_id)
    assert (home / "warehouse.duckdb").exists()
    assert not holders(home, WAREHOUSE_POOL)
    assert not list(home.glob("warehouse.build.duckdb*"))


def assert_ends_waiting(command: Command, pool: str, holder: str, sign: signal.Signals) -> None:
    """Fail unless a waiting command says for what, ends at a signal, and leaves the holder be."""
    waits = f"waits for pool {pool}"
    command.until(
        lambda: any(waits in line and holder[:8] in line for line in command.lines),
        GOES_ON_S,
        f"no line that it waits for pool {pool}",
    )
    begun = time.monotonic()
    os.kill(command.pid, sign)
    assert command.wait(ENDS_S) != 0, command.report()
    assert time.monotonic() - begun < ENDS_S
    assert holders(command.home, pool) == {holder}
    assert status(command.home, holder) == dg.DagsterRunStatus.STARTED
    with open_instance(command.home) as instance:
        at_work = instance.get_runs(dg.RunsFilter(statuses=[dg.DagsterRunStatus.STARTED]))
        pending = instance.event_log_storage.get_concurrency_info(pool).pending_step_count
    assert [run.run_id for run in at_work] == [holder]
    assert pending == 0


def test_a_run_that_waits_for_a_pool_says_so_and_can_be_ended(home, workshop):
    living, holder = tagging(workshop, home)
    for sign in (signal.SIGTERM, signal.SIGINT):
        assert_ends_waiting(workshop.command(home, TAGS), LLM_POOL, holder, sign)
    assert not living.ended(), living.report()


def test_a_build_of_the_warehouse_that_waits_can_be_ended(home, workshop):
    living, holder, dbt = building(workshop, home)
    os.kill(dbt, signal.SIGSTOP)
    for sign in (signal.SIGTERM, signal.SIGINT):
        assert_ends_waiting(workshop.command(home, WAREHOUSE), WAREHOUSE_POOL, holder, sign)
    os.kill(dbt, signal.SIGCONT)
    assert living.wait(COMMAND_S) == 0, living.report()


def test_another_home_is_let_be(dead_home, home, with_manifest, workshop, tmp_path):
    """Starting in one home frees nothing of another's, whether its run is dead or lives."""
    dead, run_id = dead_home
    living, holder = tagging(workshop, home)
    with ended_after(copy_home(with_manifest, tmp_path / "third")) as third:
        workshop.model.reset(0.05)
        assert workshop.command(third, TAGS).wait(COMMAND_S) == 0
    assert holders(dead, LLM_POOL) == {run_id}
    assert status(dead, run_id) == dg.DagsterRunStatus.STARTED
    assert holders(home, LLM_POOL) == {holder}
    assert is_alive(living.pid)


def test_of_a_dead_and_a_living_run_only_the_dead_one_is_freed(home, workshop):
    living, holder, dbt = building(workshop, home)
    os.kill(dbt, signal.SIGSTOP)
    killed, dead = tagging(workshop, home)
    kill(killed.pid)

    workshop.model.reset(0.05)
    again = workshop.command(home, TAGS)
    again.until(
        lambda: "▸ open_tags" in again.lines or again.ended(), GOES_ON_S, "no tagging again"
    )
    assert again.wait(COMMAND_S) == 0, again.report()
    assert_says_freed(again.printed, dead)
    assert holder[:8] not in again.printed
    assert status(home, dead) == dg.DagsterRunStatus.FAILURE
    assert status(home, holder) == dg.DagsterRunStatus.STARTED
    assert holders(home, WAREHOUSE_POOL) == {holder}
    os.kill(dbt, signal.SIGCONT)
    assert living.wait(COMMAND_S) == 0, living.report()

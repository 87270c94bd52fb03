"""What a killed run held is free again, and what a living one holds is not touched."""

import json
import logging
import os
import signal
import socket
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import dagster as dg
import pytest
from dagster._core.events import EngineEventData
from dagster._core.test_utils import create_run_for_test
from dagster._daemon.monitoring.run_monitoring import monitor_started_run

from resources.processes import this_process
from resources.runs.dead import (
    LAUNCHER_TAG,
    PROCESS_TAG,
    free_dead_runs,
    is_dead,
    note_process,
    process_of,
)
from resources.runs.health import daemon_silent_s, dead_run_names, held_pools, queue, stale_holders
from tests.integration.runs.conftest import Place

STARTED, STARTING = dg.DagsterRunStatus.STARTED, dg.DagsterRunStatus.STARTING
FAILURE, CANCELED = dg.DagsterRunStatus.FAILURE, dg.DagsterRunStatus.CANCELED


def test_a_killed_run_is_failed_and_its_place_is_free(place):
    killed = place.holding()
    (run,) = place.runs(STARTED)
    assert place.holders() == {run.run_id}
    assert free_dead_runs(place.instance) == []
    killed.kill()
    (line,) = free_dead_runs(place.instance)
    pid = killed.process.pid
    assert line == (
        f"run {run.run_id[:8]} of holding_job died (its process {pid} is gone): failed it and "
        "freed what it held (pool llm_api)"
    )
    assert place.runs(FAILURE)[0].run_id == run.run_id
    assert place.holders() == set()
    assert free_dead_runs(place.instance) == []


def test_the_next_run_goes_on_by_itself_and_says_what_it_freed(place):
    place.holding().kill()
    place.go.touch()
    following = place.start()
    said = following.wait_for("ended None")
    assert "died (its process" in said
    assert "freed what it held (pool llm_api)" in said


def test_a_run_that_waits_goes_on_when_the_one_that_holds_the_pool_is_killed(place):
    killed = place.holding()
    waiting = place.start()
    said = waiting.wait_for("waits for pool")
    (holder,) = place.holders()
    wait = f"holds waits for pool llm_api, which run {holder[:8]} (holding_job, process"
    assert f"{wait} {killed.process.pid}) holds" in said
    killed.kill()
    waiting.wait_for("at work")
    assert place.holders() != {holder}
    # It says once for whom it waits, however long that is.
    assert waiting.log.read_text().count("waits for pool") == 1


def test_a_living_run_beside_a_dead_one_keeps_its_place(place):
    place.instance.event_log_storage.set_concurrency_slots("llm_api", 2)
    living, killed = place.holding(), place.holding()
    killed.kill()
    assert len(free_dead_runs(place.instance)) == 1
    (run,) = place.runs(STARTED)
    assert process_of(run).pid == living.process.pid
    assert place.holders() == {run.run_id}
    place.go.touch()
    living.wait_for("ended None")


def test_another_homes_runs_are_not_looked_at(place, other_place):
    living = other_place.holding()
    place.holding().kill()
    assert len(free_dead_runs(place.instance)) == 1
    assert len(other_place.holders()) == 1
    other_place.go.touch()
    living.wait_for("ended None")


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_ends_a_run_that_waits_soon_and_alone(place, number):
    living = place.holding()
    (held,) = place.runs(STARTED)
    waiting = place.start()
    waiting.wait_for("waits for pool")
    told_at = time.monotonic()
    os.kill(waiting.process.pid, number)
    waiting.process.join(30)
    assert waiting.process.exitcode not in {None, 0}
    assert time.monotonic() - told_at < 5
    assert place.holders() == {held.run_id}
    info = place.instance.event_log_storage.get_concurrency_info("llm_api")
    assert [step.run_id for step in info.pending_steps] == [held.run_id]
    assert place.runs(FAILURE)
    place.go.touch()
    living.wait_for("ended None")


def test_a_pool_that_lets_nobody_in_is_named(place):
    place.instance.event_log_storage.set_concurrency_slots("llm_api", 0)
    said = place.start().wait_for("waits for pool")
    assert "waits for pool llm_api, which lets no run in: its limit is 0" in said


def test_waiting_costs_next_to_nothing(place):
    place.holding()
    waiting = place.start()
    waiting.wait_for("waits for pool")
    stat = Path(f"/proc/{waiting.process.pid}/stat")

    def cpu_ticks() -> int:
        fields = stat.read_text().rpartition(")")[2].split()
        return int(fields[11]) + int(fields[12])

    before = cpu_ticks()
    time.sleep(4)
    # It used to take a whole core: some 400 ticks of 10 ms.
    assert cpu_ticks() - before < 150


def a_run(place: Place, status: dg.DagsterRunStatus, **tags: str) -> dg.DagsterRun:
    return create_run_for_test(
        place.instance,
        job_name="a_job",
        status=status,
        tags=tags,
    )


def noted(process: Any, run_id: str | None = None) -> str:
    return json.dumps({**({"run": run_id} if run_id else {}), **process.as_dict()})


def add_tag(place: Place, run: dg.DagsterRun, name: str, value: str) -> dg.DagsterRun:
    place.instance.add_run_tags(run.run_id, {name: value})
    return place.instance.get_run_by_id(run.run_id)


GONE = replace(this_process(), pid=2**22 + 1)


def test_a_repeated_run_is_not_judged_by_the_first_ones_process(place):
    first = a_run(place, FAILURE)
    tag = noted(GONE, first.run_id)
    repeated = a_run(place, STARTED, **{PROCESS_TAG: tag})
    assert process_of(repeated) is None
    assert not is_dead(place.instance, repeated)
    assert is_dead(
        place.instance, add_tag(place, repeated, PROCESS_TAG, noted(GONE, repeated.run_id))
    )


def test_a_repeated_run_is_not_judged_by_where_the_first_one_was_launched(place):
    """Dagster calls it starting before it is launched, while it has the first one's tag."""
    first = a_run(place, FAILURE)
    tag = noted(replace(this_process(), boot="before"), first.run_id)
    repeated = a_run(place, STARTING, **{LAUNCHER_TAG: tag})
    assert not is_dead(place.instance, repeated)


@pytest.mark.parametrize("elsewhere", [{"host": "another"}, {"namespace": "another"}])
def test_a_run_whose_process_cant_be_seen_from_here_is_left_alone(place, elsewhere):
    run = a_run(place, STARTED)
    run = add_tag(place, run, PROCESS_TAG, noted(replace(GONE, **elsewhere), run.run_id))
    launched = a_run(place, STARTING)
    add_tag(place, launched, LAUNCHER_TAG, noted(replace(GONE, **elsewhere), launched.run_id))
    place.instance.event_log_storage.claim_concurrency_slot("llm_api", run.run_id, "step")
    assert free_dead_runs(place.instance) == []
    assert len(place.runs(STARTED, STARTING)) == 2


def test_after_a_reboot_all_runs_of_the_boot_before_are_dead(place):
    before = replace(this_process(), boot="before")
    run = a_run(place, STARTED)
    add_tag(place, run, PROCESS_TAG, noted(before, run.run_id))
    launched = a_run(place, STARTING)
    add_tag(place, launched, LAUNCHER_TAG, noted(before, launched.run_id))
    assert len(free_dead_runs(place.instance)) == 2
    assert not place.runs(STARTED, STARTING)


def report_pid(place: Place, run: dg.DagsterRun, pid: int) -> None:
    """As Dagster does when a run's process begins."""
    place.instance.report_engine_event(
        f"Started process for run (pid: {pid}).", run, EngineEventData.in_process(pid)
    )


@pytest.mark.parametrize("launcher", [True, False])
def test_a_run_that_has_not_noted_its_process_is_judged_by_what_dagster_reported(place, launcher):
    """An earlier release's, or one that was killed before it came to its first step."""
    dead, living, unknown = (a_run(place, STARTED) for _ in range(3))
    if launcher:
        dead, living, unknown = (
            add_tag(place, run, LAUNCHER_TAG, noted(this_process(), run.run_id))
            for run in (dead, living, unknown)
        )
    report_pid(place, dead, GONE.pid)
    report_pid(place, living, this_process().pid)
    assert is_dead(place.instance, dead)
    assert not is_dead(place.instance, living)
    assert not is_dead(place.instance, unknown)


@pytest.mark.parametrize("listens", [True, False])
def test_a_launched_run_whose_server_is_gone_before_it_said_anything_is_dead(
    place, listens, tmp_path, monkeypatch
):
    path = str(tmp_path / "server")
    with socket.socket(socket.AF_UNIX) as server:
        if listens:
            server.bind(path)
            server.listen()
        run = a_run(place, STARTING)
        run = add_tag(place, run, LAUNCHER_TAG, noted(this_process(), run.run_id))
        run = add_tag(place, run, ".dagster/grpc_info", json.dumps({"socket": path}))
        place.instance.report_engine_event("launch", run)
        place.instance.report_dagster_event(
            dg.DagsterEvent(dg.DagsterEventType.RUN_STARTING.value, "a_job"), run.run_id
        )
        # It may still be importing.
        assert not is_dead(place.instance, run)
        monkeypatch.setattr("resources.runs.dead._SILENT_S", 0.0)
        assert is_dead(place.instance, run) is not listens


def test_a_run_that_was_to_be_canceled_is_canceled(place):
    run = a_run(place, dg.DagsterRunStatus.CANCELING)
    add_tag(place, run, PROCESS_TAG, noted(GONE, run.run_id))
    (line,) = free_dead_runs(place.instance)
    assert line.endswith(": it is canceled now")
    assert place.runs(CANCELED)


def test_what_an_ended_run_still_holds_is_freed_once_its_process_is_gone(place):
    killed = place.holding()
    (run,) = place.runs(STARTED)
    # Canceled by force in the UI: its process is still ending its work.
    place.instance.report_run_canceled(run)
    assert free_dead_runs(place.instance) == []
    assert stale_holders(place.instance) == []
    assert place.holders() == {run.run_id}
    killed.kill()
    assert stale_holders(place.instance) == [run.run_id]
    (line,) = free_dead_runs(place.instance)
    assert line == f"run {run.run_id[:8]} has ended: freed what it held (pool llm_api)"
    assert place.holders() == set()


def test_what_a_run_holds_that_is_no_longer_known_is_freed(place):
    place.instance.event_log_storage.set_concurrency_slots("llm_api", 1)
    claimed = place.instance.event_log_storage.claim_concurrency_slot("llm_api", "gone", "step")
    assert claimed.is_claimed
    assert free_dead_runs(place.instance) == [
        "run gone has ended: freed what it held (pool llm_api)"
    ]
    assert place.holders() == set()


def test_dagsters_monitor_fails_a_dead_run_and_leaves_a_living_one(place):
    killed, living = a_run(place, STARTED), a_run(place, STARTED)
    add_tag(place, killed, PROCESS_TAG, noted(GONE, killed.run_id))
    add_tag(place, living, PROCESS_TAG, note_process(living.run_id)[PROCESS_TAG])
    for run in (killed, living):
        (record,) = place.instance.get_run_records(dg.RunsFilter(run_ids=[run.run_id]))
        monitor_started_run(place.instance, None, record, logging.getLogger())  # type: ignore[arg-type]
    assert [run.run_id for run in place.runs(STARTED)] == [living.run_id]


def test_health_says_what_there_is(place):
    assert dead_run_names(place.instance) == []
    assert held_pools(place.instance) == {}
    assert queue(place.instance).runs == 0
    assert daemon_silent_s(place.instance) is None
    killed = place.holding()
    (run,) = place.runs(STARTED)
    assert held_pools(place.instance) == {
        "llm_api": [f"run {run.run_id[:8]} (holding_job, process {killed.process.pid})"]
    }
    killed.kill()
    (name,) = dead_run_names(place.instance)
    assert run.run_id[:8] in name
    # Looking changes nothing.
    assert place.runs(STARTED)

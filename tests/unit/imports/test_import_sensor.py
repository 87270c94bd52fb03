"""The sensor of landing/verdicts: each content once, bad files said once and left there."""

import os
import time

import dagster as dg
import pytest

from opencs_assets.imports.kept import kept_files
from opencs_assets.imports.sensors import build_import_sensor
from opencs_assets.wiring.home import Home


@pytest.fixture
def tick(desk):
    sensor = build_import_sensor("imported_job")
    instance = dg.DagsterInstance.ephemeral()
    state = {"cursor": None}

    def once() -> dg.SensorResult:
        context = dg.build_sensor_context(
            instance=instance, cursor=state["cursor"], resources={"home": Home(path=str(desk.home))}
        )
        result = sensor(context)
        state["cursor"] = result.cursor
        return result

    return once


@pytest.fixture
def drop(desk):
    folder = desk.home / "landing" / "verdicts"
    folder.mkdir(parents=True)

    def drop(name, rows, age=60):
        target = folder / name
        desk.write(name, rows).replace(target)
        past = time.time() - age
        os.utime(target, (past, past))
        return target

    return drop


def test_a_new_file_is_kept_and_starts_one_run(desk, tick, drop, score_row):
    drop("a.jsonl", [score_row()])
    (request,) = tick().run_requests
    (kept,) = kept_files(desk.home)
    assert request.run_key == kept.sha256
    assert not tick().run_requests
    drop("a.jsonl", [score_row()], age=30)
    # Dagster starts a run key once.
    assert [again.run_key for again in tick().run_requests] == [kept.sha256]
    drop("a.jsonl", [score_row(2)], age=20)
    assert tick().run_requests[0].run_key != kept.sha256
    assert len(kept_files(desk.home)) == 2


def test_several_files_start_one_run(desk, tick, drop, score_row):
    drop("a.jsonl", [score_row()])
    drop("b.jsonl", [score_row(2)])
    assert len(tick().run_requests) == 1
    assert len(kept_files(desk.home)) == 2


def test_a_bad_file_is_said_once_and_stays(desk, tick, drop, score_row):
    bad = drop("a.jsonl", '{"colour": "red"}')
    said = tick().skip_reason.skip_message
    assert "a.jsonl" in said
    assert "no form that can be imported" in said
    assert "opencs import-verdicts" in said
    assert tick().skip_reason.skip_message == "nothing new"
    assert bad.exists()
    drop("b.jsonl", [score_row()])
    assert len(tick().run_requests) == 1
    assert [kept.name for kept in kept_files(desk.home)] == ["b.jsonl"]


def test_a_file_still_being_written_is_left(tick, drop, score_row):
    drop("a.jsonl", [score_row()], age=0)
    assert "still being written" in tick().skip_reason.skip_message


def test_a_home_without_the_folder_has_nothing_new(tick):
    assert tick().skip_reason.skip_message == "nothing new"

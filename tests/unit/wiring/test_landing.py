"""The landing sensor: each content once, a changed file is a new version, bad ones are said."""

import json
import os
import time

import dagster as dg
import pytest

from opencs_assets.datasets.catalog import current_source, list_sources
from opencs_assets.datasets.sensors import build_landing_sensor
from opencs_assets.wiring.home import Home

ASSETS = ("raw_dataset", "rejected_rows", "open_tags")
LINE = '{"instruction": "Say %s", "output": "Yes %s"}\n'


@pytest.fixture
def home(tmp_path, monkeypatch):
    for name in list(os.environ):
        if name.startswith("OPENCS_"):
            monkeypatch.delenv(name)
    (tmp_path / "landing").mkdir()
    return tmp_path


@pytest.fixture
def tick(home):
    sensor = build_landing_sensor("dataset_job", ASSETS)
    instance = dg.DagsterInstance.ephemeral()
    state = {"cursor": None}

    def once() -> dg.SensorResult:
        context = dg.build_sensor_context(
            instance=instance, cursor=state["cursor"], resources={"home": Home(path=str(home))}
        )
        result = sensor(context)
        state["cursor"] = result.cursor
        return result

    return once


def drop(home, name, text, age=60):
    file = home / "landing" / name
    file.write_text(text)
    past = time.time() - age
    os.utime(file, (past, past))
    return file


def test_a_new_file_becomes_a_dataset_and_one_run(home, tick):
    drop(home, "My Data.jsonl", LINE % ("a", "a"))
    result = tick()
    (request,) = result.run_requests
    assert request.partition_key == "my-data"
    assert request.run_key == f"my-data:{current_source(home, 'my-data').sha256}"
    assert result.dynamic_partitions_requests[0].partition_keys == ["my-data"]
    assert {key.to_user_string() for key in request.asset_selection} == set(ASSETS)
    assert not tick().run_requests


def test_a_changed_file_is_a_new_version_not_a_second_dataset(home, tick):
    drop(home, "data.jsonl", LINE % ("a", "a"))
    first = tick().run_requests[0]
    drop(home, "data.jsonl", LINE % ("b", "b"), age=30)
    second = tick().run_requests[0]
    assert first.partition_key == second.partition_key == "data"
    assert first.run_key != second.run_key
    assert [source.name for source in list_sources(home)] == ["data"]


def test_a_touched_file_with_the_same_content_has_the_same_run_key(home, tick):
    drop(home, "data.jsonl", LINE % ("a", "a"))
    first = tick().run_requests[0]
    drop(home, "data.jsonl", LINE % ("a", "a"), age=30)
    again = tick().run_requests
    # Dagster starts a run key once.
    assert [request.run_key for request in again] == [first.run_key]


def test_a_file_still_being_written_is_left(home, tick):
    drop(home, "data.jsonl", LINE % ("a", "a"), age=0)
    result = tick()
    assert not result.run_requests
    assert "still being written" in result.skip_reason.skip_message
    assert json.loads(result.cursor) == {}


@pytest.mark.parametrize("name", [".hidden.jsonl", "data.jsonl.part", "data.tmp", "data.jsonl~"])
def test_unfinished_and_hidden_files_are_left(home, tick, name):
    drop(home, name, LINE % ("a", "a"))
    assert tick().skip_reason.skip_message == "nothing new in landing"


def test_an_empty_file_is_said_and_does_not_stop_the_others(home, tick):
    drop(home, "aaa.jsonl", "")
    drop(home, "data.jsonl", LINE % ("a", "a"))
    assert [request.partition_key for request in tick().run_requests] == ["data"]
    drop(home, "bbb.jsonl", "")
    assert "bbb.jsonl" in tick().skip_reason.skip_message


@pytest.mark.parametrize(
    ("mode", "assets"),
    [
        ("ingest", {"raw_dataset", "rejected_rows"}),
        ("estimate", {"raw_dataset", "rejected_rows", "cost_estimate"}),
        ("select", set(ASSETS)),
    ],
)
def test_the_setting_decides_how_far(home, tick, mode, assets):
    (home / "settings.toml").write_text(f'[landing]\non_new_data = "{mode}"\n')
    drop(home, "data.jsonl", LINE % ("a", "a"))
    (request,) = tick().run_requests
    assert {key.to_user_string() for key in request.asset_selection} == assets
    assert request.tags["opencs/landing"] == mode

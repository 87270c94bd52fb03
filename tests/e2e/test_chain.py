"""The whole chain, as a person runs it."""

import json
import re
import subprocess
import sys
from pathlib import Path

import dagster as dg
import polars as pl
import pytest

from opencs_assets.tables.lake import Lake
from resources.warehouse import query
from tests.e2e.conftest import QUESTIONS, ROWS, environment, opencs, several

pytestmark = [pytest.mark.e2e, pytest.mark.llm, pytest.mark.train]


def rows(home: Path, sql: str) -> list[dict]:
    return query(home / "warehouse.duckdb", sql).to_dicts()


def test_demo_prints_what_came_out(demo_home):
    said = (demo_home / "first.out").read_text()
    for expected in (
        r"samples\s+│\s+18",
        r"rejected rows\s+│\s+1",
        "tags before normalization",
        "tags after normalization",
        r"clusters\s+│\s+3",
        r"subset opencs\s+│\s+6",
        "Scores",
        "Win / tie / lose",
        "Language model calls",
        "Time:",
        "warehouse.duckdb",
        "http://127.0.0.1:3000",
    ):
        assert re.search(expected, said), f"{expected!r} is not in:\n{said}"


def test_every_sample_is_accounted_for(demo_home):
    lake = Lake(str(demo_home / "lake"))
    for table in ("raw_dataset", "open_tags", "normalized_tags", "sample_embeddings"):
        assert lake.read(table, {"dataset": "small"}).height == ROWS
    assert lake.read("rejected_rows", {"dataset": "small"})["reason"].to_list() == ["no_response"]


def test_the_two_arms_are_trained_alike(demo_home):
    lake = Lake(str(demo_home / "lake"))
    arms = pl.concat(lake.read("checkpoint", each) for each in lake.partitions("checkpoint"))
    assert arms.height == 2
    assert arms["steps"].n_unique() == 1
    assert (arms["samples"] + arms["dropped_samples"]).to_list() == [6, 6]
    assert arms["template_hash"].n_unique() == 1
    assert arms["provenance"].n_unique() == 2
    assert all(Path(path).is_dir() for path in arms["path"])


def test_every_question_is_answered_and_judged(demo_home):
    for model in rows(demo_home, "select * from answer_scores"):
        turns = 2 * QUESTIONS
        assert (model["judged"], model["expected"], model["complete"]) == (turns, turns, True)
    (pair,) = rows(demo_home, "select * from win_rates where is_default_rule")
    assert pair["judged"] == pair["expected"] == QUESTIONS
    assert pair["win"] + pair["tie"] + pair["lose"] + pair["unparsable"] == QUESTIONS


def test_selected_samples_say_why(demo_home):
    chosen = rows(demo_home, "select * from selected_samples where selector = 'opencs'")
    assert len(chosen) == 6
    assert all(sample["reason"].startswith("place ") for sample in chosen)
    assert all(sample["tags"] for sample in chosen)


def test_embedded_results_say_that_they_are(demo_home):
    usage = rows(demo_home, "select * from llm_usage")
    assert usage
    assert all(row["is_embedded"] and row["cost_usd"] == 0 for row in usage)


def test_a_second_demo_makes_no_call_and_reuses(demo_home, small_file):
    def replies() -> list[dict]:
        return rows(demo_home, "select stage, calls from llm_usage order by all")

    lake = Lake(str(demo_home / "lake"))
    before = replies()
    folders = {path: path.stat().st_mtime_ns for path in demo_home.glob("checkpoints/*/*/*")}
    tables = {
        (name, str(each)): lake.read(name, each)
        for name in ("selected_subset", "single_verdicts", "pairwise_verdicts", "model_answers")
        for each in lake.partitions(name)
    }
    again = opencs(demo_home, "demo", str(small_file))
    assert again.returncode == 0, again.stderr
    assert replies() == before
    # Nothing was trained again, and the same inputs gave the same tables.
    assert {path: path.stat().st_mtime_ns for path in folders} == folders
    for (name, each), table in tables.items():
        partition = next(p for p in lake.partitions(name) if str(p) == each)
        assert lake.read(name, partition).equals(table)
    assert "(reused)" in again.stderr


def test_the_runs_are_in_the_instance_that_the_ui_opens(demo_home):
    with dg.DagsterInstance.from_config(str(demo_home / "dagster")) as instance:
        assert instance.get_dynamic_partitions("dataset") == ["small"]
        event = instance.get_latest_materialization_event(dg.AssetKey("selected_subset"))
        metadata = event.asset_materialization.metadata
        assert metadata["dagster/row_count"].value == 6
        assert metadata["against_all"].value.startswith("![plot](data:image/png;base64,")
        statuses = {run.status for run in instance.get_runs()}
        assert statuses == {dg.DagsterRunStatus.SUCCESS}


@pytest.mark.soak
def test_sql_answers_while_a_run_is_going_on(demo_home):
    run = subprocess.Popen(
        [
            sys.executable,
            "-m",
            "opencs_assets.cli",
            "materialize",
            "group:evaluation",
            "--all",
        ],
        env=environment(demo_home),
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
    )
    answered = 0
    while run.poll() is None:
        found = opencs(demo_home, "sql", "select count(*) as n from win_rates", "--json")
        assert found.returncode == 0, found.stderr
        assert json.loads(found.stdout)[0]["n"] >= 1
        answered += 1
    assert run.returncode == 0, run.stderr.read()
    assert answered >= 1


def test_a_changed_file_is_a_new_version_of_the_dataset(demo_home, small_file, tmp_path):
    changed = tmp_path / small_file.name
    changed.write_text("".join(small_file.read_text().splitlines(keepends=True)[:5]))
    # At last it is what the other tests expect.
    lines = [("add", str(changed), "--json"), ("datasets", "--json"), ("add", str(small_file))]
    added, listed, again = several(demo_home, lines)
    assert json.loads(added.stdout)["name"] == "small"
    assert [entry["name"] for entry in json.loads(listed.stdout)] == ["small"]
    assert again.returncode == 0

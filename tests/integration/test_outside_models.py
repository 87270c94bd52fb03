"""Outside models: answered through the platform's client, paid once, and a side of a matchup."""

import shutil
from collections.abc import Iterator
from pathlib import Path

import dagster as dg
import httpx
import polars as pl
import pytest

from definitions import build_defs
from opencs_assets.answers.store import expected_keys
from opencs_assets.cli.running import plan_runs
from opencs_assets.config.experiments import load_experiments
from opencs_assets.tables.lake import Lake
from opencs_assets.wiring import running
from resources.llm import engine
from resources.settings import load_settings
from tests.integration.servers.started import started
from tests.integration.warehouse.conftest import table as filled

OURS = "random@smollm2-135m"
EXPERIMENTS = """
outside_models:
  gpt-4: {{base_url: "{url}/v1", model: gpt-4, api_key_env: TEST_API_KEY}}
  unused: {{base_url: "{url}/v1", model: other, api_key_env: TEST_API_KEY}}
matchups:
  ours_vs_gpt-4: {{model_a: random@smollm2-135m, model_b: gpt-4, benchmark: own}}
"""
OWN = """{"question_id": 1, "category": "math", "turns": ["Why?", "And?"]}
{"question_id": 2, "category": "writing", "turns": ["How?", "So?"]}
{"question_id": 3, "category": "stem", "turns": ["Who?"]}
"""


@pytest.fixture(scope="module")
def url() -> Iterator[str]:
    with started("answer_server.py") as url:
        yield url


class Platform:
    """A home with an outside model, and one experiment's answers to the benchmark ``own``."""

    def __init__(self, home: Path, url: str) -> None:
        self.home, self.url = home, url
        (home / "experiments.yaml").write_text(EXPERIMENTS.format(url=url))
        (home / "benchmarks").mkdir()
        (home / "benchmarks" / "own.jsonl").write_text(OWN)
        (home / "settings.toml").write_text(
            f'[roles.judge]\nbase_url = "{url}/v1"\nmodel = "gpt-4"\n'
            'api_key_env = "TEST_API_KEY"\nreading = "generated"\n'
        )
        self.instance = dg.DagsterInstance.ephemeral()
        self.defs = build_defs(home)
        self.lake = Lake(load_settings(home).lake)
        running.register_dataset(self.instance, "d")

    def forget(self) -> None:
        """As it was at first: no tables, no replies."""
        for name in ("lake", "llm"):
            shutil.rmtree(self.home / name, ignore_errors=True)
        self.configure()

    def configure(self, **values) -> None:
        httpx.post(f"{self.url}/configure", json=values)

    def asked(self) -> list[dict]:
        return httpx.get(f"{self.url}/asked").json()

    def run(self, selection: str) -> str | None:
        """Materialize for our experiment; returns what failed."""
        steps = plan_runs(
            self.defs,
            self.instance,
            load_experiments(self.home),
            selection,
            chosen_experiments=[OURS],
        )
        assert steps
        errors = (running.run(self.defs, self.instance, step).error for step in steps)
        return next(filter(None, errors), None)

    def outside(self) -> pl.DataFrame:
        return self.lake.read("outside_answers", {"outside_model": "gpt-4"})

    def answer_ours(self) -> None:
        questions = self.lake.read("benchmark_questions", {}).filter(benchmark="own")
        names = ("benchmark", "question_id", "turn")
        rows = [dict(zip(names, key, strict=True)) for key in expected_keys(questions)]
        table = filled("model_answers", rows, category="math", answer="ours", finish_reason="stop")
        self.lake.write("model_answers", table, {"dataset": "d", "experiment": OURS})


@pytest.fixture(scope="module")
def shared(tmp_path_factory, url) -> Platform:
    return Platform(tmp_path_factory.mktemp("home"), url)


@pytest.fixture
def platform(shared, monkeypatch) -> Platform:
    monkeypatch.setenv("TEST_API_KEY", "sk-test")
    monkeypatch.setattr(engine, "_FIRST_WAIT_S", 0.01)
    shared.forget()
    return shared


def test_answered_with_the_benchmarks_sampling_and_never_paid_for_twice(platform):
    assert platform.run("key:benchmark_questions or key:outside_answers") is None
    table = platform.outside()
    # Of its matchup's benchmark only; ``smoke`` is there too, and would cost money for nothing.
    assert table.select("question_id", "turn").rows() == [
        ("1", 1), ("1", 2), ("2", 1), ("2", 2), ("3", 1),
    ]  # fmt: skip
    assert table["answer"].to_list() == [
        "message 1", "message 3", "message 1", "message 3", "message 1",
    ]  # fmt: skip
    assert table["temperature"].to_list() == [0.0, 0.0, 0.7, 0.7, 0.1]
    assert set(table["finish_reason"]) == {"stop"}
    assert (table["seed"].is_null() == (table["temperature"] == 0)).all()
    asked = platform.asked()
    assert len(asked) == 5
    assert {body["max_tokens"] for body in asked} == {512}
    assert {body["model"] for body in asked} == {"gpt-4"}
    seeds = {body.get("seed") for body in asked if body["temperature"] > 0}
    assert seeds == set(table["seed"].drop_nulls())
    second = next(body for body in asked if len(body["messages"]) == 3)
    assert [each["role"] for each in second["messages"]] == ["user", "assistant", "user"]

    assert platform.run("outside_answers") is None
    assert len(platform.asked()) == 5
    assert platform.outside().equals(table)


def test_an_outside_model_is_a_side_of_a_matchup(platform):
    assert platform.run("key:benchmark_questions or key:outside_answers") is None
    platform.answer_ours()
    assert platform.run("pairwise_verdicts") is None
    table = platform.lake.read("pairwise_verdicts", {"dataset": "d", "matchup": "ours_vs_gpt-4"})
    assert set(table.select("model_a", "model_b").rows()) == {(OURS, "gpt-4")}
    assert table.height == 6
    assert set(table["status"]) == {"ok"}
    assert set(table["winner"]) == {"a", "b"}
    judged = [body for body in platform.asked() if body["messages"][0]["role"] == "system"]
    assert all("ours" in str(body) and "message 1" in str(body) for body in judged)


def test_a_matchup_whose_outside_model_was_not_asked_says_what_to_do(platform):
    assert platform.run("benchmark_questions") is None
    platform.answer_ours()
    error = platform.run("pairwise_verdicts")
    assert "outside_answers has no rows for gpt-4 yet" in error
    assert "opencs materialize outside_answers --all" in error


@pytest.mark.parametrize(
    ("settings", "reason", "answer"),
    [
        ({"reason": "length", "text": "cut"}, "length", "cut"),
        ({"text": ""}, "refused", ""),
        ({"reason": "content_filter", "text": ""}, "refused", ""),
    ],
)
def test_a_cut_and_an_empty_answer_are_rows_with_their_reason(platform, settings, reason, answer):
    platform.configure(**settings)
    assert platform.run("key:benchmark_questions or key:outside_answers") is None
    table = platform.outside()
    assert set(table.select("finish_reason", "answer").rows()) == {(reason, answer)}
    assert table.height == 5


def test_a_call_that_fails_is_a_row_that_says_why_and_is_asked_again(platform):
    platform.configure(faults=[200, 200, 400])
    assert platform.run("key:benchmark_questions or key:outside_answers") is None
    table = platform.outside()
    bad = table.filter(~pl.col("finish_reason").is_in(["stop"]))
    assert bad.height in (1, 2)
    assert "400" in bad["detail"][0]
    assert table.height == 5
    # A turn is not asked after one that has no answer.
    assert len(platform.asked()) == 5 - bad.height
    platform.configure()
    assert platform.run("outside_answers") is None
    assert set(platform.outside()["finish_reason"]) == {"stop"}
    assert len(platform.asked()) == bad.height


def test_faults_that_pass_are_waited_for(platform):
    platform.configure(faults=[429, 500, 503, 0])
    assert platform.run("key:benchmark_questions or key:outside_answers") is None
    assert set(platform.outside()["finish_reason"]) == {"stop"}


def test_a_wrong_name_or_key_is_one_clear_error_that_names_the_setting(platform, monkeypatch):
    platform.configure(faults=[404] * 50)
    error = platform.run("key:benchmark_questions or key:outside_answers")
    assert "outside_models.gpt-4" in error
    assert "roles." not in error
    monkeypatch.delenv("TEST_API_KEY")
    platform.configure(faults=[401] * 50)
    error = platform.run("outside_answers")
    assert "TEST_API_KEY" in error

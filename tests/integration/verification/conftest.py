"""A home that was judged by a real judge process and built by the real assets, once a session."""

import json
import shutil
from collections.abc import Iterator
from pathlib import Path

import dagster as dg
import polars as pl
import pytest

from definitions import build_defs
from opencs_assets.answers.store import expected_keys
from opencs_assets.cli.running import plan_runs
from opencs_assets.config.experiments import load_experiments
from opencs_assets.imports.kept import keep
from opencs_assets.imports.options import ImportOptions
from opencs_assets.tables.catalog import TABLES
from opencs_assets.tables.lake import Lake
from opencs_assets.verification.marts import Rebuilt, rebuilt
from opencs_assets.wiring import running
from resources.settings import load_settings
from tests.integration.servers.started import started
from tests.integration.warehouse.conftest import table

ONE, TWO = "opencs@smollm2-135m", "random@smollm2-135m"
MATCHUP = "one_vs_two"
EXPERIMENTS = f"""
matchups:
  {MATCHUP}: {{model_a: {ONE}, model_b: {TWO}, benchmark: own}}
"""
QUESTIONS = 24
# Qualities of the answers by question, of the two models; the words are the judge's cues.
FIRST = {
    ONE: ["quality=9", "quality=8", "quality=7 sway", "quality=5", "quality=6", "quality=2",
          "quality=4 stutter", "quality=3 mumble"],
    TWO: ["quality=4", "quality=8", "quality=6 sway", "quality=9", "quality=5", "quality=7",
          "quality=8", "quality=6"],
}  # fmt: skip
ANSWERS = {
    model: first + [f"quality={(3 * number + len(model)) % 9 + 1}" for number in range(16)]
    for model, first in FIRST.items()
}
# A file of FastChat's single judgments: two turns of each question of another model.
IMPORTED = [
    {
        "question_id": number,
        "model": "vicuna/13b",
        "judge": ["gpt-4", "single-v1"],
        "user_prompt": "",
        "judgment": f"Rating: [[{score}]]",
        "score": score,
        "turn": turn,
        "tstamp": 0.0,
    }
    for number in range(QUESTIONS)
    for turn, score in ((1, number % 9 + 1), (2, (number + 4) % 9 + 1))
]


@pytest.fixture(scope="session")
def judge_url() -> Iterator[str]:
    with started("verdict_judge.py") as url:
        yield url


@pytest.fixture(scope="session")
def judged_home(judge_url: str, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A home with two models' single verdicts, a matchup and a warehouse; not to be changed."""
    home = tmp_path_factory.mktemp("verified")
    (home / "experiments.yaml").write_text(EXPERIMENTS)
    (home / "benchmarks").mkdir()
    (home / "benchmarks" / "own.jsonl").write_text(
        "".join(
            f'{{"question_id": {number}, "category": "{("writing", "stem")[number % 2]}", '
            f'"turns": ["What is {number}?", "And then, of {number}?"]}}\n'
            for number in range(QUESTIONS)
        )
    )
    (home / "settings.toml").write_text(
        f'[roles.judge]\nbase_url = "{judge_url}/v1"\nmodel = "gpt-4"\n'
        'api_key_env = "TEST_API_KEY"\nreading = "generated"\n'
    )
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("TEST_API_KEY", "sk-test")
        _materialize(home)
    return home


@pytest.fixture(scope="session")
def rebuilt_marts(judged_home: Path) -> Iterator[Rebuilt]:
    """The judged home's warehouse, built once more."""
    with rebuilt(load_settings(judged_home).lake) as built:
        yield built


def copied(home: Path, to: Path) -> Path:
    """Copy what verifying reads of a home."""
    left_out = shutil.ignore_patterns("dbt", "dagster", "checkpoints", "landing", "models")
    return shutil.copytree(home, to, ignore=left_out)


def _materialize(home: Path) -> None:
    instance = dg.DagsterInstance.ephemeral()
    defs = build_defs(home)
    running.register_dataset(instance, "d")
    lake = Lake(load_settings(home).lake)

    def run(selection: str) -> None:
        steps = plan_runs(
            defs,
            instance,
            load_experiments(home),
            selection,
            datasets=["d"],
            chosen_experiments=[ONE, TWO],
        )
        assert steps
        for step in steps:
            ran = running.run(defs, instance, step)
            assert ran.error is None, ran.error

    run("key:benchmark_questions")
    questions = lake.read("benchmark_questions", {}).filter(benchmark="own")
    for model, answers in ANSWERS.items():
        lake.write(
            "model_answers", _answers(questions, answers), {"dataset": "d", "experiment": model}
        )
    train_by_hand(lake)
    lake.write("contaminated_samples", TABLES["contaminated_samples"].empty(), {"dataset": "d"})
    run("key:single_verdicts or key:pairwise_verdicts")
    file = home / "judgments.jsonl"
    file.write_text("".join(json.dumps(row) + "\n" for row in IMPORTED))
    keep(home, file, ImportOptions(benchmark="own"))
    file.unlink()
    run("key:imported_verdicts")
    run("group:evaluation")


def train_by_hand(lake: Lake) -> None:
    """What the gate asks of checkpoints: both were trained alike."""
    for model in (ONE, TWO):
        trained = {
            "provenance": "c",
            "base_model": "smollm2-135m",
            "selector": model.split("@")[0],
            "epochs": 1.0,
            "steps": 10,
            "tokens": 1000,
            "template_hash": "t",
            "packages": [],
            "log": [],
        }
        lake.write(
            "checkpoint", table("checkpoint", [trained]), {"dataset": "d", "experiment": model}
        )


def _answers(questions: pl.DataFrame, answers: list[str]) -> pl.DataFrame:
    rows = [
        {
            "benchmark": benchmark,
            "question_id": question,
            "category": ("writing", "stem")[int(question) % 2],
            "turn": turn,
            "answer": f"Answer {turn} to {question}: {answers[int(question)]}",
            "finish_reason": "stop",
            "temperature": 0.0,
        }
        for benchmark, question, turn in expected_keys(questions)
    ]
    return table("model_answers", rows, checkpoint="c")

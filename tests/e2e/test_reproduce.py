"""The published grid, scaled down to the embedded models, as a person runs it."""

import json

import pytest

from opencs_assets.config.experiments import load_experiments
from opencs_assets.tables.lake import Lake
from resources.warehouse import query
from tests.e2e.conftest import SAMPLE, SMOKE, opencs, several

pytestmark = [pytest.mark.e2e, pytest.mark.llm, pytest.mark.train]

ROWS = 12
QUESTIONS = 2
SETTINGS = """
models_dir = {models}
[method]
k = 4
clusters = 2
[training]
save_every_steps = 100
"""
EXPERIMENTS = """
recipes:
  demo: {epochs: 1, learning_rate: 1.0e-4, max_length: 64, per_device_batch_size: 2,
         batch_size: 4, max_new_tokens: 8}
"""
BASELINES = ("full", "random", "alpagasus", "longest")


@pytest.mark.soak(sample=0)
@pytest.mark.timeout(3600)
def test_the_small_grid_is_run_from_samples_to_tables(models_dir, tmp_path):
    home = tmp_path / "home"
    (home / "benchmarks").mkdir(parents=True)
    (home / "settings.toml").write_text(SETTINGS.format(models=json.dumps(str(models_dir))))
    (home / "experiments.yaml").write_text(EXPERIMENTS)
    # A file of the home replaces the package's.
    lines = SMOKE.read_text(encoding="utf-8").splitlines()[:QUESTIONS]
    (home / "benchmarks" / "smoke.jsonl").write_text("\n".join(lines), encoding="utf-8")
    data = tmp_path / "alpaca.jsonl"
    data.write_text("\n".join(SAMPLE.read_text().splitlines()[: ROWS + 5]))
    words = ("reproduce", "alpaca", "--scale", "small", "--limit", str(ROWS))
    added, dry = several(home, [("add", str(data)), (*words, "--dry-run", "--json")])
    assert added.returncode == 0
    told = json.loads(dry.stdout)

    ran = opencs(home, *words, "--yes", timeout=3000)
    assert ran.returncode == 0, ran.stdout + ran.stderr

    assert (home / "experiments.yaml").read_text() == EXPERIMENTS
    lake = Lake(str(home / "lake"))
    assert lake.read("raw_dataset", {"dataset": "alpaca"}).height == ROWS
    calls = {row["stage"]: row["calls"] for row in told["calls"]}
    # What was told is what was done; replies that could not be read were asked again, and of
    # candidates an upper number was told.
    made = {
        "open_tags": 1,
        "single_scores": 1,
        "refined_samples": 2,
        "single_verdicts": 1,
        "pairwise_verdicts": 1,
    }
    for table, calls_a_row in made.items():
        heights = [lake.read(table, each).height for each in lake.partitions(table)]
        assert sum(heights) * calls_a_row == calls[table], table
    compared = [
        lake.read("score_comparisons", each) for each in lake.partitions("score_comparisons")
    ]
    assert sum(each.height for each in compared) <= calls["contrastive_scores"]
    assert not lake.partitions("whole_set_scores")

    names = {each["experiment"] for each in lake.partitions("single_verdicts")}
    assert {name.partition("@")[0] for name in names} == {
        *("opencs", "opencs_refined", "longest_refined", "k_center"),
        *BASELINES,
    }
    rates = query(home / "warehouse.duckdb", "select * from win_rates where is_default_rule")
    against = {(row["model_a"], row["model_b"]) for row in rates.to_dicts()}
    assert against == {
        *((f"opencs@{MODEL}", f"{name}@{MODEL}") for name in BASELINES),
        (f"opencs_refined@{MODEL}", f"longest_refined@{MODEL}"),
    }
    # The UI's partitions are those that were run.
    declared = load_experiments(home).matchups
    assert {each["matchup"] for each in lake.partitions("pairwise_verdicts")} <= set(declared)

    again = json.loads(opencs(home, *words, "--dry-run", "--json").stdout)
    stages = {row["stage"]: row for row in again["calls"]}
    for table in ("open_tags", "single_verdicts", "pairwise_verdicts"):
        assert stages[table]["stored"] == stages[table]["calls"], table
        assert stages[table]["basis"] == "counted"
    assert sum(row["trainings"] for row in again["gpu_hours"]) == 0


MODEL = "smollm2-135m"

import json
from collections import Counter

import polars as pl
import pytest
import yaml

from opencs_assets.benchmarks.questions import PACKAGED, find_benchmarks, read_benchmark
from opencs_assets.config.experiments import ExperimentsError, load_experiments
from opencs_assets.config.recipes import Recipe
from opencs_assets.datasets import catalog
from opencs_assets.datasets.canonical import read_dataset
from opencs_assets.planning import gpu_hours, grid_cost, grid_hours, reproduce
from opencs_assets.planning.stage_calls import assumed_answers
from opencs_assets.tables.answers import MODEL_ANSWERS
from opencs_assets.tables.checkpoints import CHECKPOINT
from opencs_assets.tables.lake import Lake
from resources.llm.resource import LLMResource
from resources.settings import load_settings
from tests.unit.rows import filled

MODELS = ("llama2-7b", "llama2-13b", "mistral-7b")
SETS = {"koala": 180, "lima": 300, "self_instruct": 252, "vicuna": 80, "wizardlm": 218}
PAID = """
[roles.tagger]
base_url = "https://api.openai.com/v1"
model = "gpt-4o-mini"
[roles.scorer]
base_url = "https://api.openai.com/v1"
model = "gpt-4o"
[roles.refiner]
base_url = "https://api.openai.com/v1"
model = "of-unknown-price"
[roles.judge]
base_url = "https://api.openai.com/v1"
model = "gpt-4"
"""


def takes(home, grid, *, limit=20, device="A100", stages=("open_tags", "single_scores")):
    llm = LLMResource(home=str(home))
    return grid_cost.what_it_takes(
        grid,
        load_settings(home),
        llm.planned(),
        name="alpaca",
        dataset="alpaca",
        limit=limit,
        device=device,
        runs={"selector": 9, "matchup": len(grid.matchups)},
        stages=stages,
    )


def calls(found):
    return {cost.stage: cost.estimate.calls for cost in found.calls}


def test_the_published_grid_is_complete(tmp_path):
    grid = reproduce.load_grid(tmp_path)
    experiments = grid.experiments.experiments
    assert Counter(experiments[name].base_model for name in grid.names) == dict.fromkeys(MODELS, 9)
    matchups = [grid.experiments.matchups[name] for name in grid.matchups]
    assert Counter(each.benchmark for each in matchups) == dict.fromkeys(SETS, 15)
    against = Counter(each.model_b.partition("@")[0] for each in matchups)
    of_opencs = {"full", "lima_1k", "alpagasus_1k", "longest_1k"}
    assert against == dict.fromkeys([*of_opencs, "longest_1k_refined"], 15)
    for each in matchups:
        stem, _, model = each.model_b.partition("@")
        refined = "_refined" if stem.endswith("_refined") else ""
        assert each.model_a == f"opencs_1k{refined}@{model}"
        assert each.parity == ("declared" if stem == "full" else "epochs")
    # The whole set has the budget of its own, everything else that of its base model.
    for name in grid.names:
        own = "-full" if experiments[name].selector == "full" else ""
        assert experiments[name].recipe == experiments[name].base_model + own
    assert {s.k for s in grid.selectors.values() if s.method != "full"} == {1000}
    assert grid.benchmarks == (*SETS, "mt_bench")
    assert [name for name in grid.benchmarks if grid.experiments.judges_alone(name)] == ["mt_bench"]


def test_some_base_models_may_be_taken(tmp_path):
    grid = reproduce.load_grid(tmp_path, base_models=["mistral-7b"])
    assert len(grid.names) == 9
    assert len(grid.matchups) == 25
    with pytest.raises(reproduce.ReproductionError, match="no base model 'gpt-2'; it has llama2"):
        reproduce.load_grid(tmp_path, base_models=["gpt-2"])


def test_a_declared_grid_is_a_file_of_its_own_that_a_person_may_change(tmp_path):
    own = tmp_path / "experiments.yaml"
    own.write_text("# mine\nselectors: {short: {method: longest, k: 3}}\n")
    before = own.read_text()
    grid = reproduce.load_grid(tmp_path)
    assert not grid.is_declared
    assert not grid.target.exists()
    reproduce.declare(grid)
    found = load_experiments(tmp_path)
    assert found == grid.experiments
    assert "short" in found.selectors
    assert own.read_text() == before
    # What is changed there stays, and is what is run.
    content = yaml.safe_load(grid.target.read_text())
    content["selectors"]["random_1k"]["k"] = 500
    grid.target.write_text(yaml.safe_dump(content))
    again = reproduce.load_grid(tmp_path)
    assert again.is_declared
    reproduce.declare(again)
    assert load_experiments(tmp_path).selectors["random_1k"].k == 500


def test_what_the_user_has_declared_may_not_fit_and_is_named(tmp_path):
    (tmp_path / "experiments.yaml").write_text("benchmarks: [smoke]\n")
    with pytest.raises(ExperimentsError, match="'koala' is not among `benchmarks`") as error:
        reproduce.load_grid(tmp_path)
    assert str(tmp_path / "experiments.yaml") in str(error.value)


def test_both_scales_may_be_declared_in_one_home(tmp_path):
    for scale in ("published", "small"):
        reproduce.declare(reproduce.load_grid(tmp_path, scale))
    small = reproduce.load_grid(tmp_path, "small")
    assert len(small.names) == 8
    assert Counter(small.experiments.matchups[name].benchmark for name in small.matchups) == {
        "smoke": 5
    }
    assert small.experiments.judges_alone("smoke")
    assert len(reproduce.load_grid(tmp_path).matchups) == 75


def test_what_is_missing_is_listed_with_how_to_get_it(tmp_path):
    def needs(limit=None):
        found = reproduce.needs(
            reproduce.load_grid(tmp_path), load_settings(tmp_path), "alpaca", "alpaca", limit
        )
        return {need.what: need for need in found}

    found = needs()
    missing = {what for what, need in found.items() if need.is_here is False}
    assert missing == {
        "dataset alpaca",
        "file lima.jsonl",
        *(f"benchmark {name}" for name in (*SETS, "mt_bench")),
    }
    assert "`opencs add FILE --name alpaca`" in found["dataset alpaca"].remedy
    assert str(tmp_path / "lima.jsonl") in found["file lima.jsonl"].remedy
    assert found["benchmark koala"].remedy == "`opencs benchmarks fetch koala`"
    assert "hf download meta-llama/Llama-2-7b-hf" in found["base model llama2-7b"].remedy
    assert "the published runs asked gpt-4" in found["role judge"].remedy
    add(tmp_path, 3)
    (tmp_path / "lima.jsonl").write_text("{}")
    found = needs()
    assert found["dataset alpaca"].is_here
    assert found["file lima.jsonl"].is_here


def add(home, rows):
    file = home / "alpaca.jsonl"
    lines = [
        json.dumps({"instruction": f"Say {number}.", "output": f"{number} " * (number + 1)})
        for number in range(rows)
    ]
    file.write_text("\n".join(lines))
    catalog.add_source(home, file, "alpaca")


def test_first_rows_do_not_replace_what_was_read_already(tmp_path):
    add(tmp_path, 30)
    grid, settings = reproduce.load_grid(tmp_path, "small"), load_settings(tmp_path)
    samples = read_dataset(tmp_path / "alpaca.jsonl").samples
    Lake(settings.lake).write("raw_dataset", samples, {"dataset": "alpaca"})

    def missing(limit):
        found = reproduce.needs(grid, settings, "alpaca", "alpaca", limit)
        return [need.what for need in found if need.is_here is False]

    assert missing(10) == ["a home of its own for 10 rows"]
    assert missing(30) == missing(None) == []


def test_calls_are_counted_before_anything_is_there(tmp_path):
    (tmp_path / "settings.toml").write_text(PAID)
    found = takes(tmp_path, reproduce.load_grid(tmp_path))
    assert calls(found) == {
        "open_tags": 20,
        "single_scores": 20,
        # Both parts of two selectors' subsets, of as many samples as there are.
        "refined_samples": 2 * 2 * 20,
        "model_answers": 27 * (sum(SETS.values()) + 160),
        "single_verdicts": 27 * 160,
        "pairwise_verdicts": 15 * sum(SETS.values()) * 2,
    }
    rows = {cost.stage: cost.row() for cost in found.calls}
    assert {row["basis"] for row in rows.values()} == {"assumed"}
    assert rows["refined_samples"]["dollars"] == "unknown price"
    assert rows["model_answers"]["dollars"] == "GPU hours"
    # GPT-4 at 30 and 60 dollars a million: 256 tokens come back at most, about 700 go.
    judged = next(cost for cost in found.calls if cost.stage == "pairwise_verdicts").estimate
    assert judged.completion_tokens == 30_900 * 256
    assert judged.cost_usd == pytest.approx(
        (judged.prompt_tokens * 30 + judged.completion_tokens * 60) / 1e6
    )
    totals = found.totals()
    assert totals["calls"] == sum(calls(found).values()) - 27 * 1190
    assert totals["models_of_unknown_price"] == ["of-unknown-price"]
    assert "and the unknown price of of-unknown-price" in found.summary()
    assert "GPU hours of unknown price" in found.summary()
    said = " ".join(found.assumptions)
    assert "Alpaca-52k's 20 samples" in said
    assert "answers of 1,000 characters" in said
    assert "A100: 312 TFLOP/s" in said


def test_calls_of_what_is_there_are_those_that_would_be_sent(tmp_path):
    (tmp_path / "settings.toml").write_text("[training]\ngpu_usd_per_hour = 2.0\n")
    add(tmp_path, 30)
    grid = reproduce.load_grid(tmp_path, "small")
    before = takes(tmp_path, grid, limit=None)
    assert calls(before)["open_tags"] == 30
    rows = {cost.stage: cost.row()["basis"] for cost in before.calls}
    assert (rows["open_tags"], rows["pairwise_verdicts"]) == ("counted", "assumed")
    # Nothing on the embedded model's CPUs costs anything, whatever a GPU hour costs.
    assert before.totals()["gpu_dollars"] == before.totals()["gpu_hours"] == 0
    assert "opencs@smollm2" not in before.summary()
    lake = Lake(load_settings(tmp_path).lake)
    for name in grid.names:
        where = {"dataset": "alpaca", "experiment": name}
        lake.write("model_answers", answers(name), where)
    after = takes(tmp_path, grid, limit=None)
    assert calls(after) == calls(before)
    rows = {cost.stage: cost.row() for cost in after.calls}
    judged = ("model_answers", "single_verdicts", "pairwise_verdicts")
    assert {rows[stage]["basis"] for stage in judged} == {"counted"}
    assert rows["model_answers"]["stored"] == rows["model_answers"]["calls"]
    # Shorter answers than assumed make shorter prompts.
    asked = {cost.stage: cost.estimate.prompt_tokens for cost in before.calls}
    assert rows["pairwise_verdicts"]["tokens_in"] < asked["pairwise_verdicts"]


def answers(model):
    questions = read_benchmark(find_benchmarks(PACKAGED.parent)["smoke"])
    given = assumed_answers(questions, model).with_columns(
        answer=pl.lit(f"I am {model}."), category=pl.lit("generic")
    )
    return filled(MODEL_ANSWERS, given)


def test_gpu_hours_follow_from_tokens_and_size():
    size = gpu_hours.ModelSize(1_000_000_000, 10, 8, 128)
    recipe = Recipe(epochs=3, max_length=100, generation_batch_size=10)
    assert gpu_hours.training_tokens(recipe, 50, 40) == 3 * 50 * 40
    assert gpu_hours.training_tokens(recipe, 50, 400) == 3 * 50 * 100
    assert gpu_hours.training_tokens(Recipe(steps=5, batch_size=4), 50, 40) == 5 * 4 * 40
    assert gpu_hours.training_tokens(Recipe(tokens=77), 50, 40) == 77
    hours = gpu_hours.training_hours(recipe, size, 1e9, 40, 100)
    operations = 1e9 * (6e9 + 12 * 10 * 8 * 128 * 40)
    assert hours == pytest.approx(operations / 25e12 / 3600)
    adapted = recipe.model_copy(update={"adapter": {}})
    assert gpu_hours.training_hours(adapted, size, 1e9, 40, 100) < hours
    # 25 answers are three batches of 512 steps, each of which reads 2 GB.
    assert gpu_hours.answering_hours(recipe, size, 25, 512, 2.0) == pytest.approx(
        3 * 512 * 2e9 / 0.6e12 / 3600
    )


def test_hours_are_priced_or_said_to_be_unknown(tmp_path):
    grid = reproduce.load_grid(tmp_path, base_models=["llama2-7b"])
    (hours,) = takes(tmp_path, grid).hours
    assert (hours.trainings, hours.answered) == (9, 9)
    assert hours.row(None)["dollars"] == "unknown price"
    assert hours.row(2.0)["dollars"] == pytest.approx(2 * hours.total, abs=0.01)
    assert hours.row(2.0)["basis"] == "A100, assumed"
    (faster,) = takes(tmp_path, grid, device="H100").hours
    assert faster.total < hours.total / 1.5
    with pytest.raises(reproduce.ReproductionError, match="'abacus'; known: A100"):
        grid_hours.check_device("abacus")
    (tmp_path / "experiments.yaml").write_text(
        "base_models: {llama2-7b: {source: mine, recipe: llama2-7b}}"
    )
    found = takes(tmp_path, reproduce.load_grid(tmp_path, base_models=["llama2-7b"]))
    assert found.hours[0].row(2.0)["training_gpu_hours"] == "unknown"
    assert found.totals()["models_of_unknown_size"] == ["llama2-7b"]
    assert "without llama2-7b" in found.summary()


def test_trainings_that_were_made_here_say_how_long_others_take(tmp_path):
    grid = reproduce.load_grid(tmp_path, base_models=["llama2-7b"])
    (before,) = takes(tmp_path, grid).hours
    row = pl.DataFrame(
        {
            "base_model": ["llama2-7b"],
            "gpu_hours": [1000.0],
            "tokens": [1000],
            "packages": pl.Series([[]], dtype=CHECKPOINT.columns["packages"].dtype),
            "log": pl.Series([[]], dtype=CHECKPOINT.columns["log"].dtype),
        }
    )
    where = {"dataset": "alpaca", "experiment": "random_1k@llama2-7b"}
    Lake(load_settings(tmp_path).lake).write("checkpoint", filled(CHECKPOINT, row), where)
    (after,) = takes(tmp_path, grid).hours
    assert after.trainings == before.trainings - 1
    assert after.basis == "measured here"
    assert after.training_hours > 1000 * before.training_hours

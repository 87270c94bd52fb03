"""A lake with known rows, and the warehouse built from it by the real dbt."""

import os
import shutil
from itertools import product

import polars as pl
import pytest
from filelock import FileLock

from opencs_assets.evaluation.declared import prepare_lake
from opencs_assets.tables.catalog import TABLES
from opencs_assets.tables.lake import Lake
from resources.dbt_project import dbt_build, refuse_broken
from resources.warehouse import Warehouse

ORDERS = list(product(["a", "b", "tie", None], repeat=2))
# Two orders that disagree do not cancel out, so that the rules can be told apart.
SCORES = {"a": (8.0, 3.0), "b": (4.0, 6.0), "tie": (5.0, 5.0), None: (None, None)}
MARTS = {
    "selected_samples",
    "rejected_samples",
    "refinements",
    "subset_overlap",
    "selection_stability",
    "stability_by_factor",
    "tag_merges",
    "benchmark_matches",
    "single_outcomes",
    "pair_outcomes",
    "publication_gate",
    "answer_scores",
    "answer_scores_all",
    "answer_scores_by_category",
    "win_rates",
    "win_rates_all",
    "position_bias",
    "length_bias",
    "judge_agreement",
    "leaderboard",
    "verdict_trace",
    "conflicting_verdicts",
    "rejected_imports",
    "llm_usage",
}
# Old names of marts, each a view of the new one.
DEPRECATED = {
    "mt_bench_scores": "answer_scores",
    "mt_bench_scores_all": "answer_scores_all",
    "mt_bench_by_category": "answer_scores_by_category",
}
# What marts are made of, in a schema of its own.
INTERIM = {
    "lake_contents",
    "results",
    "pair_cells",
    "single_cells",
    "answers",
    "judge_replies",
    "trained_models",
    "result_badges",
    "intervals",
    "ratings",
    "length_controlled",
    "agreement_cells",
    "agreements",
}
EMBEDDED = "embedded:smollm2-135m-instruct"


def table(name: str, rows: list[dict], **constants) -> pl.DataFrame:
    """Rows in the table's schema; columns that are not given get a plain value of their type."""
    plain = {pl.String: "x", pl.Int64: 0, pl.Float64: 0.0, pl.Boolean: False}
    filled = [
        {
            column: row.get(column, constants.get(column, plain.get(dtype)))
            for column, dtype in TABLES[name].schema.items()
        }
        for row in rows
    ]
    return pl.DataFrame(filled, schema=TABLES[name].schema)


def pair_rows(orders: dict[str, tuple[str | None, str | None]], **constants) -> pl.DataFrame:
    """Pairwise verdicts from the winners of both orders by question."""
    rows = [
        {
            "question_id": question,
            "shown_first": side,
            "winner": winner,
            "status": "ok" if winner else "unparsable",
            "score_a": SCORES[winner][0],
            "score_b": SCORES[winner][1],
        }
        for question, winners in orders.items()
        for side, winner in zip("ab", winners, strict=True)
    ]
    given = {"model_a": "one", "model_b": "two", "judge": "gpt", "protocol": "scores", **constants}
    return table("pairwise_verdicts", rows, **given)


def questions(benchmark: str, names: list[str], turns: int = 2) -> pl.DataFrame:
    """Questions of a benchmark."""
    rows = [
        {
            "benchmark": benchmark,
            "question_id": name,
            "category": "math",
            "turns": ["?"] * turns,
            "references": [],
            "difficulty": None,
        }
        for name in names
    ]
    return table("benchmark_questions", rows)


def write_models(
    lake: Lake, dataset: str, asked: pl.DataFrame, models: dict[str, dict] | None = None
) -> None:
    """Checkpoints of models, and their answers to all questions.

    Args:
        lake: The lake.
        dataset: Dataset of the experiments.
        asked: Questions.
        models: What differs of each model's checkpoint; two plain ones unless given.
    """
    for model, trained in (models or {"one": {}, "two": {}}).items():
        of_both = {"dataset": dataset, "experiment": model}
        provenance = f"{dataset}-{model}"
        row = {"provenance": provenance, "selector": model, "packages": [], "log": [], **trained}
        lake.write("checkpoint", table("checkpoint", [row]), of_both)
        answers = [
            {
                "benchmark": question["benchmark"],
                "question_id": question["question_id"],
                "category": question["category"],
                "turn": turn,
                "answer": f"{model} says {'so ' * (len(model) + place % 5)}",
            }
            for place, question in enumerate(asked.iter_rows(named=True))
            for turn in range(1, len(question["turns"]) + 1)
        ]
        made = table("model_answers", answers, finish_reason="stop", checkpoint=provenance)
        lake.write("model_answers", made, of_both)
    lake.write("contaminated_samples", TABLES["contaminated_samples"].empty(), {"dataset": dataset})


def imported(rows: list[dict], **constants) -> pl.DataFrame:
    """Rows of ``imported_verdicts``, each of a row of its own unless given."""
    given = [
        {
            "row": place,
            "judge_group": row.get("judge", constants.get("judge")),
            "score_a": None,
            "score_b": None,
            "winner": None,
            "orders_disagree": None,
            **row,
        }
        for place, row in enumerate(rows)
    ]
    plain = {"state": "used", "status": "ok", "shown_first": "unknown", "sampling": ""}
    return table("imported_verdicts", given, **{**plain, **constants})


# What a call in flight leaves in the ledger when its process is killed.
LOST = {
    "model": "gpt", "status": "lost", "readable": None,
    "prompt_tokens": 0, "completion_tokens": 0, "latency_s": 0.0,
}  # fmt: skip


def replies(rows: list[dict]) -> pl.DataFrame:
    """Judge calls in the schema of ``llm_replies``."""
    plain = {
        "role": "judge",
        "stage": "single_verdicts",
        "dataset": "2024",
        "prompt_tokens": 10,
        "completion_tokens": 2,
        "latency_s": 0.5,
    }
    given = [
        {**plain, "reply_id": f"r{place}", "created_at": None, **row}
        for place, row in enumerate(rows)
    ]
    return table("llm_replies", given).with_columns(
        created_at=pl.datetime(2026, 1, 1, time_zone="UTC", time_unit="us")
    )


def add(lake: Lake, name: str, rows: pl.DataFrame) -> None:
    """Add rows to a table that is one file."""
    written = [lake.read(name, {})] if lake.exists(name, {}) else []
    lake.write(name, pl.concat([*written, rows]), {})


@pytest.fixture(scope="session")
def warehouse(tmp_path_factory: pytest.TempPathFactory) -> Warehouse:
    """The warehouse over all lakes of this folder, built once for the tests of all workers.

    Its path needs quoting. It holds the public judgments where this machine has them.
    """
    from tests.integration.warehouse import gate_lake, public_lake, results_lake, small_lake

    root = tmp_path_factory.getbasetemp()
    if "PYTEST_XDIST_WORKER" in os.environ:
        root = root.parent
    home = root / "it's [a] {home}"
    built = Warehouse(home / "warehouse.duckdb")
    with FileLock(root / "warehouse.lock"):
        if not built.path.exists():
            shutil.rmtree(home, ignore_errors=True)
            lake = Lake(str(home / "lake"))
            for scenario in (small_lake, gate_lake, results_lake, public_lake):
                scenario.write(lake)
            prepare_lake(str(home / "lake"))
            with built.building() as database:
                refuse_broken(dbt_build(home, str(home / "lake"), database), home)
    return built

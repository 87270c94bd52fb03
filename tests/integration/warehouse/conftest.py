"""A lake with known rows, and the warehouse built from it by the real dbt."""

import json
from itertools import product
from pathlib import Path

import polars as pl
import pytest

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


def build_in(home: Path) -> Warehouse:
    """Build and publish the home's warehouse."""
    warehouse = Warehouse(home / "warehouse.duckdb")
    lake = str(home / "lake")
    prepare_lake(lake)
    with warehouse.building() as database:
        refuse_broken(dbt_build(home, lake, database), home)
    return warehouse


@pytest.fixture(scope="session")
def published(tmp_path_factory: pytest.TempPathFactory) -> Warehouse:
    """The warehouse over a lake of hand-made rows, under a path that needs quoting."""
    home = tmp_path_factory.mktemp("it's [a] {home}")
    lake = Lake(str(home / "lake"))
    grid = {f"q{place:02}": winners for place, winners in enumerate(ORDERS)}
    asked = pl.concat([questions("grid", list(grid)), questions("smoke", ["q1", "q2", "q3"])])
    lake.write("benchmark_questions", asked, {})
    for dataset in ("2024", "half", "gaps", "edited"):
        write_models(lake, dataset, asked, {"one": {}, "two": {}, "one@base": {}, "two@base": {}})
    declared = [{"matchup": "one_vs_two@base", "model_a": "one", "model_b": "two"}]
    lake.write("declared_matchups", table("declared_matchups", declared, parity="epochs"), {})
    write_pairs(lake, grid)
    write_singles(lake)
    write_selection(lake, home)
    write_replies(lake)
    return build_in(home)


def write_pairs(lake: Lake, grid: dict[str, tuple[str | None, str | None]]) -> None:
    """A complete matchup, one with half of its questions, and one with all kinds of gaps."""
    lake.write(
        "pairwise_verdicts",
        pair_rows(grid, benchmark="grid"),
        {"dataset": "2024", "matchup": "one_vs_two@base"},
    )
    half = dict(list(grid.items())[:8])
    lake.write(
        "pairwise_verdicts",
        pair_rows(half, benchmark="grid", judge=EMBEDDED),
        {"dataset": "half", "matchup": "one_vs_two@base"},
    )
    gaps = pair_rows({"q1": ("a", "a"), "q2": ("a", "a"), "q3": ("a", "b")}, benchmark="smoke")
    too_long = (pl.col("question_id") == "q2") & (pl.col("shown_first") == "b")
    gaps = gaps.filter((pl.col("question_id") != "q3") | (pl.col("shown_first") == "a"))
    gaps = gaps.with_columns(
        winner=pl.when(too_long).then(None).otherwise("winner"),
        status=pl.when(too_long).then(pl.lit("too_long")).otherwise("status"),
    )
    edited = pair_rows({"q1": ("b", "b")}, benchmark="smoke", prompt_version="edited")
    for dataset, rows in (("gaps", gaps), ("edited", edited)):
        lake.write("pairwise_verdicts", rows, {"dataset": dataset, "matchup": "one_vs_two@base"})


def write_singles(lake: Lake) -> None:
    """A complete result, and a partial one whose mean is higher for want of second turns."""
    scores = {
        ("q1", 1): 8.0,
        ("q1", 2): 4.0,
        ("q2", 1): 7.0,
        ("q2", 2): 3.0,
        ("q3", 1): 6.0,
        ("q3", 2): None,
    }
    rows = [
        {
            "question_id": name,
            "turn": turn,
            "score": score,
            "status": "unparsable" if score is None else "ok",
        }
        for (name, turn), score in scores.items()
    ]
    full = table("single_verdicts", rows, benchmark="smoke", judge="gpt", protocol="single")
    lake.write("single_verdicts", full, {"dataset": "2024", "experiment": "one@base"})
    partial = full.filter(pl.col("turn") == 1)
    lake.write("single_verdicts", partial, {"dataset": "2024", "experiment": "two@base"})


def write_selection(lake: Lake, home: Path) -> None:
    """Two samples, one chosen for a cluster and one at random."""
    of_dataset = {"dataset": "2024"}
    samples = [
        {
            "sample_id": name,
            "row": row,
            "messages": [],
            "instruction": f"do {name}",
            "response": "done" * (row + 1),
            "turns": 1,
        }
        for row, name in enumerate(["s0", "s1"])
    ]
    lake.write("raw_dataset", table("raw_dataset", samples), of_dataset)
    tagged = [{"sample_id": name, "tags": [{"tag": "t", "explanation": ""}]} for name in ("s0",)]
    lake.write("open_tags", table("open_tags", tagged, model=EMBEDDED), of_dataset)
    tags = [{"sample_id": "s0", "tags": ["math", "sums"]}]
    lake.write("normalized_tags", table("normalized_tags", tags), of_dataset)
    steps = [
        ("Maths", 5, 0, "rule", "Maths", "maths", "math"),
        ("Maths", 5, 1, "semantic", "maths", "math", "math"),
        ("Maths", 5, 2, "frequency", "math", "math", "math"),
        ("math", 9, 0, "rule", "math", "math", "math"),
        ("odd", 1, 0, "rule", "odd", "odd", None),
        ("odd", 1, 2, "frequency", "odd", None, None),
    ]
    names = ("raw_tag", "count", "place", "step", "tag", "became", "normalized_tag")
    lineage = [dict(zip(names, step, strict=True)) for step in steps]
    lake.write("tag_lineage", table("tag_lineage", lineage), of_dataset)
    old = home / "lake" / "tag_lineage" / "dataset=of_0_1_0" / "part.parquet"
    old.parent.mkdir(parents=True)
    columns = {"raw_tag": "x", "count": 1, "rule_tag": "x", "normalized_tag": None}
    pl.DataFrame([{**columns, "dropped_by": "frequency"}]).write_parquet(old)
    matches = [
        {"sample_id": "s0", "benchmark": "smoke", "question_id": "q2", "match": "equal"},
        {"sample_id": "s1", "benchmark": "gone", "question_id": "q9", "match": "13-gram"},
    ]
    contaminated = table("contaminated_samples", matches, turn=0, text="what they share")
    lake.write("contaminated_samples", contaminated, of_dataset)
    clusters = [{"cluster": 3, "name": "math, sums", "tags": ["math"]}]
    lake.write("clusters", table("clusters", clusters), of_dataset)
    scores = [
        {
            "cluster": cluster,
            "sample_id": "s0",
            "score": score,
            "low": score - 5,
            "high": score + 5,
            "comparisons": comparisons,
        }
        for cluster, score, comparisons in ((3, 80.0, 4), (5, 10.0, 2))
    ]
    lake.write("contrastive_scores", table("contrastive_scores", scores), of_dataset)
    compared = [
        {"cluster": 3, "sample_a": "s0", "sample_b": "s1", "shown_first": side, "model": "scorer"}
        for side in "ab"
    ]
    lake.write("score_comparisons", table("score_comparisons", compared), of_dataset)
    chosen = {
        "opencs": {
            "sample_id": "s0",
            "cluster": 3,
            "score": 80.0,
            "scored_by": "contrastive_scores",
            "reason": "1st of cluster 3",
        },
        "random": {"sample_id": "s1", "cluster": None, "score": None, "scored_by": None},
    }
    for selector, row in chosen.items():
        lake.write(
            "selected_subset",
            table("selected_subset", [row]),
            {"dataset": "2024", "selector": selector},
        )


# What a call in flight leaves in the ledger when its process is killed.
LOST = {
    "model": "gpt", "status": "lost", "readable": None,
    "prompt_tokens": 0, "completion_tokens": 0, "latency_s": 0.0,
}  # fmt: skip


def write_replies(lake: Lake) -> None:
    """Replies of two models, one of them with a price that is not always known."""
    plain = {"status": "ok", "readable": True, "via": "call", "cached_tokens": 0}
    rows = [
        {"model": EMBEDDED, "cost_usd": 0.0},
        {"model": EMBEDDED, "cost_usd": 0.0, "readable": None, "run": None},
        {"model": "gpt", "cost_usd": 0.01, "cached_tokens": 8, "via": "batch"},
        {"model": "gpt", "cost_usd": None, "readable": False},
        {"model": "gpt", "cost_usd": 0.01, "status": "truncated", "readable": None},
        {"model": "gpt", "cost_usd": 0.02, "dataset": "priced", "via": "batch"},
        {"model": "gpt", "cost_usd": 0.01, "dataset": "priced", "status": "refused"},
        {**LOST, "dataset": "priced", "cost_usd": 0.25},
        {**LOST, "dataset": "killed", "cost_usd": 0.5},
        {**LOST, "dataset": "killed", "cost_usd": None},
    ]
    lake.write("llm_replies", replies([{**plain, **row} for row in rows]), {})


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


def fastchat(path: Path) -> list[dict]:
    """Rows of a FastChat judgment file."""
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]

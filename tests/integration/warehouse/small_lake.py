"""A small lake: one complete matchup, a partial one, gaps, a selection and replies."""

from pathlib import Path

import polars as pl

from opencs_assets.tables.catalog import TABLES
from opencs_assets.tables.lake import Lake
from tests.integration.warehouse.conftest import (
    EMBEDDED,
    LOST,
    ORDERS,
    add,
    pair_rows,
    questions,
    replies,
    table,
    write_models,
)


def write(lake: Lake) -> None:
    """Write all of it."""
    grid = {f"q{place:02}": winners for place, winners in enumerate(ORDERS)}
    asked = pl.concat([questions("grid", list(grid)), questions("smoke", ["q1", "q2", "q3"])])
    add(lake, "benchmark_questions", asked)
    for dataset in ("2024", "embedded", "gaps", "edited"):
        write_models(lake, dataset, asked, {"one": {}, "two": {}, "one@base": {}, "two@base": {}})
    write_pairs(lake, grid)
    write_singles(lake)
    write_selection(lake)
    write_replies(lake)


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
        {"dataset": "embedded", "matchup": "one_vs_two@base"},
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


def write_selection(lake: Lake) -> None:
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
    old = Path(lake.path(TABLES["tag_lineage"], {"dataset": "of_0_1_0"}))
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
    add(lake, "llm_replies", replies([{**plain, **row} for row in rows]))

"""Results of many kinds: older files, early stops, outside models, votes, and traces."""

from pathlib import Path

import polars as pl

from opencs_assets.tables.catalog import TABLES
from opencs_assets.tables.lake import Lake
from tests.integration.warehouse.conftest import (
    add,
    imported,
    pair_rows,
    questions,
    replies,
    table,
    write_models,
)

NAMES = [f"q{place:02}" for place in range(20)]
NEW = ("turn", "protocol", "sampling")


def write(lake: Lake) -> None:
    """Write all of it."""
    asked = questions("short", NAMES)
    hard = questions("hard", NAMES).with_columns(
        difficulty=pl.Series([place / 10 - 1 for place in range(len(NAMES))])
    )
    add(lake, "benchmark_questions", pl.concat([asked, hard]))
    models = {"one": {}, "two": {}, "three": {}}
    for dataset in ("now", "old", "early"):
        write_models(lake, dataset, asked, models)
    write_models(lake, "now", asked, {"solo": {}})
    write_models(lake, "hard", hard, models)
    of_hard = {name: ("a", "a") if place % 3 else ("b", "b") for place, name in enumerate(NAMES)}
    lake.write(
        "pairwise_verdicts",
        pair_rows(of_hard, benchmark="hard"),
        {"dataset": "hard", "matchup": "m"},
    )
    of_old = {"dataset": "old", "matchup": "m"}
    write_old(lake, "pairwise_verdicts", pair_rows(both(("a", "b")), benchmark="short"), of_old)
    logprobs = pair_rows(both(("a", "a")), benchmark="short", reading="logprobs")
    write_old(lake, "pairwise_verdicts", logprobs, {"dataset": "old", "matchup": "n"})
    singles = table(
        "single_verdicts",
        [{"question_id": name, "turn": turn, "score": 5.0} for name in NAMES for turn in (1, 2)],
        benchmark="short", judge="gpt", status="ok",
    )  # fmt: skip
    write_old(lake, "single_verdicts", singles, {"dataset": "old", "experiment": "one"})
    stopped(lake)
    outside(lake)
    votes(lake)
    traced(lake)
    declared = [{"model": "gpt-x", "is_outside": True}, {"model": "one"}]
    add(lake, "declared_models", table("declared_models", declared))
    matchups = [
        {"matchup": name, "model_a": "one", "model_b": "two", "parity": "epochs"}
        for name in ("m", "n", "vs_outside")
    ]
    add(lake, "declared_matchups", table("declared_matchups", matchups))


def write_old(lake: Lake, name: str, frame: pl.DataFrame, partition: dict[str, str]) -> None:
    """A file as 0.1.0 wrote it."""
    path = Path(lake.path(TABLES[name], partition))
    path.parent.mkdir(parents=True)
    new = NEW if name == "pairwise_verdicts" else NEW[1:]
    frame.drop(new).write_parquet(path)


def both(winner: tuple[str, str]) -> dict[str, tuple[str, str]]:
    return dict.fromkeys(NAMES, winner)


def stopped(lake: Lake) -> None:
    """Eight questions won, and the others not asked any more."""
    frame = pair_rows(both(("a", "a")), benchmark="short").with_columns(
        pl.when(pl.col("question_id") > "q07").then(None).otherwise(name).alias(name)
        for name in ("winner", "score_a", "score_b")
    )
    left = pl.when(pl.col("winner").is_null()).then(pl.lit("stopped")).otherwise("status")
    frame = frame.with_columns(status=left)
    lake.write("pairwise_verdicts", frame, {"dataset": "early", "matchup": "m"})


def outside(lake: Lake) -> None:
    frame = pair_rows(both(("a", "tie")), benchmark="short", model_b="gpt-x")
    lake.write("pairwise_verdicts", frame, {"dataset": "now", "matchup": "vs_outside"})
    answers = [
        {"benchmark": "short", "question_id": name, "turn": turn, "answer": "so", "detail": None}
        for name in NAMES
        for turn in (1, 2)
    ]
    made = table("outside_answers", answers, finish_reason="stop", model="gpt-x")
    lake.write("outside_answers", made, {"outside_model": "gpt-x"})


def votes(lake: Lake) -> None:
    """A matchup by turn, and what people say of it, in another order of the models."""
    choice = pl.concat(
        pair_rows(
            {name: ("a", "a") if place % 2 else ("b", "b") for place, name in enumerate(NAMES)},
            benchmark="short", protocol="choice", turn=turn, model_a="solo", model_b="three",
        )
        for turn in (1, 2)
    ).with_columns(score_a=None, score_b=None)  # fmt: skip
    choice = choice.with_columns(pl.col("score_a", "score_b").cast(pl.Float64))
    lake.write("pairwise_verdicts", choice, {"dataset": "now", "matchup": "m"})
    # `one` is a model of three datasets, so nothing tells which of them `one` of a file is.
    rows = [
        {"question_id": name, "turn": 1, "model_a": model_a, "model_b": model_b, "winner": "b"}
        for name in NAMES
        for model_a, model_b in (("three", "solo"), ("two", "one"))
    ]
    of_people = {"kind": "pair", "protocol": "choice", "is_human": True}
    cast = imported(rows, benchmark="short", judge="expert", **of_people)
    add(lake, "imported_verdicts", cast)


def traced(lake: Lake) -> None:
    samples = [{"sample_id": f"s{place}", "rank": place} for place in range(3)]
    of_one = {"dataset": "now", "selector": "one"}
    lake.write("selected_subset", table("selected_subset", samples), of_one)
    tags = [{"sample_id": "s0", "tags": ["math", "sums"]}, {"sample_id": "s1", "tags": ["math"]}]
    lake.write("normalized_tags", table("normalized_tags", tags), {"dataset": "now"})
    reply = {
        "reply_id": "of_n",
        "model": "gpt",
        "cost_usd": 0.25,
        "stage": "pairwise_verdicts",
        "dataset": "now",
    }
    plain = {"status": "ok", "readable": True, "via": "call", "cached_tokens": 0}
    add(lake, "llm_replies", replies([{**plain, **reply}]))
    frame = pair_rows(both(("b", "b")), benchmark="short", reply_id="of_n")
    lake.write("pairwise_verdicts", frame, {"dataset": "now", "matchup": "n"})

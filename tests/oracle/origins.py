"""Where a result's answers come from: all there, from the same chat template, of clean subsets.

Pure functions of frames, one a rule of the publication gate, in Polars and without the marts' SQL.
"""

import polars as pl

from opencs_assets.tables.answers import UNANSWERED
from tests.oracle.recount import IMPORTED_POOL, OUTSIDE_POOL, Tables

# Why a turn has no answer; an empty answer that simply ended is one.
_JUDGED = pl.col("source") == "judged"


def answers_complete(results: pl.DataFrame, tables: Tables) -> pl.DataFrame:
    """Whether each model of a result answered every turn of every question.

    ``passed`` is null where no answer of an imported model is kept.
    """
    sides = _sides(results)
    model = ["source", "dataset", "benchmark", "model"]
    models = sides.select(model).unique()
    asked = (
        tables.questions.select(
            "benchmark", turn=pl.int_ranges(1, pl.col("turns").list.len() + 1, dtype=pl.Int64)
        )
        .explode("turn")
        .group_by("benchmark", "turn")
        .agg(questions=pl.len())
    )
    answered = (
        tables.answers.filter(~pl.col("finish_reason").is_in(UNANSWERED))
        .join(tables.questions, on=["benchmark", "question_id"], how="semi")
        .group_by("pool", "model", "benchmark", "turn")
        .agg(answers=pl.len())
    )
    counted = models.join(answered, on=["model", "benchmark"]).filter(of_pool())
    missing = pl.col("questions").cast(pl.Int64) - pl.col("answers").cast(pl.Int64).fill_null(0)
    gaps = (
        models.join(asked, on="benchmark")
        .join(counted.drop("pool"), on=[*model, "turn"], how="left")
        .group_by(model)
        .agg(any_answer=pl.col("answers").is_not_null().any(), lacks=(missing > 0).any())
    )
    lacks = pl.col("lacks")
    return (
        sides.join(gaps, on=model)
        .group_by("result_id")
        .agg(
            passed=pl.when((lacks & (pl.col("any_answer") | _JUDGED)).any())
            .then(pl.lit(False))
            .when((~lacks).all())
            .then(pl.lit(True))
        )
    )


def chat_template(results: pl.DataFrame, tables: Tables) -> pl.DataFrame:
    """Whether answers are of the current checkpoints, and these of one base have one template.

    ``passed`` is null of what was imported.
    """
    question = ["dataset", "benchmark", "model", "question_id"]
    made = (
        tables.answers.filter(~pl.col("pool").is_in([OUTSIDE_POOL, IMPORTED_POOL]))
        .rename({"pool": "dataset"})
        .group_by(question)
        .agg(pl.col("checkpoint").max())
    )
    current = tables.checkpoints.select("dataset", "provenance", model="experiment")
    stale = made.join(current, on=["dataset", "model"], how="left").filter(
        ~pl.col("checkpoint").eq(pl.col("provenance")).fill_null(False)
    )
    of_stale = _sides(results).join(stale, on=["dataset", "benchmark", "model"], how="semi")
    both = results
    for side in "ab":
        checkpoint = tables.checkpoints.select(
            "dataset",
            pl.col("experiment").alias(f"model_{side}"),
            pl.col("base_model").alias(f"base_{side}"),
            pl.col("template_hash").alias(f"template_{side}"),
        )
        both = both.join(checkpoint, on=["dataset", f"model_{side}"], how="left")
    apart = pl.col("base_a").eq_missing(pl.col("base_b")) & (
        pl.col("template_a") != pl.col("template_b")
    ).fill_null(False)
    is_stale = pl.col("result_id").is_in(of_stale["result_id"].unique().to_list())
    return both.select("result_id", passed=pl.when(_JUDGED).then(~is_stale & ~apart))


def no_contamination(results: pl.DataFrame, tables: Tables) -> pl.DataFrame:
    """Whether no sample of the models' subsets asks what the result's benchmark asks.

    ``passed`` is null of what was imported, and where the dataset's samples
    were never compared with the benchmarks.
    """
    matches = tables.matches.join(tables.subsets, on=["dataset", "sample_id"]).select(
        "dataset", "selector", "benchmark"
    )
    used = tables.checkpoints.select("dataset", used="selector", model="experiment")
    declared = tables.models.select("model", declared="selector")
    found = (
        _sides(results)
        .join(used, on=["dataset", "model"], how="left")
        .join(declared, on="model", how="left")
        .with_columns(selector=pl.coalesce("used", "declared"))
        .join(matches, on=["dataset", "selector", "benchmark"], how="semi")
    )
    return results.select(
        "result_id",
        passed=pl.when(_JUDGED).then(
            pl.when(pl.col("result_id").is_in(found["result_id"].unique().to_list()))
            .then(pl.lit(False))
            .when(pl.col("dataset").is_in(tables.looked_at))
            .then(pl.lit(True))
        ),
    )


def of_pool() -> pl.Expr:
    """Whether answers of ``pool`` are of the model that is meant in ``dataset``."""
    return (pl.col("pool") == pl.col("dataset")) | (_JUDGED & (pl.col("pool") == OUTSIDE_POOL))


def _sides(results: pl.DataFrame) -> pl.DataFrame:
    """One row a result and model of it."""
    return pl.concat(
        [
            results.select("result_id", "source", "dataset", "benchmark", model=f"model_{side}")
            for side in "ab"
        ]
    ).drop_nulls("model")

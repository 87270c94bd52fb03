"""The table of the benchmarks' questions."""

import polars as pl

from opencs_assets.tables.columns import BENCHMARK, CATEGORY, QUESTION_ID
from resources.schema import Column, Table

BENCHMARK_QUESTIONS = Table(
    "benchmark_questions",
    (),
    ("benchmark", "question_id"),
    {
        "benchmark": BENCHMARK,
        "question_id": QUESTION_ID,
        "category": CATEGORY,
        "turns": Column(pl.List(pl.String), "What the user asks, turn by turn"),
        "references": Column(
            pl.List(pl.String), "Reference answer by turn; empty where there is none"
        ),
        "difficulty": Column(
            pl.Float64,
            "AlpacaEval's difficulty of the instruction for the baseline, where the file has it",
            nullable=True,
        ),
    },
)


def turn_keys(questions: pl.DataFrame) -> pl.DataFrame:
    """``benchmark``, ``question_id`` and ``turn`` of every turn of questions, in their order."""
    return questions.select(
        "benchmark",
        "question_id",
        turn=pl.int_ranges(1, pl.col("turns").list.len().cast(pl.Int64) + 1),
    ).explode("turn", empty_as_null=False)

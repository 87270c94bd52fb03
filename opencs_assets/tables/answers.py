"""Tables of the models' answers to the benchmarks."""

import polars as pl

from opencs_assets.tables.columns import (
    ANSWER,
    BENCHMARK,
    CATEGORY,
    MODEL,
    QUESTION_ID,
    TEMPERATURE,
)
from resources.schema import Column, Table

# Finish reasons of turns that have no answer; an empty answer that simply ended is one.
UNANSWERED = ("too_long", "refused", "failed", "garbled")

MODEL_ANSWERS = Table(
    "model_answers",
    ("dataset", "experiment"),
    ("benchmark", "question_id", "turn"),
    {
        "benchmark": BENCHMARK,
        "question_id": QUESTION_ID,
        "category": CATEGORY,
        "turn": Column(pl.Int64, "1-based turn"),
        "answer": ANSWER,
        "finish_reason": Column(
            pl.String,
            "stop, length, another reason of the endpoint, or too_long where it was not called",
        ),
        "prompt_tokens": Column(pl.Int64, "Tokens of the prompt"),
        "answer_tokens": Column(pl.Int64, "Tokens of the answer"),
        "temperature": TEMPERATURE,
        "seed": Column(pl.Int64, "Seed of the answer"),
        "provenance": Column(pl.String, "Hash of all that determined the answers"),
        "checkpoint": Column(pl.String, "Provenance of the checkpoint"),
    },
)

OUTSIDE_ANSWERS = Table(
    "outside_answers",
    ("outside_model",),
    ("benchmark", "question_id", "turn"),
    {
        "benchmark": BENCHMARK,
        "question_id": QUESTION_ID,
        "category": CATEGORY,
        "turn": Column(pl.Int64, "1-based turn"),
        "answer": ANSWER,
        "finish_reason": Column(
            pl.String,
            "stop or length, or why there is no answer: refused, garbled, failed, too_long",
        ),
        "detail": Column(pl.String, "Why there is no answer, for a person", nullable=True),
        "prompt_tokens": Column(pl.Int64, "Tokens of the prompt, as the provider counts"),
        "answer_tokens": Column(pl.Int64, "Tokens of the answer, as the provider counts"),
        "temperature": TEMPERATURE,
        "seed": Column(pl.Int64, "Seed that was sent; null where it was greedy", nullable=True),
        "model": MODEL,
        "reply_id": Column(
            pl.String, "Key of the reply in the reply store; null if not asked", nullable=True
        ),
    },
)

"""Tables of what judges say of answers."""

import polars as pl

from opencs_assets.tables.columns import (
    BENCHMARK,
    MODEL,
    PROMPT_VERSION,
    PROTOCOL,
    QUESTION_ID,
    READING,
    REPLY_ID,
    SAMPLING,
    STATUS,
)
from resources.schema import Column, Table

SINGLE_VERDICTS = Table(
    "single_verdicts",
    ("dataset", "experiment"),
    ("benchmark", "question_id", "turn"),
    {
        "benchmark": BENCHMARK,
        "question_id": QUESTION_ID,
        "category": Column(pl.String, "Category of the question"),
        "turn": Column(pl.Int64, "1-based turn that was judged"),
        "score": Column(pl.Float64, "Score in [1, 10]", nullable=True),
        "status": STATUS,
        "with_reference": Column(pl.Boolean, "The judge was shown a reference answer"),
        "protocol": PROTOCOL,
        "reading": READING,
        "judge": MODEL,
        "prompt_version": PROMPT_VERSION,
        "sampling": SAMPLING,
        "reply_id": REPLY_ID,
    },
)

PAIRWISE_VERDICTS = Table(
    "pairwise_verdicts",
    ("dataset", "matchup"),
    ("benchmark", "question_id", "turn", "shown_first"),
    {
        "benchmark": BENCHMARK,
        "question_id": QUESTION_ID,
        "category": Column(pl.String, "Category of the question"),
        "turn": Column(
            pl.Int64, "1-based turn that was judged; 0 where the whole conversation was, at once"
        ),
        "model_a": Column(pl.String, "First model of the matchup"),
        "model_b": Column(pl.String, "Second model of the matchup"),
        "shown_first": Column(pl.String, "a or b: whose answer the prompt showed first"),
        "winner": Column(
            pl.String, "a, b or tie, already swapped back; null if unread", nullable=True
        ),
        "score_a": Column(pl.Float64, "Score of model_a in [1, 10]", nullable=True),
        "score_b": Column(pl.Float64, "Score of model_b in [1, 10]", nullable=True),
        "status": STATUS,
        "protocol": PROTOCOL,
        "reading": READING,
        "judge": MODEL,
        "prompt_version": PROMPT_VERSION,
        "sampling": SAMPLING,
        "reply_id": REPLY_ID,
    },
)

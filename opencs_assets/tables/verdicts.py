"""Tables of what judges say of answers."""

import polars as pl

from opencs_assets.tables.columns import (
    BENCHMARK,
    CATEGORY,
    JUDGED_TURN,
    MODEL,
    PROMPT_VERSION,
    PROTOCOL,
    QUESTION_ID,
    READING,
    REPLY_ID,
    SAMPLING,
    STATUS,
    WINNER,
)
from resources.schema import Column, Table

SINGLE_VERDICTS = Table(
    "single_verdicts",
    ("dataset", "experiment"),
    ("benchmark", "question_id", "turn"),
    {
        "benchmark": BENCHMARK,
        "question_id": QUESTION_ID,
        "category": CATEGORY,
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
        "category": CATEGORY,
        "turn": JUDGED_TURN,
        "model_a": Column(pl.String, "First model of the matchup"),
        "model_b": Column(pl.String, "Second model of the matchup"),
        "shown_first": Column(pl.String, "a or b: whose answer the prompt showed first"),
        "winner": WINNER,
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

"""Columns that tables of several stages have."""

import polars as pl

from resources.llm.replies_table import MODEL, PROMPT_VERSION
from resources.schema import Column

__all__ = [
    "BENCHMARK",
    "MESSAGES",
    "MODEL",
    "PROMPT_VERSION",
    "PROTOCOL",
    "QUESTION_ID",
    "READING",
    "REPLY_ID",
    "SAMPLE_ID",
    "SAMPLING",
    "STATUS",
]

MESSAGES = pl.List(pl.Struct({"role": pl.String, "content": pl.String}))
SAMPLE_ID = Column(pl.String, "Hash of the sample's system prompt and messages")
REPLY_ID = Column(pl.String, "Key of the reply in the reply store", nullable=True)
READING = Column(pl.String, "How the reply was read: generated or logprobs")
STATUS = Column(
    pl.String,
    "ok, or why there is no value: unparsable, truncated, too_long, refused, failed, no_answer",
)
BENCHMARK = Column(pl.String, "Benchmark that the question is from")
QUESTION_ID = Column(pl.String, "Stable id of the question within its benchmark")
PROTOCOL = Column(
    pl.String,
    "What the judge is asked for: single (a score), scores (two of them), choice (A, B or a tie), "
    "preference (the probability of a label), or a protocol of another package",
)
SAMPLING = Column(pl.String, "How the judge was sampled, as JSON")

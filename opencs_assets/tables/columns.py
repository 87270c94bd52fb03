"""Columns that tables of several stages have."""

import polars as pl

from resources.llm.replies_table import MODEL as MODEL
from resources.llm.replies_table import PROMPT_VERSION as PROMPT_VERSION
from resources.schema import Column

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
CATEGORY = Column(pl.String, "Category of the question")
TEMPERATURE = Column(pl.Float64, "Sampling temperature; 0 is greedy")
ANSWER = Column(pl.String, "The model's answer; empty where the model answered nothing")
JUDGED_TURN = Column(
    pl.Int64, "1-based turn that was judged; 0 where the whole conversation was, at once"
)
WINNER = Column(pl.String, "a, b or tie, already swapped back; null if unread", nullable=True)
EXCERPT = Column(pl.String, "The row's first 200 characters")
DETAIL = Column(pl.String, "One sentence for a person")
PROTOCOL = Column(
    pl.String,
    "What the judge is asked for: single (a score), scores (two of them), choice (A, B or a tie), "
    "preference (the probability of a label), or a protocol of another package",
)
SAMPLING = Column(pl.String, "How the judge was sampled, as JSON")

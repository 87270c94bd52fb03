"""Tables of the stage that reads people's files: samples, rejected rows, duplicates."""

import polars as pl

from opencs_assets.tables.columns import (
    BENCHMARK,
    DETAIL,
    EXCERPT,
    MESSAGES,
    QUESTION_ID,
    SAMPLE_ID,
)
from resources.schema import Column, Table

RAW_DATASET = Table(
    "raw_dataset",
    ("dataset",),
    ("sample_id",),
    {
        "sample_id": SAMPLE_ID,
        "row": Column(pl.Int64, "0-based row in the source file"),
        "system": Column(pl.String, "System prompt, where the sample has one", nullable=True),
        "messages": Column(MESSAGES, "The conversation: user and assistant in turn"),
        "instruction": Column(pl.String, "All that the user asks in the first turn"),
        "response": Column(pl.String, "The first answer"),
        "turns": Column(pl.Int64, "Number of user turns"),
        "template": Column(
            pl.String, "Prompt template that was found inside and stripped", nullable=True
        ),
        "source_format": Column(pl.String, "Shape of the row: alpaca, sharegpt, openai, ..."),
    },
)

CONTENT = ("sample_id", "system", "messages", "instruction", "response")
"""The columns that a sample's conversation stands in, wherever it is from."""

REJECTED_ROWS = Table(
    "rejected_rows",
    ("dataset",),
    ("row",),
    {
        "row": Column(pl.Int64, "0-based row in the source file; -1 of the whole file"),
        "line": Column(pl.Int64, "1-based line in the source file", nullable=True),
        "reason": Column(pl.String, "Code of the reason, such as no_response or duplicate"),
        "detail": DETAIL,
        "excerpt": EXCERPT,
    },
)

NEAR_DUPLICATES = Table(
    "near_duplicates",
    ("dataset",),
    ("sample_id",),
    {
        "sample_id": SAMPLE_ID,
        "group": Column(pl.Int64, "Group of samples that say nearly the same, by first row"),
        "duplicate_of": Column(pl.String, "The group's first sample by row"),
        "kind": Column(pl.String, "first, exact (equal words) or near"),
        "similarity": Column(
            pl.Float64, "Jaccard similarity of word 5-grams with the group's first sample"
        ),
    },
)

CONTAMINATED_SAMPLES = Table(
    "contaminated_samples",
    ("dataset",),
    ("sample_id", "benchmark", "question_id", "turn"),
    {
        "sample_id": SAMPLE_ID,
        "benchmark": BENCHMARK,
        "question_id": QUESTION_ID,
        "turn": Column(pl.Int64, "0-based turn of the question"),
        "match": Column(pl.String, "equal (the same words) or 13-gram (13 words in a row)"),
        "text": Column(pl.String, "What they share, at most 300 characters of it"),
    },
)

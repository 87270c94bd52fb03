"""Tables of the stage that tags samples and normalizes the tags."""

import polars as pl

from opencs_assets.tables.columns import MODEL, PROMPT_VERSION, REPLY_ID, SAMPLE_ID, STATUS
from resources.schema import Column, Table

OPEN_TAGS = Table(
    "open_tags",
    ("dataset",),
    ("sample_id",),
    {
        "sample_id": SAMPLE_ID,
        "tags": Column(
            pl.List(pl.Struct({"tag": pl.String, "explanation": pl.String})),
            "The tagger's tags in its own words; empty where there is none",
        ),
        "status": STATUS,
        "detail": Column(pl.String, "Why the last reply could not be used", nullable=True),
        "attempts": Column(pl.Int64, "Calls made for this sample, stored ones included"),
        "reply_id": REPLY_ID,
        "model": MODEL,
        "prompt_version": PROMPT_VERSION,
    },
)

UNPARSABLE_TAGS = Table(
    "unparsable_tags",
    ("dataset",),
    ("sample_id", "attempt"),
    {
        "sample_id": SAMPLE_ID,
        "attempt": Column(pl.Int64, "1-based attempt; there are at most three"),
        "status": STATUS,
        "reason": Column(pl.String, "Why the reply could not be used, as the next prompt said it"),
        "reply": Column(pl.String, "What the tagger replied"),
        "reply_id": REPLY_ID,
        "model": MODEL,
        "prompt_version": PROMPT_VERSION,
    },
)

NORMALIZED_TAGS = Table(
    "normalized_tags",
    ("dataset",),
    ("sample_id",),
    {
        "sample_id": SAMPLE_ID,
        "tags": Column(pl.List(pl.String), "Normalized tags, unique, sorted; may be empty"),
        "raw_tags": Column(pl.Int64, "Number of raw tags behind them"),
        "reason": Column(
            pl.String, "Why no tag is left: not_tagged, all_infrequent, all_blank", nullable=True
        ),
    },
)

TAG_LINEAGE = Table(
    "tag_lineage",
    ("dataset",),
    ("raw_tag", "place"),
    {
        "raw_tag": Column(pl.String, "Tag as the tagger wrote it"),
        "count": Column(pl.Int64, "Samples that carry the raw tag"),
        "place": Column(pl.Int64, "0-based place of the step"),
        "step": Column(
            pl.String,
            "Step of normalization that it reached: rule, semantic, association or frequency; "
            "none where all are switched off",
        ),
        "tag": Column(pl.String, "What it was before the step"),
        "became": Column(
            pl.String, "What the step made of it; null where it was dropped", nullable=True
        ),
        "became_count": Column(pl.Int64, "Samples that carry what it became", nullable=True),
        "normalized_tag": Column(
            pl.String, "What it is after all steps; null where one dropped it", nullable=True
        ),
    },
)

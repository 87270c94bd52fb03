"""Tables of the stage that compares samples, and scores them alone."""

import polars as pl

from opencs_assets.tables.columns import MODEL, PROMPT_VERSION, READING, REPLY_ID, SAMPLE_ID, STATUS
from resources.schema import Column, Table

SCORE_COMPARISONS = Table(
    "score_comparisons",
    ("dataset",),
    ("cluster", "sample_a", "sample_b", "shown_first"),
    {
        "cluster": Column(pl.Int64, "Cluster in which the two were compared"),
        "sample_a": Column(pl.String, "First sample of the pair, in candidate order"),
        "sample_b": Column(pl.String, "Second sample of the pair"),
        "shown_first": Column(pl.String, "a or b: which one the prompt showed first"),
        "score_a": Column(pl.Float64, "Score of sample_a in [1, 100]", nullable=True),
        "score_b": Column(pl.Float64, "Score of sample_b in [1, 100]", nullable=True),
        "round": Column(pl.Int64, "0-based round in which the scorer was asked"),
        "status": STATUS,
        "reading": READING,
        "reply_id": REPLY_ID,
        "model": MODEL,
        "prompt_version": PROMPT_VERSION,
    },
)

CONTRASTIVE_SCORES = Table(
    "contrastive_scores",
    ("dataset",),
    ("cluster", "sample_id"),
    {
        "cluster": Column(pl.Int64, "Cluster that the score holds in"),
        "sample_id": SAMPLE_ID,
        "score": Column(
            pl.Float64,
            "Score in [1, 100] beside the average of the cluster; null where no reply could be "
            "read",
            nullable=True,
        ),
        "low": Column(pl.Float64, "Lower end of the score's 95 % interval", nullable=True),
        "high": Column(pl.Float64, "Upper end of the score's 95 % interval", nullable=True),
        "comparisons": Column(pl.Int64, "Readable comparisons behind the score"),
        "opponents": Column(pl.Int64, "Different samples that it was readably compared with"),
        "missing": Column(pl.Int64, "Comparisons whose reply could not be read"),
        "order_gap": Column(
            pl.Float64, "Mean score when shown first minus when shown second", nullable=True
        ),
    },
)

WHOLE_SET_COMPARISONS = Table(
    "whole_set_comparisons", ("dataset",), SCORE_COMPARISONS.key, SCORE_COMPARISONS.columns
)

WHOLE_SET_SCORES = Table(
    "whole_set_scores", ("dataset",), CONTRASTIVE_SCORES.key, CONTRASTIVE_SCORES.columns
)

SINGLE_SCORES = Table(
    "single_scores",
    ("dataset",),
    ("sample_id", "criterion"),
    {
        "sample_id": SAMPLE_ID,
        "criterion": Column(pl.String, "helpfulness (0 to 5), complexity or quality (0 to 6)"),
        "score": Column(pl.Float64, "Score by the criterion", nullable=True),
        "status": STATUS,
        "reading": READING,
        "reply_id": REPLY_ID,
        "model": MODEL,
        "prompt_version": PROMPT_VERSION,
    },
)

"""Tables of the stage that chooses subsets, refines and exports them."""

import polars as pl

from opencs_assets.tables.columns import MODEL, PROMPT_VERSION, REPLY_ID, SAMPLE_ID
from opencs_assets.tables.datasets import CONTENT, RAW_DATASET
from resources.schema import Column, Table

_RANK = Column(pl.Int64, "0-based order of choice")
_RANKED = {
    "score": Column(pl.Float64, "Value that it was ranked by, if any", nullable=True),
    "place": Column(pl.Int64, "1-based place among those ranked with it", nullable=True),
    "places": Column(pl.Int64, "How many were ranked with it", nullable=True),
    "cut": Column(
        pl.Float64,
        "Score of the last sample that was chosen among those that it was ranked with",
        nullable=True,
    ),
}

_UNREFINED = "was left as it was: unparsable, truncated, refused, failed, too_long, several_turns"

SELECTED_SUBSET = Table(
    "selected_subset",
    ("dataset", "selector"),
    ("sample_id",),
    {
        "rank": _RANK,
        "sample_id": SAMPLE_ID,
        "cluster": Column(pl.Int64, "Cluster it was chosen for", nullable=True),
        **_RANKED,
        "scored_by": Column(
            pl.String, "Table that the score is from, where a model gave it", nullable=True
        ),
        "reason": Column(pl.String, "Why it was chosen, for a person"),
        "pinned": Column(pl.Boolean, "Whether pins.csv keeps the sample"),
    },
)

UNSELECTED_SAMPLES = Table(
    "unselected_samples",
    ("dataset", "selector"),
    ("sample_id",),
    {
        "sample_id": SAMPLE_ID,
        "cluster": Column(pl.Int64, "Cluster in which it stands best, if any", nullable=True),
        **_RANKED,
        "reason": Column(pl.String, "Why it was not chosen, for a person"),
    },
)

OUTSIDE_SAMPLES = Table(
    "outside_samples",
    ("dataset", "selector"),
    ("sample_id",),
    {
        "sample_id": SAMPLE_ID,
        "row": Column(pl.Int64, "0-based row in the set's file"),
        **{name: RAW_DATASET.columns[name] for name in CONTENT if name != "sample_id"},
    },
)

REFINED_SAMPLES = Table(
    "refined_samples",
    ("dataset", "refined"),
    ("sample_id",),
    {
        "rank": _RANK,
        "sample_id": SAMPLE_ID,
        "instruction_before": Column(pl.String, "The instruction as it was"),
        "instruction": Column(pl.String, "The instruction to train on"),
        "response_before": Column(pl.String, "The response as it was"),
        "response": Column(pl.String, "The response to train on"),
        "response_status": Column(pl.String, f"ok, or why the response {_UNREFINED}"),
        "response_detail": Column(pl.String, f"Why the response {_UNREFINED}", nullable=True),
        "instruction_status": Column(pl.String, f"ok, or why the instruction {_UNREFINED}"),
        "instruction_detail": Column(pl.String, f"Why the instruction {_UNREFINED}", nullable=True),
        "response_reply_id": REPLY_ID,
        "instruction_reply_id": REPLY_ID,
        "model": MODEL,
        "prompt_version": PROMPT_VERSION,
    },
)

SUBSET_EXPORTS = Table(
    "subset_exports",
    ("dataset", "selector"),
    ("file",),
    {
        "file": Column(pl.String, "Name of the file"),
        "path": Column(pl.String, "Path of the file"),
        "rows": Column(
            pl.Int64, "Samples in it; null for the card and the description", nullable=True
        ),
        "bytes": Column(pl.Int64, "Size of the file in bytes"),
        "sha256": Column(pl.String, "Hex SHA-256 of its bytes"),
    },
)

STABILITY_SAMPLES = Table(
    "stability_samples",
    ("dataset",),
    ("sample_id",),
    {
        "sample_id": SAMPLE_ID,
        "chosen": Column(pl.Boolean, "Chosen with the settings as they are"),
        "runs": Column(pl.Int64, "Runs with other settings"),
        "times": Column(pl.Int64, "Runs that chose it"),
        "inclusion": Column(pl.Float64, "Share of the runs that chose it", nullable=True),
    },
)

STABILITY_RUNS = Table(
    "stability_runs",
    ("dataset",),
    ("run",),
    {
        "run": Column(pl.Int64, "Number of the run"),
        "factor": Column(pl.String, "What the run varies: seed, clusters, alpha or quota"),
        "seed": Column(pl.Int64, "Seed of the run"),
        "alpha": Column(pl.Int64, "α of the run"),
        "clusters": Column(pl.Int64, "K of the run"),
        "quota": Column(pl.Int64, "Quota of the run"),
        "chosen": Column(pl.Int64, "Samples that the run chose"),
        "candidates": Column(pl.Int64, "Candidates that the run chose from"),
        "unscored": Column(pl.Int64, "Candidates without a stored comparison in their cluster"),
        "jaccard": Column(
            pl.Float64,
            "Jaccard index with the subset of the settings; null where the run failed",
            nullable=True,
        ),
        "failed": Column(pl.String, "Why the run chose nothing", nullable=True),
    },
)

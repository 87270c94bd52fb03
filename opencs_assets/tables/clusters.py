"""Tables of the stage that embeds and clusters tags, and of who stands for a cluster."""

import polars as pl

from opencs_assets.tables.columns import SAMPLE_ID
from resources.schema import Column, Table

SAMPLE_EMBEDDINGS = Table(
    "sample_embeddings",
    ("dataset",),
    ("sample_id",),
    {
        "sample_id": SAMPLE_ID,
        "embedding": Column(pl.List(pl.Float32), "Unit-length embedding of the instruction"),
        "model": Column(pl.String, "Embedding model"),
    },
)

SAMPLE_CLUSTERS = Table(
    "sample_clusters",
    ("dataset",),
    ("sample_id", "cluster"),
    {
        "sample_id": SAMPLE_ID,
        "cluster": Column(pl.Int64, "Cluster that one of the sample's tags is in"),
        "is_primary": Column(pl.Boolean, "The one cluster in which the sample is scored"),
        "label_set": Column(pl.List(pl.Int64), "All clusters of the sample, sorted"),
        "is_candidate": Column(
            pl.Boolean, "Stands for its label set (longest responses of the set)"
        ),
    },
)

UNCLUSTERED_SAMPLES = Table(
    "unclustered_samples",
    ("dataset",),
    ("sample_id",),
    {
        "sample_id": SAMPLE_ID,
        "reason": Column(
            pl.String,
            "Why it is in no cluster: not_tagged, all_infrequent, all_blank, or noise (DBSCAN put "
            "none of its tags into a cluster)",
        ),
    },
)

REPRESENTATIVES = Table(
    "representatives",
    ("dataset",),
    ("sample_id",),
    {
        "sample_id": SAMPLE_ID,
        "label_set": Column(pl.List(pl.Int64), "Clusters of the sample, sorted"),
        "cluster": Column(pl.Int64, "The one cluster in which it is scored"),
        "place": Column(pl.Int64, "0-based place among its label set, longest response first"),
        "length": Column(pl.Int64, "Characters of its response"),
        "stands_for": Column(pl.Int64, "Samples with this label set"),
    },
)

CLUSTERS = Table(
    "clusters",
    ("dataset",),
    ("cluster",),
    {
        "cluster": Column(pl.Int64, "Number of the cluster, 0-based"),
        "name": Column(pl.String, "Its most characteristic tags by c-TF-IDF"),
        "tags": Column(pl.List(pl.String), "Normalized tags in it, most frequent first"),
        "members": Column(pl.Int64, "Samples with a tag in it"),
        "primary_members": Column(pl.Int64, "Samples whose primary cluster it is"),
        "candidates": Column(pl.Int64, "Candidates whose primary cluster it is"),
    },
)

"""Whether embeddings and clusters are whole."""

import dagster as dg
import numpy as np
import polars as pl

from opencs_assets.checks import Finding, build_check
from opencs_assets.partitions import Partitions

UNIT_TOLERANCE = 1e-3


def one_unit_vector_each(embeddings: pl.DataFrame, samples: pl.DataFrame) -> Finding:
    """Every sample has one finite embedding of length one."""
    vectors = np.array(embeddings["embedding"].to_list(), dtype=np.float32)
    lengths = np.linalg.norm(vectors, axis=1) if len(vectors) else np.zeros(0)
    wrong = int((~(np.abs(lengths - 1) < UNIT_TOLERANCE)).sum())
    missing = samples.join(embeddings, on="sample_id", how="anti").height
    return Finding(
        not wrong and not missing and embeddings.height == samples.height,
        f"{embeddings.height} embeddings of {samples.height} samples, {missing} missing, "
        f"{wrong} not of length one",
        {"missing": missing, "wrong": wrong},
    )


def every_tagged_sample(clusters: pl.DataFrame, tags: pl.DataFrame) -> Finding:
    """Every sample with a tag is in a cluster, in exactly one of them primarily."""
    tagged = tags.filter(pl.col("tags").list.len() > 0)
    lost = tagged.join(clusters, on="sample_id", how="anti").height
    primaries = clusters.group_by("sample_id").agg(pl.col("is_primary").sum())
    unclear = primaries.filter(pl.col("is_primary") != 1).height
    return Finding(
        not lost and not unclear and clusters.height > 0,
        f"{tagged.height} samples with tags, {lost} in no cluster, "
        f"{unclear} without exactly one primary cluster",
        {"lost": lost, "unclear": unclear},
    )


def build_cluster_checks(partitions: Partitions) -> list[dg.AssetChecksDefinition]:
    """The checks on ``sample_embeddings`` and ``sample_clusters``."""
    return [
        build_check(
            "sample_embeddings",
            "one_unit_vector_each",
            one_unit_vector_each,
            partitions_def=partitions.dataset,
            inputs={"raw_dataset": dg.AssetIn("raw_dataset")},
        ),
        build_check(
            "sample_clusters",
            "every_tagged_sample",
            every_tagged_sample,
            partitions_def=partitions.dataset,
            inputs={"normalized_tags": dg.AssetIn("normalized_tags")},
        ),
    ]

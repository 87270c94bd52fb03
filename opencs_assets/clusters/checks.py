"""Whether embeddings and clusters are whole."""

import dagster as dg
import numpy as np
import polars as pl

from opencs_assets.tables.embeddings import to_matrix
from opencs_assets.wiring.checks import Finding, build_check
from opencs_assets.wiring.partitions import Partitions

UNIT_TOLERANCE = 1e-3


def one_unit_vector_each(embeddings: pl.DataFrame, samples: pl.DataFrame) -> Finding:
    """Every sample has exactly one embedding, which is finite and of length one."""
    lengths = np.linalg.norm(to_matrix(embeddings["embedding"]), axis=1)
    wrong = int((~(np.abs(lengths - 1) < UNIT_TOLERANCE)).sum())
    missing = samples.join(embeddings, on="sample_id", how="anti").height
    return Finding(
        not wrong and not missing and embeddings.height == samples.height,
        f"{embeddings.height} embeddings of {samples.height} samples, {missing} missing, "
        f"{wrong} not of length one",
        {"missing": missing, "wrong": wrong},
    )


def every_sample_accounted_for(
    clusters: pl.DataFrame, tags: pl.DataFrame, unclustered: pl.DataFrame
) -> Finding:
    """Every sample is in a cluster, exactly one of them primary, or has a row that says why not."""
    elsewhere = tags.join(clusters, on="sample_id", how="anti")
    lost = elsewhere.join(unclustered, on="sample_id", how="anti").height
    both = unclustered.join(clusters, on="sample_id", how="semi").height
    primaries = clusters.group_by("sample_id").agg(pl.col("is_primary").sum())
    unclear = primaries.filter(pl.col("is_primary") != 1).height
    return Finding(
        not lost and not both and not unclear and clusters.height > 0,
        f"{tags.height} samples, {elsewhere.height} in no cluster, {lost} of them without a "
        f"reason, {both} with a reason and yet in one, "
        f"{unclear} without exactly one primary cluster",
        {"lost": lost, "both": both, "unclear": unclear},
    )


def build_cluster_checks(partitions: Partitions) -> list[dg.AssetChecksDefinition]:
    """The checks on ``sample_embeddings`` and ``sample_clusters``."""
    return [
        build_check("sample_embeddings", one_unit_vector_each, partitions.dataset, "raw_dataset"),
        build_check(
            "sample_clusters",
            every_sample_accounted_for,
            partitions.dataset,
            "normalized_tags",
            "unclustered_samples",
        ),
    ]

"""From clusters of tags to clusters of samples, and to the candidates that stand for them."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import polars as pl

from opencs_assets.clusters.kmeans import Floats, kmeans
from opencs_assets.profiles import CANDIDATES_PER_CHOICE, Constants, MethodError
from opencs_assets.schemas import CLUSTERS, SAMPLE_CLUSTERS

NAME_TAGS = 3


@dataclass(frozen=True)
class Clustering:
    """The clusters of a dataset.

    Attributes:
        samples: One row a sample and cluster (schema ``SAMPLE_CLUSTERS``).
        clusters: One row a cluster (schema ``CLUSTERS``).
        notes: What was scaled or could not be had, for a person.
    """

    samples: pl.DataFrame
    clusters: pl.DataFrame
    notes: tuple[str, ...]


def cluster_samples(
    normalized: pl.DataFrame,
    response_lengths: pl.DataFrame,
    embed: Callable[[Sequence[str]], Floats],
    constants: Constants,
) -> Clustering:
    """Cluster the unique tags, and the samples by the clusters of their tags.

    Args:
        normalized: Rows of ``normalized_tags``; samples without tags get no cluster.
        response_lengths: ``sample_id``, ``row`` and ``length`` (characters of the response).
        embed: Gives texts their float32 embeddings, (n, d).
        constants: K and the choices of the profile.

    Raises:
        MethodError: No tags at all, or (``faithful``) fewer unique tags than K.
    """
    pairs = normalized.select("sample_id", tag="tags").explode("tag").drop_nulls()
    counts = (
        pairs.group_by("tag").agg(count=pl.len()).sort(["count", "tag"], descending=[True, False])
    )
    unique = counts.height
    if not unique:
        raise MethodError("no sample has a normalized tag, so there is nothing to cluster")
    notes = []
    wanted = constants.clusters.value
    if wanted > unique:
        if constants.profile == "faithful":
            raise MethodError(
                f"K = {wanted} clusters can't be made of {unique} unique tags; set "
                'method.clusters lower, or profile = "corrected", which scales it with the data'
            )
        notes.append(f"K = {wanted} is more than the {unique} unique tags; K = {unique} is used")
        wanted = unique
    points = embed(counts["tag"].to_list())
    weights = counts["count"].to_numpy().astype(np.float32)
    if constants.weigh_tags:
        labels = kmeans(points, weights, wanted, seed=constants.seed).labels
    else:
        # Published: every occurrence is a point. The same work as weights, many times over.
        repeated = np.repeat(np.arange(unique), counts["count"].to_numpy())
        found = kmeans(
            points[repeated], np.ones(len(repeated), np.float32), wanted, seed=constants.seed
        )
        labels = np.zeros(unique, np.int64)
        labels[repeated] = found.labels
    tag_clusters = counts.with_columns(cluster=pl.Series(labels))
    members = _members(pairs, tag_clusters)
    candidates, kept = _candidates(members, response_lengths, constants)
    if not constants.longest_only:
        notes.append(
            f"the {kept} longest responses of a label set are candidates, so that "
            f"{CANDIDATES_PER_CHOICE} stand behind each choice (published: 1)"
        )
    samples = (
        members.join(candidates, on="sample_id", how="left", maintain_order="left")
        .with_columns(pl.col("is_candidate").fill_null(False))
        .select(list(SAMPLE_CLUSTERS.columns))
        .sort("sample_id", "cluster")
    )
    return Clustering(samples, _describe(samples, tag_clusters), tuple(notes))


def _members(pairs: pl.DataFrame, tag_clusters: pl.DataFrame) -> pl.DataFrame:
    counted = (
        pairs.join(tag_clusters.select("tag", "cluster"), on="tag")
        .group_by("sample_id", "cluster")
        .agg(tags=pl.len())
    )
    sizes = counted.group_by("cluster").agg(size=pl.len())
    # Primary: most of the sample's tags; ties go to the smaller cluster, whose samples are rarer.
    primary = (
        counted.join(sizes, on="cluster")
        .sort(["sample_id", "tags", "size", "cluster"], descending=[False, True, False, False])
        .group_by("sample_id", maintain_order=True)
        .agg(primary=pl.col("cluster").first(), label_set=pl.col("cluster").unique().sort())
    )
    return counted.join(primary, on="sample_id").with_columns(
        is_primary=pl.col("cluster") == pl.col("primary")
    )


def _candidates(
    members: pl.DataFrame, response_lengths: pl.DataFrame, constants: Constants
) -> tuple[pl.DataFrame, int]:
    ranked = (
        members.select("sample_id", "label_set")
        .unique("sample_id")
        .join(response_lengths, on="sample_id")
        .sort(["length", "row"], descending=[True, False])
        .with_columns(
            place=pl.int_range(pl.len()).over(
                pl.col("label_set").cast(pl.List(pl.String)).list.join(",")
            )
        )
    )
    kept = 1
    if not constants.longest_only:
        enough = min(CANDIDATES_PER_CHOICE * constants.k.value, ranked.height)
        places = ranked["place"].sort()
        kept = int(places[enough - 1]) + 1
    return (
        ranked.filter(pl.col("place") < kept).select("sample_id", is_candidate=pl.lit(True)),
        kept,
    )


def _describe(samples: pl.DataFrame, tag_clusters: pl.DataFrame) -> pl.DataFrame:
    sizes = samples.group_by("cluster").agg(
        members=pl.len().cast(pl.Int64),
        primary_members=pl.col("is_primary").sum().cast(pl.Int64),
        candidates=(pl.col("is_primary") & pl.col("is_candidate")).sum().cast(pl.Int64),
    )
    return (
        tag_clusters.sort(["count", "tag"], descending=[True, False])
        .group_by("cluster", maintain_order=True)
        .agg(tags=pl.col("tag"))
        .with_columns(name=pl.col("tags").list.head(NAME_TAGS).list.join(", "))
        .join(sizes, on="cluster")
        .select(list(CLUSTERS.columns))
        .sort("cluster")
    )

"""Clusters of samples by the clusters of their tags, and the representatives that are scored."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import polars as pl

from opencs_assets.clusters.automatic import ClusterCountCurve, choose_clusters
from opencs_assets.clusters.kmeans import Floats, Ints, kmeans
from opencs_assets.clusters.naming import name_clusters
from opencs_assets.config.profiles import CANDIDATES_PER_CHOICE, Constants, MethodError
from opencs_assets.statistics.density import dbscan
from opencs_assets.tables.clusters import (
    CLUSTERS,
    REPRESENTATIVES,
    SAMPLE_CLUSTERS,
    UNCLUSTERED_SAMPLES,
)


@dataclass(frozen=True)
class TagMap:
    """Where the unique tags are, for a picture.

    Attributes:
        tags: ``tag``, ``count`` (samples) and ``cluster`` (null for DBSCAN's noise), commonest
            first.
        points: Their embeddings, float32 (t, d), in the same order.
    """

    tags: pl.DataFrame
    points: Floats


@dataclass(frozen=True)
class Clustering:
    """The clusters of a dataset.

    Attributes:
        samples: One row a sample and cluster (schema ``SAMPLE_CLUSTERS``).
        unclustered: One row a sample that is in none (schema ``UNCLUSTERED_SAMPLES``).
        representatives: One row a sample that is scored (schema ``REPRESENTATIVES``).
        clusters: One row a cluster (schema ``CLUSTERS``).
        map: The tags' embeddings and clusters.
        curve: How K was chosen; ``None`` where it was declared or DBSCAN needs none.
        notes: Lines for a person about what was scaled or could not be done.
    """

    samples: pl.DataFrame
    unclustered: pl.DataFrame
    representatives: pl.DataFrame
    clusters: pl.DataFrame
    map: TagMap
    curve: ClusterCountCurve | None
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
        embed: Gives texts their float32 embeddings, (n, d), of unit length.
        constants: K and the choices of the profile.

    Raises:
        MethodError: No tags at all, (``faithful``) fewer unique tags than K, or all noise.
    """
    pairs = normalized.select("sample_id", tag="tags").explode("tag").drop_nulls()
    counts = (
        pairs.group_by("tag")
        .agg(count=pl.len().cast(pl.Int64))
        .sort(["count", "tag"], descending=[True, False])
    )
    if not counts.height:
        raise MethodError("no sample has a normalized tag, so there is nothing to cluster")
    points = embed(counts["tag"].to_list())
    notes: list[str] = []
    labels, curve = _labels(points, counts["count"].to_numpy(), constants, notes)
    tags = counts.with_columns(cluster=pl.Series(labels).replace(-1, None))
    tag_clusters = tags.drop_nulls("cluster")
    members = _members(pairs, tag_clusters)
    ranked = _ranked(members, response_lengths)
    candidates = _candidates_a_label_set(ranked, constants)
    if candidates > 1:
        notes.append(
            f"the {candidates} longest responses of a label set are candidates, so that "
            f"{CANDIDATES_PER_CHOICE} stand behind each choice (published: 1)"
        )
    representatives = ranked.filter(pl.col("place") < candidates)
    samples = (
        members.with_columns(
            is_candidate=pl.col("sample_id").is_in(representatives["sample_id"].implode())
        )
        .select(list(SAMPLE_CLUSTERS.columns))
        .sort("sample_id", "cluster")
    )
    return Clustering(
        samples=samples,
        unclustered=_unclustered(normalized, samples),
        representatives=representatives.select(list(REPRESENTATIVES.columns)).sort(
            "cluster", "label_set", "place"
        ),
        clusters=_describe(samples, tag_clusters, pairs),
        map=TagMap(tags, points),
        curve=curve,
        notes=tuple(notes),
    )


def _labels(
    points: Floats, counts: Ints, constants: Constants, notes: list[str]
) -> tuple[Ints, ClusterCountCurve | None]:
    """The cluster of each tag (-1 for noise), and how K was chosen."""
    if constants.clusterer == "dbscan":
        labels = dbscan(
            points,
            distance=constants.cluster_distance,
            neighbours=constants.cluster_neighbours,
            metric="euclidean",
            weights=counts if constants.count_occurrences else None,
        )
        noise = int((labels < 0).sum())
        if noise == len(labels):
            raise MethodError(
                f"DBSCAN finds no cluster among {len(labels)} tags at distance "
                f"{constants.cluster_distance} with {constants.cluster_neighbours} neighbours; "
                'raise method.cluster_distance, or set method.clustering = "kmeans"'
            )
        if noise:
            notes.append(f"{noise} of {len(labels)} tags are noise to DBSCAN and in no cluster")
        return labels, None
    weights = counts.astype(np.float32)
    curve = None
    if constants.automatic_clusters:
        curve = choose_clusters(points, weights, seed=constants.seed)
        clusters = curve.clusters
        note = f"K = {clusters} has the best {curve.criterion} of those that were tried"
        if clusters == curve.tried[-1] and len(curve.tried) > 1:
            note += "; it is the largest of them, so the tags have no clear number of clusters"
        notes.append(note)
    else:
        clusters = _declared_clusters(constants, len(points), notes)
    # The published code clusters every occurrence of a tag as a point, with the same objective.
    return kmeans(points, weights, clusters, seed=constants.seed).labels, curve


def _declared_clusters(constants: Constants, tags: int, notes: list[str]) -> int:
    """The profile's K, or the number of unique tags where these are fewer."""
    clusters = constants.clusters.value
    if clusters <= tags:
        return clusters
    if constants.profile == "faithful":
        raise MethodError(
            f"K = {clusters} clusters can't be made of {tags} unique tags; set "
            'method.clusters lower, or profile = "corrected", which scales it with the data'
        )
    notes.append(f"K = {clusters} is more than the {tags} unique tags; K = {tags} is used")
    return tags


def _members(pairs: pl.DataFrame, tag_clusters: pl.DataFrame) -> pl.DataFrame:
    """One row a sample and cluster, with the sample's primary cluster and label set."""
    counted = (
        pairs.join(tag_clusters.select("tag", "cluster"), on="tag")
        .group_by("sample_id", "cluster")
        .agg(tags=pl.len())
    )
    sizes = counted.group_by("cluster").agg(size=pl.len())
    # The primary cluster has most of the sample's tags; of equal ones it is the smallest, whose
    # samples are rarer.
    primary = (
        counted.join(sizes, on="cluster")
        .sort(["sample_id", "tags", "size", "cluster"], descending=[False, True, False, False])
        .group_by("sample_id", maintain_order=True)
        .agg(primary=pl.col("cluster").first(), label_set=pl.col("cluster").unique().sort())
    )
    return counted.join(primary, on="sample_id").with_columns(
        is_primary=pl.col("cluster") == pl.col("primary")
    )


def _ranked(members: pl.DataFrame, response_lengths: pl.DataFrame) -> pl.DataFrame:
    """Every member with its place in its label set, the longest response first."""
    label_set = pl.col("label_set").cast(pl.List(pl.String)).list.join(",")
    return (
        members.select("sample_id", "label_set", cluster="primary")
        .unique("sample_id")
        .join(response_lengths, on="sample_id")
        .sort(["length", "row"], descending=[True, False])
        .with_columns(
            pl.col("length").cast(pl.Int64),
            place=pl.int_range(pl.len()).over(label_set),
            stands_for=pl.len().over(label_set).cast(pl.Int64),
        )
    )


def _candidates_a_label_set(ranked: pl.DataFrame, constants: Constants) -> int:
    """How many candidates a label set has, so that all together are enough for the subset."""
    if constants.longest_only or not ranked.height:
        return 1
    needed = min(CANDIDATES_PER_CHOICE * constants.k.value, ranked.height)
    return int(ranked["place"].sort()[needed - 1]) + 1


def _unclustered(normalized: pl.DataFrame, samples: pl.DataFrame) -> pl.DataFrame:
    return (
        normalized.join(samples, on="sample_id", how="anti")
        .with_columns(pl.col("reason").fill_null("noise"))
        .select(list(UNCLUSTERED_SAMPLES.columns))
        .sort("sample_id")
    )


def _describe(
    samples: pl.DataFrame, tag_clusters: pl.DataFrame, pairs: pl.DataFrame
) -> pl.DataFrame:
    sizes = samples.group_by("cluster").agg(
        members=pl.len().cast(pl.Int64),
        primary_members=pl.col("is_primary").sum().cast(pl.Int64),
        candidates=(pl.col("is_primary") & pl.col("is_candidate")).sum().cast(pl.Int64),
    )
    documents = (
        samples.filter("is_primary")
        .select("sample_id", "cluster")
        .join(pairs, on="sample_id")
        .select("cluster", "tag")
    )
    return (
        tag_clusters.sort(["count", "tag"], descending=[True, False])
        .group_by("cluster", maintain_order=True)
        .agg(tags=pl.col("tag"))
        .join(name_clusters(tag_clusters.select("tag", "cluster"), documents), on="cluster")
        .join(sizes, on="cluster")
        .select(list(CLUSTERS.columns))
        .sort("cluster")
    )

"""Plots of clusters."""

import numpy as np
import polars as pl
from matplotlib.figure import Figure
from threadpoolctl import threadpool_limits

from opencs_assets.clusters.automatic import ClusterCountCurve
from opencs_assets.clusters.membership import TagMap
from opencs_assets.wiring.plots import BLUE, GREY, ORANGE, figure, label, nothing_to_plot

MOST_BARS = 40
NAME_CHARACTERS = 40
MAP_TAGS = 1500
MAP_NAMES = 25
# t-SNE fits a tag's place to about so many neighbours.
PERPLEXITY = 30


def cluster_sizes(clusters: pl.DataFrame) -> Figure:
    """Members of each cluster by name, and how many of them are candidates."""
    title = "Cluster sizes"
    if not clusters.height:
        return nothing_to_plot(title)
    shown = clusters.sort(["members", "cluster"]).tail(MOST_BARS)
    drawn, (axes,) = figure(title, size=(7.0, 1.0 + 0.22 * shown.height))
    names = [
        f"{cluster}: {label(name, NAME_CHARACTERS)}"
        for cluster, name in shown.select("cluster", "name").iter_rows()
    ]
    axes.barh(names, shown["members"].to_list(), color=GREY, label="members")
    candidates = shown["candidates"].to_list()
    bars = axes.barh(names, candidates, color=BLUE, label="candidates scored here")
    axes.bar_label(bars, fontsize=7)
    axes.set_xlabel("samples")
    axes.legend(fontsize=8)
    return drawn


def tags_a_representative(representatives: pl.DataFrame, normalized: pl.DataFrame) -> Figure:
    """How many normalized tags a sample has, of one sample a label set (as published)."""
    title = "Tags a sample, one sample a label set"
    first = representatives.filter(pl.col("place") == 0).select("sample_id")
    if not first.height:
        return nothing_to_plot(title)
    counts = (
        first.join(normalized, on="sample_id")
        .select(tags=pl.col("tags").list.len())["tags"]
        .value_counts()
        .sort("tags")
    )
    drawn, (axes,) = figure(title)
    bars = axes.bar(counts["tags"].to_list(), counts["count"].to_list(), color=ORANGE)
    axes.bar_label(bars, fontsize=7)
    axes.set_xticks(counts["tags"].to_list())
    axes.set_xlabel("tags")
    axes.set_ylabel("label sets")
    return drawn


def criterion(curve: ClusterCountCurve) -> Figure:
    """What each number of clusters was worth, and which one was taken."""
    drawn, (axes,) = figure(f"Number of clusters: K = {curve.clusters}")
    axes.plot(curve.tried, curve.values, color=BLUE, marker="o", markersize=4)
    axes.axvline(curve.clusters, color=ORANGE, linestyle="--", linewidth=1)
    axes.set_xscale("log")
    marked = [curve.tried[0], curve.clusters, curve.tried[-1]]
    axes.set_xticks(marked, list(map(str, marked)))
    axes.minorticks_off()
    axes.set_xlabel("clusters K")
    axes.set_ylabel(curve.criterion, fontsize=8)
    return drawn


def tag_map(tags: TagMap, clusters: pl.DataFrame) -> Figure:
    """The commonest tags in two dimensions (t-SNE), coloured by cluster, large ones named."""
    title = "Map of tags"
    shown = tags.tags.head(MAP_TAGS)
    if shown.height < 4:
        return nothing_to_plot(title)
    from sklearn.manifold import TSNE

    model = TSNE(perplexity=min(PERPLEXITY, (shown.height - 1) / 3), init="pca", random_state=0)
    # One thread places so few points sooner than several that wait for each other.
    with threadpool_limits(1):
        places = model.fit_transform(tags.points[: shown.height])
    drawn, (axes,) = figure(
        f"{title}: the {shown.height:,} commonest, coloured by cluster", size=(9.0, 6.5)
    )
    labels = shown["cluster"].fill_null(-1).to_numpy()
    counts = shown["count"].to_numpy()
    sizes = 4 + 60 * np.sqrt(counts / counts.max())
    noise = labels < 0
    axes.scatter(
        places[noise, 0], places[noise, 1], s=sizes[noise], color=GREY, alpha=0.3, linewidths=0
    )
    axes.scatter(
        places[~noise, 0],
        places[~noise, 1],
        s=sizes[~noise],
        c=labels[~noise] % 20,
        cmap="tab20",
        alpha=0.7,
        linewidths=0,
    )
    names = dict(clusters.select("cluster", "name").iter_rows())
    largest = clusters.sort(["members", "cluster"], descending=[True, False])["cluster"]
    for cluster in largest.head(MAP_NAMES):
        own = np.flatnonzero(labels == cluster)
        if len(own):
            # The name stands at the tag nearest to the middle of the cluster.
            middle = np.median(places[own], axis=0)
            place = places[own[np.linalg.norm(places[own] - middle, axis=1).argmin()]]
            axes.annotate(
                label(names[cluster].split(", ")[0], NAME_CHARACTERS),
                place,
                fontsize=7,
                ha="center",
                bbox={"boxstyle": "round,pad=0.15", "color": "white", "alpha": 0.7},
            )
    axes.set_xticks([])
    axes.set_yticks([])
    return drawn

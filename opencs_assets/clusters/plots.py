"""Plots of clusters."""

import polars as pl
from matplotlib.figure import Figure

from opencs_assets.plots import BLUE, GREY, figure, nothing_to_plot

MOST_BARS = 40
NAME_CHARACTERS = 40


def cluster_sizes(clusters: pl.DataFrame) -> Figure:
    """Members of each cluster by name, and how many of them are candidates."""
    title = "Cluster sizes"
    if not clusters.height:
        return nothing_to_plot(title)
    shown = clusters.sort(["members", "cluster"]).tail(MOST_BARS)
    drawn, (axes,) = figure(title, size=(7.0, 1.0 + 0.22 * shown.height))
    names = [
        f"{cluster}: {name[:NAME_CHARACTERS]}"
        for cluster, name in shown.select("cluster", "name").iter_rows()
    ]
    axes.barh(names, shown["members"].to_list(), color=GREY, label="members")
    bars = axes.barh(
        names, shown["candidates"].to_list(), color=BLUE, label="candidates scored here"
    )
    axes.bar_label(bars, fontsize=7)
    axes.set_xlabel("samples")
    axes.legend(fontsize=8)
    return drawn

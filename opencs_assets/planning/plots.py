"""Plots of how much a choice owes to its settings."""

import polars as pl
from matplotlib.figure import Figure

from opencs_assets.wiring.plots import BLUE, GREY, figure, nothing_to_plot

BINS = 25


def inclusion(samples: pl.DataFrame) -> Figure:
    """How often other settings choose the subset's samples, and those that are not in it."""
    title = "How often other settings choose a sample"
    shown = samples.drop_nulls("inclusion")
    if not shown.height:
        return nothing_to_plot(title)
    drawn, (axes,) = figure(title)
    parts = {
        name: shown.filter(pl.col("chosen") == chosen)["inclusion"].to_list()
        for name, chosen in (("in the subset", True), ("not in it", False))
    }
    axes.hist(
        list(parts.values()),
        bins=BINS,
        range=(0, 1),
        stacked=True,
        color=[BLUE, GREY],
        label=list(parts),
    )
    axes.set_xlabel("share of the runs that chose it")
    axes.set_ylabel("samples")
    axes.legend(fontsize=8)
    return drawn


def jaccard_by_factor(runs: pl.DataFrame) -> Figure:
    """How much of the subset stays, by what was varied."""
    title = "Jaccard index with the subset as it is, by what was varied"
    shown = runs.drop_nulls("jaccard")
    if not shown.height:
        return nothing_to_plot(title)
    drawn, (axes,) = figure(title)
    factors = shown["factor"].unique(maintain_order=True).to_list()
    axes.boxplot(
        [shown.filter(pl.col("factor") == factor)["jaccard"].to_list() for factor in factors],
        tick_labels=factors,
    )
    axes.set_ylim(0, 1)
    axes.set_ylabel("Jaccard index")
    return drawn

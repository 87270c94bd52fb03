"""Plots of a subset beside the whole dataset."""

import numpy as np
import polars as pl
from matplotlib.figure import Figure

from opencs_assets.wiring.plots import BLUE, GREY, figure, nothing_to_plot

BINS = 25


def before_and_after(refined: pl.DataFrame) -> Figure:
    """Lengths of responses and instructions before and after refinement."""
    title = "Characters before and after refinement"
    if not refined.height:
        return nothing_to_plot(title)
    drawn, axes = figure(title, axes=2, size=(9.0, 3.4))
    for place, part in enumerate(("response", "instruction")):
        before = refined[f"{part}_before"].str.len_chars().to_list()
        after = refined[part].str.len_chars().to_list()
        longest = max(*before, *after, 2)
        axes[place].plot([1, longest], [1, longest], color=GREY, linewidth=0.8)
        axes[place].scatter(before, after, s=6, color=BLUE, alpha=0.5)
        axes[place].set_xscale("log")
        axes[place].set_yscale("log")
        axes[place].set_xlabel(f"{part} before")
        axes[place].set_ylabel(f"{part} after")
    return drawn


def against_all(subset: pl.DataFrame, samples: pl.DataFrame, clusters: pl.DataFrame) -> Figure:
    """Response lengths and primary clusters of the chosen samples beside those of all.

    ``clusters`` has the columns ``sample_id`` and ``cluster``.
    """
    title = "Selected against all"
    if not subset.height:
        return nothing_to_plot(title)
    chosen = samples.join(subset.select("sample_id"), on="sample_id", how="semi")
    drawn, axes = figure(title, axes=2, size=(9.0, 3.4))
    lengths = {
        name: frame["response"].str.len_chars().to_numpy()
        for name, frame in (("all", samples), ("selected", chosen))
    }
    bins = np.geomspace(1, max(int(lengths["all"].max()), 2), BINS).tolist()
    for name, colour in (("all", GREY), ("selected", BLUE)):
        axes[0].hist(
            lengths[name],
            bins=bins,
            weights=np.full(len(lengths[name]), 1 / len(lengths[name])),
            alpha=0.6,
            color=colour,
            label=name,
        )
    axes[0].set_xscale("log")
    axes[0].set_xlabel("characters of the response")
    axes[0].set_ylabel("share of samples")
    axes[0].legend(fontsize=8)
    counts = (
        clusters.group_by("cluster")
        .agg(
            everyone=pl.len(),
            selected=pl.col("sample_id").is_in(subset["sample_id"].to_list()).sum(),
        )
        .sort("everyone")
    )
    places = np.arange(counts.height)
    axes[1].bar(places, counts["everyone"].to_list(), color=GREY, label="all")
    axes[1].bar(places, counts["selected"].to_list(), color=BLUE, label="selected")
    axes[1].set_xticks(places.tolist(), [str(cluster) for cluster in counts["cluster"]], fontsize=7)
    axes[1].set_xlabel("primary cluster, by size")
    axes[1].set_ylabel("samples")
    axes[1].legend(fontsize=8)
    return drawn

"""Plots of scores."""

import polars as pl
from matplotlib.figure import Figure

from opencs_assets.wiring.plots import BLUE, ORANGE, figure, nothing_to_plot

BINS = 25


def score_distribution(scores: pl.DataFrame, low: float, high: float) -> Figure:
    """How the scores are spread over their range."""
    title = "Scores"
    values = scores["score"].drop_nulls().to_list()
    if not values:
        return nothing_to_plot(title)
    drawn, (axes,) = figure(title)
    axes.hist(values, bins=BINS, range=(low, high), color=BLUE)
    axes.set_xlabel(f"score ({low:g} to {high:g})")
    axes.set_ylabel("samples")
    return drawn


def interval_widths(scores: pl.DataFrame) -> Figure:
    """The scores by rank, each with its interval."""
    title = "Scores with their 95 % intervals, by rank"
    shown = scores.drop_nulls(["score", "low", "high"]).sort("score", descending=True)
    if not shown.height:
        return nothing_to_plot(title)
    drawn, (axes,) = figure(title)
    rank = list(range(1, shown.height + 1))
    axes.fill_between(
        rank, shown["low"].to_list(), shown["high"].to_list(), color=BLUE, alpha=0.25, linewidth=0
    )
    axes.plot(rank, shown["score"].to_list(), color=BLUE)
    axes.set_xlabel("rank over all clusters")
    axes.set_ylabel("score")
    return drawn


def order_gap(scores: pl.DataFrame) -> Figure:
    """How much higher a sample scores when shown first than when shown second."""
    title = "Position: score when shown first minus when shown second"
    values = scores["order_gap"].drop_nulls().to_list()
    if not values:
        return nothing_to_plot(title)
    drawn, (axes,) = figure(title)
    axes.hist(values, bins=BINS, range=(-100, 100), color=ORANGE)
    axes.axvline(0, color="black", linewidth=0.8)
    axes.set_xlabel("points")
    axes.set_ylabel("samples")
    return drawn

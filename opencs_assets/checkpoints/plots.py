"""Plots of training."""

import polars as pl
from matplotlib.figure import Figure

from opencs_assets.wiring.plots import BLUE, GREY, figure, nothing_to_plot


def loss_curve(log: pl.DataFrame) -> Figure:
    """The ``loss`` and the ``learning_rate`` by logged ``step``."""
    title = "Training loss"
    if not log.height:
        return nothing_to_plot(title)
    drawn, (axes,) = figure(title)
    steps = log["step"].to_list()
    axes.plot(steps, log["loss"].to_list(), color=BLUE, marker="." if log.height < 100 else "")
    axes.set_xlabel("step")
    axes.set_ylabel("loss on the response", color=BLUE)
    rates = axes.twinx()
    rates.plot(steps, log["learning_rate"].to_list(), color=GREY, linewidth=1)
    rates.set_ylabel("learning rate", color=GREY)
    rates.tick_params(labelsize=8)
    rates.spines[["top"]].set_visible(False)
    return drawn

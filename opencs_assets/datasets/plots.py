"""Plots of a raw dataset."""

import numpy as np
import polars as pl
from matplotlib.figure import Figure

from opencs_assets.wiring.plots import BLUE, ORANGE, figure, nothing_to_plot

BINS = 30


def lengths(samples: pl.DataFrame) -> Figure:
    """How long instructions and responses are, in characters on a log scale."""
    title = "Length of instructions and responses"
    if not samples.height:
        return nothing_to_plot(title)
    drawn, (axes,) = figure(title)
    longest = max(
        samples[column].str.len_chars().to_numpy().max() for column in ("instruction", "response")
    )
    bins = np.geomspace(1, max(longest, 2), BINS)
    for column, colour in (("instruction", BLUE), ("response", ORANGE)):
        axes.hist(
            samples[column].str.len_chars().to_numpy(),
            bins=bins.tolist(),
            alpha=0.6,
            color=colour,
            label=column,
        )
    axes.set_xscale("log")
    axes.set_xlabel("characters")
    axes.set_ylabel("samples")
    axes.legend(fontsize=8)
    return drawn

"""Plots of the marts."""

import numpy as np
import polars as pl
from matplotlib.figure import Figure

from opencs_assets.plots import BLUE, GREY, ORANGE, figure, nothing_to_plot

OUTCOMES = (("win", BLUE), ("tie", GREY), ("lose", ORANGE), ("unparsable", "black"))


def win_tie_lose(win_rates: pl.DataFrame) -> Figure:
    """Won, tied, lost and unread questions as stacked bars, one bar a result.

    Args:
        win_rates: Rows of the mart; those of the default rule are drawn.
    """
    title = "Win, tie, lose of the first model"
    rows = win_rates.filter("is_default_rule").sort("dataset", "benchmark", "matchup", "judge")
    if not rows.height:
        return nothing_to_plot(title)
    drawn, (axes,) = figure(title, size=(7.5, 1.4 + 0.5 * rows.height))
    places = np.arange(rows.height)
    left = np.zeros(rows.height)
    for name, colour in OUTCOMES:
        values = rows[name].to_numpy()
        bars = axes.barh(places, values, left=left, color=colour, label=name)
        axes.bar_label(
            bars, [str(value) if value else "" for value in values], label_type="center", fontsize=8
        )
        left += values
    axes.set_yticks(places, [_label(row) for row in rows.iter_rows(named=True)])
    axes.invert_yaxis()
    axes.set_xlabel("questions")
    axes.legend(fontsize=8, frameon=False, loc="center left", bbox_to_anchor=(1.0, 0.5))
    return drawn


def _label(row: dict[str, object]) -> str:
    badge = "" if row["complete"] else " (incomplete)"
    return f"{row['model_a']} vs\n{row['model_b']}\n{row['dataset']}, {row['benchmark']}{badge}"

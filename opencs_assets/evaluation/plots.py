"""Pictures of the marts."""

import matplotlib
import numpy as np
import polars as pl
from matplotlib.figure import Figure

matplotlib.use("Agg")
OUTCOMES = (("win", "#3b7dd8"), ("tie", "#c8ccd2"), ("lose", "#d8633b"), ("unparsable", "#222222"))


def plot_win_rates(win_rates: pl.DataFrame) -> Figure:
    """Stacked bars of won, tied, lost and unread questions, one bar a result.

    Args:
        win_rates: The mart, or rows of it; only those of the default rule are drawn.
    """
    rows = win_rates.filter("is_default_rule").sort("dataset", "benchmark", "matchup", "judge")
    figure = Figure(figsize=(8, 1.2 + 0.45 * max(rows.height, 1)))
    axes = figure.subplots()
    if not rows.height:
        axes.text(0.5, 0.5, "nothing judged yet", ha="center", va="center")
        axes.set_axis_off()
        return figure
    left = np.zeros(rows.height)
    for name, colour in OUTCOMES:
        values = rows[name].to_numpy().astype(float)
        bars = axes.barh(range(rows.height), values, left=left, color=colour, label=name)
        axes.bar_label(
            bars,
            labels=[f"{value:.0f}" if value else "" for value in values],
            label_type="center",
            color="black" if name == "tie" else "white",
        )
        left += values
    axes.set_yticks(range(rows.height), [_label(row) for row in rows.iter_rows(named=True)])
    axes.invert_yaxis()
    axes.set_xlabel("questions")
    axes.legend(ncols=len(OUTCOMES), loc="lower center", bbox_to_anchor=(0.5, 1.0), frameon=False)
    return figure


def _label(row: dict[str, object]) -> str:
    badge = "" if row["complete"] else " (incomplete)"
    return f"{row['model_a']} vs {row['model_b']}\n{row['dataset']}, {row['benchmark']}{badge}"

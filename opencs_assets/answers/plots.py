"""Plots of answers."""

import polars as pl
from matplotlib.figure import Figure

from opencs_assets.wiring.plots import BLUE, ORANGE, figure, nothing_to_plot

TURN_COLORS = (BLUE, ORANGE)


def answer_lengths(answers: pl.DataFrame) -> Figure:
    """Mean tokens of an answer by category and turn."""
    title = "Length of the answers"
    if not answers.height:
        return nothing_to_plot(title)
    means = (
        answers.group_by("category", "turn")
        .agg(pl.col("answer_tokens").mean())
        .sort("category", "turn")
    )
    names = means["category"].unique(maintain_order=True).to_list()
    turns = sorted(set(means["turn"]))
    drawn, (axes,) = figure(title)
    width = 0.8 / len(turns)
    for place, turn in enumerate(turns):
        rows = means.filter(turn=turn)
        at = [names.index(name) + place * width for name in rows["category"]]
        color = TURN_COLORS[place % len(TURN_COLORS)]
        axes.bar(at, rows["answer_tokens"].to_list(), width, color=color, label=f"turn {turn}")
    axes.set_xticks([at + 0.4 - width / 2 for at in range(len(names))], names, rotation=30)
    axes.set_ylabel("tokens, mean")
    axes.legend(fontsize=8)
    return drawn

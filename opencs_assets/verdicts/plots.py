"""Plots of verdicts."""

import numpy as np
import polars as pl
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from opencs_assets.protocols.merging import RULES, Verdict
from opencs_assets.protocols.registry import pair_protocols
from opencs_assets.protocols.tasks import STOPPED, WHOLE
from opencs_assets.wiring.plots import BLUE, GREY, ORANGE, figure, nothing_to_plot

BINS = 18
OUTCOMES = (("win", BLUE), ("tie", GREY), ("lose", ORANGE), ("unparsable", "black"))


def scores(verdicts: pl.DataFrame) -> Figure:
    """How single scores are spread, and their mean by category and turn."""
    title = "Scores of the answers (1 to 10)"
    read = verdicts.filter(pl.col("score").is_not_null())
    if not read.height:
        return nothing_to_plot(title)
    drawn, (spread, by_category) = figure(title, axes=2, size=(9.0, 3.6))
    spread.hist(read["score"].to_list(), bins=BINS, range=(1, 10), color=BLUE)
    spread.set_xlabel("score")
    spread.set_ylabel("turns")
    categories = read["category"].unique().sort().to_list()
    places = np.arange(len(categories))
    for turn, colour in ((1, BLUE), (2, ORANGE)):
        means = dict(
            read.filter(pl.col("turn") == turn)
            .group_by("category")
            .agg(pl.col("score").mean())
            .iter_rows()
        )
        heights = [means.get(category, 0.0) for category in categories]
        by_category.barh(places + 0.2 * (2 * turn - 3), heights, 0.4, color=colour, label=turn)
    by_category.set_yticks(places, categories)
    by_category.invert_yaxis()
    by_category.set_xlim(0, 10)
    by_category.set_xlabel("mean score")
    by_category.legend(title="turn", fontsize=8, title_fontsize=8, frameon=False)
    return drawn


def win_tie_lose(verdicts: pl.DataFrame) -> Figure:
    """Won, tied and lost questions by category, both orders merged by the default rule."""
    title = "Win, tie, lose of the first model"
    counted = outcomes(verdicts).group_by("category", "outcome").len()
    if not counted.height:
        return nothing_to_plot(title)
    counts = {(category, outcome): count for category, outcome, count in counted.iter_rows()}
    categories = counted["category"].unique().sort().to_list()
    drawn, (axes,) = figure(title, size=(7.5, 1.6 + 0.3 * len(categories)))
    places = np.arange(len(categories))
    left = np.zeros(len(categories))
    for name, colour in OUTCOMES:
        values = np.array([counts.get((category, name), 0) for category in categories])
        axes.barh(places, values, left=left, color=colour, label=name)
        left += values
    axes.set_yticks(places, categories)
    axes.invert_yaxis()
    axes.set_xlabel("questions, by turn" if set(verdicts["turn"]) - {WHOLE} else "questions")
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    axes.legend(fontsize=8, frameon=False, loc="center left", bbox_to_anchor=(1.0, 0.5))
    return drawn


def outcomes(verdicts: pl.DataFrame) -> pl.DataFrame:
    """One row a question and turn of a matchup that was not stopped: its ``outcome`` for model a.

    ``orders_disagree`` is null where an order could not be read. Orders are merged by the default
    rule of the protocol.
    """
    by_turn: dict[tuple[str, str, str, int], dict[str, Verdict]] = {}
    merge = RULES["win_or_tie"]
    asked = verdicts.filter(pl.col("status") != STOPPED).sort("benchmark", "question_id", "turn")
    for row in asked.iter_rows(named=True):
        merge = RULES[pair_protocols()[row["protocol"]].default_rule]
        key = (row["benchmark"], row["question_id"], row["category"], row["turn"])
        orders = by_turn.setdefault(key, {})
        if row["status"] == "ok":
            orders[row["shown_first"]] = Verdict(row["winner"], row["score_a"], row["score_b"])
    rows = []
    for key, orders in by_turn.items():
        first, second = orders.get("a"), orders.get("b")
        disagree = first.winner != second.winner if first and second else None
        rows.append((*key, merge(first, second), disagree))
    return pl.DataFrame(
        rows,
        schema={
            "benchmark": pl.String,
            "question_id": pl.String,
            "category": pl.String,
            "turn": pl.Int64,
            "outcome": pl.String,
            "orders_disagree": pl.Boolean,
        },
        orient="row",
    )

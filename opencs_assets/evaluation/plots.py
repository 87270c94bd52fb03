"""Plots of the marts: each takes a mart's rows and gives one figure.

A result that is not fit to be published is drawn pale and named so, never left out in silence; what
does not fit into a figure is counted in its title.
"""

from collections.abc import Sequence
from itertools import groupby
from typing import Any

import numpy as np
import polars as pl
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from opencs_assets.wiring.plots import (
    BLUE,
    GREEN,
    GREY,
    ORANGE,
    RED,
    figure,
    label,
    nothing_to_plot,
)

OUTCOMES = (("win", BLUE), ("tie", GREY), ("lose", ORANGE), ("unparsable", "black"))
# Told apart by eye, and by their lines where a printer has no colours.
COLOURS = (BLUE, ORANGE, GREEN, RED, "#7a5ea8", "#8c6d46", "#d17fb0", "#4aa5a5")
DASHES = ("-", "--", "-.", ":")
NAME_CHARACTERS = 34
MOST_BARS = 60
MOST_MODELS = 60
MOST_ON_A_RADAR = len(COLOURS)
LOW, HIGH = 1, 10
_WIDTH = 9.0
_BAR = 0.3
_INK = "#333333"
_PALE = 0.4
# A radar of fewer spokes has no area.
_FEWEST_SPOKES = 3
# A number stands in a part of a bar that is at least so wide, in percent.
_ROOM_FOR_NUMBER = 4.0


def win_tie_lose(win_rates: pl.DataFrame) -> Figure:
    """Win, tie and lose of the first model: a stacked bar a baseline, grouped by test set.

    Bars are shares of the judged questions, so that test sets of different sizes line up; the
    numbers in them are questions. Of the mart's rows those of the default rule are drawn.
    """
    title = "Win / tie / lose of the first model against each baseline"
    rows = win_rates.filter("is_default_rule").sort("benchmark", "model_a", "model_b", "judge")
    if not rows.height:
        return nothing_to_plot(title)
    sides = rows["model_a"].unique().to_list()
    if len(sides) == 1:
        title = f"Win / tie / lose of {short(sides[0], 60)} against each baseline"
    rows, title = _cut(rows, MOST_BARS, title, "results")
    differences = _what_differs(rows, ("dataset", "judge", "protocol", "reading", "prompt_version"))
    places, headings = _grouped(rows["benchmark"].to_list())
    drawn, (axes,) = figure(title, size=(_WIDTH, 1.5 + _BAR * (max(places) + 2)))
    names = []
    for place, row, more in zip(places, rows.iter_rows(named=True), differences, strict=True):
        counts = [row[name] for name, _ in OUTCOMES]
        _stacked_bar(axes, place, counts, pale=_badge(row) != "ok")
        baseline = short(row["model_b"])
        versus = baseline if len(sides) == 1 else f"{short(row['model_a'])} vs {baseline}"
        names.append(_words(versus, more, _badged(row)))
        axes.text(
            101, place, f"n = {row['judged']}", va="center", fontsize=7, color=_INK, clip_on=False
        )
    _name_groups(axes, places, names, headings)
    axes.set_xlim(0, 100)
    axes.set_xlabel("% of the judged questions; in the bars, questions")
    for name, colour in OUTCOMES:
        axes.barh(0, 0, color=colour, label=name)
    _legend_below(drawn, axes)
    return drawn


def category_radar(by_category: pl.DataFrame) -> Figure:
    """Mean score (1 to 10) by category, one line a model; the best ones where there are many."""
    title = "Mean score by category (1 to 10)"
    rows = by_category.filter(pl.col("score").is_not_null())
    if not rows.height:
        return nothing_to_plot(title)
    differs = _what_differs(
        rows, ("dataset", "benchmark", "judge", "protocol", "reading", "prompt_version", "sampling")
    )
    named = [_words(short(model), more) for model, more in zip(rows["model"], differs, strict=True)]
    rows = rows.with_columns(line=pl.Series(named))
    mean = rows.group_by("line").agg(pl.col("score").mean()).sort("score", "line", descending=True)
    lines = mean["line"].head(MOST_ON_A_RADAR).to_list()
    if mean.height > len(lines):
        title += f"\n(the best {len(lines)} of {mean.height} models)"
    categories = rows["category"].unique().sort().to_list()
    scores = {(row["line"], row["category"]): row["score"] for row in rows.iter_rows(named=True)}
    values = [[scores.get((line, category), np.nan) for category in categories] for line in lines]
    if len(categories) < _FEWEST_SPOKES:
        return _category_bars(title, categories, lines, values)
    drawn = figure(title, axes=0, size=(_WIDTH, 5.2))[0]
    axes: Any = drawn.add_subplot(projection="polar")
    angles = np.linspace(0, 2 * np.pi, len(categories), endpoint=False)
    for number, (line, around) in enumerate(zip(lines, values, strict=True)):
        axes.plot(
            [*angles, angles[0]],
            [*around, around[0]],
            color=COLOURS[number],
            linestyle=DASHES[number % len(DASHES)],
            marker="o",
            markersize=3,
            linewidth=1.4,
            label=line,
        )
    axes.set_theta_offset(np.pi / 2)
    axes.set_theta_direction(-1)
    axes.set_xticks(angles, [label(category, NAME_CHARACTERS) for category in categories])
    axes.set_ylim(LOW, HIGH)
    axes.set_yticks([2, 4, 6, 8, 10])
    # Between the first two spokes, where no name stands.
    axes.set_rlabel_position(180 / len(categories))
    axes.tick_params(labelsize=8)
    axes.tick_params(axis="x", pad=4)
    # Names stand outside of the circle, whose angles go clockwise from the top.
    for name, across in zip(axes.get_xticklabels(), np.sin(angles), strict=True):
        name.set_horizontalalignment(
            ("right", "center", "left")[int(np.sign(np.rint(across * 2))) + 1]
        )
    axes.tick_params(axis="y", labelcolor=_INK, labelsize=7)
    axes.grid(color=GREY, linewidth=0.5)
    axes.spines["polar"].set_color(GREY)
    _legend_below(drawn, axes, columns=2)
    return drawn


def score_table(scores: pl.DataFrame) -> Figure:
    """Each model's mean score with its 95 % interval, and the numbers beside it."""
    title = "Mean scores (1 to 10) with 95 % intervals"
    rows = scores.sort(
        "benchmark",
        "judge",
        "score",
        "model",
        descending=[False, False, True, False],
        nulls_last=True,
    )
    if not rows.height:
        return nothing_to_plot(title)
    rows, title = _cut(rows, MOST_MODELS, title, "results")
    differences = _what_differs(rows, ("dataset", "judge", "protocol", "reading", "prompt_version"))
    places, headings = _grouped(rows["benchmark"].to_list())
    drawn, (axes,) = figure(title, size=(_WIDTH, 1.3 + _BAR * (max(places) + 2)))
    columns = {"turn 1": 0.06, "turn 2": 0.16, "score": 0.26, "95 % interval": 0.41, "judged": 0.6}
    names = []
    for place, row, more in zip(places, rows.iter_rows(named=True), differences, strict=True):
        pale = _badge(row) != "ok"
        _whisker(axes, place, row["score"], row["ci_low"], row["ci_high"], pale=pale)
        names.append(_words(short(row["model"]), more, _badged(row)))
        shown = (
            _number(row["turn_1"]),
            _number(row["turn_2"]),
            _number(row["score"]),
            "" if row["ci_low"] is None else f"{row['ci_low']:.2f} to {row['ci_high']:.2f}",
            f"{row['judged']} of {row['expected']}",
        )
        for text, at in zip(shown, columns.values(), strict=True):
            axes.text(
                1 + at, place, text, transform=axes.get_yaxis_transform(), va="center", ha="center",
                fontsize=8, color=GREY if pale else _INK, clip_on=False,
                fontweight="bold" if at == columns["score"] else "normal",
            )  # fmt: skip
    for name, at in columns.items():
        axes.text(
            1 + at, -1, name, transform=axes.get_yaxis_transform(), va="center", ha="center",
            fontsize=8, fontweight="bold", color=_INK, clip_on=False,
        )  # fmt: skip
    _name_groups(axes, places, names, headings)
    axes.set_ylim(max(places) + 0.7, -1.6)
    axes.set_xlim(LOW, HIGH)
    axes.set_xlabel("mean score")
    axes.grid(axis="x", color=GREY, linewidth=0.4, alpha=0.6)
    return drawn


def position_bias(bias: pl.DataFrame) -> Figure:
    """How often a judge's orders disagree, flip, and favour the first, over all categories."""
    title = "Position bias: what the order of the answers changes"
    rows = bias.filter(pl.col("category") == "all").sort("benchmark", "judge", "prompt_version")
    if not rows.height:
        return nothing_to_plot(title)
    rows, title = _cut(rows, MOST_BARS // 3, title, "judges")
    differences = _what_differs(rows, ("source", "dataset", "protocol", "prompt_version"))
    kinds = (
        ("orders_disagree_pct", "the two orders disagree, % of pairs", BLUE),
        ("full_flips_pct", "the winner changes sides (full flip), % of pairs", ORANGE),
        ("toward_first_pct", "of the orders that disagree, % toward the one shown first", GREY),
    )
    groups, headings = _grouped(rows["benchmark"].to_list())
    drawn, (axes,) = figure(title, size=(_WIDTH, 1.7 + 0.52 * (max(groups) + 1.5)))
    width = 0.26
    for number, (column, meaning, colour) in enumerate(kinds):
        values = np.array([np.nan if value is None else value for value in rows[column]])
        at = np.array(groups) + (number - 1) * width
        axes.barh(at, np.nan_to_num(values), width * 0.9, color=colour, label=meaning)
        for place, value, disagree in zip(at, values, rows["orders_disagree_pct"], strict=True):
            # Merged outcomes do not say which way the two orders disagreed.
            unknown = "not known" if disagree else "none disagrees"
            text = unknown if np.isnan(value) else f"{value:.1f}"
            at_end = (0 if np.isnan(value) else value) + 0.8
            axes.text(at_end, place, text, va="center", fontsize=7, color=_INK)
    axes.axvline(50, color=_INK, linewidth=0.7, linestyle=":")
    names = [
        _words(short(row["judge"]), more, f"({row['pairs']} pairs)")
        for row, more in zip(rows.iter_rows(named=True), differences, strict=True)
    ]
    _name_groups(axes, groups, names, headings)
    axes.set_xlim(0, 106)
    axes.set_xticks(range(0, 101, 25))
    axes.set_xlabel("%; dotted: 50 %, where the order makes no difference to who gains")
    _legend_below(drawn, axes, columns=1)
    return drawn


def leaderboard(ratings: pl.DataFrame) -> Figure:
    """Each model's rating with its 95 % interval, best first, by benchmark."""
    title = "Leaderboard: Bradley-Terry ratings (Elo scale, mean 1000) with 95 % intervals"
    rows = ratings.sort("benchmark", "dataset", "judge", "rank", "model")
    if not rows.height:
        return nothing_to_plot(title)
    rows, title = _cut(rows, MOST_MODELS, title, "models")
    boards = ("source", "dataset", "judge", "protocol", "prompt_version")
    differences = _what_differs(rows, boards)
    places, headings = _grouped(list(map(_words, rows["benchmark"], differences)))
    drawn, (axes,) = figure(title, size=(_WIDTH, 1.3 + _BAR * (max(places) + 2)))
    for place, row in zip(places, rows.iter_rows(named=True), strict=True):
        _whisker(axes, place, row["rating"], row["ci_low"], row["ci_high"], pale=False)
        axes.text(
            1.02, place, f"{row['rating']:.0f}" if row["rating"] is not None else "",
            transform=axes.get_yaxis_transform(), va="center", fontsize=8, color=_INK,
            clip_on=False,
        )  # fmt: skip
    names = [f"{row['rank']}. {short(row['model'])}" for row in rows.iter_rows(named=True)]
    _name_groups(axes, places, names, headings)
    axes.axvline(1000, color=GREY, linewidth=0.7, linestyle=":")
    axes.margins(x=0.08)
    axes.set_xlabel("rating; 400 points are odds of 10 to 1")
    axes.grid(axis="x", color=GREY, linewidth=0.4, alpha=0.6)
    return drawn


def short(name: str, characters: int = NAME_CHARACTERS) -> str:
    """A model's name as a label: long ones lose their middle, as they differ at both ends."""
    if len(name) > characters:
        ahead = (characters - 1) * 2 // 3
        name = f"{name[:ahead]}…{name[len(name) - (characters - 1 - ahead) :]}"
    return label(name, characters)


def _category_bars(
    title: str, categories: Sequence[str], lines: Sequence[str], values: Sequence[Sequence[float]]
) -> Figure:
    drawn, (axes,) = figure(title, size=(_WIDTH, 1.4 + _BAR * len(lines) * len(categories)))
    places = np.arange(len(categories))
    width = 0.8 / len(lines)
    for number, (line, of_line) in enumerate(zip(lines, values, strict=True)):
        at = places + (number - (len(lines) - 1) / 2) * width
        bars = axes.barh(
            at, np.nan_to_num(np.array(of_line)), width * 0.9, color=COLOURS[number], label=line
        )
        axes.bar_label(bars, [_number(value) for value in of_line], fontsize=7, padding=2)
    axes.set_yticks(places, [label(category, NAME_CHARACTERS) for category in categories])
    axes.invert_yaxis()
    axes.set_xlim(LOW, HIGH)
    axes.set_xlabel("mean score")
    axes.legend(fontsize=8, frameon=False, loc="center left", bbox_to_anchor=(1.02, 0.5))
    return drawn


def _stacked_bar(axes: Axes, place: float, counts: Sequence[int], *, pale: bool) -> None:
    """One bar of 100 %; a part's number stands in it where there is room."""
    whole = sum(counts)
    left = 0.0
    for count, (_, colour) in zip(counts, OUTCOMES, strict=True):
        share = 100 * count / whole if whole else 0.0
        axes.barh(place, share, left=left, color=colour, height=0.74, alpha=_PALE if pale else 1)
        if share >= _ROOM_FOR_NUMBER:
            ink = "white" if not pale and colour != GREY else _INK
            axes.text(
                left + share / 2, place, str(count), ha="center", va="center", fontsize=7, color=ink
            )
        left += share


def _whisker(
    axes: Axes,
    place: float,
    value: float | None,
    low: float | None,
    high: float | None,
    *,
    pale: bool,
) -> None:
    colour = GREY if pale else BLUE
    if low is not None and high is not None:
        axes.plot([low, high], [place, place], color=colour, linewidth=1.6, solid_capstyle="butt")
        for end in (low, high):
            axes.plot([end, end], [place - 0.16, place + 0.16], color=colour, linewidth=1.2)
    if value is not None:
        axes.plot([value], [place], "o", color=colour, markersize=5)


def _grouped(groups: Sequence[str]) -> tuple[list[float], list[tuple[float, str]]]:
    """Places from the top for rows in groups, and the place and text of each group's heading."""
    places: list[float] = []
    headings: list[tuple[float, str]] = []
    at = 0.0
    for name, members in groupby(groups):
        headings.append((at, name))
        for _ in members:
            at += 1
            places.append(at)
        at += 1.4
    return places, headings


def _name_groups(
    axes: Axes,
    places: Sequence[float],
    names: Sequence[str],
    headings: Sequence[tuple[float, str]],
) -> None:
    axes.set_yticks(list(places), list(names))
    for place, heading in headings:
        axes.text(
            0.008, place, label(heading, 90), transform=axes.get_yaxis_transform(), va="center",
            fontsize=9, fontweight="bold", color=_INK,
        )  # fmt: skip
    axes.set_ylim(max(places) + 0.7, -0.7)
    axes.tick_params(axis="y", length=0)


def _legend_below(drawn: Figure, axes: Axes, columns: int = 4) -> None:
    handles, names = axes.get_legend_handles_labels()
    drawn.legend(
        handles, names, fontsize=8, frameon=False, loc="outside lower center", ncols=columns
    )


def _what_differs(rows: pl.DataFrame, columns: Sequence[str]) -> list[str]:
    """For each row, in brackets, its values of those columns that are not the same in all rows."""
    varied = [name for name in columns if name in rows.columns and rows[name].n_unique() > 1]
    if not varied:
        return [""] * rows.height
    return [
        "[" + ", ".join(short(str(value), 22) for value in row) + "]"
        for row in rows.select(varied).iter_rows()
    ]


def _words(*parts: str) -> str:
    return " ".join(filter(None, parts))


def _badge(row: dict[str, Any]) -> str:
    return str(row.get("badge") or "ok")


def _badged(row: dict[str, Any]) -> str:
    badge = _badge(row)
    return "" if badge == "ok" else f"({badge})"


def _cut(rows: pl.DataFrame, most: int, title: str, what: str) -> tuple[pl.DataFrame, str]:
    if rows.height <= most:
        return rows, title
    return rows.head(most), f"{title}\n(the first {most} of {rows.height} {what})"


def _number(value: float | None) -> str:
    return "" if value is None or np.isnan(value) else f"{value:.2f}"

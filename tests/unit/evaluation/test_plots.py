"""Plots of the marts: what they draw of none, one and many results, and what they name."""

import io

import polars as pl
import pytest
from matplotlib.figure import Figure

from opencs_assets.evaluation import plots

LONG = [
    f"mistral-7b-cluster_pair_score_no_system_prompt_sharegpt-e15lr1e-05_{n:02}" for n in range(20)
]
MODELS = {
    "none": [],
    "one": ["opencs@llama2-7b"],
    "several": ["a$b", "b c/d", "c", "e"],
    "many": LONG,
}
CATEGORIES = ["coding", "math", "stem", "writing"]
SAME = {
    "source": "judged",
    "dataset": "alpaca",
    "benchmark": "mt_bench",
    "judge": "gpt-4",
    "protocol": "scores",
    "reading": "generated",
    "prompt_version": "v1",
    "sampling": "{}",
}


def frame(rows: list[dict], **empty: pl.DataType) -> pl.DataFrame:
    """Rows that have ``SAME`` in common; ``empty`` are the other columns of no rows."""
    if rows:
        return pl.DataFrame([SAME | row for row in rows])
    return pl.DataFrame(schema=dict.fromkeys(SAME, pl.String) | empty)


def wins(models: list[str]) -> pl.DataFrame:
    counts = {"win": 40, "tie": 20, "lose": 19, "unparsable": 1, "judged": 80}
    rows = [
        {
            "benchmark": suite,
            "model_a": "first",
            "model_b": model,
            "is_default_rule": True,
            **counts,
            "badge": "unfair" if place % 2 else "ok",
        }
        for suite in ("koala", "vicuna")
        for place, model in enumerate(models)
    ]
    return frame(rows, model_a=pl.String, model_b=pl.String, is_default_rule=pl.Boolean)


def categories(models: list[str]) -> pl.DataFrame:
    rows = [
        {"model": model, "category": name, "score": 2.0 + place % 7}
        for place, model in enumerate(models)
        for name in CATEGORIES
    ]
    return frame(rows, score=pl.Float64)


def scores(models: list[str]) -> pl.DataFrame:
    counts = {"judged": 80, "expected": 160, "badge": "incomplete"}
    rows = [
        {
            "model": model,
            "score": 5.0,
            "turn_1": 6.0,
            "turn_2": None,
            "ci_low": None if place % 5 == 4 else 4.5,
            "ci_high": None if place % 5 == 4 else 5.5,
            **counts,
        }
        for place, model in enumerate(models)
    ]
    return frame(rows, model=pl.String, score=pl.Float64)


def ratings(models: list[str]) -> pl.DataFrame:
    ends = {"ci_low": 900.0, "ci_high": 1100.0}
    rows = [
        {"rank": place + 1, "model": model, "rating": 1000.0 - place, **ends}
        for place, model in enumerate(models)
    ]
    return frame(rows, rank=pl.Int64, model=pl.String)


def bias(judges: list[str]) -> pl.DataFrame:
    unknown = {"full_flips_pct": None, "toward_first_pct": None}
    rows = [
        {
            "judge": judge,
            "category": "all",
            "pairs": 80,
            "orders_disagree_pct": float(20 * (place % 2)),
            **unknown,
        }
        for place, judge in enumerate(judges)
    ]
    return frame(rows, category=pl.String)


DRAWN = [
    (plots.win_tie_lose, wins),
    (plots.category_radar, categories),
    (plots.score_table, scores),
    (plots.leaderboard, ratings),
    (plots.position_bias, bias),
]


def texts(figure: Figure) -> list[str]:
    """All that is written in a figure, once it has been drawn."""
    figure.savefig(io.BytesIO(), format="png", dpi=40)
    return [each.get_text() for each in figure.findobj(lambda each: hasattr(each, "get_text"))]


@pytest.mark.parametrize(("draw", "rows"), DRAWN, ids=lambda each: each.__name__)
@pytest.mark.parametrize("models", MODELS)
def test_none_one_and_many_are_drawn(draw, rows, models):
    drawn = draw(rows(MODELS[models]))
    said = texts(drawn)
    if models == "none":
        assert "no rows" in said
    if models == "many":
        width, height = drawn.get_size_inches()
        assert width <= 10
        assert height <= 25


def test_long_names_keep_both_ends():
    assert plots.short(LONG[7], 30) == "mistral-7b-cluster_…lr1e-05_07"
    assert plots.short("a$b") == r"a\$b"
    assert len(plots.short("x" * 100)) == plots.NAME_CHARACTERS


@pytest.mark.parametrize(
    ("drawn", "named"),
    [
        # What is not fit to be published.
        (lambda: plots.win_tie_lose(wins(["a", "b"])), ["a", "b (unfair)"]),
        (lambda: plots.score_table(scores(["a"])), ["a (incomplete)", "4.50 to 5.50", "80 of 160"]),
        # What does not fit.
        (
            lambda: plots.win_tie_lose(wins([f"m{n}" for n in range(31)])),
            ["first 60 of 62 results"],
        ),
        (lambda: plots.category_radar(categories([f"m{n}" for n in range(9)])), ["best 8 of 9"]),
        # Results that share a name.
        (
            lambda: plots.score_table(
                pl.concat([scores(["a"]), scores(["a"]).with_columns(judge=pl.lit("claude"))])
            ),
            ["[gpt-4]", "[claude]"],
        ),
        # A direction that is not known is not called none.
        (lambda: plots.position_bias(bias(["one", "two"])), ["none disagrees", "not known"]),
    ],
)
def test_what_is_named(drawn, named):
    said = texts(drawn())
    assert [part for part in named if not any(part in text for text in said)] == []


def test_fewer_than_three_categories_are_bars():
    few = categories(["a", "b"]).filter(pl.col("category").is_in(["math", "stem"]))
    assert plots.category_radar(few).axes[0].name == "rectilinear"
    assert plots.category_radar(categories(["a", "b"])).axes[0].name == "polar"

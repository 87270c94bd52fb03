"""Plots of the marts: what they draw of none, one and many results, and what they name."""

import io

import polars as pl
import pytest
from matplotlib.figure import Figure

from opencs_assets.evaluation import plots

LONG = [
    f"mistral-7b-cluster_pair_score_no_system_prompt_sharegpt-e15lr1e-05_{n:02}" for n in range(30)
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
    "judge": "gpt-4",
    "protocol": "scores",
    "reading": "generated",
    "prompt_version": "v1",
    "sampling": "{}",
}


def wins(models: list[str]) -> pl.DataFrame:
    rows = [
        {
            **SAME,
            "benchmark": suite,
            "model_a": "first",
            "model_b": model,
            "is_default_rule": True,
            "win": 40,
            "tie": 20,
            "lose": 19,
            "unparsable": 1,
            "judged": 80,
            "badge": "unfair" if place % 2 else "ok",
        }
        for suite in ("koala", "vicuna")
        for place, model in enumerate(models)
    ]
    keys = ("benchmark", "model_a", "model_b", "judge")
    empty = {"is_default_rule": pl.Boolean, **dict.fromkeys(keys, pl.String)}
    return pl.DataFrame(rows) if rows else pl.DataFrame(schema=empty)


def categories(models: list[str]) -> pl.DataFrame:
    rows = [
        {
            **SAME,
            "benchmark": "mt_bench",
            "model": model,
            "category": name,
            "score": 2.0 + place % 7,
        }
        for place, model in enumerate(models)
        for name in CATEGORIES
    ]
    return pl.DataFrame(rows) if rows else pl.DataFrame(schema={"score": pl.Float64})


def scores(models: list[str]) -> pl.DataFrame:
    rows = [
        {
            **SAME,
            "benchmark": "mt_bench",
            "model": model,
            "score": 5.0,
            "turn_1": 6.0,
            "turn_2": None,
            "ci_low": None if place % 5 == 4 else 4.5,
            "ci_high": None if place % 5 == 4 else 5.5,
            "judged": 80,
            "expected": 160,
            "badge": "incomplete",
        }
        for place, model in enumerate(models)
    ]
    keys = ("benchmark", "judge", "score", "model")
    return pl.DataFrame(rows) if rows else pl.DataFrame(schema=dict.fromkeys(keys, pl.String))


def ratings(models: list[str]) -> pl.DataFrame:
    rows = [
        {
            **SAME,
            "benchmark": "vicuna",
            "rank": place + 1,
            "model": model,
            "rating": 1000.0 - place,
            "ci_low": 900.0,
            "ci_high": 1100.0,
        }
        for place, model in enumerate(models)
    ]
    keys = ("benchmark", "dataset", "judge", "rank", "model")
    return pl.DataFrame(rows) if rows else pl.DataFrame(schema=dict.fromkeys(keys, pl.String))


def bias(judges: list[str]) -> pl.DataFrame:
    rows = [
        {
            **SAME,
            "judge": judge,
            "benchmark": "vicuna",
            "category": "all",
            "pairs": 80,
            "orders_disagree_pct": float(20 * (place % 2)),
            "full_flips_pct": None,
            "toward_first_pct": None,
        }
        for place, judge in enumerate(judges)
    ]
    keys = ("category", "benchmark", "judge", "prompt_version")
    return pl.DataFrame(rows) if rows else pl.DataFrame(schema=dict.fromkeys(keys, pl.String))


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


def test_what_is_not_fit_to_be_published_is_named():
    assert any("(unfair)" in text for text in texts(plots.win_tie_lose(wins(["a", "b"]))))
    assert any("(incomplete)" in text for text in texts(plots.score_table(scores(["a"]))))


def test_what_does_not_fit_is_counted():
    many = [f"m{n}" for n in range(70)]
    assert any("first 60 of 140 results" in text for text in texts(plots.win_tie_lose(wins(many))))
    assert any("best 8 of 70" in text for text in texts(plots.category_radar(categories(many))))


def test_results_that_share_a_name_say_what_differs():
    both = pl.concat([scores(["a"]), scores(["a"]).with_columns(judge=pl.lit("claude"))])
    said = texts(plots.score_table(both))
    assert any("[gpt-4]" in text for text in said)
    assert any("[claude]" in text for text in said)


def test_a_direction_that_is_not_known_is_not_called_none():
    said = texts(plots.position_bias(bias(["one", "two"])))
    assert "none disagrees" in said
    assert "not known" in said


def test_fewer_than_three_categories_are_bars():
    few = categories(["a", "b"]).filter(pl.col("category").is_in(["math", "stem"]))
    assert plots.category_radar(few).axes[0].name == "rectilinear"
    assert plots.category_radar(categories(["a", "b"])).axes[0].name == "polar"

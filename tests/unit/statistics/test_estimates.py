"""Statistics of many results at once: what goes in as rows comes out as the pure functions say."""

import math

import numpy as np
import polars as pl
import pytest

from opencs_assets.statistics import bootstrap, bradley_terry, estimates, length_control
from opencs_assets.statistics.sequential import interval


def values(rows: list[tuple], **constants) -> pl.DataFrame:
    names = ["result_id", "question_id", "total", "count"]
    plain = {"rule": "score", "benchmark": "b", "low": 1.0, "high": 10.0, "stopped": False}
    return pl.DataFrame(rows, schema=names, orient="row").with_columns(
        **{name: pl.lit(value) for name, value in {**plain, **constants}.items()}
    )


def questions(count: int) -> pl.DataFrame:
    return pl.DataFrame(
        [("b", f"q{place:02}") for place in range(count)],
        schema=["benchmark", "question_id"],
        orient="row",
    )


def intervals(rows: pl.DataFrame, asked: pl.DataFrame) -> dict[str, tuple]:
    found = estimates.result_intervals(rows.to_arrow(), asked.to_arrow())
    return {
        row["result_id"]: (row["ci_low"], row["ci_high"])
        for row in pl.DataFrame(pl.from_arrow(found)).iter_rows(named=True)
    }


def scores(seed: int, count: int) -> list[float]:
    return [float(score) for score in np.random.default_rng(seed).integers(1, 11, count)]


def test_intervals_are_those_of_the_bootstrap_on_all_the_benchmarks_questions():
    of_one, of_two = scores(1, 40), scores(2, 30)
    rows = values(
        [("one", f"q{place:02}", score, 1.0) for place, score in enumerate(of_one)]
        + [("two", f"q{place:02}", score, 1.0) for place, score in enumerate(of_two)]
    )
    sums, counts = np.zeros((40, 2)), np.zeros((40, 2))
    sums[:, 0], counts[:, 0] = of_one, 1
    sums[:30, 1], counts[:30, 1] = of_two, 1
    _, low, high = bootstrap.mean_intervals(sums, counts)
    found = intervals(rows, questions(40))
    assert found == {"one": (low[0], high[0]), "two": (low[1], high[1])}
    # Whatever other results there are, and in whatever order rows come.
    alone = rows.filter(pl.col("result_id") == "two").sample(fraction=1, shuffle=True, seed=0)
    assert intervals(alone, questions(40).reverse())["two"] == found["two"]


def test_a_result_of_one_question_has_no_interval():
    assert intervals(values([("one", "q00", 7.0, 1.0)]), questions(3)) == {"one": (None, None)}


def test_what_was_stopped_early_has_the_interval_that_holds_at_every_look():
    rows = values(
        [("one", f"q{place:02}", 100.0 * (place % 4 > 0), 1.0) for place in range(20)],
        rule="win_or_tie", low=0.0, high=100.0, stopped=True,
    )  # fmt: skip
    low, high = interval(0.75, 20)
    assert intervals(rows, questions(80))["one"] == pytest.approx((100 * low, 100 * high))


def test_nothing_gives_nothing():
    assert intervals(values([("one", "q00", 7.0, 1.0)]).clear(), questions(3)) == {}
    empty = {"board": pl.UInt64, "question_id": pl.String, "model_a": pl.String}
    outcomes = pl.DataFrame(schema={**empty, "model_b": pl.String, "share": pl.Float64})
    assert estimates.ratings(outcomes.to_arrow()).num_rows == 0
    lengths = pl.DataFrame(
        schema={"result_id": pl.String, "share": pl.Float64, "length_a": pl.Float64,
                "length_b": pl.Float64, "difficulty": pl.Float64}
    )  # fmt: skip
    assert estimates.length_controlled(lengths.to_arrow()).num_rows == 0
    cells = ["benchmark", "judge_a", "judge_b", "turn", "vote_a", "vote_b", "often"]
    table = pl.DataFrame(schema=dict.fromkeys(cells, pl.Int64))
    assert estimates.agreements(table.to_arrow()).num_rows == 0


def test_ratings_by_board():
    rng = np.random.default_rng(5)
    rows = [
        (board, f"q{place:02}", "strong", other, float(rng.random() < chance))
        for board in (7, 9)
        for place in range(60)
        for other, chance in (("mid", 0.6), ("weak", 0.8))
    ]
    rows += [(9, "q00", "apart", "alone", 0.5)]
    names = ["board", "question_id", "model_a", "model_b", "share"]
    outcomes = pl.DataFrame(rows, schema=names, orient="row").with_columns(
        pl.col("board").cast(pl.UInt64)
    )
    found = pl.DataFrame(pl.from_arrow(estimates.ratings(outcomes.to_arrow())))
    first = found.filter(pl.col("board") == 7).sort("model")
    assert first["model"].to_list() == ["mid", "strong", "weak"]
    assert first["rating"].mean() == pytest.approx(1000)
    assert first["component"].n_unique() == 1
    assert (first["ci_low"] < first["rating"]).all()
    assert (first["rating"] < first["ci_high"]).all()
    won = [
        sum(row[4] for row in rows if row[0] == 7 and row[3] == other) for other in ("mid", "weak")
    ]
    wins = np.array([[0, 60 - won[0], 0], [won[0], 0, won[1]], [0, 60 - won[1], 0]])
    assert first["rating"].to_numpy() == pytest.approx(bradley_terry.elo(bradley_terry.fit(wins)))
    second = found.filter(pl.col("board") == 9)
    assert second["component"].n_unique() == 2
    assert (
        second.filter(pl.col("model").is_in(["apart", "alone"]))["rating"].to_list() == [1000] * 2
    )


def test_longer_answers():
    rows = [
        ("one", 1.0, 20.0, 10.0),
        ("one", 0.0, 20.0, 10.0),
        ("one", 0.0, 10.0, 20.0),
        ("one", 0.5, 30.0, 10.0),
        ("one", 1.0, 10.0, 10.0),
    ]
    names = ["result_id", "share", "length_a", "length_b"]
    outcomes = pl.DataFrame(rows, schema=names, orient="row").with_columns(
        difficulty=pl.lit(None, pl.Float64)
    )
    (row,) = pl.DataFrame(
        pl.from_arrow(estimates.length_controlled(outcomes.to_arrow()))
    ).to_dicts()
    # A tie is won by no answer, and of two of one length none is longer.
    assert (row["questions"], row["decided"], row["longer_wins"]) == (5, 3, 2)
    assert (row["lc_method"], row["lc_questions"]) == ("lc_no_difficulty", 5)
    assert 0 < row["lc_win_pct"] < 100


def test_difficulties_count_where_every_instruction_has_one():
    rng = np.random.default_rng(3)
    share, longer = rng.integers(0, 3, 60) / 2, rng.integers(50, 150, 60).astype(float)
    one = pl.DataFrame({"share": share, "length_a": longer, "length_b": longer[::-1]})
    hard = rng.normal(size=60)
    some = [None, *hard[1:]]
    outcomes = pl.concat(
        one.with_columns(pl.lit(name).alias("result_id"), pl.Series("difficulty", given))
        for name, given in (("all", hard.tolist()), ("some", some))
    ).select("result_id", *one.columns, "difficulty")
    found = {
        row["result_id"]: row
        for row in pl.DataFrame(
            pl.from_arrow(estimates.length_controlled(outcomes.to_arrow()))
        ).to_dicts()
    }
    assert found["all"]["lc_method"] == "lc_alpaca_eval2"
    expected = length_control.alpaca_eval2(share, longer, longer[::-1], hard)
    assert found["all"]["lc_win_pct"] == pytest.approx(100 * expected.rate)
    assert found["some"]["lc_method"] == "lc_no_difficulty"


def test_agreement_with_and_without_ties():
    cells = pl.DataFrame(
        [(-1, -1, 40), (1, 1, 30), (-1, 1, 10), (0, 1, 5), (0, 0, 15)],
        schema=["vote_a", "vote_b", "often"],
        orient="row",
    ).with_columns(
        benchmark=pl.lit("b"), judge_a=pl.lit("gpt"), judge_b=pl.lit("expert"), turn=pl.lit(0)
    )
    found = pl.DataFrame(pl.from_arrow(estimates.agreements(cells.to_arrow())))
    tied, plain = found.sort("with_ties", descending=True).to_dicts()
    assert (tied["votes"], tied["agree"], tied["agree_pct"]) == (100, 85, 85)
    assert (plain["votes"], plain["agree"], plain["agree_pct"]) == (80, 70, 87.5)
    chance = (50 / 80) * (40 / 80) + (30 / 80) * (40 / 80)
    assert plain["kappa"] == pytest.approx((0.875 - chance) / (1 - chance))
    assert not math.isnan(tied["kappa"])

"""Statistics of many results at once: what goes in as rows comes out as the pure functions say."""

import numpy as np
import polars as pl
import pytest

from opencs_assets.statistics import bootstrap, bradley_terry, estimates, length_control
from opencs_assets.statistics.sequential import interval


def frame(rows, *names, **constants) -> pl.DataFrame:
    columns = {name: pl.lit(value) for name, value in constants.items()}
    return pl.DataFrame(rows, schema=list(names), orient="row").with_columns(**columns)


def rows_of(function, *tables: pl.DataFrame) -> list[dict]:
    return pl.DataFrame(pl.from_arrow(function(*(each.to_arrow() for each in tables)))).to_dicts()


def values(rows: list[tuple], **constants) -> pl.DataFrame:
    plain = {"rule": "score", "benchmark": "b", "low": 1.0, "high": 10.0, "stopped": False}
    names = ("result_id", "question_id", "total", "count")
    return frame(rows, *names, **{**plain, **constants})


def questions(count: int, benchmark: str = "b") -> pl.DataFrame:
    names = ("benchmark", "question_id")
    return frame([(benchmark, f"q{place:02}") for place in range(count)], *names)


def intervals(rows: pl.DataFrame, asked: pl.DataFrame) -> dict[tuple, tuple]:
    return {
        (row["result_id"], row["rule"]): (row["ci_low"], row["ci_high"])
        for row in rows_of(estimates.result_intervals, rows, asked)
    }


def scores(seed: int, count: int) -> list[float]:
    return [float(score) for score in np.random.default_rng(seed).integers(1, 11, count)]


def test_intervals_are_those_of_the_bootstrap_on_all_the_benchmarks_questions():
    results = {("one", "score"): scores(1, 40), ("two", "other"): scores(2, 30)}
    rows = pl.concat(
        values([(name, f"q{place:02}", each, 1.0) for place, each in enumerate(own)], rule=rule)
        for (name, rule), own in results.items()
    )
    sums, counts = np.zeros((2, 40, 2))
    for column, own in enumerate(results.values()):
        sums[: len(own), column], counts[: len(own), column] = own, 1
    _, low, high = bootstrap.mean_intervals(sums, counts)
    found = intervals(rows, questions(40))
    assert found == dict(zip(results, zip(low, high, strict=True), strict=True))
    # Whatever other results and benchmarks there are, and in whatever order rows come.
    alone = rows.filter(pl.col("result_id") == "two").sample(fraction=1, shuffle=True, seed=0)
    of_other = alone.with_columns(result_id=pl.lit("three"), benchmark=pl.lit("a"))
    asked = pl.concat([questions(40).reverse(), questions(30, "a")])
    again = intervals(pl.concat([alone, of_other]), asked)
    assert again["two", "other"] == found["two", "other"]
    assert again["three", "other"] != found["two", "other"]


def test_a_result_of_one_question_has_no_interval():
    found = intervals(values([("one", "q00", 7.0, 1.0)]), questions(3))
    assert found == {("one", "score"): (None, None)}


@pytest.mark.parametrize(("low", "high"), [(0.0, 100.0), (1.0, 10.0)])
def test_what_was_stopped_early_has_the_interval_that_holds_at_every_look(low, high):
    # Of two turns each: three quarters of the way from the lowest to the highest value.
    rows = [
        (name, f"q{place:02}", 2 * (high if place % 4 > 0 else low), 2.0)
        for name in ("one", "two")
        for place in range(20)
    ]
    stopped = values(rows, rule="win_or_tie", low=low, high=high, stopped=True)
    ends = [low + (high - low) * end for end in interval(0.75, 20)]
    found = intervals(pl.concat([stopped, values([("three", "q00", 7.0, 1.0)])]), questions(80))
    assert found.pop(("three", "score")) == (None, None)
    assert list(found) == [("one", "win_or_tie"), ("two", "win_or_tie")]
    for each in found.values():
        assert each == pytest.approx(ends)


def test_nothing_gives_nothing():
    assert intervals(values([("one", "q00", 7.0, 1.0)]).clear(), questions(3)) == {}
    text, number = pl.String, pl.Float64
    columns = {"board": pl.UInt64, "question_id": text, "model_a": text, "model_b": text}
    assert rows_of(estimates.ratings, pl.DataFrame(schema={**columns, "share": number})) == []
    columns = dict.fromkeys(("share", "length_a", "length_b", "difficulty"), number)
    lengths = pl.DataFrame(schema={"result_id": text, **columns})
    assert rows_of(estimates.length_controlled, lengths) == []
    cells = ["benchmark", "judge_a", "judge_b", "turn", "vote_a", "vote_b", "often"]
    assert rows_of(estimates.agreements, pl.DataFrame(schema=dict.fromkeys(cells, pl.Int64))) == []


def test_ratings_by_board():
    rng = np.random.default_rng(5)
    rows = [
        (board, f"q{place:02}", "strong", other, float(rng.random() < chance))
        for board in (7, 9)
        for place in range(60)
        for other, chance in (("mid", 0.6), ("weak", 0.8))
    ]
    rows += [(9, "q00", "apart", "alone", 0.5)]
    names = ("board", "question_id", "model_a", "model_b", "share")
    outcomes = frame(rows, *names).with_columns(pl.col("board").cast(pl.UInt64))
    found = rows_of(estimates.ratings, outcomes)
    first, second = ([row for row in found if row["board"] == board] for board in (7, 9))
    models = [row["model"] for row in first]
    assert models == ["mid", "strong", "weak"]
    _, question, *pairs, share = zip(*(row for row in rows if row[0] == 7), strict=True)
    one, other = (np.array([models.index(model) for model in side]) for side in pairs)
    number = np.array([int(name[1:]) for name in question])
    expected = bradley_terry.elo(
        bradley_terry.intervals(number, one, other, np.array(share), models=3)
    )
    ends = [[row[name] for row in first] for name in ("rating", "ci_low", "ci_high")]
    np.testing.assert_allclose(ends, expected)
    assert {row["component"] for row in first} == {0}
    of_group = {row["model"]: row["component"] for row in second}
    assert of_group["apart"] == of_group["alone"] != of_group["mid"] == of_group["weak"]
    apart = [row for row in second if row["model"] in ("apart", "alone")]
    assert [row["rating"] for row in apart] == [1000] * 2


def test_a_board_of_one_question_has_ratings_and_no_intervals():
    names = ("board", "question_id", "model_a", "model_b", "share")
    (one, two) = rows_of(estimates.ratings, frame([("x", "q", "a", "b", 0.5)], *names))
    assert (one["rating"], one["ci_low"], two["ci_high"]) == (1000, None, None)


def test_longer_answers():
    rows = [
        ("two", 1.0, 9.0, 5.0),
        ("two", 1.0, 9.0, 5.0),
        ("one", 1.0, 20.0, 10.0),
        ("one", 0.0, 20.0, 10.0),
        ("one", 0.0, 10.0, 20.0),
        ("one", 0.5, 30.0, 10.0),
        ("one", 1.0, 10.0, 10.0),
    ]
    outcomes = frame(rows, "result_id", "share", "length_a", "length_b")
    one, two = rows_of(
        estimates.length_controlled, outcomes.with_columns(difficulty=pl.lit(None, pl.Float64))
    )
    # A tie is won by no answer, and of two of one length none is longer.
    assert list(one.values())[:4] == ["one", 5, 3, 2]
    assert (one["lc_method"], one["lc_questions"]) == ("lc_no_difficulty", 5)
    columns = (np.array([row[place] for row in rows[2:]]) for place in (1, 2, 3))
    (expected,) = length_control.no_difficulty_by(np.zeros(5, int), *columns)
    assert one["lc_win_pct"] == pytest.approx(100 * expected.rate)
    # Always longer by the same: the model can't be told from its length.
    assert list(two.values())[:5] == ["two", 2, 2, 2, None]


def test_difficulties_count_where_every_instruction_has_one():
    rng = np.random.default_rng(3)
    share, longer = rng.integers(0, 3, 60) / 2, rng.integers(50, 150, 60).astype(float)
    one = pl.DataFrame({"share": share, "length_a": longer, "length_b": longer[::-1]})
    hard = rng.normal(size=60)
    some = [None, *hard[1:]]
    outcomes = pl.concat(
        one.with_columns(pl.lit(name).alias("result_id"), pl.Series("difficulty", given))
        for name, given in (("some", some), ("all", hard.tolist()))
    )
    every, partly = rows_of(estimates.length_controlled, outcomes)
    expected = length_control.alpaca_eval2(share, longer, longer[::-1], hard)
    assert (every["result_id"], every["lc_method"]) == ("all", "lc_alpaca_eval2")
    assert every["lc_win_pct"] == pytest.approx(100 * expected.rate)
    assert (partly["result_id"], partly["lc_method"]) == ("some", "lc_no_difficulty")


def test_agreement_with_and_without_ties():
    votes = [(-1, -1, 40), (1, 1, 30), (-1, 1, 10), (0, 1, 5), (0, 0, 15)]
    judges = {"benchmark": "b", "judge_a": "gpt", "judge_b": "expert"}
    names = ("vote_a", "vote_b", "often")
    # On the second turn all votes are ties, and those of one cell may come in several rows.
    cells = pl.concat(
        frame(rows, *names, **judges, turn=turn)
        for turn, rows in ((1, votes), (2, [(0, 0, 2), (0, 0, 1)]))
    )
    tied, plain, ties_only = rows_of(estimates.agreements, cells)

    def kappa(agree, *chances):
        chance = sum(a * b for a, b in chances)
        return pytest.approx((agree - chance) / (1 - chance))

    assert tied == {
        **judges, "turn": 1, "with_ties": True, "votes": 100, "agree": 85, "agree_pct": 85,
        "kappa": kappa(0.85, (0.5, 0.4), (0.3, 0.45), (0.2, 0.15)),
    }  # fmt: skip
    assert plain == {
        **judges, "turn": 1, "with_ties": False, "votes": 80, "agree": 70, "agree_pct": 87.5,
        "kappa": kappa(0.875, (50 / 80, 40 / 80), (30 / 80, 40 / 80)),
    }  # fmt: skip
    assert list(ties_only.values())[3:] == [2, True, 3, 3, 100, None]

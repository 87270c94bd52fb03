import numpy as np
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.special import expit

from opencs_assets.scores.aggregate import contrastive_scores, expected, numbered
from opencs_assets.scores.bradley_terry import fit
from opencs_assets.tables.scores import CONTRASTIVE_SCORES
from resources.schema import conform
from tests.unit.scores.frames import compared, members

AGGREGATES = ("bradley_terry", "mean")
ONE_PAIR = compared((0, "x", "y", "a", 90.0, 10.0), (0, "x", "y", "b", 70.0, 20.0))


def by_sample(rows, samples, aggregate="bradley_terry"):
    table = contrastive_scores(rows, samples, aggregate).table
    return dict(table.select("sample_id", "score").iter_rows())


def test_comparisons_are_numbered_by_cluster_in_the_order_shown():
    rows = compared(
        (1, "x", "y", "a", 90.0, 10.0),
        (0, "x", "y", "b", 70.0, 20.0),
        (0, "x", "y", "a", None, None),
        (1, "x", "y", "b", 1.0, 100.0),
    )
    samples = pl.concat([members("x", "y"), members("w", "x", "y", cluster=1)])
    found = numbered(rows, samples)
    triples = zip(found.first.tolist(), found.second.tolist(), found.share.tolist(), strict=True)
    assert sorted(triples) == [
        (1, 0, pytest.approx(0.5 - 50 / 198)),
        (3, 4, pytest.approx(0.5 + 80 / 198)),
        (4, 3, pytest.approx(1.0)),
    ]
    assert found.samples == 5


@pytest.mark.parametrize("aggregate", AGGREGATES)
def test_one_without_a_readable_comparison_is_missing_not_zero(aggregate):
    rows = compared(
        (0, "x", "y", "a", 90.0, 10.0),
        (0, "x", "y", "b", 90.0, 10.0),
        (0, "w", "x", "a", 30.0, 80.0),
        (0, "y", "z", "a", None, None),
    )
    samples = members("z", "y", "x", "w", "v").with_columns(other=1)
    table = conform(contrastive_scores(rows, samples, aggregate).table, CONTRASTIVE_SCORES)
    columns = ("sample_id", "comparisons", "opponents", "missing")
    assert table.select(columns).rows() == [
        ("v", 0, 0, 0), ("w", 1, 1, 0), ("x", 3, 2, 0), ("y", 2, 1, 1), ("z", 0, 0, 1),
    ]  # fmt: skip
    has_score = {"v": False, "w": True, "x": True, "y": True, "z": False}
    for name in ("score", "low", "high"):
        filled = table.select("sample_id", pl.col(name).is_not_null())
        assert dict(filled.iter_rows()) == has_score


@pytest.mark.parametrize("aggregate", AGGREGATES)
def test_without_intervals_the_scores_are_the_same(aggregate):
    plain = contrastive_scores(ONE_PAIR, members("x", "y"), aggregate, intervals=False).table
    full = contrastive_scores(ONE_PAIR, members("x", "y"), aggregate).table
    assert plain["score"].to_list() == pytest.approx(full["score"].to_list())
    assert plain.select("low", "high").null_count().row(0) == (2, 2)


def test_the_mean_is_the_published_one_with_the_interval_of_student():
    rows = pl.concat([ONE_PAIR, compared((0, "y", "z", "a", 15.0, 40.0))])
    found = contrastive_scores(rows, members("x", "y", "z"), "mean")
    assert found.table["score"].to_list() == [80.0, 15.0, 40.0]
    assert found.position is None
    # Squares 200 + 50 + 0 over 6 scores of 3 samples; t(0.975) of 3 degrees of freedom.
    reach = 3.1824463 * (250 / 3) ** 0.5
    assert found.table["low"].to_list() == pytest.approx([80 - reach / 2**0.5, 1.0, 40 - reach])
    assert found.table["high"].to_list() == pytest.approx([100.0, 15 + reach / 3**0.5, 40 + reach])


def test_one_comparison_a_sample_gives_a_mean_without_an_interval():
    found = contrastive_scores(ONE_PAIR[:1], members("x", "y"), "mean").table
    assert found.select("score", "low", "high").rows() == [(90.0, None, None), (10.0, None, None)]


def test_intervals_of_strengths_reach_1_96_deviations():
    """The score is what each would get on average in its cluster, itself included."""
    rows = pl.concat([ONE_PAIR, compared((1, "p", "q", "a", 60.0, 50.0))])
    samples = pl.concat([members("x", "y"), members("p", "q", cluster=1)])
    found = contrastive_scores(rows, samples, "bradley_terry")
    known = fit(numbered(rows, samples))
    for name, deviations in (("score", 0.0), ("low", -1.959964), ("high", 1.959964)):
        strengths = known.strengths + deviations * known.deviations
        chances = [
            expit(strength - known.strengths[start : start + 2]).mean()
            for start in (0, 2)
            for strength in strengths[start : start + 2]
        ]
        assert found.table[name].to_list() == pytest.approx([1 + 99 * each for each in chances])
    assert found.position == pytest.approx(99 * (2 * expit(known.position) - 1))


@pytest.mark.parametrize(("size", "exact"), [(200, True), (201, False)])
def test_a_large_cluster_is_represented_by_quantiles(size, exact):
    strengths = np.random.default_rng(0).normal(size=size + 2) * 3
    strengths[0] = 40
    found = expected(strengths, strengths, np.array([0] * size + [7, 7]))
    in_cluster = strengths[:size]
    means = 1 + 99 * expit(in_cluster[:, None] - in_cluster[None]).mean(axis=1)
    assert np.array_equal(found[:size], means) is exact
    assert found[:size] == pytest.approx(means, abs=0.3)
    assert found[size:].sum() == pytest.approx(101)


@pytest.mark.parametrize("aggregate", AGGREGATES)
def test_order_gap_is_what_being_first_was_worth(aggregate):
    rows = compared((0, "x", "y", "a", 80.0, 20.0), (0, "x", "y", "b", 25.0, 80.0))
    found = contrastive_scores(rows, members("x", "y"), aggregate)
    assert found.table["order_gap"].to_list() == [55.0, 60.0]


def test_one_opponent_in_one_order_does_not_decide():
    # z met the weakest only, and was shown first; x met the strong y in both orders.
    rows = compared(
        (0, "x", "y", "a", 60.0, 40.0),
        (0, "x", "y", "b", 60.0, 40.0),
        (0, "y", "w", "a", 90.0, 10.0),
        (0, "y", "w", "b", 90.0, 10.0),
        (0, "z", "w", "a", 70.0, 30.0),
    )
    scores = by_sample(rows, members("w", "x", "y", "z"))
    assert scores["x"] > scores["y"] > scores["z"] > scores["w"]
    means = by_sample(rows, members("w", "x", "y", "z"), "mean")
    assert means["z"] > means["x"], "the mean believes whoever met the weak"


def test_position_is_taken_out_of_the_scores():
    rows = compared(
        *(
            (0, a, b, first, *((80.0, 20.0) if first == "a" else (20.0, 80.0)))
            for a, b in (("x", "y"), ("y", "z"), ("x", "z"))
            for first in ("a", "b")
        )
    )
    found = contrastive_scores(rows, members("x", "y", "z"), "bradley_terry")
    assert found.position == pytest.approx(60, abs=2)
    assert found.table["score"].to_list() == pytest.approx([50.5] * 3, abs=0.01)


@pytest.mark.parametrize("aggregate", AGGREGATES)
def test_a_contradiction_makes_equals(aggregate):
    cycle = [(0, a, b, "a", 80.0, 20.0) for a, b in ("xy", "yz", "zx")]
    scores = by_sample(compared(*cycle), members("x", "y", "z"), aggregate)
    assert list(scores.values()) == pytest.approx([scores["x"]] * 3)


def test_clusters_share_no_scale():
    """What happens in one cluster leaves the order in another as it is."""
    rows = [
        (cluster, a, b, first, high, 101 - high)
        for cluster, a, b, high in ((0, "x", "y", 70.0), (1, "p", "q", 99.0))
        for first in ("a", "b")
    ]
    scores = by_sample(
        compared(*rows), pl.concat([members("x", "y"), members("p", "q", cluster=1)])
    )
    assert scores["x"] > scores["y"]
    assert scores["x"] + scores["y"] == pytest.approx(101)
    assert scores["p"] + scores["q"] == pytest.approx(101)


@settings(max_examples=20, deadline=None)
@given(
    st.lists(
        st.tuples(*[st.integers(0, 5)] * 2, st.sampled_from("ab"), *[st.floats(1, 100)] * 2).filter(
            lambda row: row[0] != row[1]
        ),
        max_size=30,
    )
)
def test_scores_are_in_range_and_their_intervals_hold_them(rows):
    table = compared(*((0, f"s{a}", f"s{b}", *rest) for a, b, *rest in rows))
    for aggregate in AGGREGATES:
        found = contrastive_scores(table, members(*(f"s{i}" for i in range(6))), aggregate).table
        assert conform(found, CONTRASTIVE_SCORES).height == 6
        scored = found.drop_nulls("score")
        assert scored.height == found.filter(pl.col("comparisons") > 0).height
        assert scored["score"].is_between(1, 100).all()
        with_interval = scored.drop_nulls("low")
        assert (with_interval["low"] <= with_interval["score"] + 1e-9).all()
        assert (with_interval["high"] >= with_interval["score"] - 1e-9).all()

from collections import Counter

import numpy as np
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from opencs_assets.config.profiles import MethodError
from opencs_assets.scores.aggregate import contrastive_scores
from opencs_assets.scores.bradley_terry import Fit
from opencs_assets.scores.checks import balanced_orders
from opencs_assets.scores.rounds import (
    ComparisonBudget,
    Contest,
    ShownPairs,
    compare_in_rounds,
    first_round,
    kept_calls,
    next_round,
    wrong_side,
)
from opencs_assets.tables.scores import SCORE_COMPARISONS
from resources.schema import conform
from tests.unit.scores.frames import compared, members

CUT = 3


def clusters_of(*sizes):
    """Candidates of clusters of these sizes."""
    names = (
        members(*(f"s{cluster}-{place:02}" for place in range(size)), cluster=cluster)
        for cluster, size in enumerate(sizes)
    )
    return pl.concat([members(), *names])


class Scorer:
    """Says what a sample's place in its cluster says, with noise of its own; some say nothing."""

    def __init__(self, seed=0, price=0.0, unreadable=0.0, noise=5.0):
        self.rng = np.random.default_rng(seed)
        self.budget = None
        self.asked = []
        self.price, self.unreadable, self.noise = price, unreadable, noise

    def __call__(self, asked):
        self.asked += asked
        rows = []
        for each in asked:
            places = [int(sample.split("-")[1]) for sample in (each.sample_a, each.sample_b)]
            first = 5.0 if each.shown_first == "a" else -5.0
            lead = 4 * (places[0] - places[1]) + first + self.rng.normal(0, self.noise)
            lead = float(np.clip(lead, -98, 98))
            read = self.rng.random() >= self.unreadable
            scores = (50 + lead / 2, 50 - lead / 2) if read else (None, None)
            rows.append((each.cluster, each.sample_a, each.sample_b, each.shown_first, *scores))
        self.budget.note(len(asked), [self.price] * len(asked))
        return compared(*rows, round_number=asked[0].round)


def in_rounds(candidates, scorer, calls=None, usd=None, cut=CUT):
    scorer.budget = ComparisonBudget(calls, usd)
    table = compare_in_rounds(candidates, cut, scorer, scorer.budget)
    return conform(table, SCORE_COMPARISONS)


class TestBudget:
    @pytest.mark.parametrize(
        ("calls", "usd", "made", "spent", "room"),
        [
            (None, None, 7, 3.0, 100),
            (10, None, 4, 0.0, 6),
            (500, None, 4, 0.0, 100),
            (4, None, 4, 0.0, 0),
            # The price is what the calls so far have cost on average.
            (None, 1.0, 0, 0.0, 100),
            (None, 1.0, 10, 0.6, 6),
            (None, 1.0, 10, 2.0, 0),
            (None, 1.0, 10, 0.0, 100),
            (12, 1.0, 10, 0.5, 2),
            (90, 1.0, 10, 0.5, 10),
            (90, None, 10, None, 80),
        ],
    )
    def test_the_narrower_limit_decides(self, calls, usd, made, spent, room):
        budget = ComparisonBudget(calls, usd, made, spent)
        assert budget.room(100) == room
        assert budget.limited is ((calls, usd) != (None, None))

    def test_costs_add_up_and_one_unknown_makes_all_unknown(self):
        budget = ComparisonBudget(None, 1.0)
        budget.note(2, [0.25, 0.5])
        budget.note(1, [0.0])
        assert (budget.made, budget.spent) == (3, 0.75)
        budget.note(2, [0.25, None])
        budget.note(1, [0.25])
        assert (budget.made, budget.spent) == (6, None)
        with pytest.raises(MethodError, match=r"price is unknown.*prices.toml"):
            budget.room(100)

    def test_one_that_leaves_samples_out_is_refused_before_anything_is_asked(self):
        scorer = Scorer()
        with pytest.raises(MethodError, match="each of 21 samples once: 11 calls"):
            in_rounds(clusters_of(21), scorer, calls=10)
        assert not scorer.asked
        assert in_rounds(clusters_of(21), scorer, calls=11).height == 11

    def test_dollars_are_kept_to(self):
        table = in_rounds(clusters_of(40), Scorer(price=0.01), usd=1.0)
        assert 0.5 < table.height * 0.01 <= 1.0


class TestChoiceOfPairs:
    @pytest.mark.parametrize(
        ("sizes", "pairs"),
        [
            ((0,), []),
            ((1,), []),
            ((2,), [(0, 1)]),
            ((3,), [(0, 1), (2, 0)]),
            ((5,), [(0, 1), (2, 3), (4, 0)]),
            ((1, 3, 2), [(1, 2), (3, 1), (4, 5)]),
        ],
    )
    def test_the_first_round_shows_everyone(self, sizes, pairs):
        contest = Contest(np.repeat(np.arange(len(sizes)), sizes), np.ones(len(sizes), np.int64))
        shown = ShownPairs(np.zeros(sum(sizes), np.int64))
        assert first_round(contest, shown) == pairs
        assert shown.pairs == set(pairs)

    def test_a_pair_begins_with_the_one_that_was_first_less_often_and_no_order_comes_twice(self):
        shown = ShownPairs(np.zeros(3, np.int64))
        assert shown.show(0, 1) == (0, 1)
        assert shown.leads.tolist() == [1, -1, 0]
        assert shown.show(0, 2) == (2, 0)
        assert shown.met(0, 2)
        assert shown.met(2, 0)
        assert not shown.met(1, 2)
        assert shown.show(0, 1) == (1, 0)
        assert shown.show(0, 1) is None
        # Both were first equally often, and this order was shown.
        assert ShownPairs(np.zeros(2, np.int64), pairs={(0, 1)}).show(0, 1) == (1, 0)

    def test_how_sure_the_sides_of_the_cut_are(self):
        contest = Contest(np.array([0, 0, 0, 1, 1, 2]), np.array([1, 2, 0]))
        deviations = np.array([0.5, 1.0, 0.25, 1.0, 1.0, 1.0])
        known = Fit(np.array([0.0, 1.0, 3.0, 5.0, 6.0, 7.0]), deviations, 0.0, 1.0, 1.0)
        distance, wrong = wrong_side(contest, known)
        assert distance.tolist() == [4.0, 1.0, 4.0, np.inf, np.inf, np.inf]
        assert wrong == pytest.approx([3.167e-5, 0.158655, 3.167e-5, 0, 0, 0], rel=1e-3)

    @pytest.mark.parametrize("most", [0, 1, 2, 6, 12])
    def test_the_next_round_begins_with_those_nearest_the_cut(self, most):
        """Of the second cluster all are chosen: comparing them decides nothing."""
        contest = Contest(np.array([0] * 8 + [1] * 4), np.array([2, 4]))
        shown = ShownPairs(np.zeros(12, np.int64))
        first_round(contest, shown)
        strengths = np.array([4.0, 3.0, 2.1, 1.9, 1.0, 0.0, -1.0, -2.0, 1.0, 2.0, 3.0, 4.0])
        deviations = np.array([0.5, 0.5, 0.6, 0.4] + [0.5] * 4 + [1.0] * 4)
        known = Fit(strengths, deviations, 0.0, 1.0, 0.2)
        pairs = [
            (1, 2), (3, 0), (2, 4), (1, 3), (0, 2), (4, 1),
            (5, 2), (1, 6), (2, 6), (5, 1), (7, 2), (3, 1),
        ]  # fmt: skip
        assert next_round(contest, known, shown, most) == pairs[:most]

    @pytest.mark.parametrize(("apart", "stable"), [(2.2, False), (2.4, True)])
    def test_a_cut_that_is_hardly_in_doubt_is_stable(self, apart, stable):
        """Two samples ``apart`` deviations from the cut are on the wrong side with 1 %."""
        contest = Contest(np.zeros(2, np.int64), np.array([1]))
        known = Fit(np.array([apart, -apart]), np.ones(2), 0.0, 1.0, 1.0)
        shown = ShownPairs(np.zeros(2, np.int64))
        assert (next_round(contest, known, shown, 9) == []) is stable

    def test_the_doubt_is_a_share_of_those_that_are_chosen(self):
        """Four samples, each on the wrong side with 0.8 %: 1.6 % of one above, 0.8 % of two."""
        apart, four = 2.41, np.zeros(4, np.int64)
        for cut, strengths, stable in (
            (2, [apart, apart, -apart, -apart], True),
            (1, [apart, -apart, -apart, -apart], False),
        ):
            known = Fit(np.array(strengths), np.ones(4), 0.0, 1.0, 1.0)
            shown = ShownPairs(np.zeros(4, np.int64))
            assert (next_round(Contest(four, np.array([cut])), known, shown, 9) == []) is stable

    @pytest.mark.parametrize(("pairs", "stable"), [(11, False), (12, True)])
    def test_a_cut_that_nothing_changed_for_six_comparisons_a_sample_is_stable(self, pairs, stable):
        contest = Contest(np.zeros(2, np.int64), np.array([1]))
        known = Fit(np.array([0.1, -0.1]), np.ones(2), 0.0, 1.0, 1.0)
        shown = ShownPairs(np.zeros(2, np.int64), {0: (frozenset({0}), pairs)})
        assert (next_round(contest, known, shown, 9) == []) is stable
        turned = ShownPairs(np.zeros(2, np.int64), {0: (frozenset({1}), pairs)})
        assert next_round(contest, known, turned, 9)
        assert turned.above[0] == (frozenset({0}), 2)

    def test_the_nearer_ones_come_before_those_of_which_less_is_known(self):
        """A comparison takes away less than all of what is not known, and far from the cut little
        of it matters: 1.6 deviations of 3 are worth less than none of 1."""
        contest = Contest(np.zeros(4, np.int64), np.array([2]))
        known = Fit(
            np.array([4.8, 1e-9, -1e-9, -4.8]), np.array([3.0, 1.0, 1.0, 3.0]), 0.0, 1.0, 0.01
        )
        assert next_round(contest, known, ShownPairs(np.zeros(4, np.int64)), 1) == [(1, 2)]

    def test_rooms_are_shared_out_by_doubt(self):
        contest = Contest(np.repeat([0, 1, 2], 4), np.array([1, 1, 1]))
        strengths = np.array([0.1, 0, 0, 0] * 2 + [9.0, 0, 0, 0])
        known = Fit(strengths, np.array([1.0] * 4 + [0.2] * 4 + [0.1] * 4), 0.0, 1.0, 1.0)
        pairs = next_round(contest, known, ShownPairs(np.zeros(12, np.int64)), 7)
        assert Counter(first // 4 for first, _ in pairs) == {0: 4, 1: 3}


@settings(max_examples=12, deadline=None)
@given(st.lists(st.integers(1, 9), min_size=1, max_size=3), st.integers(0, 60), st.integers(0, 99))
def test_every_sample_is_compared_no_order_twice_and_the_budget_is_kept(sizes, more, seed):
    candidates = clusters_of(*sizes)
    least = sum(-(-size // 2) for size in sizes if size > 1)
    table = in_rounds(candidates, Scorer(seed, unreadable=0.1), calls=least + more)
    assert table.height <= least + more
    shown = table.select("cluster", "sample_a", "sample_b", "shown_first")
    assert shown.n_unique() == table.height
    pairs = set(table.select("cluster", "sample_a", "sample_b").iter_rows())
    assert all(a < b for _, a, b in pairs), "one name for a pair, whichever was shown first"
    clusters = dict(candidates.select("sample_id", "cluster").iter_rows())
    assert all(clusters[a] == clusters[b] == cluster for cluster, a, b in pairs)
    seen = {sample for _, *pair in pairs for sample in pair}
    alone = {f"s{cluster}-00" for cluster, size in enumerate(sizes) if size == 1}
    assert seen == set(candidates["sample_id"]) - alone


def test_calls_go_where_the_cut_is():
    table = in_rounds(clusters_of(40), Scorer(), calls=200, cut=8)
    assert table.height == 200
    assert set(table["round"]) == set(range(9))
    later = table.filter(pl.col("round") > 1)
    shown = Counter([*later["sample_a"], *later["sample_b"]])
    near = sum(shown[f"s0-{place:02}"] for place in range(25, 40))
    assert near / sum(shown.values()) > 0.6


def test_calls_go_to_the_clusters_where_something_is_decided():
    # Of the first all are chosen: comparing them decides nothing.
    table = in_rounds(clusters_of(CUT, 20), Scorer(), calls=100)
    counts = dict(table.group_by("cluster").len().iter_rows())
    assert counts[0] == 2
    assert counts[1] > 50


def test_it_stops_when_the_cut_is_stable():
    table = in_rounds(clusters_of(30), Scorer(noise=0.1), calls=10_000)
    assert table.height < 350, "two fifths of all pairs in both orders"
    best = contrastive_scores(table, clusters_of(30), "bradley_terry").table.sort("score")
    assert best["sample_id"].tail(CUT).to_list() == ["s0-27", "s0-28", "s0-29"]


def test_orders_are_balanced_at_the_end():
    table = in_rounds(clusters_of(20, 11), Scorer(), calls=250)
    assert balanced_orders(table).passed, balanced_orders(table).description


def test_a_scorer_that_refuses_all_is_not_asked_forever():
    table = in_rounds(clusters_of(12), Scorer(unreadable=1.0), calls=60)
    assert table.height <= 60
    assert table["score_a"].null_count() == table.height


def test_no_candidates():
    assert in_rounds(clusters_of(), Scorer(), calls=10).height == 0


class TestKeptCalls:
    """What is made again of kept comparisons, whatever cluster and order they stand in."""

    CANDIDATES = clusters_of(9, 4)

    @pytest.fixture(scope="class")
    def kept(self):
        return in_rounds(self.CANDIDATES, Scorer(5), calls=40)

    def test_all_of_them_are_used_where_nothing_changed(self, kept):
        assert kept_calls(self.CANDIDATES, CUT, kept, 40) == (kept.height, True)
        assert in_rounds(self.CANDIDATES, Scorer(5), calls=40).equals(kept)

    def test_a_pair_that_is_kept_under_the_other_name_is_the_same(self, kept):
        assert kept_calls(self.CANDIDATES, CUT, pl.concat([kept, kept]), 40)[0] == kept.height
        turned = kept.with_columns(
            cluster=pl.lit(77, pl.Int64),
            sample_a="sample_b",
            sample_b="sample_a",
            score_a="score_b",
            score_b="score_a",
            shown_first=pl.col("shown_first").replace({"a": "b", "b": "a"}),
        )
        assert kept_calls(self.CANDIDATES, CUT, turned, 40) == (kept.height, True)

    def test_it_ends_in_the_round_of_the_first_call_that_is_new(self, kept):
        rounds = dict(kept.group_by("round").len().iter_rows())
        first_of_third = kept["round"].search_sorted(2)
        without = pl.concat([kept[:first_of_third], kept[first_of_third + 1 :]])
        expected = rounds[0] + rounds[1] + rounds[2] - 1
        assert kept_calls(self.CANDIDATES, CUT, without, 40) == (expected, False)
        assert kept_calls(self.CANDIDATES, CUT, kept, 60)[1] is False

    def test_a_budget_that_leaves_samples_out_is_refused(self, kept):
        with pytest.raises(MethodError, match="7 calls"):
            kept_calls(self.CANDIDATES, CUT, kept, 6)

from collections import Counter

import numpy as np
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from opencs_assets.config.profiles import MethodError
from opencs_assets.scores.aggregate import contrastive_scores
from opencs_assets.scores.checks import balanced_orders
from opencs_assets.scores.rounds import ComparisonBudget, compare_in_rounds
from opencs_assets.tables.scores import SCORE_COMPARISONS
from resources.schema import conform

CUT = 3


def members(*sizes):
    """Candidates of clusters of these sizes."""
    rows = [
        (cluster, f"s{cluster}-{place:02}")
        for cluster, size in enumerate(sizes)
        for place in range(size)
    ]
    return pl.DataFrame(rows, schema={"cluster": pl.Int64, "sample_id": pl.String}, orient="row")


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
            rows.append(
                {
                    **{
                        name: getattr(each, name)
                        for name in ("cluster", "sample_a", "sample_b", "shown_first", "round")
                    },
                    "score_a": 50 + lead / 2 if read else None,
                    "score_b": 50 - lead / 2 if read else None,
                    "status": "ok" if read else "unparsable",
                    "reading": "generated",
                    "reply_id": f"r{len(self.asked)}",
                    "model": "m",
                    "prompt_version": "p",
                }
            )
        self.budget.note(len(asked), [self.price] * len(asked))
        return pl.DataFrame(rows, schema=SCORE_COMPARISONS.schema)


def compared(candidates, scorer, calls=None, usd=None, cut=CUT):
    scorer.budget = ComparisonBudget(calls, usd)
    table = compare_in_rounds(candidates, cut, scorer, scorer.budget)
    conform(table, SCORE_COMPARISONS)
    return table


@settings(max_examples=25, deadline=None)
@given(
    st.lists(st.integers(1, 14), min_size=1, max_size=4), st.integers(0, 200), st.integers(0, 99)
)
def test_every_sample_is_compared_no_order_twice_and_the_budget_is_kept(sizes, more, seed):
    candidates = members(*sizes)
    least = sum(-(-size // 2) for size in sizes if size > 1)
    table = compared(candidates, Scorer(seed, unreadable=0.1), calls=least + more)
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
    table = compared(members(40), Scorer(), calls=200, cut=8)
    later = table.filter(pl.col("round") > 1)
    shown = Counter([*later["sample_a"], *later["sample_b"]])
    near = sum(shown[f"s0-{place:02}"] for place in range(25, 40))
    assert near / sum(shown.values()) > 0.6


def test_calls_go_to_the_clusters_where_something_is_decided():
    # Of the first all are chosen: comparing them decides nothing.
    table = compared(members(CUT, 20), Scorer(), calls=100)
    counts = dict(table.group_by("cluster").len().iter_rows())
    assert counts[0] == 2
    assert counts[1] > 50


def test_it_stops_when_the_cut_is_stable():
    table = compared(members(12), Scorer(noise=0.1), calls=10_000)
    assert table.height < 132, "fewer than all pairs in both orders"
    best = contrastive_scores(table, members(12), "bradley_terry").table.sort("score")
    assert best["sample_id"].tail(CUT).to_list() == ["s0-09", "s0-10", "s0-11"]


def test_orders_are_balanced_at_the_end():
    table = compared(members(30, 17), Scorer(), calls=400)
    assert balanced_orders(table).passed, balanced_orders(table).description


def test_a_budget_that_leaves_samples_out_is_refused_before_anything_is_asked():
    scorer = Scorer()
    with pytest.raises(MethodError, match="each of 21 samples once: 11 calls"):
        compared(members(21), scorer, calls=10)
    assert not scorer.asked


def test_dollars_are_kept_to():
    scorer = Scorer(price=0.01)
    table = compared(members(40), scorer, usd=1.0)
    assert 0.5 < table.height * 0.01 <= 1.0


def test_an_unknown_price_with_a_budget_of_dollars_is_an_error():
    with pytest.raises(MethodError, match=r"price is unknown.*prices.toml"):
        compared(members(40), Scorer(price=None), usd=1.0)


def test_a_scorer_that_refuses_all_is_not_asked_forever():
    scorer = Scorer(unreadable=1.0)
    table = compared(members(12), scorer, calls=60)
    assert table.height <= 60
    assert table["score_a"].null_count() == table.height


def test_equal_seeds_equal_rounds():
    one, other = (compared(members(20, 9), Scorer(5), calls=150) for _ in range(2))
    assert one.equals(other)


def test_no_candidates():
    assert compared(members(), Scorer(), calls=10).height == 0

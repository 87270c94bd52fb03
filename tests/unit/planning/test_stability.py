from types import SimpleNamespace

import numpy as np
import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st

from opencs_assets.config.profiles import MethodError, resolve_constants
from opencs_assets.planning.stability import between_runs, measure, variants
from opencs_assets.tables.selection import STABILITY_RUNS, STABILITY_SAMPLES
from resources.schema import conform
from resources.settings import Method

BASE = resolve_constants("corrected", Method(seed=3), 5_000)


def outcome(chosen):
    scored = pl.DataFrame({"sample_id": ["a", "b", "c"]})
    return SimpleNamespace(chosen=frozenset(chosen), scored=scored, missing=1)


def test_each_run_varies_what_it_says():
    tried = list(variants(BASE))
    assert len(tried) == 100
    assert len({(each.factor, each.constants) for each in tried}) == 100
    for each in tried:
        assert each.constants.seed != BASE.seed
        for factor in ("clusters", "alpha", "quota"):
            same = getattr(each.constants, factor) == getattr(BASE, factor)
            assert same or factor == each.factor
    for factor in ("clusters", "alpha", "quota"):
        values = {getattr(v.constants, factor).value for v in tried if v.factor == factor}
        middle = getattr(BASE, factor).value
        assert min(values) < middle < max(values)


def test_inclusion_is_how_often_a_sample_is_chosen():
    tried = list(variants(BASE, 10))
    chosen = iter(["ab"] * 4 + ["ac"] * 6)
    subsets = dict(zip(tried, chosen, strict=True))
    by_constants = {each.constants: subset for each, subset in subsets.items()}
    found = measure(frozenset("ab"), tried, lambda each: outcome(by_constants[each]), 0)
    conform(found.samples, STABILITY_SAMPLES)
    conform(found.runs, STABILITY_RUNS)
    assert dict(found.samples.select("sample_id", "inclusion").iter_rows()) == {
        "a": 1.0,
        "b": 0.4,
        "c": 0.6,
    }
    assert found.runs["jaccard"].to_list() == pytest.approx([1.0] * 4 + [1 / 3] * 6)
    # Of 45 pairs of runs 6 + 15 are equal, and 24 share one of three.
    assert found.jaccard[0] == pytest.approx((21 + 24 / 3) / 45)
    assert found.jaccard[1] <= found.jaccard[0] <= found.jaccard[2]


def test_a_run_that_leaves_nothing_is_told_and_counts_in_no_share():
    tried = list(variants(BASE, 10))

    def choose(constants):
        if constants == tried[0].constants:
            raise MethodError("nothing is left")
        return outcome("ab")

    found = measure(frozenset("ab"), tried, choose, 0)
    assert found.runs["failed"].to_list() == ["nothing is left"] + [None] * 9
    assert found.runs["jaccard"].null_count() == 1
    assert found.samples["inclusion"].to_list() == [1.0, 1.0]
    assert found.samples["runs"].to_list() == [9, 9]


@given(st.integers(2, 8), st.integers(1, 10), st.integers(0, 99))
def test_the_interval_holds_the_mean_of_equal_runs(runs, samples, seed):
    chosen = np.tile(np.random.default_rng(seed).random(samples) < 0.5, (runs, 1))
    assert between_runs(chosen, seed) == (1.0, 1.0, 1.0)


def test_one_run_has_nothing_to_be_compared_with():
    assert all(np.isnan(between_runs(np.ones((1, 3), bool), 0)))

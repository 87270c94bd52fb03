"""Intervals that hold however often they are looked at."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from opencs_assets.statistics.sequential import interval

MEANS = st.floats(0, 1)
LEVELS = st.floats(0.55, 0.999)


@given(mean=MEANS, n=st.integers(0, 10**9), level=LEVELS)
def test_ends_are_in_order_and_within_the_unit_interval(mean, n, level):
    low, high = interval(mean, n, level)
    assert 0 <= low <= high <= 1
    assert low <= mean <= high


@given(mean=MEANS, n=st.integers(1, 10**6), more=st.integers(1, 10**6), level=LEVELS)
def test_more_values_make_it_narrower(mean, n, more, level):
    low, high = interval(mean, n, level)
    later_low, later_high = interval(mean, n + more, level)
    assert low <= later_low
    assert later_high <= high


@given(mean=MEANS, n=st.integers(1, 10**6))
def test_more_confidence_makes_it_wider(mean, n):
    low, high = interval(mean, n, 0.9)
    surer_low, surer_high = interval(mean, n, 0.99)
    assert surer_low <= low
    assert high <= surer_high


@given(mean=MEANS, n=st.integers(1, 10**6))
def test_it_favours_neither_side(mean, n):
    low, high = interval(mean, n)
    mirrored = interval(1 - mean, n)
    assert mirrored == pytest.approx((1 - high, 1 - low), abs=1e-12)


@pytest.mark.parametrize("level", [0.8, 0.9, 0.95])
@pytest.mark.parametrize("values", [(0.0, 1.0), (0.0, 0.5, 1.0)])
def test_it_never_leaves_out_the_true_mean_more_often_than_it_says(level, values):
    """Looked at after every value; an ordinary interval would fail in far more of the runs."""
    draw = np.random.default_rng(0)
    runs, length = 2_000, 1_000
    drawn = draw.choice(values, size=(runs, length))
    sizes = np.arange(1, length + 1)
    means = drawn.cumsum(axis=1) / sizes
    half = np.array([interval(0.5, int(n), level)[1] - 0.5 for n in sizes])
    # Clipped ends never leave out 0.5.
    missed = (np.abs(means - 0.5) > np.where(half >= 0.5, 1, half)).any(axis=1).mean()
    assert missed <= 1 - level + 3 * math.sqrt(level * (1 - level) / runs)
    fixed = 1.96 * 0.5 / np.sqrt(sizes)
    assert (np.abs(means - 0.5) > fixed)[:, 30:].any(axis=1).mean() > 2 * missed


def test_it_is_not_much_wider_than_an_ordinary_one_where_it_is_made_for():
    low, high = interval(0.5, 100, 0.95)
    assert high - low < 2 * (2 * 1.96 * 0.05)
    assert not interval(0.9, 30)[0] < 0.5


def test_no_values_tell_nothing():
    assert interval(0.3, 0) == (0.0, 1.0)


@pytest.mark.parametrize("wrong", [(1.1, 3, 0.95), (-0.1, 3, 0.95), (0.5, -1, 0.95), (0.5, 3, 1.0)])
def test_what_is_no_mean_number_or_level(wrong):
    with pytest.raises(ValueError, match=r"must|can't"):
        interval(*wrong)

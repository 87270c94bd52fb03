"""Intervals that hold however often they are looked at."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from opencs_assets.statistics.sequential import interval


def half_width(n, level):
    """Howard et al. 2021, eq. 14, with a variance of 1/4 a value and the r of eq. 18 at n = 100."""
    alpha = 1 - level
    r = 25 / (-2 * math.log(alpha) + math.log(-2 * math.log(alpha) + 1))
    v = n / 4
    return math.sqrt((v + r) * math.log((v + r) / (r * alpha**2))) / n


@pytest.mark.parametrize(("n", "level"), [(1, 0.95), (50, 0.9), (100, 0.95), (100_000, 0.6)])
@pytest.mark.parametrize("mean", [0, 0.02, 0.5, 0.98, 1])
def test_the_interval_is_robbins_mixture_within_the_unit_interval(mean, n, level):
    half = half_width(n, level)
    expected = max(0, mean - half), min(1, mean + half)
    assert interval(mean, n, level) == pytest.approx(expected)
    if level == 0.95:
        assert interval(mean, n) == interval(mean, n, level)


@given(mean=st.floats(0, 1), n=st.integers(0, 10**9), level=st.floats(0.55, 0.999))
def test_ends_are_in_order_and_within_the_unit_interval(mean, n, level):
    low, high = interval(mean, n, level)
    assert 0 <= low <= mean <= high <= 1


@pytest.mark.parametrize(("level", "values"), [(0.8, (0.0, 1.0)), (0.95, (0.0, 0.5, 1.0))])
def test_it_never_leaves_out_the_true_mean_more_often_than_it_says(level, values):
    """Looked at after every value; an ordinary interval would fail in far more of the runs."""
    draw = np.random.default_rng(0)
    runs, length = 1_000, 500
    drawn = draw.choice(values, size=(runs, length))
    sizes = np.arange(1, length + 1)
    means = drawn.cumsum(axis=1) / sizes
    half = np.array([interval(0.5, int(n), level)[1] - 0.5 for n in sizes])
    # Clipped ends never leave out 0.5.
    missed = (np.abs(means - 0.5) > np.where(half >= 0.5, 1, half)).any(axis=1).mean()
    assert missed <= 1 - level + 3 * math.sqrt(level * (1 - level) / runs)
    fixed = 1.96 * 0.5 / np.sqrt(sizes)
    assert (np.abs(means - 0.5) > fixed)[:, 30:].any(axis=1).mean() > 2 * missed


def test_no_values_tell_nothing():
    assert interval(0.3, 0) == (0.0, 1.0)
    assert interval(math.nan, 0) == (0.0, 1.0)


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ((1.1, 3, 0.95), "can't be 1.1"),
        ((-0.1, 3, 0.95), "can't be -0.1"),
        ((0.5, -1, 0.95), "n must not be negative"),
        ((0.5, 3, 1.0), "level must be between"),
        ((0.5, 3, 0.0), "level must be between"),
    ],
)
def test_what_is_no_mean_number_or_level(wrong, message):
    with pytest.raises(ValueError, match=message):
        interval(*wrong)

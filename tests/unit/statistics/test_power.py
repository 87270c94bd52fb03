"""Questions needed: by simulation, and what is measured."""

import math

import numpy as np
import pytest
from scipy.stats import norm

from opencs_assets.statistics.power import (
    detectable_effect,
    measured_deviation,
    questions_needed,
    win_deviation,
)


def seen(outcomes, none, level=0.95):
    """Of many repetitions (r, questions), how often the interval leaves out no difference."""
    error = outcomes.std(axis=1, ddof=1) / math.sqrt(outcomes.shape[1])
    away = np.abs(outcomes.mean(axis=1) - none)
    return float((away > norm.ppf((1 + level) / 2) * error).mean())


@pytest.mark.parametrize(
    ("power", "level", "disagree", "lost"),
    [(0.8, 0.95, 0, 0), (0.9, 0.9, 0, 0), (0.8, 0.95, 0.158, 0.1)],
)
def test_win_rates_are_seen_as_often_as_told(power, level, disagree, lost):
    """Where the two orders disagree it is a tie, and some verdicts can't be read."""
    rng = np.random.default_rng(0)
    tie, win_rate = 0.15, 0.56
    deviation = win_deviation(win_rate, tie_rate=tie, orders_disagree=disagree)
    questions = questions_needed(win_rate - 0.5, deviation, level=level, power=power, lost=lost)
    tied = tie + disagree
    chances = [win_rate - tied / 2, tied, 1 - win_rate - tied / 2]
    drawn = rng.choice([1, 0.5, 0], (2_000, round(questions * (1 - lost))), p=chances)
    assert drawn[0].std() == pytest.approx(deviation, abs=0.03)
    # A standard error of so many repetitions is 0.009.
    assert seen(drawn, 0.5, level) == pytest.approx(power, abs=0.03)


def test_differences_of_scores_are_seen_as_often_as_told():
    deviation, questions = 2.1, 80
    effect = detectable_effect(questions, deviation)
    drawn = np.random.default_rng(1).normal(effect, deviation, (4_000, questions))
    assert seen(drawn, 0) == pytest.approx(0.8, abs=0.03)
    assert seen(drawn - effect, 0) == pytest.approx(0.05, abs=0.02)


@pytest.mark.parametrize(
    ("effect", "deviation", "options", "needed"),
    [
        # (1.960 + 0.842)**2 * 0.25 / 0.05**2, as in any table.
        (0.05, 0.5, {}, 785),
        (-0.05, 0.5, {"level": 0.95, "power": 0.8}, 785),
        (0.05, 0.5, {"lost": 0.5}, 1570),
        # (1.645 + 1.282)**2 * 100
        (0.1, 1, {"level": 0.9, "power": 0.9}, 857),
        (0.5, 0, {}, 2),
        (1, 0.6, {}, 3),
        (10, 0.5, {}, 2),
    ],
)
def test_known_numbers_of_questions(effect, deviation, options, needed):
    assert questions_needed(effect, deviation, **options) == needed
    if needed > 3:
        shown = detectable_effect(needed, deviation, **options)
        assert shown <= abs(effect) < detectable_effect(needed - 1, deviation, **options)


def test_known_effects():
    assert detectable_effect(1, 1) == pytest.approx(2.8016, abs=1e-4)
    assert detectable_effect(4, 1, lost=0.75) == detectable_effect(1, 1)


@pytest.mark.parametrize(
    ("shares", "deviation"),
    [
        ({}, 0.5),
        ({"tie_rate": 1}, 0),
        ({"win_rate": 0.5, "orders_disagree": 0.36}, 0.4),
        ({"win_rate": 0.5, "orders_disagree": 0.2, "tie_rate": 0.16}, 0.4),
        ({"win_rate": 1}, 0),
        ({"win_rate": 0}, 0),
        ({"win_rate": 0.75, "tie_rate": 0.5}, 0.25),
        ({"win_rate": 0.9}, 0.3),
    ],
)
def test_known_deviations(shares, deviation):
    assert win_deviation(**shares) == pytest.approx(deviation)


@pytest.mark.parametrize(
    ("question", "outcomes", "expected"),
    [
        # The three questions that were judged have the outcomes 1/2, 1 and 1/2.
        ([3, 3, 5, 5, 8, 9], [1, 0, 1, np.nan, 0.5, np.nan], (np.sqrt(1 / 12), 3, 0.25)),
        ([1, 2], [1.0, 0.0], (np.sqrt(0.5), 2, 0)),
        ([1], [1.0], (np.nan, 1, 0)),
        ([1, 2], [np.nan, np.nan], (np.nan, 0, 1)),
        ([], [], (np.nan, 0, 0)),
    ],
)  # fmt: skip
def test_what_was_measured(question, outcomes, expected):
    assert measured_deviation(question, outcomes) == pytest.approx(expected, nan_ok=True)


@pytest.mark.parametrize(
    ("asked", "message"),
    [
        (lambda: questions_needed(0, 0.5), "endless"),
        (lambda: questions_needed(math.inf, 0.5), "endless"),
        (lambda: questions_needed(math.nan, 0.5), "endless"),
        *(
            (lambda wrong=wrong: questions_needed(0.1, wrong), f"standard deviation of {wrong}")
            for wrong in (math.nan, math.inf, -0.1)
        ),
        *(
            (lambda wrong=wrong: detectable_effect(9, 0.5, **wrong), "between 0 and 1")
            for wrong in (
                {"level": 0}, {"level": 1}, {"level": 95}, {"power": 0}, {"power": 1},
                {"lost": 1}, {"lost": -0.1},
            )
        ),
        (lambda: questions_needed(0.1, 0.5, level=95), "between 0 and 1"),
        (lambda: detectable_effect(1, -1), "standard deviation of -1"),
        (lambda: detectable_effect(0, 0.5), "at least one"),
        (lambda: win_deviation(0.9, tie_rate=0.5), "losses"),
        (lambda: win_deviation(0.1, tie_rate=0.5), "losses"),
        (lambda: win_deviation(0.5, tie_rate=-0.1, orders_disagree=0.2), "losses"),
        (lambda: win_deviation(0.5, tie_rate=0.2, orders_disagree=-0.1), "losses"),
        (lambda: measured_deviation([1, 2], [1.0]), "one of each a row"),
        (lambda: measured_deviation([[1, 2]], [[1.0, 2.0]]), "one of each a row"),
    ],
)  # fmt: skip
def test_what_is_refused(asked, message):
    with pytest.raises(ValueError, match=message):
        asked()

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


def seen(outcomes, none, level):
    """Of many repetitions (r, questions), how often the interval leaves out no difference."""
    questions = outcomes.shape[1]
    error = outcomes.std(axis=1, ddof=1) / math.sqrt(questions)
    away = np.abs(outcomes.mean(axis=1) - none)
    return float((away > norm.ppf((1 + level) / 2) * error).mean())


@pytest.mark.parametrize(("power", "level"), [(0.8, 0.95), (0.9, 0.9)])
def test_win_rates_are_seen_as_often_as_told(power, level):
    rng = np.random.default_rng(0)
    win, tie, lose = 0.42, 0.25, 0.33
    effect = win + tie / 2 - 0.5
    deviation = win_deviation(win + tie / 2, tie_rate=tie)
    questions = questions_needed(effect, deviation, level=level, power=power)
    drawn = rng.choice([1, 0.5, 0], (2_000, questions), p=[win, tie, lose])
    assert drawn[0].std() == pytest.approx(deviation, abs=0.03)
    # A standard error of so many repetitions is 0.009.
    assert seen(drawn, 0.5, level) == pytest.approx(power, abs=0.03)


def test_differences_of_scores_are_seen_as_often_as_told():
    rng = np.random.default_rng(1)
    deviation = 2.1
    for questions in (80, 300):
        effect = detectable_effect(questions, deviation)
        drawn = rng.normal(effect, deviation, (4_000, questions))
        assert seen(drawn, 0, 0.95) == pytest.approx(0.8, abs=0.03)
        assert seen(drawn - effect, 0, 0.95) == pytest.approx(0.05, abs=0.02)


def test_orders_that_disagree_and_lost_judgments():
    """Judged twice; where the orders disagree it is a tie, and some can't be read."""
    rng = np.random.default_rng(2)
    win_rate, disagree, lost = 0.56, 0.158, 0.1
    deviation = win_deviation(win_rate, orders_disagree=disagree)
    questions = questions_needed(win_rate - 0.5, deviation, lost=lost)
    won = win_rate - disagree / 2
    chances = [won, disagree, 1 - won - disagree]
    power = np.mean(
        [
            seen(
                rng.choice([1, 0.5, 0], (1, rng.binomial(questions, 1 - lost)), p=chances),
                0.5,
                0.95,
            )
            for _ in range(3_000)
        ]
    )
    assert power == pytest.approx(0.8, abs=0.03)
    assert questions > questions_needed(win_rate - 0.5, deviation)


def test_known_numbers():
    # (1.960 + 0.842)**2 * 0.25 / 0.05**2, as in any table.
    assert questions_needed(0.05, 0.5) == 785
    assert questions_needed(-0.05, 0.5) == 785
    assert detectable_effect(785, 0.5) == pytest.approx(0.05, abs=1e-4)
    assert questions_needed(0.05, 0.5, lost=0.5) == 1570
    assert questions_needed(0.5, 0) == 2
    assert win_deviation() == 0.5
    assert win_deviation(tie_rate=1) == 0
    assert win_deviation(0.5, orders_disagree=0.36) == pytest.approx(0.4)


def test_what_was_measured():
    question = [3, 3, 5, 5, 8, 9]
    outcomes = [1, 0, 1, np.nan, 0.5, np.nan]
    deviation, judged, lost = measured_deviation(question, outcomes)
    assert deviation == pytest.approx(np.std([0.5, 1, 0.5], ddof=1))
    assert (judged, lost) == (3, 0.25)
    deviation, judged, lost = measured_deviation([1], [1.0])
    assert math.isnan(deviation)
    assert (judged, lost) == (1, 0)
    assert measured_deviation([], [])[1:] == (0, 0)


def test_what_is_refused():
    with pytest.raises(ValueError, match="endless"):
        questions_needed(0, 0.5)
    with pytest.raises(ValueError, match="standard deviation of nan"):
        questions_needed(0.1, math.nan)
    with pytest.raises(ValueError, match="between 0 and 1"):
        questions_needed(0.1, 0.5, level=95)
    with pytest.raises(ValueError, match="between 0 and 1"):
        questions_needed(0.1, 0.5, lost=1)
    with pytest.raises(ValueError, match="at least one"):
        detectable_effect(0, 0.5)
    with pytest.raises(ValueError, match="losses"):
        win_deviation(0.9, tie_rate=0.5)
    with pytest.raises(ValueError, match="one of each a row"):
        measured_deviation([1, 2], [1.0])

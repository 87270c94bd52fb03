"""Bradley-Terry of models: against other fits, where strengths are endless, and intervals."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.optimize import minimize
from scipy.special import log_expit

from opencs_assets.statistics import bootstrap, bradley_terry
from opencs_assets.statistics.bootstrap import resample_weights
from opencs_assets.statistics.bradley_terry import (
    components,
    elo,
    fit,
    intervals,
    wins_matrix,
)


def verdicts(models=6, count=900, questions=40, seed=0, ties=0.2):
    """Question, first, second and share of made verdicts."""
    rng = np.random.default_rng(seed)
    strengths = rng.normal(size=models)
    first = rng.integers(models, size=count)
    second = (first + rng.integers(1, models, size=count)) % models
    chance = 1 / (1 + np.exp(strengths[second] - strengths[first]))
    share = (rng.random(count) < chance).astype(float)
    share[rng.random(count) < ties] = 0.5
    return rng.integers(questions, size=count), first, second, share


def likeliest(wins):
    """By SciPy's minimizer."""

    def surprise(strengths):
        return -(wins * log_expit(strengths[:, None] - strengths)).sum()

    found = minimize(surprise, np.zeros(len(wins)), method="BFGS", options={"gtol": 1e-9}).x
    return found - found.mean()


def test_two_models():
    strengths = fit([[0, 30], [10, 0]])
    np.testing.assert_allclose(strengths[0] - strengths[1], np.log(3), atol=1e-8)
    np.testing.assert_allclose(strengths.sum(), 0, atol=1e-12)
    # A tie is half a win of each.
    tied = wins_matrix(
        np.array([0, 0, 1]), np.array([1, 1, 0]), [1, 0.5, 0.5], [20, 10, 10], models=2
    )
    assert tied.tolist() == [[0, 30], [10, 0]]


def test_as_scipy_has_it():
    _, *arrays = verdicts()
    wins = wins_matrix(*arrays, models=6)
    np.testing.assert_allclose(fit(wins), likeliest(wins), atol=1e-6)


@settings(max_examples=20)
@given(
    st.lists(st.integers(0, 40), min_size=12, max_size=12),
    st.integers(1, 50),
)
def test_turned_and_scaled(numbers, times):
    wins = np.zeros((4, 4))
    wins[~np.eye(4, dtype=bool)] = numbers
    # Every model beat every other, so that all is finite.
    wins += 1
    strengths = fit(wins)
    np.testing.assert_allclose(fit(wins.T), -strengths, atol=1e-7)
    np.testing.assert_allclose(fit(times * wins), strengths, atol=1e-7)
    order = np.array([2, 0, 3, 1])
    np.testing.assert_allclose(fit(wins[np.ix_(order, order)]), strengths[order], atol=1e-7)


def test_a_model_that_won_all_stays_finite_and_is_told():
    wins = np.array([[0, 9, 9], [0, 0, 5], [0, 4, 0]])
    strengths = fit(wins)
    assert np.isfinite(strengths).all()
    assert strengths[0] > 10 + strengths[1]
    # The others are as they are without it.
    np.testing.assert_allclose(strengths[1] - strengths[2], np.log(5 / 4), atol=1e-5)


def test_models_that_never_met_are_groups_of_their_own():
    wins = np.zeros((6, 6))
    wins[0, 1], wins[1, 0] = 3, 1
    wins[4, 2], wins[2, 4] = 5, 5
    wins[2, 5], wins[5, 2] = 8, 2
    assert components(wins).tolist() == [0, 0, 1, -1, 1, 1]
    strengths = fit(wins)
    assert np.isnan(strengths[3])
    np.testing.assert_allclose(strengths[[0, 1]], [np.log(3) / 2, -np.log(3) / 2], atol=1e-7)
    np.testing.assert_allclose(strengths[[2, 4, 5]].sum(), 0, atol=1e-12)
    np.testing.assert_allclose(strengths[2] - strengths[5], np.log(4), atol=1e-7)


def test_the_elo_scale():
    strengths = fit([[0, 10], [1, 0]])
    rating = elo(strengths)
    np.testing.assert_allclose(rating[0] - rating[1], 400, atol=1e-5)
    np.testing.assert_allclose(rating.mean(), 1000)


def test_intervals_are_those_of_each_resample_fitted_alone():
    question, first, second, share = verdicts()
    found = intervals(question, first, second, share, models=6, resamples=60, seed=7)
    alone = []
    for weights in resample_weights(40, 60, seed=7):
        wins = wins_matrix(first, second, share, weights[question], models=6)
        alone.append(fit(wins))
    low, high = np.percentile(alone, [2.5, 97.5], axis=0)
    np.testing.assert_allclose(
        found.estimate, fit(wins_matrix(first, second, share, models=6)), atol=1e-9
    )
    np.testing.assert_allclose(found.low, low, atol=1e-6)
    np.testing.assert_allclose(found.high, high, atol=1e-6)
    assert (found.low < found.estimate).all()
    assert (found.estimate < found.high).all()


def test_how_it_is_worked_out_changes_nothing(monkeypatch):
    question, first, second, share = verdicts()
    expected = intervals(question, first, second, share, models=6, resamples=300)
    # Names of questions are nothing but names, and a pair may be told either way round.
    other = intervals(7 * question - 3, second, first, 1 - share, models=6, resamples=300)
    np.testing.assert_allclose(other, expected, atol=1e-8)
    monkeypatch.setattr(bootstrap, "MOST_AT_ONCE", 1)
    monkeypatch.setattr(bradley_terry, "HELD", 40 * 11)
    monkeypatch.setattr(bradley_terry, "FULL", 0)
    found = intervals(question, first, second, share, models=6, resamples=300)
    np.testing.assert_allclose(found, expected, atol=1e-8)


def hangs_by_three():
    """Two pairs of models that met often, and each other on two questions only."""
    rng = np.random.default_rng(0)
    rows = [
        (question, one, one + 1, float(rng.random() < 0.6))
        for question in range(30)
        for one in (0, 2)
    ]
    rows += [(0, 1, 2, 1.0), (1, 1, 2, 0.0), (1, 1, 2, 1.0)]
    question, first, second, share = (np.array(each) for each in zip(*rows, strict=True))
    return question, first, second, share


@pytest.mark.parametrize(
    "made",
    [
        pytest.param(lambda: verdicts(4, 60, 12, seed=1), id="few verdicts"),
        pytest.param(lambda: verdicts(5, 300, 30, seed=2, ties=0), id="some"),
        pytest.param(lambda: verdicts(6, 3000, 60, seed=3), id="many"),
        pytest.param(hangs_by_three, id="hardly together"),
    ],
)
def test_one_curvature_for_all_resamples_changes_nothing(made, monkeypatch):
    question, first, second, share = made()
    models = int(max(first.max(), second.max())) + 1
    found = intervals(question, first, second, share, models=models, resamples=500)
    monkeypatch.setattr(bradley_terry, "SHARED", np.inf)
    each_by_its_own = intervals(question, first, second, share, models=models, resamples=500)
    np.testing.assert_allclose(found, each_by_its_own, atol=1e-5)


def test_a_resample_that_falls_apart_is_fitted_or_left_out():
    # Model 2 met the others on one question only; model 0 won but once.
    question = np.array([0, 1, 2, 3, 4, 0])
    first = np.array([0, 0, 0, 0, 0, 2])
    second = np.array([1, 1, 1, 1, 1, 1])
    share = np.array([0, 0, 1, 0, 0.5, 1.0])
    found = intervals(question, first, second, share, models=4, resamples=400)
    assert np.isfinite(np.array(found)[:, :3]).all()
    assert np.isnan(np.array(found)[:, 3]).all()


def test_one_question_or_none_has_no_interval():
    found = intervals(
        np.array([5, 5]), np.array([0, 0]), np.array([1, 1]), [1, 0.0], models=2, resamples=10
    )
    np.testing.assert_allclose(found.estimate, 0, atol=1e-9)
    assert np.isnan([found.low, found.high]).all()
    empty = np.array([], int)
    found = intervals(empty, empty, empty, [], models=3, resamples=10)
    assert np.isnan(np.array(found)).all()
    assert fit(np.zeros((0, 0))).shape == (0,)


ONE, OTHER = np.array([0, 1]), np.array([1, 0])


@pytest.mark.parametrize(
    ("asked", "message"),
    [
        (lambda: wins_matrix(ONE, OTHER, [1, np.nan], models=2), r"row 1: .*nan"),
        (lambda: wins_matrix(ONE, OTHER, [1.1, 1], models=2), r"row 0: .*1\.1"),
        (lambda: wins_matrix(ONE, OTHER, [1, -0.1], models=2), r"row 1: .*-0\.1"),
        (lambda: wins_matrix(ONE, ONE, [1, 1], models=2), "row 0: model number 0 meets itself"),
        (lambda: fit([[0, -1], [1, 0]]), "negative or missing"),
        (lambda: fit([[0, np.nan], [1, 0]]), "negative or missing"),
        (lambda: fit([[0, 1]]), "shape"),
        (lambda: components([0, 1]), "shape"),
        (lambda: intervals(ONE, ONE, OTHER, [1, 1], models=2, resamples=0), "resample"),
        (lambda: intervals(ONE, ONE, OTHER, [1, 1], models=2, level=1), "level"),
    ],
)
def test_what_is_refused(asked, message):
    with pytest.raises(ValueError, match=message):
        asked()


def test_intervals_of_questions_are_at_the_documented_level():
    question, *arrays = verdicts()
    found = intervals(question, *arrays, models=6)
    chosen = intervals(question, *arrays, models=6, resamples=10_000, level=0.95, seed=0)
    np.testing.assert_array_equal(found, chosen)

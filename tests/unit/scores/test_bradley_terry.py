import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from scipy.special import expit
from sklearn.linear_model import LogisticRegression

from opencs_assets.scores.bradley_terry import Comparisons, fit, inverse_diagonal, maximize


def simulated(samples, count, seed, position=0.0, sharpness=1.0):
    """Comparisons of samples whose strengths are drawn from a normal; 0 or 1 each."""
    rng = np.random.default_rng(seed)
    strengths = rng.normal(size=samples) * sharpness
    first = rng.integers(samples, size=count)
    second = (first + rng.integers(1, samples, size=count)) % samples
    chance = expit(strengths[first] - strengths[second] + position)
    share = (rng.random(count) < chance).astype(float)
    return Comparisons(first, second, share, samples), strengths


def information(compared, weight, ridge):
    """Penalized information of the strengths, dense."""
    matrix = np.eye(compared.samples) * ridge
    np.add.at(matrix, (compared.first, compared.first), weight)
    np.add.at(matrix, (compared.second, compared.second), weight)
    np.add.at(matrix, (compared.first, compared.second), -weight)
    np.add.at(matrix, (compared.second, compared.first), -weight)
    return matrix


def by_scikit_learn(compared, ridge, position_ridge):
    """The same model as a penalized logistic regression.

    It has one penalty for all columns, so the position's is scaled to have its own.
    """
    design = np.zeros((len(compared.share), compared.samples + 1))
    rows = np.arange(len(compared.share))
    design[rows, compared.first] = 1
    design[rows, compared.second] = -1
    scale = np.sqrt(ridge / position_ridge)
    design[:, -1] = scale
    model = LogisticRegression(
        C=1 / ridge, tol=1e-12, max_iter=10_000, solver="newton-cholesky", fit_intercept=False
    ).fit(design, compared.share)
    return model.coef_[0, :-1], model.coef_[0, -1] * scale


@pytest.mark.parametrize("ridge", [0.1, 1.0, 25.0])
@pytest.mark.parametrize("position", [0.0, 1.5])
def test_agrees_with_a_logistic_regression(ridge, position):
    compared, _ = simulated(30, 400, 3, position)
    strengths, found = maximize(compared, ridge, 0.2, np.zeros(30), 0.0)
    expected, other = by_scikit_learn(compared, ridge, 0.2)
    assert strengths == pytest.approx(expected, abs=1e-6)
    assert found == pytest.approx(other, abs=1e-6)


def test_strengths_and_position_are_recovered():
    compared, strengths = simulated(200, 20_000, 0, position=0.8)
    known = fit(compared)
    assert np.corrcoef(known.strengths, strengths)[0, 1] > 0.98
    assert known.position == pytest.approx(0.8, abs=0.1)
    assert known.spread == pytest.approx(1, abs=0.15)
    assert known.noise == pytest.approx(1, abs=0.1)


def test_intervals_hold_as_often_as_they_say():
    held = []
    for seed in range(20):
        compared, strengths = simulated(80, 800, seed)
        known = fit(compared)
        gap = known.strengths - (strengths - strengths.mean())
        held.append(np.mean(np.abs(gap) < 1.96 * known.deviations))
    assert 0.92 < np.mean(held) < 0.98


ALL_PAIRS = np.array([(a, b) for a in range(6) for b in range(6) if a != b])


@pytest.mark.parametrize(
    ("pairs", "share"),
    [([(0, 1), (1, 2), (2, 0)], 1.0), (ALL_PAIRS, 1.0), (ALL_PAIRS, 0.5)],
    ids=["a cycle", "always the first", "always equal"],
)
def test_what_tells_nothing_of_the_samples_makes_equals(pairs, share):
    pairs = np.array(pairs)
    count = int(pairs.max()) + 1
    known = fit(Comparisons(pairs[:, 0], pairs[:, 1], np.full(len(pairs), share), count))
    assert known.strengths == pytest.approx(np.zeros(count), abs=1e-6)
    assert (known.position > 0.3) == (share == 1.0)
    assert np.isfinite(known.deviations).all()


@pytest.mark.parametrize(("samples", "count"), [(12, 60), (40, 400)])
def test_prior_and_noise_are_those_that_the_strengths_say(samples, count):
    """The fit is where the estimates of prior, noise and strengths agree (to about 1 %)."""
    compared, _ = simulated(samples, count, 4, position=0.7)
    known = fit(compared)
    first, second = known.strengths[compared.first], known.strengths[compared.second]
    chance = expit(first - second + known.position)
    weight = chance * (1 - chance)
    variances = known.noise * np.diag(
        np.linalg.inv(information(compared, weight, known.noise / known.spread**2))
    )
    assert known.deviations == pytest.approx(np.sqrt(variances), rel=0.01)
    settled = (1 - variances / known.spread**2).sum()
    left = ((compared.share - chance) ** 2 / weight).sum()
    assert known.noise == pytest.approx(left / (count - settled - 1), rel=0.02)
    assert known.spread == pytest.approx(np.sqrt((known.strengths**2).sum() / settled), rel=0.02)
    ridges = known.noise / known.spread**2, known.noise / 3.0**2
    strengths, position = maximize(compared, *ridges, np.zeros(samples), 0.0)
    assert known.strengths == pytest.approx(strengths, abs=0.02)
    assert known.position == pytest.approx(position, abs=0.02)


def test_without_deviations_each_is_that_of_the_prior():
    compared, _ = simulated(10, 60, 2)
    plain, full = fit(compared, deviations=False), fit(compared)
    assert plain.deviations.tolist() == [plain.spread] * 10
    assert plain.strengths.tolist() == full.strengths.tolist()


def test_many_samples_are_fitted_with_few_probes():
    compared, strengths = simulated(1_100, 9_000, 0)
    known = fit(compared)
    assert np.corrcoef(known.strengths, strengths)[0, 1] > 0.85
    assert known.spread == pytest.approx(1, abs=0.1)
    assert known.noise == pytest.approx(1, abs=0.2)
    held = np.abs(known.strengths - strengths + strengths.mean()) < 1.96 * known.deviations
    assert 0.92 < held.mean() < 0.98


def test_one_that_was_never_compared_keeps_what_was_known_before():
    compared, _ = simulated(10, 100, 1)
    known = fit(Comparisons(compared.first, compared.second, compared.share, 11))
    assert known.strengths[10] == pytest.approx(0, abs=1e-9)
    assert known.deviations[10] == pytest.approx(known.spread)
    assert (known.deviations[:10] < known.spread).all()


@settings(max_examples=40, deadline=None)
@given(st.integers(2, 12), st.integers(1, 40), st.integers(0, 10_000), st.sampled_from([0.0, 9.0]))
def test_whatever_was_answered_the_fit_is_finite(samples, count, seed, position):
    compared, _ = simulated(samples, count, seed, position, sharpness=9.0)
    known = fit(compared)
    assert np.isfinite([*known.strengths, *known.deviations, known.position]).all()
    assert (known.deviations > 0).all()


def test_nothing_compared():
    nothing = np.zeros(0, np.int64)
    known = fit(Comparisons(nothing, nothing, np.zeros(0), 3))
    assert known.strengths.tolist() == [0, 0, 0]
    assert known.deviations.tolist() == [known.spread] * 3 == [1, 1, 1]
    assert (known.position, known.noise) == (0.0, 0.25)


@settings(max_examples=25, deadline=None)
@given(st.integers(2, 12), st.integers(1, 40), st.integers(0, 1000))
def test_turning_all_comparisons_round_turns_the_strengths(samples, count, seed):
    compared, _ = simulated(samples, count, seed)
    turned = Comparisons(compared.second, compared.first, compared.share, samples)
    ridge = 0.5
    strengths, position = maximize(compared, ridge, 0.1, np.zeros(samples), 0.0)
    others, other = maximize(turned, ridge, 0.1, np.zeros(samples), 0.0)
    # The one shown second is the first of the turned ones: all that is said turns round.
    assert others == pytest.approx(-strengths, abs=1e-6)
    assert other == pytest.approx(position, abs=1e-6)


@settings(max_examples=25, deadline=None)
@given(st.integers(2, 12), st.integers(1, 40), st.integers(0, 1000))
# Few comparisons that never contradict each other: the prior is as wide as it may be, and the top
# as flat.
@example(9, 11, 609)
@example(9, 22, 677)
def test_the_order_of_comparisons_does_not_matter(samples, count, seed):
    compared, _ = simulated(samples, count, seed)
    order = np.random.default_rng(seed).permutation(count)
    mixed = Comparisons(
        compared.first[order], compared.second[order], compared.share[order], samples
    )
    assert fit(mixed).strengths == pytest.approx(fit(compared).strengths, abs=1e-7)


@pytest.mark.parametrize(("samples", "count", "seed"), [(10, 21, 289), (12, 21, 461)])
def test_a_flat_top_is_climbed_to_its_end(samples, count, seed):
    """Where all is nearly certain, a step's rise must not vanish in rounding."""
    compared, _ = simulated(samples, count, seed)
    ridge = 4e-6
    strengths, position = maximize(compared, ridge, 1e-5, np.zeros(samples), 0.0)
    chance = expit(strengths[compared.first] - strengths[compared.second] + position)
    left = compared.share - chance
    slope = (
        np.bincount(compared.first, left, samples)
        - np.bincount(compared.second, left, samples)
        - ridge * strengths
    )
    # The curvature is at least the ridge, so this bounds how far the top is.
    assert np.abs(slope / ridge).max() < 1e-6


@pytest.mark.parametrize(
    ("samples", "count"), [(40, 60), (99, 400), (150, 2_000)], ids=["parts", "small", "large"]
)
def test_variances_are_those_of_the_inverse(samples, count):
    compared, _ = simulated(samples, count, 5)
    weight = np.random.default_rng(5).random(count)
    expected = np.diag(np.linalg.inv(information(compared, weight, 0.3)))
    assert inverse_diagonal(compared, weight, 0.3) == pytest.approx(expected)


@pytest.mark.parametrize(("count", "ridge"), [(3_000, 0.3), (600, 0.02)])
def test_variances_of_large_parts_are_near_those_of_the_inverse(count, ridge):
    compared, _ = simulated(300, count, 5)
    weight = np.full(count, 0.2)
    exact = inverse_diagonal(compared, weight, ridge)
    probed = inverse_diagonal(compared, weight, ridge, dense=10)
    wrong = np.abs(np.sqrt(probed / exact) - 1)
    assert np.median(wrong) < 0.06
    assert wrong.max() < 0.3

"""Length-controlled win rates: what must hold of any, and AlpacaEval 2's by other means."""

import numpy as np
import pytest
import sklearn
from hypothesis import given
from hypothesis import strategies as st
from scipy.optimize import minimize
from scipy.special import expit, log_expit
from sklearn.linear_model import LogisticRegression, LogisticRegressionCV
from sklearn.metrics import make_scorer
from sklearn.model_selection import GroupKFold

from opencs_assets.statistics.length_control import (
    LENGTH_RIDGE,
    Gamed,
    alpaca_eval2,
    no_difficulty_by,
)


def no_difficulty(preference, length, baseline_length):
    """The rate of a single matchup."""
    group = np.zeros(len(preference), int)
    return no_difficulty_by(group, preference, length, baseline_length)[0]


def made(questions=500, model=0.0, length=2.0, seed=0):
    """Preferences, continuous ones, and lengths; the model's answers are the longer ones."""
    rng = np.random.default_rng(seed)
    one, other = rng.lognormal(6, 0.5, questions), rng.lognormal(5.4, 0.5, questions)
    term = np.tanh((one - other) / (one - other).std(ddof=1))
    chance = expit(model + length * term)
    return rng.beta(4 * chance, 4 * (1 - chance)), np.rint(one), np.rint(other)


@given(st.lists(st.floats(0, 1), min_size=1, max_size=60))
def test_equal_lengths_give_the_plain_rate(preferences):
    same = np.full(len(preferences), 400)
    found = no_difficulty(preferences, same, same)
    assert abs(found.rate - np.mean(preferences)) < 1e-4
    assert found.questions == len(preferences)
    assert not found.extrapolated


def test_what_wins_by_length_alone_wins_half():
    preference, one, other = made(2_000, model=0, length=2)
    assert preference.mean() > 0.6
    found = no_difficulty(preference, one, other)
    assert abs(found.rate - 0.5) < 0.03
    assert found.method == "lc_no_difficulty"
    assert found.length_weight == pytest.approx(2, abs=0.2)
    # The longer one always.
    always = no_difficulty((one > other).astype(float), one, other)
    assert (one > other).mean() > 0.63
    assert abs(always.rate - 0.5) < 0.05


@given(
    st.lists(
        st.tuples(st.floats(0, 1), st.integers(1, 5_000), st.integers(1, 5_000)),
        min_size=1,
        max_size=40,
    )
)
def test_swapped_sides(rows):
    preference, one, other = (np.array(each, float) for each in zip(*rows, strict=True))
    found = no_difficulty(preference, one, other)
    swapped = no_difficulty(1 - preference, other, one)
    np.testing.assert_allclose(100 * swapped.rate, 100 - 100 * found.rate, atol=1e-6)
    assert swapped.extrapolated == found.extrapolated


def test_the_likeliest_by_other_means():
    preference, one, other = made(120, model=-0.7, length=1.3)
    term = np.tanh((one - other) / (one - other).std(ddof=1))

    def surprise(weights):
        odds = weights[0] + weights[1] * term
        told = preference * log_expit(odds) + (1 - preference) * log_expit(-odds)
        return LENGTH_RIDGE / 2 * weights[1] ** 2 - told.sum()

    expected = minimize(surprise, [0, 0], options={"gtol": 1e-9}).x
    found = no_difficulty(preference, one, other)
    assert found.rate == pytest.approx(expit(expected[0]), abs=1e-6)
    assert found.length_weight == pytest.approx(expected[1], abs=1e-5)


def test_many_matchups_at_once():
    parts = [made(40 + 10 * each, seed=each) for each in range(4)]
    group = np.repeat(np.arange(4), [len(part[0]) for part in parts])
    columns = [np.concatenate(each) for each in zip(*parts, strict=True)]
    order = np.random.default_rng(0).permutation(len(group))
    found = no_difficulty_by(group[order], *(each[order] for each in columns))
    for alone, together in zip([no_difficulty(*part) for part in parts], found, strict=True):
        assert together.rate == pytest.approx(alone.rate, abs=1e-9)
        assert together.questions == alone.questions


@pytest.mark.parametrize("seed", [1, 7])
def test_a_matchup_has_the_same_rate_whatever_else_is_reckoned(seed):
    # One that takes many steps more is beside it.
    part, slow = made(6, seed=seed), (np.ones(6), np.arange(6.0), np.zeros(6))
    columns = [np.concatenate(each) for each in zip(part, slow, strict=True)]
    group = np.repeat([0, 1], [len(part[0]), len(slow[0])])
    assert no_difficulty_by(group, *columns)[0] == no_difficulty(*part)


EITHER = pytest.mark.parametrize(
    "control", [no_difficulty, lambda *verdicts: alpaca_eval2(*verdicts, [0.5] * len(verdicts[0]))]
)
NAN = np.nan


@EITHER
@pytest.mark.parametrize(
    ("preference", "length", "known", "questions", "extrapolated"),
    [
        # Always longer by the same: the model, or its length?
        ([1, 1, 0], [9, 9, 9], False, 3, True),
        ([1], [9], False, 1, True),
        ([NAN], [4], False, 0, False),
        ([], [], False, 0, False),
        ([1], [5], True, 1, False),
        ([1, 1, 0, 1], [9, 12, 8, 10], True, 4, True),
        ([1, 1, 0, 1], [1, 2, 3, 4], True, 4, True),
        ([1, 1, 0, 1], [1, 2, 3, 5], True, 4, False),
        ([1, 1, 0, 1], [9, 8, 7, 5], True, 4, False),
        ([1, 0, 0, 1], [9, 8, 7, 1], True, 4, False),
        # A verdict that could not be read is none about answers of other lengths.
        ([1, 0, NAN], [9, 8, 1], True, 2, True),
    ],
)
def test_what_cannot_be_told(control, preference, length, known, questions, extrapolated):
    found = control(preference, length, [5] * len(length))
    assert (found.questions, found.extrapolated) == (questions, extrapolated)
    assert np.isfinite([found.rate, found.length_weight]).tolist() == [known] * 2


def test_matchups_that_cannot_be_told_apart_do_not_disturb_others():
    group = [2, 0, 0, 0, 2]
    found = no_difficulty_by(group, [1, 1, 0, 1, NAN], [7, 9, 9, 9, 8], [7, 5, 5, 5, 5])
    assert [each.questions for each in found] == [3, 0, 1]
    assert [np.isfinite(each.rate) for each in found] == [False, False, True]
    assert [each.extrapolated for each in found] == [True, False, False]
    assert found[2].rate > 0.99


def test_few_verdicts_have_no_folds_and_the_penalty_one():
    preference, hard = np.array([1, 0.25, 0, 0.75]), np.array([1.0, -1, 0.5, 2])
    longer = np.array([4.0, -3, 1, 2])
    term = np.tanh(-longer / longer.std(ddof=1))
    design = np.tile(np.stack([term, hard, np.ones(4)], axis=1), (2, 1))
    model = LogisticRegression(
        C=1, l1_ratio=1, solver="liblinear", fit_intercept=False, random_state=123
    ).fit(design, [1] * 4 + [0] * 4, np.concatenate([preference, 1 - preference]))
    expected = model.predict_proba(design[:4] * [0, 1, 1])[:, 1].mean()
    assert alpaca_eval2(preference, longer, [0] * 4, hard).rate == pytest.approx(expected)


def test_unparsable_verdicts_are_left_out():
    preference, one, other = made(100)
    preference[10] = np.nan
    kept = np.arange(100) != 10
    assert no_difficulty(preference, one, other) == no_difficulty(
        preference[kept], one[kept], other[kept]
    )
    assert no_difficulty(preference, one, other).questions == 99


def gamed(count=200, seed=9):
    rng = np.random.default_rng(seed)
    difference = rng.normal(0, 1.5, count)
    return Gamed(expit(-1.5 * np.tanh(difference)), difference, rng.normal(size=count))


@pytest.mark.parametrize("held", [False, True])
def test_alpaca_eval2_as_its_own_code_has_it(held):
    """With scikit-learn's own cross-validation, called as ``glm_winrate.py`` calls it."""
    preference, one, other = made(300, model=-0.5, length=1.5)
    hard = np.random.default_rng(4).normal(size=300)
    difference = other - one
    design = np.stack([np.tanh(difference / difference.std(ddof=1)), hard, np.ones(300)], axis=1)
    equal = design * [0, 1, 1]
    weight, extra = np.ones(300), gamed() if held else None
    rows, labels = design, preference
    if extra is not None:
        first = np.stack(
            [np.tanh(extra.length_difference), extra.difficulty, np.zeros(200)], axis=1
        )
        rows, labels = np.concatenate([first, rows]), np.concatenate([extra.preference, labels])
        weight = np.concatenate([np.full(200, 0.1), weight])
    true, own = np.concatenate([labels, 1 - labels]), np.concatenate([weight, weight])
    outcome = np.repeat([1, 0], len(labels))

    def loss(y_true, y_pred, true_prob, true_sample_weight):
        y_true = np.where(y_true == 1, true_prob, 1 - true_prob)
        y_pred = np.clip(y_pred, 1e-15, 1 - 1e-15)
        every = y_true * np.log(y_pred) + (1 - y_true) * np.log(1 - y_pred)
        return -np.mean(every * true_sample_weight)

    with sklearn.config_context(enable_metadata_routing=True):
        scorer = make_scorer(
            loss, response_method="predict_proba", greater_is_better=False
        ).set_score_request(true_sample_weight=True, true_prob=True)
        model = LogisticRegressionCV(
            cv=GroupKFold(n_splits=5),
            scoring=scorer,
            random_state=123,
            l1_ratios=(1,),
            solver="liblinear",
            fit_intercept=False,
            use_legacy_attributes=False,
        ).set_fit_request(sample_weight=True)
        model.fit(
            np.concatenate([rows, rows]),
            outcome,
            sample_weight=true * own,
            groups=np.tile(np.arange(len(labels)), 2),
            true_sample_weight=own,
            true_prob=true,
        )
    expected = model.predict_proba(equal)[:, 1].mean()
    found = alpaca_eval2(preference, one, other, hard, extra)
    assert found.rate == pytest.approx(expected, abs=1e-6)
    assert found.length_weight == pytest.approx(-model.coef_[0][0], abs=1e-6)
    assert found.method == "lc_alpaca_eval2"


def test_alpaca_eval2_predicts_also_what_was_not_judged():
    preference, one, other = made(300)
    # The hard half was not judged, and the model is better where it is hard.
    hard = np.linspace(-2, 2, 300)
    preference = (np.random.default_rng(0).random(300) < expit(2 * hard)).astype(float)
    preference[hard > 1] = np.nan
    found = alpaca_eval2(preference, one, other, hard)
    assert found.questions == (hard <= 1).sum()
    assert found.rate > np.nanmean(preference) + 0.05


@EITHER
@pytest.mark.parametrize(
    ("preference", "length", "other", "message"),
    [
        ([0, 1.5], [1, 1], [1, 1], r"verdict 1: a preference of 1\.5"),
        ([-0.1, 1], [1, 1], [1, 1], r"verdict 0: a preference of -0\.1"),
        ([0, 1], [NAN, 1], [1, 1], "verdict 0: the length"),
        ([0, 1], [1, 1], [1, np.inf], "verdict 1: the length"),
        ([0, 1], [1], [1], "one of each a verdict"),
        ([0, 1], [1, 1], [1], "one of each a verdict"),
        ([[0, 1]], [[1, 1]], [[1, 1]], "one of each a verdict"),
    ],
)
def test_what_is_refused(control, preference, length, other, message):
    with pytest.raises(ValueError, match=message):
        control(preference, length, other)


def test_difficulties_and_matchups_are_one_a_verdict():
    for hard in ([NAN, 0], [0]):
        with pytest.raises(ValueError, match="difficulties"):
            alpaca_eval2([0, 1], [1, 1], [1, 1], hard)
    with pytest.raises(ValueError, match="matchups"):
        no_difficulty_by([0], [0, 1], [1, 1], [1, 1])

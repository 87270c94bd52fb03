"""Intervals paired by question: against scipy, against resampling by hand, and at the edges."""

import json
import tracemalloc
from pathlib import Path

import numpy as np
import polars as pl
import pytest
from scipy import stats

from opencs_assets.statistics import bootstrap
from opencs_assets.statistics.bootstrap import mean_intervals, resample_weights

SINGLE = "judgments/mt_bench_single"
PAIR = "judgments/mt_bench_pair/WHATMAKESGOOD_1k_sharegpt-score.jsonl"


def made(questions=60, models=4, seed=0):
    """Two turns a question, some of them not judged."""
    rng = np.random.default_rng(seed)
    scores = rng.integers(1, 11, (questions, 2, models)).astype(float)
    judged = rng.random(scores.shape) < 0.9
    return (scores * judged).sum(1), judged.sum(1).astype(float)


def test_weights_are_draws_of_as_many_questions():
    weights = resample_weights(37, 1_000, seed=3)
    assert weights.shape == (1_000, 37)
    assert (weights.sum(1) == 37).all()
    np.testing.assert_allclose(weights.mean(), 1)
    # Of draws with replacement: a question is left out with (1 - 1/n) ** n.
    assert abs((weights == 0).mean() - (36 / 37) ** 37) < 0.01
    assert (weights == resample_weights(37, 1_000, seed=3)).all()
    assert (weights != resample_weights(37, 1_000, seed=4)).any()
    default = resample_weights(3)
    assert default.shape == (10_000, 3)
    assert (default == resample_weights(3, 10_000, seed=0)).all()


def test_the_same_as_resampling_by_hand():
    sums, counts = made()
    found = mean_intervals(sums, counts, resamples=500, seed=5)
    by_hand = []
    for drawn in resample_weights(60, 500, seed=5):
        rows = np.repeat(np.arange(60), drawn.astype(int))
        by_hand.append(sums[rows].sum(0) / counts[rows].sum(0))
    low, high = np.percentile(by_hand, [2.5, 97.5], axis=0)
    np.testing.assert_allclose(found.estimate, sums.sum(0) / counts.sum(0))
    np.testing.assert_allclose(found.low, low)
    np.testing.assert_allclose(found.high, high)


@pytest.mark.parametrize("level", [0.5, 0.95])
def test_as_scipy_has_it(level):
    sums, counts = made(40, 1)
    expected = stats.bootstrap(
        (sums[:, 0], counts[:, 0]),
        lambda sums, counts, axis: sums.sum(axis) / counts.sum(axis),
        paired=True,
        method="percentile",
        n_resamples=40_000,
        confidence_level=level,
        rng=np.random.default_rng(0),
    ).confidence_interval
    found = mean_intervals(sums, counts, resamples=40_000, level=level)
    # Two draws of so many resamples; a standard error of a bound is a hundredth of the width.
    wide = expected.high - expected.low
    assert abs(found.low[0] - expected.low) < 0.04 * wide
    assert abs(found.high[0] - expected.high) < 0.04 * wide


def test_a_mean_is_over_turns_not_over_questions():
    found = mean_intervals([[10.0], [2.0]], [[1], [2]], resamples=100)
    assert found.estimate[0] == 4  # and not the mean of 10 and 1


def test_a_models_interval_does_not_depend_on_the_others():
    sums, counts = made(models=6)
    every = mean_intervals(sums, counts, resamples=300)
    alone = mean_intervals(sums[:, 2:3], counts[:, 2:3], resamples=300)
    assert [bound[2] for bound in every] == [bound[0] for bound in alone]


@pytest.mark.parametrize("divisor", [1, 7.3])
def test_neither_blocks_nor_threads_change_a_bit(monkeypatch, divisor):
    sums, counts = made(300, 9)
    sums = sums / divisor
    expected = mean_intervals(sums, counts, resamples=2_000)
    for name, few in (("MOST_AT_ONCE", 1), ("HELD", 4_000)):
        monkeypatch.setattr(bootstrap, name, few)
        np.testing.assert_array_equal(mean_intervals(sums, counts, resamples=2_000), expected)


def test_rounding_to_exact_sums_is_not_seen():
    sums, counts = made(300, 3)
    fine = mean_intervals(sums, counts, resamples=400)
    scaled = mean_intervals(sums / 3, counts, resamples=400)
    np.testing.assert_allclose(3 * np.array(scaled), np.array(fine), rtol=1e-13)


def test_equal_scores_have_an_interval_of_no_width():
    found = mean_intervals(np.full((20, 1), 7.1), np.ones((20, 1)), resamples=100)
    assert found.low == found.high
    np.testing.assert_allclose(found.low, 7.1)


def test_one_question_has_an_estimate_and_no_interval():
    found = mean_intervals([[6.0, 0.0]], [[2, 0]], resamples=100)
    np.testing.assert_array_equal(found.estimate, [3, np.nan])
    assert np.isnan([found.low, found.high]).all()
    # The same where others were judged on more.
    found = mean_intervals([[6.0, 1.0], [0.0, 2.0]], [[2, 1], [0, 1]], resamples=100)
    assert np.isnan(found.low).tolist() == [True, False]


def test_resamples_without_a_judged_turn_are_left_out():
    sums, counts = np.zeros((50, 1)), np.zeros((50, 1))
    sums[:2, 0], counts[:2, 0] = [2, 8], 1
    found = mean_intervals(sums, counts, resamples=2_000)
    assert [found.low[0], found.estimate[0], found.high[0]] == [2, 5, 8]


@pytest.mark.parametrize("shape", [(0, 3), (5, 0), (0, 0)])
def test_nothing_judged(shape):
    found = mean_intervals(np.zeros(shape), np.zeros(shape), resamples=10)
    assert all(bound.shape == (shape[1],) for bound in found)
    assert np.isnan(found).all()


@pytest.mark.parametrize(
    ("sums", "counts", "options", "message"),
    [
        (np.zeros((3, 2)), np.zeros((2, 3)), {}, "both have to be"),
        (np.zeros(3), np.zeros(3), {}, "both have to be"),
        ([[np.nan]], [[1]], {}, "is missing"),
        ([[1]], [[np.inf]], {}, "is missing"),
        ([[1.0]], [[1]], {"resamples": 0}, "at least one resample"),
        *(([[1.0]], [[1]], {"level": level}, "level") for level in (95, 0, 1)),
    ],
)
def test_what_is_refused(sums, counts, options, message):
    with pytest.raises(ValueError, match=message):
        mean_intervals(sums, counts, **options)


@pytest.mark.parametrize(("questions", "resamples"), [(-1, 1), (3, 0)])
def test_resamples_of_nothing_are_refused(questions, resamples):
    with pytest.raises(ValueError, match="at least one resample is needed"):
        resample_weights(questions, resamples)
    assert resample_weights(0, 1).shape == (1, 0)


def test_memory_is_bounded(monkeypatch):
    # All resampled sums of so many models take 96 MB.
    monkeypatch.setattr(bootstrap, "HELD", 1 << 19)
    scores = np.random.default_rng(0).integers(1, 11, (80, 1_500)).astype(float)
    tracemalloc.start()
    mean_intervals(scores, np.ones_like(scores), resamples=4_000)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 40e6


def test_published_means_and_rates(shared_data: Path):
    means = {}
    for path in sorted((shared_data / SINGLE).glob("*.jsonl")):
        rows = pl.read_ndjson(path).filter(pl.col("score") != -1)
        _, question = np.unique(rows["question_id"], return_inverse=True)
        sums = np.bincount(question, rows["score"].to_numpy(), 80)[:, None]
        found = mean_intervals(sums, np.bincount(question, minlength=80)[:, None])
        assert found.low[0] < found.estimate[0] < found.high[0]
        means[path.name.split("_")[0] + path.name.split("_")[1]] = f"{found.estimate[0]:.4f}"
    assert sorted(means.values()) == ["2.2579", "5.4688", "5.4748"]
    rows = [json.loads(line) for line in (shared_data / PAIR).read_text().splitlines()]
    question = np.unique([row["question_id"] for row in rows], return_inverse=True)[1]
    winner = np.array(
        [row["g1_winner"] if row["g1_winner"] == row["g2_winner"] else "tie" for row in rows]
    )
    tables = [
        np.bincount(question[winner == each], minlength=80)[:, None]
        for each in ("model_1", "tie", "model_2")
    ]
    assert [table.sum() for table in tables] == [25, 85, 50]
    won, tied, _ = tables
    adjusted = mean_intervals(won + tied / 2, sum(tables))
    assert adjusted.estimate[0] == (25 + 85 / 2) / 160
    assert adjusted.low[0] < adjusted.estimate[0] < adjusted.high[0] < 0.5

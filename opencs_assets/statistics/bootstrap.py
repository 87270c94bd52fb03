"""Percentile bootstrap of means, paired by question.

A resample draws questions with replacement: all turns of a question are drawn together, and every
model is measured on the same drawn questions, so that intervals of models are comparable
(Efron and Tibshirani 1993, chapters 6 and 13). A mean over judged turns is a ratio of two sums, as
turns may be missing. A resample is a row of whole numbers, how often it drew each question, so that
all resamples of all models are a few matrix products. ``scipy.stats.bootstrap``, which gathers the
values of every resample, defines an interval in the same way, and the tests compare with it.

The draws depend only on the seed, the number of questions and the number of resamples, and sums are
exact in any order, so that neither blocks of work nor threads change an interval.
"""

import math
import os
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
from threadpoolctl import threadpool_limits

Floats = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int64]
Weights = npt.NDArray[np.float32]

RESAMPLES, LEVEL = 10_000, 0.95
# Resamples that share a generator, and the most draws of theirs in memory at once.
BLOCK, BLOCK_DRAWS = 256, 1 << 20
MOST_AT_ONCE = 4
# How many resampled sums are in memory at once, in two or three arrays.
HELD = 1 << 23
# Whole numbers below these are exact as floats of 32 and of 64 bits.
EXACT_SINGLE, EXACT_DOUBLE = 2**24, 2**53
# Numbers below this count as 0.
LEAST = 1e-200


class Interval(NamedTuple):
    """Estimates with their intervals, each float64 of the same shape; NaN where there is none."""

    estimate: Floats
    low: Floats
    high: Floats


def resample_weights(questions: int, resamples: int = RESAMPLES, seed: int = 0) -> Weights:
    """How often each question is drawn in each resample.

    The result takes ``4 * resamples * questions`` bytes; ``over_blocks`` needs only some blocks.

    Args:
        questions: How many questions there are; a resample draws as many.
        resamples: How many resamples are drawn.
        seed: Equal seeds draw equally.

    Returns:
        Whole numbers, float32 (resamples, questions); each row sums to ``questions``.

    Raises:
        ValueError: There is no resample, or the number of questions is negative.
    """
    if resamples < 1 or questions < 0:
        raise ValueError(
            f"{resamples} resamples of {questions} questions: at least one resample is needed"
        )
    weights = np.zeros((resamples, questions), np.float32)

    def keep(start: int, block: Weights) -> None:
        weights[start : start + len(block)] = block

    over_blocks(questions, resamples, seed, keep)
    return weights


def over_blocks(
    questions: int, resamples: int, seed: int, work: Callable[[int, Weights], None]
) -> None:
    """Call ``work`` on the rows of ``resample_weights`` block by block, in several threads.

    ``work`` gets the number of a block's first row and the block, float32 (rows, questions).
    """
    if not questions:
        return
    # Each block has its own generator, so its size must depend only on the number of questions.
    rows = max(1, min(BLOCK, BLOCK_DRAWS // questions))

    def draw(start: int) -> None:
        count = min(rows, resamples - start)
        rng = np.random.default_rng([seed, start])
        drawn = rng.integers(questions, size=(count, questions))
        drawn += np.arange(count)[:, None] * questions
        weights = np.bincount(drawn.ravel(), minlength=count * questions)
        work(start, weights.reshape(count, questions).astype(np.float32))

    # A block's matrices are small: products with threads of their own would wait for each other.
    with threadpool_limits(1), ThreadPoolExecutor(min(os.cpu_count() or 1, MOST_AT_ONCE)) as pool:
        for _ in pool.map(draw, range(0, resamples, rows)):
            pass


def check_resampling(resamples: int, level: float) -> None:
    """Refuse fewer than one resample and levels outside (0, 1).

    Raises:
        ValueError: One of the two is out of its range.
    """
    if resamples < 1 or not 0 < level < 1:
        raise ValueError(
            f"{resamples} resamples at level {level}: at least one resample and a level between "
            "0 and 1 are needed"
        )


def percentiles(values: Floats, level: float) -> Floats:
    """Low and high percentiles (2, n) of each row of (n, resamples), without its NaN values."""
    bounds = [(1 - level) / 2, (1 + level) / 2]
    ends = np.full((2, len(values)), np.nan)
    has_nan = np.isnan(values).any(axis=1)
    if not has_nan.all():
        ends[:, ~has_nan] = np.quantile(values[~has_nan], bounds, axis=1, overwrite_input=True)
    for row in np.flatnonzero(has_nan):
        known = values[row][~np.isnan(values[row])]
        if len(known):
            ends[:, row] = np.quantile(known, bounds)
    return ends


def mean_intervals(
    sums: npt.ArrayLike,
    counts: npt.ArrayLike,
    *,
    resamples: int = RESAMPLES,
    level: float = LEVEL,
    seed: int = 0,
) -> Interval:
    """Mean scores of models over their judged turns, with percentile intervals.

    A model without a judged turn has NaN for all three. A model that was judged on one question has
    an estimate and no interval, as one question does not show how questions differ. A resample
    without a judged turn of a model is left out for that model. Equal scores have an interval of no
    width.

    Args:
        sums: Sum of the scores of each question's judged turns, (questions, models).
        counts: How many turns were judged, (questions, models); 0 where none was.
        resamples: How many resamples are drawn.
        level: Share of the resamples within the interval.
        seed: Equal seeds draw equally.

    Returns:
        Estimate, low and high, each float64 (models,), in units of the scores.

    Raises:
        ValueError: The shapes differ, a number is missing, there is no resample, or the level is
            outside (0, 1).
    """
    sums, counts = _tables(sums, counts)
    check_resampling(resamples, level)
    models = counts.shape[1]
    bounds = np.full((2, models), np.nan)
    step = max(1, HELD // resamples)
    for start in range(0, models, step):
        part = slice(start, start + step)
        means = _resampled_means(sums[:, part], counts[:, part], resamples, seed)
        alone = (counts[:, part] > 0).sum(0) < 2
        bounds[:, part] = np.where(alone, np.nan, percentiles(means, level))
    return Interval(_means(sums, counts), *bounds)


def _tables(one: npt.ArrayLike, other: npt.ArrayLike) -> tuple[Floats, Floats]:
    first, second = np.asarray(one, np.float64), np.asarray(other, np.float64)
    if first.ndim != 2 or first.shape != second.shape:
        raise ValueError(
            f"tables of questions and models of shapes {first.shape} and {second.shape}: both "
            "have to be (questions, models)"
        )
    if not (np.isfinite(first).all() and np.isfinite(second).all()):
        raise ValueError("a sum or a count is missing; what was not judged is a 0 in both tables")
    return first, second


def _resampled_means(sums: Floats, counts: Floats, resamples: int, seed: int) -> Floats:
    """Means of resamples, (models, resamples); NaN where a resample has no judged turn."""
    exact_sums, exact_counts = _exact(sums).T, _exact(counts).T
    means, drawn_counts = np.zeros((2, counts.shape[1], resamples))

    def add(start: int, block: Weights) -> None:
        part = slice(start, start + len(block))
        means[:, part] = exact_sums @ block.T
        drawn_counts[:, part] = exact_counts @ block.T

    over_blocks(len(counts), resamples, seed, add)
    with np.errstate(invalid="ignore", divide="ignore"):
        means /= drawn_counts
    return means


def _exact(table: Floats) -> npt.NDArray[Any]:
    """The table in a form in which resampled sums of its columns are exact in any order.

    Whole numbers are exact, in 32 bits where they are small. Others are rounded to multiples of a
    power of two, by less than ``questions * largest * 2**-53`` of each column.
    """
    most = len(table) * np.abs(table).max(axis=0, initial=0)
    if (table == np.rint(table)).all() and most.max(initial=0) < EXACT_DOUBLE:
        return table.astype(np.float32) if most.max(initial=0) < EXACT_SINGLE else table
    grid = 2.0 ** (np.ceil(np.log2(np.maximum(most, LEAST))) - 53)
    return np.asarray(np.rint(table / grid) * grid)


def _means(sums: Floats, counts: Floats) -> Floats:
    """Means of columns; the exact sum of a column is rounded once."""
    exact = np.array([math.fsum(column) for column in sums.T], np.float64)
    with np.errstate(invalid="ignore", divide="ignore"):
        return np.asarray(exact / counts.sum(axis=0))

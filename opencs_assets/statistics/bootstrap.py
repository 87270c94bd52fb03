"""Percentile bootstrap of means and rates, paired by question.

A resample draws questions with replacement: all turns of a question are drawn together, and every
model is measured on the same drawn questions, so that what is hard for all cancels in differences
(Efron and Tibshirani 1993, chapters 6 and 13). A mean over judged turns is a ratio of two sums, as
turns may be missing. How often each question was drawn is a row of whole numbers, so that all
resamples of all models are a few matrix products; ``scipy.stats.bootstrap``, which gathers every
resample's values, has the same definition of an interval and is what the tests compare with.

The draws depend on the seed, the number of questions and the number of resamples alone, and sums
are exact in any order, so that neither blocks of work nor threads change an interval.
"""

import math
import os
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
from threadpoolctl import threadpool_limits

Floats = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int64]
Weights = npt.NDArray[np.float32]

RESAMPLES, LEVEL = 10_000, 0.95
# Resamples that share a generator, and how many draws of theirs are held at once at most.
BLOCK, BLOCK_DRAWS = 256, 1 << 20
MOST_AT_ONCE = 4
# How many resampled sums are held at once, of which there are two or three arrays.
HELD = 1 << 23
# Whole numbers up to this are exact in 32 bits, and up to this in 64.
EXACT_SINGLE, EXACT_DOUBLE = 2**24, 2**53
# Below this, numbers are as good as 0.
LEAST = 1e-200


class Interval(NamedTuple):
    """Estimates with their intervals, each float64 of the same shape; NaN where there is none."""

    estimate: Floats
    low: Floats
    high: Floats


@dataclass(frozen=True)
class Rates:
    """Rates of matchups, as shares in [0, 1] of what was decided, each (matchups,).

    Attributes:
        win: Share of wins.
        tie: Share of ties.
        lose: Share of losses.
        adjusted: Share of wins with a tie as half a win (FastChat's ``win_rate_adjusted``).
    """

    win: Interval
    tie: Interval
    lose: Interval
    adjusted: Interval


def resample_weights(questions: int, resamples: int = RESAMPLES, seed: int = 0) -> Weights:
    """How often each question is drawn in each resample.

    All at once: ``4 * resamples * questions`` bytes. What is here works block by block.

    Args:
        questions: How many there are.
        resamples: How many times as many questions are drawn.
        seed: Equal seeds draw equally.

    Returns:
        Whole numbers, float32 (resamples, questions); each row sums to ``questions``.

    Raises:
        ValueError: For fewer than one resample, or fewer questions than none.
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
    """Do the work on the rows of ``resample_weights`` block by block, a few at once.

    Args:
        questions: As of ``resample_weights``.
        resamples: Likewise.
        seed: Likewise.
        work: Is given the number of a block's first row and the block, float32 (rows, questions),
            and called in several threads.
    """
    if not questions:
        return
    # The size of a block follows from the number of questions alone, as each has its own generator.
    rows = max(1, min(BLOCK, BLOCK_DRAWS // questions))

    def draw(start: int) -> None:
        count = min(rows, resamples - start)
        rng = np.random.default_rng([seed, start])
        drawn = rng.integers(questions, size=(count, questions))
        drawn += np.arange(count)[:, None] * questions
        weights = np.bincount(drawn.ravel(), minlength=count * questions)
        work(start, weights.reshape(count, questions).astype(np.float32))

    # Matrices of a block are small: threads of their own would wait for each other.
    with threadpool_limits(1), ThreadPoolExecutor(min(os.cpu_count() or 1, MOST_AT_ONCE)) as pool:
        for _ in pool.map(draw, range(0, resamples, rows)):
            pass


def check_resampling(resamples: int, level: float) -> None:
    """Whether an interval can be had.

    Raises:
        ValueError: For fewer than one resample, or a level outside (0, 1).
    """
    if resamples < 1 or not 0 < level < 1:
        raise ValueError(
            f"{resamples} resamples at level {level}: at least one resample and a level between "
            "0 and 1 are needed"
        )


def percentiles(values: Floats, level: float) -> Floats:
    """Low and high percentiles (2, n) of each row of (n, resamples); what is NaN is left out."""
    bounds = [(1 - level) / 2, (1 + level) / 2]
    found = np.full((2, len(values)), np.nan)
    some = np.isnan(values).any(axis=1)
    if not some.all():
        found[:, ~some] = np.quantile(values[~some], bounds, axis=1, overwrite_input=True)
    for row in np.flatnonzero(some):
        known = values[row][~np.isnan(values[row])]
        if len(known):
            found[:, row] = np.quantile(known, bounds)
    return found


def totals(
    question: Ints, model: Ints, scores: Floats, questions: int, models: int
) -> tuple[Floats, Floats]:
    """Sums and counts of scores by question and model, from one row a judged turn.

    Args:
        question: Number of the question, int (m,).
        model: Number of the model, int (m,).
        scores: Float (m,); NaN counts as not judged.
        questions: How many questions there are.
        models: How many models there are.

    Returns:
        Sums and counts, each float64 (questions, models).
    """
    place = np.asarray(question, np.int64) * models + np.asarray(model, np.int64)
    scores = np.asarray(scores, np.float64)
    judged = ~np.isnan(scores)
    place, size = place[judged], questions * models
    sums = np.bincount(place, scores[judged], size).reshape(questions, models)
    counts = np.bincount(place, minlength=size).reshape(questions, models)
    return sums.astype(np.float64), counts.astype(np.float64)


def mean_intervals(
    sums: npt.ArrayLike,
    counts: npt.ArrayLike,
    *,
    resamples: int = RESAMPLES,
    level: float = LEVEL,
    seed: int = 0,
) -> Interval:
    """Mean scores of models over their judged turns, with percentile intervals.

    A model without a judged turn has NaN for all three; one that was judged on a single question
    has an estimate and no interval, as nothing tells how questions differ. A resample without a
    judged turn of a model is left out for that model. Equal scores have an interval of no width.

    Args:
        sums: Sum of the scores of each question's judged turns, (questions, models).
        counts: How many turns were judged, (questions, models); 0 where none was.
        resamples: How many.
        level: Share of the resamples within the interval.
        seed: Equal seeds draw equally.

    Returns:
        Estimate, low and high, each float64 (models,), in units of the scores.

    Raises:
        ValueError: For shapes that differ, missing numbers, fewer than one resample, or a level
            outside (0, 1).
    """
    sums, counts = _tables(sums, counts)
    (interval,) = _ratio_intervals([sums], counts, resamples, level, seed)
    return interval


def difference_intervals(
    sums: npt.ArrayLike,
    counts: npt.ArrayLike,
    first: npt.ArrayLike,
    second: npt.ArrayLike,
    *,
    resamples: int = RESAMPLES,
    level: float = LEVEL,
    seed: int = 0,
) -> Interval:
    """By how much mean scores of models differ, on the same drawn questions.

    Args:
        sums: As of ``mean_intervals``, (questions, models).
        counts: Likewise.
        first: Number of the one model of each difference, int (d,).
        second: Number of the other, whose mean is taken away, int (d,).
        resamples: How many.
        level: Share of the resamples within the interval.
        seed: Equal seeds draw equally.

    Returns:
        Estimate, low and high of first less second, each float64 (d,); NaN as of
        ``mean_intervals``.

    Raises:
        ValueError: As of ``mean_intervals``.
    """
    sums, counts = _tables(sums, counts)
    first, second = np.asarray(first, np.int64), np.asarray(second, np.int64)
    check_resampling(resamples, level)
    found = np.full((3, len(first)), np.nan)
    step = max(1, HELD // (2 * resamples))
    for start in range(0, len(first), step):
        part = slice(start, start + step)
        columns, place = np.unique(np.stack([first[part], second[part]]), return_inverse=True)
        one, other = place.reshape(2, -1)
        chosen, judged = sums[:, columns], counts[:, columns]
        (means,) = _resampled([chosen], judged, resamples, seed)
        found[0, part] = np.subtract(*_means(chosen, judged)[[one, other]])
        low, high = percentiles(means[one] - means[other], level)
        few = (judged > 0).sum(0) < 2
        alone = few[one] | few[other]
        found[1:, part] = np.where(alone, np.nan, (low, high))
    return Interval(*found)


def rate_intervals(
    wins: npt.ArrayLike,
    ties: npt.ArrayLike,
    losses: npt.ArrayLike,
    *,
    resamples: int = RESAMPLES,
    level: float = LEVEL,
    seed: int = 0,
) -> Rates:
    """Win, tie and lose rates of matchups and the adjusted win rate, with percentile intervals.

    Outcomes that are none of the three (unparsable, missing) are in no table and so in no rate.

    Args:
        wins: How many turns of each question were won, (questions, matchups).
        ties: How many were tied, likewise.
        losses: How many were lost, likewise.
        resamples: How many.
        level: Share of the resamples within the interval.
        seed: Equal seeds draw equally.

    Returns:
        The rates as shares; NaN as of ``mean_intervals``.

    Raises:
        ValueError: As of ``mean_intervals``.
    """
    wins, ties = _tables(wins, ties)
    wins, losses = _tables(wins, losses)
    # Twice as many, so that halves stay whole numbers.
    doubled = [2 * wins, 2 * ties, 2 * losses, 2 * wins + ties]
    decided = 2 * (wins + ties + losses)
    return Rates(*_ratio_intervals(doubled, decided, resamples, level, seed))


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


def _ratio_intervals(
    tables: list[Floats], counts: Floats, resamples: int, level: float, seed: int
) -> list[Interval]:
    """Intervals of the columns of each table's sums over those of the counts."""
    check_resampling(resamples, level)
    models = counts.shape[1]
    found = np.full((len(tables), 3, models), np.nan)
    step = max(1, HELD // (resamples * len(tables)))
    for start in range(0, models, step):
        part = slice(start, start + step)
        chosen, judged = [table[:, part] for table in tables], counts[:, part]
        alone = (judged > 0).sum(0) < 2
        for place, ratios in enumerate(_resampled(chosen, judged, resamples, seed)):
            found[place, 0, part] = _means(chosen[place], judged)
            found[place, 1:, part] = np.where(alone, np.nan, percentiles(ratios, level))
    return [Interval(*each) for each in found]


def _resampled(tables: list[Floats], counts: Floats, resamples: int, seed: int) -> list[Floats]:
    """Ratios of resampled sums, one (models, resamples) a table; NaN where nothing is judged."""
    questions, models = counts.shape
    exact = [_exact(table).T for table in (*tables, counts)]
    if len({each.dtype for each in exact}) == 1:
        exact = [np.concatenate(exact)]
    sums = np.zeros((len(tables) + 1, models, resamples))
    flat = sums.reshape(-1, resamples)

    def add(start: int, block: Weights) -> None:
        part = slice(start, start + len(block))
        if len(exact) == 1:
            flat[:, part] = exact[0] @ block.T
        else:
            for place, each in enumerate(exact):
                sums[place, :, part] = each @ block.T

    over_blocks(questions, resamples, seed, add)
    with np.errstate(invalid="ignore", divide="ignore"):
        sums[:-1] /= sums[-1]
    return list(sums[:-1])


def _exact(table: Floats) -> npt.NDArray[Any]:
    """The table such that resampled sums of its columns are exact in whatever order they are made.

    Whole numbers are, in 32 bits where they are small. Others are rounded to multiples of a power
    of two, by less than ``questions * largest * 2**-53`` of each column.
    """
    most = len(table) * np.abs(table).max(axis=0, initial=0)
    if (table == np.rint(table)).all() and most.max(initial=0) < EXACT_DOUBLE:
        return table.astype(np.float32) if most.max(initial=0) < EXACT_SINGLE else table
    grid = 2.0 ** (np.ceil(np.log2(np.maximum(most, LEAST))) - 53)
    return np.asarray(np.rint(table / grid) * grid)


def _means(sums: Floats, counts: Floats) -> Floats:
    """Means of columns; sums are rounded once, whatever order they are made in."""
    exact = np.array([math.fsum(column) for column in sums.T], np.float64)
    with np.errstate(invalid="ignore", divide="ignore"):
        return np.asarray(exact / counts.sum(axis=0))

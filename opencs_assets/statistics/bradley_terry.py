"""Bradley-Terry: strengths of models from all their matchups, with bootstrap intervals.

A model of strength ``a`` does better than one of strength ``b`` with probability
``1 / (1 + exp(-(a - b)))`` (Bradley and Terry 1952); a tie is half a win and half a loss, as in
Chatbot Arena's ``elo_analysis``. Verdicts are added up by pair of models first, so that a fit costs
the same for a thousand verdicts as for a million.

``scores.bradley_terry`` is another fit, for tens of thousands of samples that met a few times each:
it is sparse, estimates the effect of the order and has an empirical prior. Here few models met
often, there is no prior, orders were merged before, and thousands of resamples are fitted at once.
"""

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
from scipy import sparse
from scipy.sparse.csgraph import connected_components
from scipy.special import expit

from opencs_assets.statistics.bootstrap import (
    LEVEL,
    RESAMPLES,
    Floats,
    Interval,
    Ints,
    Weights,
    check_resampling,
    over_blocks,
    percentiles,
)

ELO_SCALE, ELO_MEAN = 400 / np.log(10), 1000.0
# This ridge keeps the strengths of models finite that only won or only lost (they come out some 20
# apart, which is 3,500 on the Elo scale), and does not visibly change those of others.
RIDGE = 1e-8
NEWTON_STEPS, LEAST_STEP = 100, 1e-6
# These bound twice the rise of the log-likelihood that a step expects: below SETTLED the step is
# the last one, and below NEAR it can't overshoot.
SETTLED, NEAR = 1e-16, 1e-3
# A rise that is smaller than this share of the log-likelihood is lost in rounding.
ROUNDING = 1e-12
# A resample is fitted in at most SHARED_STEPS steps with the curvature of all verdicts. The result
# holds where the resample's own curvature is at least the share SHARED of that one and twice the
# rise that the last step expected is below CLOSE: then the last step was 1e-5 standard errors.
SHARED_STEPS, SHARED, CLOSE = 10, 0.1, 1e-10
# HELD is how many numbers of resamples are in memory at once. A table of questions by pairs of
# models with at most FULL cells is dense.
HELD, FULL = 1 << 20, 1 << 24


def wins_matrix(
    first: Ints,
    second: Ints,
    share: npt.ArrayLike,
    weight: npt.ArrayLike | None = None,
    *,
    models: int,
) -> Floats:
    """Wins of each model over each other, from one row a verdict.

    Args:
        first: Number of the one model, int (m,).
        second: Number of the other, int (m,).
        share: Outcome for the first, float (m,): 1 won, 0.5 tied, 0 lost.
        weight: How often each row counts, float (m,); by default once.
        models: How many models there are, n.

    Returns:
        Float64 (n, n): at ``[i, j]`` how often i did better than j; a tie is half at both.

    Raises:
        ValueError: A share is NaN or outside [0, 1], or a model meets itself.
    """
    first, second = np.asarray(first, np.int64), np.asarray(second, np.int64)
    share = _shares(share)
    if (same := np.flatnonzero(first == second)).size:
        raise ValueError(f"row {same[0]}: model number {first[same[0]]} meets itself")
    weight = np.ones(len(share)) if weight is None else np.asarray(weight, np.float64)
    size = models * models
    forth = np.bincount(first * models + second, weight * share, size)
    back = np.bincount(second * models + first, weight * (1 - share), size)
    return np.asarray((forth + back).reshape(models, models))


def fit(wins: npt.ArrayLike, *, ridge: float = RIDGE) -> Floats:
    """The strengths that make the outcomes likeliest.

    Newton's method on ``sum(wins[i, j] * log p(i beats j)) - ridge / 2 * sum(strength ** 2)``.
    The ridge is so small that it matters only where the likeliest strength is infinite: where a
    model, or a group of models, won all or lost all against the rest.

    Args:
        wins: Float (n, n), see ``wins_matrix``; the diagonal is left out.
        ridge: Weight of the penalty; positive.

    Returns:
        Strengths in log-odds, float64 (n,), with mean 0 in each group of connected models (see
        ``components``): models of different groups can't be compared. A model that met no other
        has NaN.

    Raises:
        ValueError: The table is not square, or has negative or missing numbers.
    """
    table = _table(wins)
    one, other = np.triu_indices(len(table), 1)
    met = (table + table.T)[one, other] > 0
    one, other = one[met], other[met]
    won = table[one, other][None]
    played = won + table[other, one]
    groups = components(table)
    strengths = _maximize(won, played, one, other, np.zeros(len(table)), groups, ridge)
    centred: Floats = _centred(strengths, groups)[0]
    return centred


def components(wins: npt.ArrayLike) -> Ints:
    """Groups of models that matchups connect; only models of one group can be ranked.

    Args:
        wins: Float (n, n), see ``wins_matrix``.

    Returns:
        Number of each model's group, int64 (n,), -1 for a model that met no other.
    """
    table = _table(wins)
    met = table + table.T > 0
    _, groups = connected_components(sparse.csr_array(met), directed=False)
    alone = ~met.any(axis=1)
    numbers = np.full(len(table), -1, np.int64)
    numbers[~alone] = np.unique(groups[~alone], return_inverse=True)[1]
    return numbers


def elo(strengths: npt.ArrayLike) -> Floats:
    """Strengths on the Elo scale, where 400 points are odds of ten to one and the mean is 1000."""
    return np.asarray(ELO_SCALE * np.asarray(strengths, np.float64) + ELO_MEAN)


def intervals(
    question: Ints,
    first: Ints,
    second: Ints,
    share: npt.ArrayLike,
    *,
    models: int,
    resamples: int = RESAMPLES,
    level: float = LEVEL,
    seed: int = 0,
    ridge: float = RIDGE,
) -> Interval:
    """Strengths with percentile bootstrap intervals, paired by question.

    A resample draws questions, and a drawn question brings the verdicts of all matchups. The fit of
    a resample starts at the strengths of all verdicts and takes their curvature where the
    resample's own is like it, and Newton's method elsewhere. A resample in which a model met no
    other is left out for that model. One in which it won everything gives it the strength that the
    ridge allows, so that the upper end of a model that hardly ever lost can be far away.

    Args:
        question: Number of the question of each verdict, int (m,), from 0; questions of different
            benchmarks have different numbers.
        first: Number of the one model, int (m,).
        second: Number of the other, int (m,).
        share: Outcome for the first, float (m,): 1 won, 0.5 tied, 0 lost.
        models: How many models there are, n.
        resamples: How many resamples are drawn.
        level: Share of the resamples within the interval.
        seed: Equal seeds draw equally.
        ridge: Weight of the penalty, see ``fit``.

    Returns:
        Strengths, low and high, each float64 (n,), in log-odds with mean 0 in each connected
        group; ``elo`` puts them on the Elo scale. NaN without a matchup; low and high are NaN where
        there is only one question.

    Raises:
        ValueError: A share is NaN or outside [0, 1], a model meets itself, there is no resample, or
            the level is outside (0, 1).
    """
    check_resampling(resamples, level)
    wins = wins_matrix(first, second, share, models=models)
    strengths, groups = fit(wins, ridge=ridge), components(wins)
    names, question = np.unique(np.asarray(question, np.int64), return_inverse=True)
    questions = len(names)
    if questions < 2:
        nothing = np.full(models, np.nan)
        return Interval(strengths, nothing, nothing.copy())
    one, other, won, played = _by_question(question, first, second, _shares(share), models)
    start = np.nan_to_num(strengths)
    near = _Near.of(one, other, np.asarray(played.sum(axis=0)), start, groups, ridge)
    resampled = np.empty((models, resamples))
    ends = abs(_incidence(one, other, models)).T.tocsr()
    several = max(1, HELD // max(models * models, 2 * len(one)))

    def refit(row: int, block: Weights) -> None:
        for part in range(0, len(block), several):
            weights = block[part : part + several].T
            drawn, better = played.T @ weights, won.T @ weights
            fitted, settled = near.fit(better, drawn)
            if len(far := np.flatnonzero(~settled)):
                fitted[far] = _maximize(
                    better[:, far].T, drawn[:, far].T, one, other, start, groups, ridge
                )
            met = (ends @ drawn).T > 0
            fitted = np.where(met, _centred(fitted, groups), np.nan)
            resampled[:, row + part : row + part + len(fitted)] = fitted.T

    over_blocks(questions, resamples, seed, refit)
    return Interval(strengths, *percentiles(resampled, level))


def _shares(share: npt.ArrayLike) -> Floats:
    shares = np.asarray(share, np.float64)
    if len(wrong := np.flatnonzero(~((shares >= 0) & (shares <= 1)))):
        raise ValueError(
            f"row {wrong[0]}: how far the first did better is {shares[wrong[0]]}, and has to be in "
            "[0, 1]; leave out verdicts without an outcome"
        )
    return shares


def _table(wins: npt.ArrayLike) -> Floats:
    table = np.array(wins, np.float64)
    if table.ndim != 2 or table.shape[0] != table.shape[1]:
        raise ValueError(f"wins have the shape {table.shape}, and have to be (models, models)")
    np.fill_diagonal(table, 0)
    if not (table >= 0).all():
        raise ValueError("wins are negative or missing; they have to be numbers from 0")
    return table


def _by_question(
    question: Ints, first: Ints, second: Ints, share: Floats, models: int
) -> tuple[Ints, Ints, Any, Any]:
    """Pairs of models that met, and how much the one won and how often they met by question.

    Returns:
        The one and the other model of each pair, int64 (pairs,), and two tables (questions,
        pairs), which are dense where they are small and else sparse.
    """
    turned = first > second
    one, other = np.where(turned, second, first), np.where(turned, first, second)
    pairs, pair = np.unique(one * models + other, return_inverse=True)
    shape = (int(question.max()) + 1, len(pairs))
    # Sums of halves are exact in 32 bits where twice the sum is below 2**24.
    won = sparse.csr_array((np.where(turned, 1 - share, share), (question, pair)), shape)
    played = sparse.csr_array((np.ones(len(share)), (question, pair)), shape)
    exact = len(share) < 2**22 and (2 * share == np.rint(2 * share)).all()
    tables = [table.astype(np.float32 if exact else np.float64) for table in (won, played)]
    if shape[0] * shape[1] <= FULL:
        tables = [table.toarray() for table in tables]
    return pairs // models, pairs % models, *tables


def _centred(strengths: Floats, groups: Ints) -> Floats:
    """Strengths (r, n) with mean 0 in each group; models outside of all groups have NaN."""
    centred = np.full(strengths.shape, np.nan)
    for group in range(groups.max(initial=-1) + 1):
        member = groups == group
        centred[:, member] = strengths[:, member] - strengths[:, member].mean(axis=1, keepdims=True)
    return centred


@dataclass(frozen=True)
class _Near:
    """Fits of resamples near the strengths of all verdicts, with one curvature for all of them.

    A step is one product of matrices, where Newton's method solves equations for each resample. If
    each pair's part of a resample's curvature is at least the share ``SHARED`` of its part in that
    of all verdicts, so is the whole curvature, and a small step proves that the fit is near.
    """

    one: Ints
    other: Ints
    start: Floats
    weight: Floats
    to_models: Any
    inverse: Floats
    ridge: float

    @classmethod
    def of(
        cls, one: Ints, other: Ints, played: Floats, start: Floats, groups: Ints, ridge: float
    ) -> "_Near":
        """Made from how often each pair met, (pairs,), and the strengths of all verdicts, (n,)."""
        chance = expit(start[one] - start[other])
        weight = np.asarray(played, np.float64) * chance * (1 - chance)
        incidence = _incidence(one, other, len(start))
        curvature = (incidence.T @ sparse.diags_array(weight) @ incidence).toarray()
        curvature[np.diag_indices(len(start))] += ridge
        together = (groups[:, None] == groups).astype(np.float64)
        inverse = np.linalg.inv(curvature + together)
        return cls(one, other, start, weight, sparse.csr_array(incidence.T), inverse, ridge)

    def fit(
        self, won: npt.NDArray[Any], played: npt.NDArray[Any]
    ) -> tuple[Floats, npt.NDArray[np.bool_]]:
        """Strengths (r, n) of resamples from tables (pairs, r), and which of the fits hold."""
        won, played = np.asarray(won, np.float64), np.asarray(played, np.float64)
        at = self.start[:, None]
        last, moving = np.full(won.shape[1], np.inf), np.ones(won.shape[1], bool)
        # A settled resample no longer moves, so that its fit does not depend on others' steps.
        for _ in range(SHARED_STEPS):
            slope = self.to_models @ (won - played * self._chance(at)) - self.ridge * at
            step = self.inverse @ slope
            rise = np.where(moving, (slope * step).sum(axis=0), last)
            at = at + step * (moving & (rise < last))
            moving &= (rise < last) & (rise > CLOSE)
            last = rise
            if not moving.any():
                break
        chance = self._chance(at)
        alike = (played * chance * (1 - chance) >= SHARED * self.weight[:, None]).all(axis=0)
        return np.ascontiguousarray(at.T), (last <= CLOSE) & alike

    def _chance(self, at: Floats) -> Floats:
        """How likely the one model of each pair does better, (pairs, r), by strengths (n, r)."""
        with np.errstate(over="ignore"):
            return np.asarray(1 / (1 + np.exp(at[self.other] - at[self.one])))


def _incidence(one: Ints, other: Ints, models: int) -> Any:
    """Sparse (pairs, n) with 1 at the one and -1 at the other model of each pair."""
    ends = np.repeat(np.arange(len(one)), 2)
    places = np.stack([one, other], axis=1).ravel()
    return sparse.csr_array((np.tile([1.0, -1.0], len(one)), (ends, places)), (len(one), models))


def _maximize(
    won: npt.NDArray[Any],
    played: npt.NDArray[Any],
    one: Ints,
    other: Ints,
    start: Floats,
    groups: Ints,
    ridge: float,
) -> Floats:
    """Likeliest strengths (r, n) of r tables at once, by Newton's method.

    The models ``one`` and ``other`` of each pair (pairs,) met as often as ``played`` and the one
    did better as often as ``won``, both (r, pairs). ``start`` (n,) has mean 0 in each group.
    """
    models = len(start)
    values = np.tile(start, (len(won), 1))
    if not len(one):
        return values
    won, played = np.asarray(won, np.float64), np.asarray(played, np.float64)
    incidence = _incidence(one, other, models)
    diagonal = np.arange(models)
    # A group's mean does not change the likelihood; this term keeps rounding from moving it.
    together = (groups[:, None] == groups).astype(np.float64)

    def objective(at: Floats, won: Floats, played: Floats) -> Floats:
        # All terms have the same sign, so that rounding is small beside the sum.
        odds = at[:, one] - at[:, other]
        surprise = won * np.maximum(-odds, 0) + (played - won) * np.maximum(odds, 0)
        surprise += played * np.log1p(np.exp(-np.abs(odds)))
        return np.asarray(-surprise.sum(axis=1) - ridge / 2 * (at**2).sum(axis=1))

    left = np.arange(len(won))
    for _ in range(NEWTON_STEPS):
        at, part_won, part_played = values[left], won[left], played[left]
        chance = expit(at[:, one] - at[:, other])
        slope = (part_won - part_played * chance) @ incidence - ridge * at
        weight = part_played * chance * (1 - chance)
        curvature = np.zeros((len(left), models, models))
        curvature[:, one, other] = curvature[:, other, one] = -weight
        curvature[:, diagonal, diagonal] = ridge - curvature.sum(axis=2)
        step = np.linalg.solve(curvature + together, slope[:, :, None])[:, :, 0]
        rise = np.einsum("rn,rn->r", slope, step)
        size = np.ones(len(left))
        if len(check := np.flatnonzero(rise > NEAR)):
            reached = objective(at[check], part_won[check], part_played[check])
            least = reached - ROUNDING * np.abs(reached)
        while len(check):
            at_now = at[check] + size[check, None] * step[check]
            fell = objective(at_now, part_won[check], part_played[check]) < least
            again = fell & (size[check] > LEAST_STEP)
            check, least = check[again], least[again]
            size[check] /= 2
        values[left] = at + size[:, None] * step
        left = left[rise > SETTLED]
        if not len(left):
            break
    return values

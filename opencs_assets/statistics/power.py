"""Before judging: how many questions are needed to see a difference, and what so many can show.

The mean of independent outcomes, one a question, is nearly normal; a difference is seen where a
two-sided test at the level finds it, which it does with the given power (Chow, Shao and Wang 2008,
chapter 3). Outcomes are of one question: the share that a model won of it (1, 0.5, 0, or between
where it has several turns), or the difference of two models' scores. The tests check it by
simulation.
"""

import math

import numpy as np
import numpy.typing as npt
from scipy.stats import norm

LEVEL, POWER = 0.95, 0.8


def questions_needed(
    effect: float,
    deviation: float,
    *,
    level: float = LEVEL,
    power: float = POWER,
    lost: float = 0.0,
) -> int:
    """How many questions it takes to see an effect.

    ``((z(1 - (1 - level) / 2) + z(power)) * deviation / effect) ** 2``, rounded up, and more where
    some are lost.

    Args:
        effect: How far the mean outcome is from no difference: of win rates from 0.5 (so 0.05 for
            an adjusted win rate of 55 %), of scores from 0. Its sign does not matter.
        deviation: Standard deviation of a question's outcome, see ``win_deviation`` and
            ``measured_deviation``; in units of the effect.
        level: Of the interval that is to leave out no difference.
        power: How often it is to be seen.
        lost: Share of the questions whose judgments are expected to be unparsable or missing.

    Returns:
        Questions, 2 at least, for without two of them nothing tells how they differ.

    Raises:
        ValueError: For an effect of 0, or a level, power or share that is none.
    """
    _check(deviation, level, power, lost)
    if not effect or not math.isfinite(effect):
        raise ValueError(f"an effect of {effect} needs endless questions: give one that is not 0")
    judged = ((_z(level) + float(norm.ppf(power))) * deviation / effect) ** 2
    return max(2, math.ceil(judged / (1 - lost)))


def detectable_effect(
    questions: int,
    deviation: float,
    *,
    level: float = LEVEL,
    power: float = POWER,
    lost: float = 0.0,
) -> float:
    """The smallest effect that so many questions show with the given power.

    Args:
        questions: How many are asked.
        deviation: As of ``questions_needed``.
        level: Likewise.
        power: Likewise.
        lost: Likewise.

    Returns:
        The effect, in units of the deviation.

    Raises:
        ValueError: For no questions, or as of ``questions_needed``.
    """
    _check(deviation, level, power, lost)
    if questions < 1:
        raise ValueError(f"{questions} questions show no effect: at least one is needed")
    spread = deviation / math.sqrt(questions * (1 - lost))
    return (_z(level) + float(norm.ppf(power))) * spread


def power_of(
    questions: int, effect: float, deviation: float, *, level: float = LEVEL, lost: float = 0.0
) -> float:
    """How often so many questions show an effect, in [0, 1].

    Args:
        questions: How many are asked.
        effect: As of ``questions_needed``; at 0 it is how often a difference is seen that is none.
        deviation: Likewise; 0 shows every effect.
        level: Likewise.
        lost: Likewise.

    Raises:
        ValueError: As of ``detectable_effect``.
    """
    _check(deviation, level, POWER, lost)
    if questions < 1:
        raise ValueError(f"{questions} questions show no effect: at least one is needed")
    if not deviation:
        return float(effect != 0)
    away = abs(effect) * math.sqrt(questions * (1 - lost)) / deviation
    return float(norm.cdf(away - _z(level)) + norm.cdf(-away - _z(level)))


def win_deviation(
    win_rate: float = 0.5, *, tie_rate: float = 0.0, orders_disagree: float = 0.0
) -> float:
    """Standard deviation of a question's outcome, 1 won, 0.5 tied, 0 lost, before any is judged.

    Where both orders have to agree, a question whose orders disagree is a tie: its outcome says
    nothing, but spreads less than a win or a loss does, and the effect shrinks with it. Compare
    with the adjusted win rate that is expected after that.

    Args:
        win_rate: Expected adjusted win rate, ties as half a win, in [0, 1].
        tie_rate: Share of questions that the judge calls a tie in both orders.
        orders_disagree: Share of questions whose two orders disagree; 0.158 for GPT-4 on MT-Bench
            pairs (Zheng et al. 2023, their published verdicts).

    Returns:
        In shares, 0.5 at most.

    Raises:
        ValueError: Where the shares can't be had together.
    """
    tied = tie_rate + orders_disagree
    won = win_rate - tied / 2
    lost = 1 - tied - won
    if min(tie_rate, orders_disagree) < 0 or min(won, lost) < -1e-12:
        raise ValueError(
            f"an adjusted win rate of {win_rate} with {tied} ties leaves {won} wins and {lost} "
            "losses; shares have to be from 0"
        )
    return math.sqrt(max(0.0, won + tied / 4 - win_rate**2))


def measured_deviation(
    question: npt.ArrayLike, outcomes: npt.ArrayLike
) -> tuple[float, int, float]:
    """Standard deviation of questions' outcomes that were judged before.

    Turns of a question go together: a question's outcome is the mean of its judged turns. The
    judge's own noise, disagreement of orders and ties are in it as they are.

    Args:
        question: Number of the question of each judged turn, int (m,).
        outcomes: Share that was won (1, 0.5, 0) or difference of scores, float (m,); NaN for what
            is unparsable or missing.

    Returns:
        Standard deviation (NaN with fewer than two judged questions), how many questions were
        judged, and which share of them was lost.

    Raises:
        ValueError: For arrays of different lengths.
    """
    question, values = np.asarray(question), np.asarray(outcomes, np.float64)
    if question.shape != values.shape or question.ndim != 1:
        raise ValueError(
            f"{values.shape} outcomes of {question.shape} questions: one of each a row"
        )
    _, place = np.unique(question, return_inverse=True)
    judged = ~np.isnan(values)
    asked = int(place.max(initial=-1)) + 1
    counts = np.bincount(place[judged], minlength=asked)
    sums = np.bincount(place[judged], values[judged], asked)
    means = sums[counts > 0] / counts[counts > 0]
    deviation = float(means.std(ddof=1)) if len(means) > 1 else float("nan")
    return deviation, len(means), 1 - len(means) / asked if asked else 0.0


def _z(level: float) -> float:
    return float(norm.ppf((1 + level) / 2))


def _check(deviation: float, level: float, power: float, lost: float) -> None:
    if not deviation >= 0 or math.isinf(deviation):
        raise ValueError(f"a standard deviation of {deviation}: it has to be a number from 0")
    if not (0 < level < 1 and 0 < power < 1 and 0 <= lost < 1):
        raise ValueError(
            f"level {level}, power {power}, share lost {lost}: each has to be between 0 and 1"
        )

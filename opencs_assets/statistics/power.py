"""How many questions it takes to see a difference, and which difference so many can show.

The mean of independent outcomes, one a question, is nearly normal, and a two-sided test at the
level sees a difference with the given power (Chow, Shao and Wang 2008, chapter 3). A question's
outcome is the share that a model won of it (1, 0.5, 0, or between where it has several turns), or
the difference of two models' scores. The tests check the formulas by simulation.
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
        level: Level of the interval that should leave out no difference.
        power: How often the effect should be seen, in (0, 1).
        lost: Share of the questions whose judgments are expected to be unparsable or missing.

    Returns:
        Questions, 2 at least, as a single one does not show how questions differ.

    Raises:
        ValueError: The effect is 0, or the level, power or share is out of its range.
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
    """The smallest effect, in units of the deviation, that so many questions show.

    The other arguments are those of ``questions_needed``.

    Raises:
        ValueError: There is no question, or the level, power or share is out of its range.
    """
    _check(deviation, level, power, lost)
    if questions < 1:
        raise ValueError(f"{questions} questions show no effect: at least one is needed")
    spread = deviation / math.sqrt(questions * (1 - lost))
    return (_z(level) + float(norm.ppf(power))) * spread


def win_deviation(
    win_rate: float = 0.5, *, tie_rate: float = 0.0, orders_disagree: float = 0.0
) -> float:
    """Expected standard deviation of a question's outcome: 1 won, 0.5 tied, 0 lost.

    Where both orders have to agree, a question whose orders disagree is a tie. Such ties lower both
    the deviation and the effect, so that ``win_rate`` has to be the one expected with them.

    Args:
        win_rate: Expected adjusted win rate, ties as half a win, in [0, 1].
        tie_rate: Share of questions that the judge calls a tie in both orders.
        orders_disagree: Share of questions whose two orders disagree; 0.158 for GPT-4 on MT-Bench
            pairs (Zheng et al. 2023, their published verdicts).

    Returns:
        The deviation as a share, 0.5 at most.

    Raises:
        ValueError: The shares contradict each other.
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
    """Standard deviation of the outcomes of questions that were judged before.

    A question's outcome is the mean of its judged turns. The deviation includes the judge's own
    noise, ties and orders that disagree.

    Args:
        question: Number of the question of each turn, int (m,).
        outcomes: Share that was won (1, 0.5, 0) or difference of scores, float (m,); NaN where the
            judgment is unparsable or missing.

    Returns:
        Standard deviation (NaN with fewer than two judged questions), how many questions were
        judged, and the share of questions that was lost.

    Raises:
        ValueError: The arrays differ in length.
    """
    question, values = np.asarray(question), np.asarray(outcomes, np.float64)
    if question.shape != values.shape or question.ndim != 1:
        raise ValueError(
            f"{values.shape} outcomes of {question.shape} questions: one of each a row"
        )
    _, place = np.unique(question, return_inverse=True)
    judged = ~np.isnan(values)
    questions = int(place.max(initial=-1)) + 1
    counts = np.bincount(place[judged], minlength=questions)
    sums = np.bincount(place[judged], values[judged], questions)
    means = sums[counts > 0] / counts[counts > 0]
    deviation = float(means.std(ddof=1)) if len(means) > 1 else float("nan")
    return deviation, len(means), 1 - len(means) / questions if questions else 0.0


def _z(level: float) -> float:
    return float(norm.ppf((1 + level) / 2))


def _check(deviation: float, level: float, power: float, lost: float) -> None:
    if not deviation >= 0 or math.isinf(deviation):
        raise ValueError(f"a standard deviation of {deviation}: it has to be a number from 0")
    if not (0 < level < 1 and 0 < power < 1 and 0 <= lost < 1):
        raise ValueError(
            f"level {level}, power {power}, share lost {lost}: each has to be between 0 and 1"
        )

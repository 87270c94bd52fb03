"""Length-controlled win rates: how often a model would win if answers were of equal length.

A logistic regression explains preferences by who answered and by how the answers' lengths differ;
the rate is what it predicts with the length term at zero (Dubois et al. 2024, arXiv 2404.04475).
There are two methods, whose rates should not stand in one table without the method's name:

- ``lc_alpaca_eval2`` is AlpacaEval 2's ``length_controlled_v1`` (``metrics/glm_winrate.py``), which
  has a term for how difficult each instruction is for the baseline. These difficulties are
  published for AlpacaEval's own 805 instructions.
- ``lc_no_difficulty`` has a model and a length term, for instructions without difficulties.
"""

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
from scipy.special import expit

Floats = npt.NDArray[np.float64]

ALPACA_EVAL2, NO_DIFFICULTY = "lc_alpaca_eval2", "lc_no_difficulty"
# These are as in ``length_controlled_v1``: the weight of verdicts on gamed answers, the folds, the
# penalties that are tried (scikit-learn's grid), and the solver's seed.
GAMED_WEIGHT, FOLDS, PENALTIES, SEED = 0.2, 5, np.logspace(-4, 4, 10), 123
# The length's ridge expects weights within some 2 of 0, as those published for AlpacaEval 2 are 0.2
# to 3.0. The model's ridge keeps its weight finite where it won everything.
LENGTH_RIDGE, MODEL_RIDGE = 1 / 2**2, 1e-6
NEWTON_STEPS, TOLERANCE = 100, 1e-10


@dataclass(frozen=True)
class Gamed:
    """Verdicts on answers whose length was gamed, which hold the length term in place.

    They are AlpacaEval's ``df_gamed.csv``: a baseline against its own concise and verbose answers.

    Attributes:
        preference: How far the second answer was preferred, float (g,) in [0, 1].
        length_difference: Standardized difference of lengths (column ``std_delta_len``), (g,).
        difficulty: Difficulty of each instruction, (g,).
    """

    preference: Floats
    length_difference: Floats
    difficulty: Floats


@dataclass(frozen=True)
class LengthControlled:
    """A length-controlled win rate.

    Attributes:
        rate: Share in [0, 1] that the model would win at equal lengths; NaN where there are no
            questions, or where all lengths differ by the same number of characters, so that the
            verdicts can't tell the model from its length.
        questions: How many verdicts the rate comes from.
        method: ``lc_alpaca_eval2`` or ``lc_no_difficulty``.
        length_weight: What a longer answer gains, in log-odds a standard deviation of the
            difference, for small differences.
        extrapolated: Whether the model's answer was always the longer one, or always the shorter
            one, so that no verdict is about answers of equal length.
    """

    rate: float
    questions: int
    method: str
    length_weight: float
    extrapolated: bool


def alpaca_eval2(
    preference: npt.ArrayLike,
    length: npt.ArrayLike,
    baseline_length: npt.ArrayLike,
    difficulty: npt.ArrayLike,
    gamed: Gamed | None = None,
) -> LengthControlled:
    """AlpacaEval 2's length-controlled win rate.

    The log-odds of a win are ``model + length * tanh(standardized difference) + instruction *
    difficulty``, with an L1 penalty chosen by five-fold cross-validation on log loss. The gamed
    verdicts have neither a model term nor more than a tenth of a verdict's weight each.

    Args:
        preference: How far the model was preferred to the baseline, float (q,) in [0, 1]; NaN is
            left out. AlpacaEval's own preferences are in [1, 2]; take 1 away, and read its 0 (a
            draw) as 0.5.
        length: Characters of the model's answers, (q,).
        baseline_length: Characters of the baseline's, (q,).
        difficulty: Difficulty of each instruction for the baseline, (q,); of all instructions,
            those without a preference included.
        gamed: Verdicts that hold the length term in place; without them it is free, and the rate
            differs from the published one.

    Returns:
        The rate over all instructions, as published: also those without a preference.

    Raises:
        ValueError: The arrays differ in length, a preference is outside [0, 1], or a length or a
            difficulty is missing.
    """
    preferred, longer = _checked(preference, length, baseline_length)
    hard = np.asarray(difficulty, np.float64)
    if hard.shape != preferred.shape or not np.isfinite(hard).all():
        raise ValueError(f"{hard.shape} difficulties of {preferred.shape} verdicts: one of each")
    judged = ~np.isnan(preferred)
    questions, seen = int(judged.sum()), longer[judged]
    spread = float(longer.std(ddof=1)) if len(longer) > 1 else 0.0
    one_sided = questions > 0 and bool((seen > 0).all() or (seen < 0).all())
    if not questions or (not spread and longer.any()):
        return LengthControlled(float("nan"), questions, ALPACA_EVAL2, float("nan"), one_sided)
    # The term is the baseline's length less the model's, as published.
    term = np.tanh(-longer / spread) if spread else np.zeros(len(longer))
    design = np.stack([term, hard, np.ones(len(term))], axis=1)
    rows, labels, weight = design[judged], preferred[judged], np.ones(questions)
    if gamed is not None:
        of_length = np.tanh(np.asarray(gamed.length_difference, np.float64))
        count = len(of_length)
        # The weight is halved because there are two gamed baselines. Their rows come first, as
        # published, because the folds depend on the order of rows.
        extra = np.stack([of_length, np.asarray(gamed.difficulty), np.zeros(count)], axis=1)
        rows = np.concatenate([extra, rows])
        labels = np.concatenate([np.asarray(gamed.preference, np.float64), labels])
        weight = np.concatenate([np.full(count, GAMED_WEIGHT / 2), weight])
    weights = _cross_validated(rows, labels, weight)
    at_equal_lengths = design * [0, 1, 1]
    rate = float(expit(at_equal_lengths @ weights).mean())
    return LengthControlled(rate, questions, ALPACA_EVAL2, -float(weights[0]), one_sided)


def _cross_validated(rows: Floats, labels: Floats, weight: Floats) -> Floats:
    """Weights of the columns with the L1 penalty of the grid that has the lowest log loss.

    Each row is fitted twice: as a win, weighted by its preference, and as a loss with the rest.
    """
    from sklearn.linear_model import LogisticRegression
    from sklearn.model_selection import GroupKFold

    count = len(labels)
    twice = np.concatenate([rows, rows])
    outcome = np.repeat([1, 0], count)
    true, own = np.concatenate([labels, 1 - labels]), np.concatenate([weight, weight])

    def lasso(part: Any, penalty: float) -> Floats:
        fitted = LogisticRegression(
            C=penalty, l1_ratio=1, solver="liblinear", fit_intercept=False, random_state=SEED
        ).fit(twice[part], outcome[part], sample_weight=(true * own)[part])
        return np.asarray(fitted.coef_[0], np.float64)

    if count < FOLDS:
        penalty = 1.0
    else:
        folds = list(GroupKFold(FOLDS).split(twice, outcome, np.tile(np.arange(count), 2)))
        losses = []
        for penalty in PENALTIES:
            loss = []
            for train, test in folds:
                weights = lasso(train, penalty)
                chance = np.clip(expit(twice[test] @ weights), 1e-15, 1 - 1e-15)
                label = np.where(outcome[test] == 1, true[test], 1 - true[test])
                likelihood = label * np.log(chance) + (1 - label) * np.log(1 - chance)
                loss.append(-(likelihood * own[test]).mean())
            losses.append(np.mean(loss))
        penalty = PENALTIES[int(np.argmin(losses))]
    return lasso(np.arange(len(outcome)), penalty)


def no_difficulty_by(
    group: npt.ArrayLike,
    preference: npt.ArrayLike,
    length: npt.ArrayLike,
    baseline_length: npt.ArrayLike,
) -> list[LengthControlled]:
    """Length-controlled win rates of many matchups from a model and a length term.

    The log-odds of a win are ``model + length * tanh(standardized difference)``. The length term
    has a ridge, so that with few verdicts it stays small and the rate near the plain one. With the
    two models swapped, the rate is one less this one.

    Args:
        group: Number of the matchup of each verdict, int (q,), from 0 without a gap.
        preference: How far the model was preferred, float (q,) in [0, 1]; NaN is left out.
        length: Characters of the model's answers, (q,).
        baseline_length: Characters of the other model's answers, (q,).

    Returns:
        The rate of each matchup, in order.

    Raises:
        ValueError: The arrays differ in length, a preference is outside [0, 1], or a length is
            missing.
    """
    preferred, longer = _checked(preference, length, baseline_length)
    group = np.asarray(group, np.int64)
    if group.shape != preferred.shape:
        raise ValueError(f"{group.shape} matchups of {preferred.shape} verdicts: one of each")
    groups = max(1, int(group.max(initial=-1)) + 1)
    judged = ~np.isnan(preferred)
    group, preferred, longer = group[judged], preferred[judged], longer[judged]

    def by_group(values: Floats) -> Floats:
        return np.bincount(group, values, groups).astype(np.float64)

    count = by_group(np.ones(len(group)))
    mean = by_group(longer) / np.maximum(count, 1)
    variance = by_group((longer - mean[group]) ** 2) / np.maximum(count - 1, 1)
    spread = np.sqrt(variance)
    term = np.tanh(longer / np.where(spread > 0, spread, np.inf)[group])
    model, weight = np.zeros(groups), np.zeros(groups)
    # A settled matchup no longer moves, so that its rate does not depend on the other matchups.
    moving = np.ones(groups, bool)
    for _ in range(NEWTON_STEPS):
        chance = expit(model[group] + weight[group] * term)
        left, unsure = preferred - chance, chance * (1 - chance)
        slope = by_group(left) - MODEL_RIDGE * model
        slope_length = by_group(left * term) - LENGTH_RIDGE * weight
        curve = by_group(unsure) + MODEL_RIDGE
        both = by_group(unsure * term)
        curve_length = by_group(unsure * term**2) + LENGTH_RIDGE
        determinant = curve * curve_length - both**2
        # Far from the maximum, a whole Newton step may overshoot, so steps are at most 1 long.
        step = np.clip((curve_length * slope - both * slope_length) / determinant, -1, 1)
        step_length = np.clip((curve * slope_length - both * slope) / determinant, -1, 1)
        model = np.where(moving, model + step, model)
        weight = np.where(moving, weight + step_length, weight)
        moving &= np.maximum(np.abs(step), np.abs(step_length)) >= TOLERANCE
        if not moving.any():
            break
    shorter_too = np.bincount(group, longer <= 0, groups) > 0
    longer_too = np.bincount(group, longer >= 0, groups) > 0
    known = (count > 0) & ((spread > 0) | (by_group(np.abs(longer)) == 0))
    return [
        LengthControlled(
            float(expit(model[matchup])) if known[matchup] else float("nan"),
            int(count[matchup]),
            NO_DIFFICULTY,
            float(weight[matchup]) if known[matchup] else float("nan"),
            bool(count[matchup]) and not (shorter_too[matchup] and longer_too[matchup]),
        )
        for matchup in range(groups)
    ]


def _checked(
    preference: npt.ArrayLike, length: npt.ArrayLike, baseline_length: npt.ArrayLike
) -> tuple[Floats, Floats]:
    """Preferences, and by how many characters the model's answers are longer, both (q,)."""
    preferred = np.asarray(preference, np.float64)
    one, other = np.asarray(length, np.float64), np.asarray(baseline_length, np.float64)
    if not preferred.shape == one.shape == other.shape or preferred.ndim != 1:
        raise ValueError(
            f"{preferred.shape} preferences, lengths of {one.shape} and {other.shape} answers: "
            "one of each a verdict"
        )
    if len(wrong := np.flatnonzero((preferred < 0) | (preferred > 1))):
        raise ValueError(
            f"verdict {wrong[0]}: a preference of {preferred[wrong[0]]} is not in [0, 1]"
        )
    longer = one - other
    if len(wrong := np.flatnonzero(~np.isfinite(longer))):
        raise ValueError(f"verdict {wrong[0]}: the length of an answer is missing")
    return preferred, longer

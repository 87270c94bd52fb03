"""Length-controlled win rates: how often a model would win if answers were of equal length.

A logistic regression of preferences on who answered and on how the answers' lengths differ; the
rate is what it predicts with the length term at zero (Dubois et al. 2024, arXiv 2404.04475).
Two of these, which are not to be mixed in one table without their names:

- ``lc_alpaca_eval2``: AlpacaEval 2's ``length_controlled_v1`` (``metrics/glm_winrate.py``), with a
  term for how difficult each instruction is for the baseline. Needs its difficulties, which are
  published for its own 805 instructions.
- ``lc_no_difficulty``: a model and a length term, where there are no difficulties.
"""

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
from scipy.special import expit

Floats = npt.NDArray[np.float64]

ALPACA_EVAL2, NO_DIFFICULTY = "lc_alpaca_eval2", "lc_no_difficulty"
# As in ``length_controlled_v1``: the weight of verdicts on gamed answers, the folds, the penalties
# that are tried (scikit-learn's grid), and the solver's seed.
GAMED_WEIGHT, FOLDS, PENALTIES, SEED = 0.2, 5, np.logspace(-4, 4, 10), 123
# The length's weight is expected to be 2 on either side of 0: those published for AlpacaEval 2 are
# 0.2 to 3.0. The model's is kept finite where all was won.
LENGTH_RIDGE, MODEL_RIDGE = 1 / 2**2, 1e-6
NEWTON_STEPS, TOLERANCE = 100, 1e-10


@dataclass(frozen=True)
class Gamed:
    """Verdicts on answers whose length was gamed, which hold the length term in place.

    They are AlpacaEval's ``df_gamed.csv``: a baseline against its own concise and verbose answers.

    Attributes:
        preference: How far the second was preferred, float (g,) in [0, 1].
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
            questions, or where all lengths differ by the same, so that nothing can tell the
            model from its length.
        questions: How many verdicts it comes from.
        method: ``lc_alpaca_eval2`` or ``lc_no_difficulty``.
        length_weight: What a longer answer is worth, in log-odds a standard deviation of the
            difference, for small differences.
        extrapolated: Whether the model's answer was longer, or shorter, every time, so that equal
            length is outside of what was seen.
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
        ValueError: For arrays of different lengths, preferences outside [0, 1], or missing
            lengths or difficulties.
    """
    preferred, longer = _checked(preference, length, baseline_length)
    hard = np.asarray(difficulty, np.float64)
    if hard.shape != preferred.shape or not np.isfinite(hard).all():
        raise ValueError(f"{hard.shape} difficulties of {preferred.shape} verdicts: one of each")
    judged = ~np.isnan(preferred)
    questions, seen = int(judged.sum()), longer[judged]
    spread = float(longer.std(ddof=1)) if len(longer) > 1 else 0.0
    known = questions > 0 and (spread > 0 or not longer.any())
    if not known:
        return LengthControlled(
            float("nan"), questions, ALPACA_EVAL2, float("nan"), _one_sided(seen)
        )
    # The baseline's less the model's, as published.
    term = np.tanh(-longer / spread) if spread else np.zeros(len(longer))
    design = np.stack([term, hard, np.ones(len(term))], axis=1)
    rows, labels, weight = design[judged], preferred[judged], np.ones(questions)
    if gamed is not None:
        of_length = np.tanh(np.asarray(gamed.length_difference, np.float64))
        count = len(of_length)
        # Half, as there are two gamed baselines; they come first, as the folds go by row.
        extra = np.stack([of_length, np.asarray(gamed.difficulty), np.zeros(count)], axis=1)
        rows = np.concatenate([extra, rows])
        labels = np.concatenate([np.asarray(gamed.preference, np.float64), labels])
        weight = np.concatenate([np.full(count, GAMED_WEIGHT / 2), weight])
    weights = _cross_validated(rows, labels, weight)
    equal = design.copy()
    equal[:, 0] = 0
    rate = float(expit(equal @ weights).mean())
    return LengthControlled(rate, questions, ALPACA_EVAL2, -float(weights[0]), _one_sided(seen))


def _cross_validated(rows: Floats, labels: Floats, weight: Floats) -> Floats:
    """Weights of the columns with an L1 penalty, the best of the grid by log loss.

    Each row is there twice, as a win with its preference as weight and as a loss with the rest.
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
                each = label * np.log(chance) + (1 - label) * np.log(1 - chance)
                loss.append(-(each * own[test]).mean())
            losses.append(np.mean(loss))
        penalty = PENALTIES[int(np.argmin(losses))]
    return lasso(np.arange(len(outcome)), penalty)


def no_difficulty(
    preference: npt.ArrayLike, length: npt.ArrayLike, baseline_length: npt.ArrayLike
) -> LengthControlled:
    """A length-controlled win rate from a model and a length term.

    The log-odds of a win are ``model + length * tanh(standardized difference)``; the length term
    has a ridge, so that few verdicts keep it near nothing and the rate near the plain one. Who is
    called the model does not matter: with the sides swapped the rate is one less this one.

    Args:
        preference: How far the model was preferred, float (q,) in [0, 1]; NaN is left out.
        length: Characters of the model's answers, (q,).
        baseline_length: Characters of the other's, (q,).

    Raises:
        ValueError: For arrays of different lengths, preferences outside [0, 1], or missing
            lengths.
    """
    preferred = np.asarray(preference, np.float64)
    return no_difficulty_by(
        np.zeros(preferred.shape, np.int64), preferred, length, baseline_length
    )[0]


def no_difficulty_by(
    group: npt.ArrayLike,
    preference: npt.ArrayLike,
    length: npt.ArrayLike,
    baseline_length: npt.ArrayLike,
) -> list[LengthControlled]:
    """``no_difficulty`` of many matchups at once.

    Args:
        group: Number of the matchup of each verdict, int (q,), from 0 without a gap.
        preference: As of ``no_difficulty``.
        length: Likewise.
        baseline_length: Likewise.

    Returns:
        One for each matchup, in order.

    Raises:
        ValueError: As of ``no_difficulty``.
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
    # A matchup that has settled stays, so that its rate does not depend on what else is reckoned.
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
        # Far from the top, a whole step of Newton's may overshoot; none of these is far.
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
            float(expit(model[each])) if known[each] else float("nan"),
            int(count[each]),
            NO_DIFFICULTY,
            float(weight[each]) if known[each] else float("nan"),
            bool(count[each]) and not (shorter_too[each] and longer_too[each]),
        )
        for each in range(groups)
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


def _one_sided(longer: Floats) -> bool:
    return bool(len(longer)) and not ((longer <= 0).any() and (longer >= 0).any())

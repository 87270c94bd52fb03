"""Intervals that hold however often they are looked at, for stopping as soon as a result is clear.

An ordinary 95 % interval that is looked at after every batch leaves out the truth in far more than
5 % of all runs. This one is a confidence sequence: the chance that it leaves out the truth at any
look is at most 5 %.
"""

import math

# The interval holds at any number of values and is tuned to be narrow at this one.
_NARROW_AT = 100
# Variance of the widest distribution in [0, 1], by Hoeffding's lemma.
_MOST_VARIANCE = 0.25


def interval(mean: float, n: int, level: float = 0.95) -> tuple[float, float]:
    """Confidence sequence for the mean of independent values in [0, 1].

    Robbins's normal mixture: with v = n/4, the sum of n values is, at all n together, within
    sqrt((v + r) log((v + r) / (r (1 - level)^2))) of its expectation with probability ``level``
    (Howard et al., Time-uniform, nonparametric, nonasymptotic confidence sequences, 2021, eq. 14).
    The r is that of their eq. 18, with which the interval is narrow near n = 100.

    Args:
        mean: Mean of the values so far.
        n: How many they are.
        level: Probability that the interval never leaves out the true mean.

    Returns:
        Lower and upper end, within [0, 1]; all of it where there are no values.

    Raises:
        ValueError: ``mean`` is not in [0, 1], ``n`` is negative or ``level`` not in (0, 1).
    """
    if not 0 < level < 1:
        raise ValueError(f"level must be between 0 and 1, not {level}")
    if n < 0:
        raise ValueError(f"n must not be negative, but is {n}")
    if n == 0:
        return 0.0, 1.0
    if not 0 <= mean <= 1:
        raise ValueError(f"the mean of values in [0, 1] can't be {mean}")
    error = 1 - level
    spread = 2 * math.log(1 / error)
    r = _NARROW_AT * _MOST_VARIANCE / (spread + math.log1p(spread))
    v = n * _MOST_VARIANCE
    width = math.sqrt((v + r) * math.log((v + r) / (r * error * error))) / n
    return max(0.0, mean - width), min(1.0, mean + width)

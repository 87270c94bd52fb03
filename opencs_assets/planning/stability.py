"""The stability of a subset: how much of it other seeds, K, α and quotas would choose too."""

import os
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import polars as pl
from threadpoolctl import threadpool_limits

from opencs_assets.config.profiles import Constant, Constants, MethodError
from opencs_assets.planning.rerun import RerunOutcome
from opencs_assets.tables.selection import STABILITY_RUNS, STABILITY_SAMPLES

RUNS = 100
# Share of the runs that vary each factor; every run varies the seed too.
FACTORS = {"seed": 0.4, "clusters": 0.2, "alpha": 0.2, "quota": 0.2}
# K, α and quota are at most so many times smaller or larger.
SPAN = 1.5
VALUES = 5
RESAMPLES = 1_000
MOST_AT_ONCE = 4
LEVEL = 0.95


@dataclass(frozen=True)
class Variant:
    """One run's constants, and the factor that they vary besides the seed."""

    factor: str
    constants: Constants


@dataclass(frozen=True)
class Stability:
    """The result of all runs.

    Attributes:
        samples: One row a sample that any run chose (schema ``STABILITY_SAMPLES``).
        runs: One row a run (schema ``STABILITY_RUNS``).
        jaccard: Mean Jaccard index of two runs, and its interval (low, high).
    """

    samples: pl.DataFrame
    runs: pl.DataFrame
    jaccard: tuple[float, float, float]


def variants(base: Constants, runs: int = RUNS) -> Iterator[Variant]:
    """Constants of the runs, drawn with the base's seed.

    K, α and quota take few values, evenly spaced on a logarithmic scale, each with several seeds,
    so that their effect can be told from that of the seed.
    """
    counts = {factor: round(share * runs) for factor, share in FACTORS.items()}
    times = SPAN ** np.linspace(-1, 1, VALUES)
    for factor, count in counts.items():
        for place in range(count):
            changed: dict[str, Any] = {"seed": base.seed + 1 + place}
            if factor != "seed":
                value = _scaled(getattr(base, factor), float(times[place % VALUES]))
                changed = {"seed": base.seed + 1 + place // VALUES, factor: value}
            yield Variant(factor, replace(base, **changed))


def _scaled(constant: Constant, times: float) -> Constant:
    return Constant(max(round(constant.value * times), 1), f"{constant.value} × {times:.2f}")


def measure(
    base: frozenset[str],
    tried: Sequence[Variant],
    choose: Callable[[Constants], RerunOutcome],
    seed: int,
) -> Stability:
    """Choose anew with each variant; ``base`` is the subset of the settings as they are."""

    def attempt(variant: Variant) -> RerunOutcome | MethodError:
        try:
            return choose(variant.constants)
        except MethodError as error:
            return error

    # A run is many short steps that each use one core at most.
    with threadpool_limits(1), ThreadPoolExecutor(min(os.cpu_count() or 1, MOST_AT_ONCE)) as pool:
        runs = list(pool.map(attempt, tried))
    subsets = [run.chosen for run in runs if not isinstance(run, MethodError)]
    rows = [
        {
            "run": number,
            "factor": variant.factor,
            "seed": variant.constants.seed,
            "alpha": variant.constants.alpha.value,
            "clusters": variant.constants.clusters.value,
            "quota": variant.constants.quota.value,
            **_outcome_columns(outcome, base),
        }
        for number, (variant, outcome) in enumerate(zip(tried, runs, strict=True))
    ]
    names = sorted(base.union(*subsets)) if subsets else sorted(base)
    places = {name: place for place, name in enumerate(names)}
    chosen_in = np.zeros((len(subsets), len(names)), bool)
    for run, subset in enumerate(subsets):
        chosen_in[run, [places[name] for name in subset]] = True
    return Stability(
        samples=pl.DataFrame(
            {
                "sample_id": names,
                "chosen": [name in base for name in names],
                "runs": [len(subsets)] * len(names),
                "times": chosen_in.sum(axis=0),
                "inclusion": chosen_in.mean(axis=0) if subsets else [None] * len(names),
            },
            schema=STABILITY_SAMPLES.schema,
        ),
        runs=pl.DataFrame(rows, schema=STABILITY_RUNS.schema),
        jaccard=between_runs(chosen_in, seed),
    )


def _outcome_columns(outcome: RerunOutcome | MethodError, base: frozenset[str]) -> dict[str, Any]:
    if isinstance(outcome, MethodError):
        return {"chosen": 0, "candidates": 0, "unscored": 0, "failed": str(outcome)}
    return {
        "chosen": len(outcome.chosen),
        "candidates": outcome.scored.height,
        "unscored": outcome.missing,
        "jaccard": _jaccard(outcome.chosen, base),
    }


def between_runs(chosen: np.ndarray, seed: int) -> tuple[float, float, float]:
    """Mean Jaccard index of two different runs, and its bootstrap interval over runs.

    Args:
        chosen: Whether each run chose each sample, bool (r, n).
        seed: Seed of the resampling.

    Returns:
        The mean, and the interval's ends; NaN with fewer than two runs.
    """
    runs = len(chosen)
    if runs < 2:
        return (float("nan"),) * 3
    counts = chosen.sum(axis=1)
    shared = chosen.astype(np.float64) @ chosen.T.astype(np.float64)
    union = counts[:, None] + counts[None, :] - shared
    index = np.divide(shared, union, out=np.ones_like(shared), where=union > 0)
    other = ~np.eye(runs, dtype=bool)
    rng = np.random.default_rng(seed)
    means = []
    for _ in range(RESAMPLES):
        drawn = rng.integers(runs, size=runs)
        # A run may be drawn several times, but is not compared with itself.
        apart = drawn[:, None] != drawn[None, :]
        if apart.any():
            means.append(float(index[np.ix_(drawn, drawn)][apart].mean()))
    low, high = np.quantile(means, [(1 - LEVEL) / 2, (1 + LEVEL) / 2])
    return float(index[other].mean()), float(low), float(high)


def _jaccard(one: frozenset[str], other: frozenset[str]) -> float:
    return len(one & other) / len(one | other) if one | other else 1.0

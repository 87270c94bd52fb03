"""Whom to compare: rounds near the cut beside random and neighbouring pairs, at equal calls.

A simulated scorer judges samples whose quality is known. Its scores have what those of real ones
have: noise that a pair keeps in both orders, noise of one order, a liking for what is shown first,
an own level for each pair, whole numbers from 1 to 100.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import polars as pl

from opencs_assets.scores.aggregate import contrastive_scores
from opencs_assets.scores.contrast import HIGH, LOW
from opencs_assets.scores.rounds import Contest, in_rounds
from opencs_assets.tables.scores import SCORE_COMPARISONS

SEEDS = 24
SIZE, CUT = 100, 20
SHARES = (0.02, 0.05, 0.10, 0.25, 0.50)
# Points of score.
SIGNAL, PAIR_NOISE, ORDER_NOISE, BIAS, LEVEL_NOISE = 10.0, 6.0, 6.0, 5.0, 6.0

Pairs = list[tuple[int, int]]


class Scorer:
    """A simulated scorer of one cluster.

    Attributes:
        quality: Planted quality, float64 (n,), standard normal.
        best: The samples that a perfect scorer would choose.
    """

    def __init__(self, seed: int, size: int = SIZE, cut: int = CUT) -> None:
        rng = np.random.default_rng([seed, size])
        self.quality = rng.normal(size=size)
        self.best = frozenset(np.argsort(-self.quality)[:cut].tolist())
        self._pair = np.triu(rng.normal(0, PAIR_NOISE, (size, size)), 1)
        self._pair -= self._pair.T
        self._order = rng.normal(0, ORDER_NOISE, (size, size))
        level = np.triu(rng.normal(65, LEVEL_NOISE, (size, size)), 1)
        self._level = level + level.T

    def ask(self, pairs: Pairs) -> tuple[np.ndarray, np.ndarray]:
        """Scores of the first and of the second of each pair."""
        first, second = np.array(pairs, np.int64).reshape(-1, 2).T
        lead = SIGNAL * (self.quality[first] - self.quality[second]) + BIAS
        lead += self._pair[first, second] + self._order[first, second]
        level = self._level[first, second]
        level = level + 0.15 * SIGNAL * (self.quality[first] + self.quality[second])
        scores = [np.clip(np.round(level + side * lead / 2), LOW, HIGH) for side in (1, -1)]
        return scores[0], scores[1]

    def long_run(self) -> np.ndarray:
        """Score of each sample beside the average of all, without noise and position."""
        lead = SIGNAL * (self.quality[:, None] - self.quality[None, :])
        return LOW + (HIGH - LOW) * (0.5 + lead.mean(axis=1) / (2 * (HIGH - LOW)))


def table(pairs: Pairs, scorer: Scorer) -> pl.DataFrame:
    """The comparisons as the stage would write them."""
    first, second = np.array(pairs, np.int64).reshape(-1, 2).T
    score_a, score_b = scorer.ask(pairs)
    names = np.array([f"{number:05d}" for number in range(len(scorer.quality))])
    return pl.select(
        cluster=pl.repeat(0, len(pairs), dtype=pl.Int64),
        sample_a=pl.Series(names[first]),
        sample_b=pl.Series(names[second]),
        shown_first=pl.lit("a"),
        score_a=pl.Series(score_a),
        score_b=pl.Series(score_b),
        status=pl.lit("ok"),
        round=pl.lit(0, dtype=pl.Int64),
        reading=pl.lit("generated"),
        reply_id=pl.lit("r"),
        model=pl.lit("m"),
        prompt_version=pl.lit("v"),
    ).select(list(SCORE_COMPARISONS.columns))


def all_pairs(rng: np.random.Generator, scorer: Scorer, calls: int) -> Pairs:
    """The reference: every pair in both orders."""
    size = len(scorer.quality)
    return [(one, other) for one in range(size) for other in range(size) if one != other]


def random_pairs(rng: np.random.Generator, scorer: Scorer, calls: int) -> Pairs:
    """Pairs drawn from all ordered ones, none twice."""
    every = all_pairs(rng, scorer, calls)
    return [every[place] for place in rng.permutation(len(every))[:calls]]


def neighbours(rng: np.random.Generator, scorer: Scorer, calls: int) -> Pairs:
    """Neighbours in both orders, then those two apart, and so on."""
    size = len(scorer.quality)
    order = rng.permutation(size).tolist()
    pairs: Pairs = []
    distance = 1
    while len(pairs) < calls:
        # Of neighbours those without a common one first: each sample once, as published.
        starts = range(size)
        if distance == 1:
            starts = [*range(0, size, 2), *range(1, size, 2)]  # type: ignore[assignment]
        for start in starts:
            one, other = order[start], order[(start + distance) % size]
            pairs += [(one, other), (other, one)]
        distance += 1
    return pairs[:calls]


def near_the_cut(rng: np.random.Generator, scorer: Scorer, calls: int) -> Pairs:
    """Rounds near the cut; the platform's way."""
    size = len(scorer.quality)
    contest = Contest(np.zeros(size, np.int64), np.array([len(scorer.best)]))
    order = rng.permutation(size)
    asked: Pairs = []

    def ask(pairs: Pairs) -> tuple[np.ndarray, np.ndarray]:
        shown = [(int(order[one]), int(order[other])) for one, other in pairs]
        asked.extend(shown)
        first, second = scorer.ask(shown)
        return np.arange(len(pairs)), 0.5 + (first - second) / (2 * (HIGH - LOW))

    for _ in in_rounds(contest, ask, lambda: calls - len(asked)):
        pass
    return asked


@dataclass(frozen=True)
class Outcome:
    """What a way of pairing came to, over the seeds.

    Attributes:
        recall: Mean share of the planted best that it finds.
        error: Standard error of that.
        calls: Mean number of calls that it took.
        coverage: Share of intervals that hold the long run's score.
    """

    recall: float
    error: float
    calls: float
    coverage: float


def simulate(
    way: Callable[[np.random.Generator, Scorer, int], Pairs], calls: int, aggregate: str
) -> Outcome:
    """Run one way of pairing for each seed."""
    recalls, spent, held = [], [], []
    for seed in range(SEEDS):
        scorer = Scorer(seed)
        pairs = way(np.random.default_rng(seed), scorer, calls)
        samples = pl.DataFrame({"sample_id": [f"{each:05d}" for each in range(SIZE)]})
        samples = samples.with_columns(cluster=pl.lit(0, dtype=pl.Int64))
        scores = contrastive_scores(table(pairs, scorer), samples, aggregate).table
        values = scores["score"].fill_null(LOW).to_numpy()
        chosen = np.argsort(-values, kind="stable")[:CUT].tolist()
        recalls.append(len(scorer.best & set(chosen)) / CUT)
        spent.append(len(pairs))
        truth = pl.Series(scorer.long_run())
        held.append((scores["low"].le(truth) & scores["high"].ge(truth)).mean())
    return Outcome(
        float(np.mean(recalls)),
        float(np.std(recalls, ddof=1) / np.sqrt(SEEDS)),
        float(np.mean(spent)),
        float(np.mean([each for each in held if each is not None] or [float("nan")])),
    )


@dataclass(frozen=True)
class Row:
    """One number of calls.

    Attributes:
        what: Which number it is, for a person.
        calls: The number.
        by_way: What each way of pairing came to.
    """

    what: str
    calls: int
    by_way: dict[str, Outcome]


WAYS = {"near the cut": near_the_cut, "random pairs": random_pairs, "neighbours": neighbours}
EVERY = SIZE * (SIZE - 1)


def reference() -> Outcome:
    """All pairs in both orders."""
    return simulate(all_pairs, EVERY, "bradley_terry")


def all_rows() -> Iterator[Row]:
    """Each number of calls, the first that of neighbours once in both orders."""
    budgets = {f"{SIZE} (neighbours in both orders)": SIZE}
    budgets |= {f"{share:.0%}": round(share * EVERY) for share in SHARES}
    for what, calls in budgets.items():
        found = {name: simulate(way, calls, "bradley_terry") for name, way in WAYS.items()}
        yield Row(what, calls, found)


def verdicts(rows: Sequence[Row], every: Outcome) -> Iterator[tuple[str, bool]]:
    """What was to be reached, and whether it is."""
    near = "near the cut"
    quarter = [row.by_way[near] for row in rows if row.calls <= EVERY / 4]
    best = max(quarter, key=lambda found: found.recall)
    yield (
        f"within 2 points of all pairs at <= 25 %: {best.recall:.1%} with {best.calls:,.0f} calls, "
        f"all pairs {every.recall:.1%}",
        best.recall >= every.recall - 0.02,
    )
    first = rows[0].by_way
    margin = first[near].recall - first["neighbours"].recall
    yield (
        f"above neighbours in both orders at their {SIZE} calls: by {margin:.1%}",
        margin > 0,
    )

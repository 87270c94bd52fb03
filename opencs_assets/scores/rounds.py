"""Comparisons in rounds: the next pairs are those that decide what a cluster's cut leaves out.

The first round shows every sample once. After each round, Bradley-Terry says how likely each sample
stands on the wrong side of its cluster's cut, and the next comparisons go to the clusters and
samples where one more comparison changes that most. A pair is shown in one order, which begins with
the sample that was shown first less often; the effect of the position is estimated from all pairs.
"""

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field

import numpy as np
import polars as pl
from scipy.special import ndtr

from opencs_assets.config.profiles import MethodError
from opencs_assets.scores.bradley_terry import Comparisons, Fit, Floats, Ints, fit
from opencs_assets.scores.contrast import HIGH, LOW
from opencs_assets.scores.pairing import Comparison
from opencs_assets.tables.scores import SCORE_COMPARISONS
from resources.errors import InternalError

# The number of rounds in which a budget is spent after the first round.
ROUNDS = 8
# A cut is stable when at most this share of the samples above it is likely to belong below, or when
# this many comparisons a sample have changed nothing above it.
LIKELY_WRONG = 0.01
UNCHANGED = 6.0
# In one pass, a cluster of n samples has n // PASS pairs, so at most every second sample is shown.
PASS = 4


@dataclass
class ComparisonBudget:
    """How many comparisons may be made, for how many dollars; a limit of ``None`` is no limit.

    Stored replies count as if they were paid for now, so that a rerun makes the same comparisons.
    What was ``spent`` is ``None`` where a price is unknown.
    """

    calls: int | None
    usd: float | None
    made: int = 0
    spent: float | None = 0.0

    @property
    def limited(self) -> bool:
        """Whether there is any limit."""
        return self.calls is not None or self.usd is not None

    def note(self, made: int, costs: Iterable[float | None]) -> None:
        """Count comparisons that were made, and what each of their replies cost."""
        self.made += made
        for cost in costs:
            self.spent = None if self.spent is None or cost is None else self.spent + cost

    def begin(self, calls: int, samples: int) -> None:
        """Refuse a budget that is too small for the first round.

        Raises:
            MethodError: The budget has fewer calls; the message says how many are needed.
        """
        if self.calls is not None and self.calls < calls:
            raise MethodError(
                f"method.comparisons = {self.calls:,} is less than the first round takes, which "
                f"shows each of {samples:,} samples once: {calls:,} calls. Set at least that."
            )

    def room(self, most: int) -> int:
        """How many more comparisons may be made, at most ``most``.

        Raises:
            MethodError: Dollars are limited and the price is unknown.
        """
        room = most if self.calls is None else self.calls - self.made
        if self.usd is not None and self.made:
            if self.spent is None:
                raise MethodError(
                    "method.comparisons_usd can't be kept to: the scorer's price is unknown. Add "
                    "it to prices.toml in OPENCS_HOME, or set method.comparisons instead."
                )
            price = self.spent / self.made
            room = min(room, int((self.usd - self.spent) / price) if price else most)
        return max(min(room, most), 0)


@dataclass(frozen=True)
class Contest:
    """Each sample's cluster, and how many samples of each cluster are to be chosen, int64 (c,).

    Clusters are numbered from 0 without gaps and ascend over the samples, int64 (n,).
    """

    cluster: Ints
    cut: Ints

    def members(self, cluster: int) -> slice:
        """Where a cluster's samples stand."""
        start, end = np.searchsorted(self.cluster, [cluster, cluster + 1])
        return slice(int(start), int(end))


@dataclass
class ShownPairs:
    """The pairs that were shown so far, as (first, second).

    Attributes:
        leads: How much more often each sample was shown first than second, int64 (n,).
        above: By cluster, the samples above its cut, and how many comparisons in the cluster have
            left them there.
    """

    leads: Ints
    above: dict[int, tuple[frozenset[int], int]] = field(default_factory=dict)
    pairs: set[tuple[int, int]] = field(default_factory=set)

    def show(self, one: int, other: int) -> tuple[int, int] | None:
        """Order a pair so that both are first equally often; ``None`` if both orders were shown."""
        first, second = (other, one) if self.leads[one] > self.leads[other] else (one, other)
        if (first, second) in self.pairs:
            first, second = second, first
        if (first, second) in self.pairs:
            return None
        self.pairs.add((first, second))
        self.leads[first] += 1
        self.leads[second] -= 1
        return first, second

    def unchanged(self, contest: Contest, cluster: int, known: Fit) -> int:
        """Comparisons in a cluster since the samples above its cut last changed."""
        members = contest.members(cluster)
        order = np.argsort(-known.strengths[members], kind="stable")
        above = frozenset(order[: contest.cut[cluster]].tolist())
        before, count = self.above.get(cluster, (None, 0))
        if above != before:
            count = 0
        self.above[cluster] = above, count
        return count

    def met(self, one: int, other: int) -> bool:
        """Whether the two were compared."""
        return (one, other) in self.pairs or (other, one) in self.pairs


def first_round(contest: Contest, shown: ShownPairs) -> list[tuple[int, int]]:
    """Pair neighbours; where a cluster's size is odd, its last sample meets its first."""
    pairs = []
    for cluster in range(len(contest.cut)):
        members = contest.members(cluster)
        size = members.stop - members.start
        pairs += [(place, place + 1) for place in range(members.start, members.stop - 1, 2)]
        if size > 1 and size % 2:
            pairs.append((members.stop - 1, members.start))
    return [ordered for pair in pairs if (ordered := shown.show(*pair))]


def wrong_side(contest: Contest, known: Fit) -> tuple[Floats, Floats]:
    """How sure each sample's side of its cluster's cut is.

    Returns:
        Distance from the cut in standard deviations, float64 (n,), infinite where the whole
        cluster is chosen or none of it; and the probability of standing on the wrong side,
        float64 (n,).
    """
    distance = np.full(len(contest.cluster), np.inf)
    for cluster, cut in enumerate(contest.cut):
        members = contest.members(cluster)
        strengths = known.strengths[members]
        if not 0 < cut < len(strengths):
            continue
        ordered = np.sort(strengths)[::-1]
        middle = (ordered[cut - 1] + ordered[cut]) / 2
        distance[members] = np.abs(strengths - middle) / known.deviations[members]
    return distance, ndtr(-distance)


def next_round(contest: Contest, known: Fit, shown: ShownPairs, most: int) -> list[tuple[int, int]]:
    """Choose and note the pairs that are shown next, at most ``most``; none if cuts are stable."""
    distance, wrong = wrong_side(contest, known)
    in_doubt = np.bincount(contest.cluster, wrong, len(contest.cut)) / 2
    in_doubt[in_doubt <= LIKELY_WRONG * contest.cut] = 0
    sizes = np.bincount(contest.cluster, minlength=len(contest.cut))
    for doubted in np.flatnonzero(in_doubt).tolist():
        if shown.unchanged(contest, doubted, known) >= UNCHANGED * sizes[doubted]:
            in_doubt[doubted] = 0
    pairs: list[tuple[int, int]] = []
    for cluster, share in enumerate(_shared_out(in_doubt, most)):
        new = _pairs_of_cluster(contest.members(cluster), known, distance, shown, int(share))
        if new:
            above, count = shown.above[cluster]
            shown.above[cluster] = above, count + len(new)
        pairs += new
    return pairs


def _pairs_of_cluster(
    members: slice, known: Fit, distance: Floats, shown: ShownPairs, most: int
) -> list[tuple[int, int]]:
    variance = known.deviations[members] ** 2
    offset = distance[members] * known.deviations[members]
    # One comparison of equals has this error variance, because p (1 - p) is a quarter.
    noise = 4 * known.noise
    size = len(variance)
    pairs: list[tuple[int, int]] = []
    while len(pairs) < most:
        gain = _gain(offset, variance, noise)
        most_in_pass = min(most - len(pairs), max(size // PASS, 1))
        order = np.argsort(-gain, kind="stable")
        new = list(_matched(order, members.start, shown, most_in_pass))
        if not new:
            break
        pairs += new
        compared = np.array(new).ravel() - members.start
        variance[compared] = variance[compared] * noise / (variance[compared] + noise)
    return pairs


def _gain(offset: Floats, variance: Floats, noise: float) -> Floats:
    """How much one more comparison of a sample helps to decide its side of the cut.

    It is the value of information under linear loss: a normal density at the cut, times the part of
    the variance that the comparison takes away.
    """
    deviation = np.sqrt(variance)
    density = np.exp(-0.5 * np.minimum(offset / deviation, 30.0) ** 2)
    return np.asarray(density * variance * deviation / (variance + noise))


def _matched(order: Ints, start: int, shown: ShownPairs, most: int) -> Iterator[tuple[int, int]]:
    """Pair the most valuable samples with each other, each once; new pairs are preferred."""
    waiting = [int(place) + start for place in order]
    count = 0
    while len(waiting) > 1 and count < most:
        one = waiting.pop(0)
        place = next((at for at, other in enumerate(waiting) if not shown.met(one, other)), 0)
        pair = shown.show(one, waiting[place])
        if pair:
            waiting.pop(place)
            count += 1
            yield pair


def _shared_out(weights: Floats, most: int) -> Ints:
    """Split a whole number in proportion to the weights, rounding the largest remainders up."""
    total = weights.sum()
    if total <= 0:
        return np.zeros(len(weights), np.int64)
    exact = weights / total * most
    shares = np.floor(exact).astype(np.int64)
    rest = most - int(shares.sum())
    shares[np.argsort(-(exact - shares), kind="stable")[:rest]] += 1
    return np.asarray(shares)


def in_rounds(
    contest: Contest,
    ask: Callable[[list[tuple[int, int]]], tuple[Ints, Floats]],
    room: Callable[[], int],
) -> Iterator[Fit]:
    """Compare round after round until every cut is stable or there is no room for more.

    Args:
        contest: Clusters and cuts.
        ask: Has pairs (first, second) compared; gives which of them have an outcome, int64 (r,),
            and the outcomes, float64 (r,): how far the first did better, 0 to 1.
        room: Says how many more pairs may be compared.

    Yields:
        The fit after each round.
    """
    shown = ShownPairs(np.zeros(len(contest.cluster), np.int64))
    compared = Comparisons(
        np.zeros(0, np.int64), np.zeros(0, np.int64), np.zeros(0), len(contest.cluster)
    )
    pairs = first_round(contest, shown)
    for left in range(ROUNDS, -1, -1):
        if not pairs:
            return
        readable, share = ask(pairs)
        first, second = np.array(pairs, np.int64)[readable].T
        compared = Comparisons(
            np.concatenate([compared.first, first]),
            np.concatenate([compared.second, second]),
            np.concatenate([compared.share, share]),
            compared.samples,
        )
        known = fit(compared)
        yield known
        if left:
            pairs = next_round(contest, known, shown, -(-max(room(), 0) // left))


class _NotKeptError(InternalError):
    """A round makes a comparison that was not made before."""


def kept_calls(
    candidates: pl.DataFrame, cut: int, kept_comparisons: pl.DataFrame, calls: int
) -> tuple[int, bool]:
    """How far comparing candidates in rounds would come without a new call.

    Args:
        candidates: ``cluster`` and ``sample_id``, sorted by both.
        cut: How many samples of a cluster are to be chosen.
        kept_comparisons: Rows of ``score_comparisons``, in whatever clusters they were made.
        calls: Most comparisons.

    Returns:
        How many kept comparisons would be used, and whether they are all that would be made.

    Raises:
        MethodError: The budget is too small for the first round.
    """
    shown = ["sample_a", "sample_b", "shown_first"]
    turned = kept_comparisons.select(
        pl.exclude("sample_a", "sample_b", "score_a", "score_b", "shown_first"),
        sample_a="sample_b",
        sample_b="sample_a",
        score_a="score_b",
        score_b="score_a",
        shown_first=pl.col("shown_first").replace({"a": "b", "b": "a"}),
    )
    either = pl.concat([kept_comparisons, turned], how="diagonal").unique(shown)
    budget, kept_count = ComparisonBudget(calls, None), 0

    def look_up(comparisons: list[Comparison]) -> pl.DataFrame:
        nonlocal kept_count
        keys = pl.DataFrame([{name: getattr(pair, name) for name in shown} for pair in comparisons])
        table = keys.join(either, on=shown, how="left", maintain_order="left")
        kept_here = table["status"].count()
        kept_count += kept_here
        if kept_here < len(comparisons):
            raise _NotKeptError
        budget.note(len(comparisons), [])
        return table.select(list(SCORE_COMPARISONS.columns))

    try:
        compare_in_rounds(candidates, cut, look_up, budget)
    except _NotKeptError:
        return kept_count, False
    return kept_count, True


def compare_in_rounds(
    candidates: pl.DataFrame,
    cut: int,
    ask: Callable[[list[Comparison]], pl.DataFrame],
    budget: ComparisonBudget,
) -> pl.DataFrame:
    """Have the candidates of a dataset compared in rounds.

    Args:
        candidates: ``cluster`` and ``sample_id``, sorted by both.
        cut: How many samples of a cluster are to be chosen.
        ask: Has comparisons made; gives their rows of ``score_comparisons`` in order.
        budget: How many comparisons may be made, for how many dollars.

    Raises:
        MethodError: The budget is too small for the first round.
    """
    names = candidates["sample_id"].to_list()
    clusters, first_rows = np.unique(candidates["cluster"].to_numpy(), return_index=True)
    cluster = np.repeat(np.arange(len(clusters)), np.diff([*first_rows, len(names)]))
    contest = Contest(cluster, np.full(len(clusters), cut))
    tables: list[pl.DataFrame] = []

    def compare(pairs: list[tuple[int, int]]) -> tuple[Ints, Floats]:
        if not tables:
            budget.begin(len(pairs), len(names))
        table = ask(
            [
                Comparison(
                    int(clusters[cluster[first]]),
                    names[min(first, second)],
                    names[max(first, second)],
                    "a" if first < second else "b",
                    len(tables),
                )
                for first, second in pairs
            ]
        )
        tables.append(table)
        a_first = table["shown_first"] == "a"
        lead = (table["score_a"] - table["score_b"]) * (a_first.cast(pl.Int8) * 2 - 1)
        readable = lead.is_not_null()
        return (
            np.flatnonzero(readable.to_numpy()),
            0.5 + lead.filter(readable).to_numpy() / (2 * (HIGH - LOW)),
        )

    for _ in in_rounds(contest, compare, lambda: budget.room(ROUNDS * len(names))):
        pass
    return pl.concat(tables) if tables else SCORE_COMPARISONS.empty()

"""Comparisons in rounds: the next pairs are those that decide what a cluster's cut leaves out.

The first round shows every sample once. After each round Bradley-Terry says how likely each sample
stands on the wrong side of its cluster's cut, and the next comparisons go to the clusters and
samples where one more comparison moves that most. A pair is shown in one order, the sample that
was shown first less often first; what the position is worth is estimated from all of them.
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

# What is left of a budget after the first round is spent in so many rounds.
ROUNDS = 8
# A cut is stable when so few of the samples above it are likely to belong below, or when so many
# comparisons a sample have changed nothing above it.
LIKELY_WRONG = 0.01
UNCHANGED = 6.0
# In one pass at most every second sample of a cluster is shown.
PASS = 4


@dataclass
class ComparisonBudget:
    """What comparisons may take.

    Replies that are kept count as if they were paid for now, so that a rerun asks the same.

    Attributes:
        calls: Most comparisons; ``None``: not limited.
        usd: Most dollars; ``None``: not limited.
        made: Comparisons so far.
        spent: Dollars so far; ``None`` where a price is unknown.
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
        """Comparisons were made; what each reply cost, unreadable ones too."""
        self.made += made
        for cost in costs:
            self.spent = None if self.spent is None or cost is None else self.spent + cost

    def begin(self, calls: int, samples: int) -> None:
        """Refuse a budget that does not show every sample once.

        Raises:
            MethodError: It does not; the message says what would.
        """
        if self.calls is not None and self.calls < calls:
            raise MethodError(
                f"method.comparisons = {self.calls:,} is less than the first round takes, which "
                f"shows each of {samples:,} samples once: {calls:,} calls. Set at least that."
            )

    def room(self, most: int) -> int:
        """How many more comparisons may be made, at most so many.

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
            each = self.spent / self.made
            room = min(room, int((self.usd - self.spent) / each) if each else most)
        return max(min(room, most), 0)


@dataclass(frozen=True)
class Contest:
    """Samples that compete within their clusters.

    Attributes:
        cluster: Number of each sample's cluster, 0-based without gaps, int64 (n,), ascending.
        cut: How many of each cluster are to be chosen, int64 (c,).
    """

    cluster: Ints
    cut: Ints

    def members(self, cluster: int) -> slice:
        """Where a cluster's samples stand."""
        start, end = np.searchsorted(self.cluster, [cluster, cluster + 1])
        return slice(int(start), int(end))


@dataclass
class Asked:
    """What has been asked so far.

    Attributes:
        pairs: Pairs as (first, second), as they were shown.
        leads: How much more often each sample was shown first than second, int64 (n,).
        above: Samples above each cluster's cut, by cluster, and how many comparisons in the
            cluster have left them there.
    """

    leads: Ints
    above: dict[int, tuple[frozenset[int], int]] = field(default_factory=dict)
    pairs: set[tuple[int, int]] = field(default_factory=set)

    def show(self, one: int, other: int) -> tuple[int, int] | None:
        """Order a pair so that both are shown first equally often; ``None``: both are asked."""
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
        """Comparisons in a cluster since what stands above its cut changed last."""
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


def first_round(contest: Contest, asked: Asked) -> list[tuple[int, int]]:
    """Neighbours in pairs; the odd one of a cluster meets the first, so that none is left out."""
    pairs = []
    for cluster in range(len(contest.cut)):
        members = contest.members(cluster)
        size = members.stop - members.start
        for place in range(0, size - 1 if size > 1 else 0, 2):
            pairs.append((members.start + place, members.start + place + 1))
        if size > 1 and size % 2:
            pairs.append((members.stop - 1, members.start))
    return [shown for pair in pairs if (shown := asked.show(*pair))]


def wrong_side(contest: Contest, known: Fit) -> tuple[Floats, Floats]:
    """How sure each sample's side of its cluster's cut is.

    Args:
        contest: Clusters and cuts.
        known: Strengths and deviations.

    Returns:
        Distance from the cut in standard deviations, float64 (n,), infinite where the whole
        cluster is chosen; and the probability of standing on the wrong side, float64 (n,).
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


def next_round(contest: Contest, known: Fit, asked: Asked, most: int) -> list[tuple[int, int]]:
    """The pairs that are asked next; none where every cut is stable.

    Args:
        contest: Clusters and cuts.
        known: What the comparisons so far say.
        asked: What was asked so far; the new pairs are added.
        most: Most pairs.
    """
    distance, wrong = wrong_side(contest, known)
    in_doubt = np.bincount(contest.cluster, wrong, len(contest.cut)) / 2
    in_doubt[in_doubt <= LIKELY_WRONG * contest.cut] = 0
    sizes = np.bincount(contest.cluster, minlength=len(contest.cut))
    for doubted in np.flatnonzero(in_doubt).tolist():
        if asked.unchanged(contest, doubted, known) >= UNCHANGED * sizes[doubted]:
            in_doubt[doubted] = 0
    pairs: list[tuple[int, int]] = []
    for cluster, share in enumerate(_shared_out(in_doubt, most)):
        new = _of_cluster(contest.members(cluster), known, distance, asked, int(share))
        if new:
            above, count = asked.above[cluster]
            asked.above[cluster] = above, count + len(new)
        pairs += new
    return pairs


def _of_cluster(
    members: slice, known: Fit, distance: Floats, asked: Asked, most: int
) -> list[tuple[int, int]]:
    variance = known.deviations[members] ** 2
    offset = distance[members] * known.deviations[members]
    # What one comparison of equals leaves unknown: p (1 - p) is a quarter.
    noise = 4 * known.noise
    size = len(variance)
    pairs: list[tuple[int, int]] = []
    while len(pairs) < most:
        gain = _gain(offset, variance, noise)
        wanted = min(most - len(pairs), max(size // PASS, 1))
        order = np.argsort(-gain, kind="stable")
        new = list(_matched(order, members.start, asked, wanted))
        if not new:
            break
        pairs += new
        shown = np.array(new).ravel() - members.start
        variance[shown] = variance[shown] * noise / (variance[shown] + noise)
    return pairs


def _gain(offset: Floats, variance: Floats, noise: float) -> Floats:
    """What one more comparison is worth: how far it moves a sample that is near the cut.

    The value of information under linear loss: a normal density at the cut, times what of the
    variance the comparison takes away.
    """
    deviation = np.sqrt(variance)
    density = np.exp(-0.5 * np.minimum(offset / deviation, 30.0) ** 2)
    return np.asarray(density * variance * deviation / (variance + noise))


def _matched(order: Ints, start: int, asked: Asked, most: int) -> Iterator[tuple[int, int]]:
    """Pair samples that are worth most with each other, each once, fresh pairs first."""
    waiting = [int(place) + start for place in order]
    count = 0
    while len(waiting) > 1 and count < most:
        one = waiting.pop(0)
        place = next((at for at, other in enumerate(waiting) if not asked.met(one, other)), 0)
        shown = asked.show(one, waiting[place])
        if shown:
            waiting.pop(place)
            count += 1
            yield shown


def _shared_out(weights: Floats, most: int) -> Ints:
    """Shares of a whole number in proportion, the largest remainders rounded up."""
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
    """Ask round after round until every cut is stable or there is no room for more.

    Args:
        contest: Clusters and cuts.
        ask: Has pairs (first, second) compared; gives which of them have an outcome, int64 (r,),
            and the outcomes, float64 (r,): how far the first did better, 0 to 1.
        room: How many more pairs may be asked.

    Yields:
        What is known after each round.
    """
    asked = Asked(np.zeros(len(contest.cluster), np.int64))
    compared = Comparisons(
        np.zeros(0, np.int64), np.zeros(0, np.int64), np.zeros(0), len(contest.cluster)
    )
    pairs = first_round(contest, asked)
    for left in range(ROUNDS, -1, -1):
        if not pairs:
            return
        readable, share = ask(pairs)
        shown = np.array(pairs, np.int64)[readable]
        compared = Comparisons(
            np.concatenate([compared.first, shown[:, 0]]),
            np.concatenate([compared.second, shown[:, 1]]),
            np.concatenate([compared.share, share]),
            compared.samples,
        )
        known = fit(compared)
        yield known
        if left:
            pairs = next_round(contest, known, asked, -(-max(room(), 0) // left))


class _NotKeptError(InternalError):
    """A round asks what was not asked before."""


def kept_calls(
    candidates: pl.DataFrame, cut: int, kept: pl.DataFrame, calls: int
) -> tuple[int, bool]:
    """How far comparing in rounds would come by what is kept.

    Args:
        candidates: As in ``compare_in_rounds``.
        cut: Likewise.
        kept: Rows of ``score_comparisons``, in whatever clusters they were made.
        calls: Most comparisons.

    Returns:
        How many comparisons would be found, and whether they are all that would be asked.

    Raises:
        MethodError: The budget is less than the first round takes.
    """
    shown = ["sample_a", "sample_b", "shown_first"]
    turned = kept.select(
        pl.exclude("sample_a", "sample_b", "score_a", "score_b", "shown_first"),
        sample_a="sample_b",
        sample_b="sample_a",
        score_a="score_b",
        score_b="score_a",
        shown_first=pl.col("shown_first").replace({"a": "b", "b": "a"}),
    )
    either = pl.concat([kept, turned], how="diagonal").unique(shown)
    budget, found = ComparisonBudget(calls, None), 0

    def look_up(asked: list[Comparison]) -> pl.DataFrame:
        nonlocal found
        wanted = pl.DataFrame([{name: getattr(each, name) for name in shown} for each in asked])
        table = wanted.join(either, on=shown, how="left", maintain_order="left")
        here = table.filter(pl.col("status").is_not_null()).height
        found += here
        if here < len(asked):
            raise _NotKeptError
        budget.note(len(asked), [])
        return table.select(list(SCORE_COMPARISONS.columns))

    try:
        compare_in_rounds(candidates, cut, look_up, budget)
    except _NotKeptError:
        return found, False
    return found, True


def compare_in_rounds(
    candidates: pl.DataFrame,
    cut: int,
    ask: Callable[[list[Comparison]], pl.DataFrame],
    budget: ComparisonBudget,
) -> pl.DataFrame:
    """Have the candidates of a dataset compared in rounds.

    Args:
        candidates: ``cluster`` and ``sample_id``, sorted by both.
        cut: How many of a cluster are to be chosen.
        ask: Has comparisons made; gives their rows of ``score_comparisons`` in order.
        budget: What may be spent.

    Raises:
        MethodError: The budget is less than the first round takes.
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

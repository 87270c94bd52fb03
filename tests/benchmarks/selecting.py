"""From scores to subsets: pairing, Bradley-Terry, choosing, stability, each in its own process."""

import zlib
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numpy as np
import polars as pl

from tests.benchmarks import side, tagset
from tests.benchmarks.tags import CLUSTERS, PUBLISHED, Row

MILLION = 1_000_000
RIDGE, POSITION_RIDGE = 0.5, 0.1
DIMENSIONS = 384
RUNS = 100


def all_rows() -> Iterator[Row]:
    """The rows, each measured when it is its turn."""
    yield from _choosing()
    yield from _strengths()
    yield _stability()


def _side(function: Callable[..., Any], size: int, repeats: int = 1) -> side.Side:
    return side.measure(__name__, function.__name__, size, repeats)


def _choosing() -> Iterator[Row]:
    first = _side(choosing, PUBLISHED, 3)
    pairs, chosen = first.result
    told = f"{pairs:,} comparisons, {chosen:,} chosen"
    yield Row(
        "pairing and selecting",
        f"{PUBLISHED:,} samples, {CLUSTERS} clusters",
        first,
        None,
        told,
        "<= 2 s",
        first.seconds <= 2,
    )
    more = _side(choosing, MILLION, 3)
    grown, times = more.seconds / first.seconds, MILLION / PUBLISHED
    yield Row(
        "the same",
        f"{MILLION:,} samples",
        more,
        None,
        f"{grown:.1f}x the time for {times:.1f}x the samples",
        "near-linear (<= 1.5x that)",
        grown <= 1.5 * times,
    )


def choosing(size: int) -> Callable[[], Any]:
    """Pairs of all samples as candidates, and the choice with the quota that gives 2 %."""
    from opencs_assets.config.profiles import resolve_constants
    from opencs_assets.scores import pairing
    from opencs_assets.selection.choice import SelectorOptions
    from opencs_assets.selection.quota import choose_by_quota
    from resources.settings import Method

    rng = np.random.default_rng(4)
    names = pl.select(pl.int_range(size).cast(pl.String).str.zfill(8)).to_series()
    placed = pl.DataFrame({"cluster": rng.integers(CLUSTERS, size=size), "sample_id": names})
    rows = pl.select(sample_id=names, row=pl.int_range(size))
    scores = placed.with_columns(score=pl.Series(rng.uniform(1, 100, size)))
    clusters = pl.DataFrame(
        {"cluster": list(range(CLUSTERS)), "name": [f"c{each}" for each in range(CLUSTERS)]}
    )
    constants = resolve_constants("corrected", Method(), size)
    k = size // 52
    options = SelectorOptions(k=k, quota=-(-k // CLUSTERS))

    def work() -> Any:
        asked = pairing.comparisons(placed.sort("cluster", "sample_id"), rows, constants)
        considered = choose_by_quota(scores, clusters, options, frozenset())
        return len(asked), considered["choice"].count()

    return work


def _strengths() -> Iterator[Row]:
    ours, plain = _side(strengths_ours, MILLION), _side(strengths_plain, MILLION)
    apart = float(np.abs(ours.result - plain.result).max())
    yield Row(
        "Bradley-Terry, strengths (scikit-learn)",
        f"{MILLION:,} comparisons of {PUBLISHED:,} samples",
        ours,
        plain,
        f"{'yes' if apart <= 1e-6 else 'NO'}; {apart:.0e} apart",
        "<= 10 s, within 1e-6",
        ours.seconds <= 10 and apart <= 1e-6,
    )
    whole = _side(scoring, MILLION)
    yield Row(
        "the same with prior, noise and intervals",
        f"{MILLION:,} comparisons",
        whole,
        None,
        f"{whole.result:.1%} of the intervals hold",
        "<= 10 s",
        whole.seconds <= 10,
    )


def compared(size: int) -> tuple[Any, np.ndarray]:
    """Comparisons within clusters, 0 or 1 each, and the planted strengths."""
    from opencs_assets.scores.bradley_terry import Comparisons

    rng = np.random.default_rng(7)
    cluster = np.sort(rng.integers(CLUSTERS, size=PUBLISHED))
    strengths = rng.normal(size=PUBLISHED)
    starts = np.searchsorted(cluster, np.arange(CLUSTERS + 1))
    first = rng.integers(PUBLISHED, size=size)
    start, end = starts[cluster[first]], starts[cluster[first] + 1]
    second = start + (first - start + rng.integers(1, end - start)) % (end - start)
    chance = 1 / (1 + np.exp(-(strengths[first] - strengths[second] + 0.4)))
    share = (rng.random(size) < chance).astype(float)
    return Comparisons(first, second, share, PUBLISHED), strengths


def strengths_ours(size: int) -> Callable[[], Any]:
    from opencs_assets.scores.bradley_terry import maximize

    comparisons, _ = compared(size)
    start = np.zeros(PUBLISHED)
    return lambda: np.append(*maximize(comparisons, RIDGE, POSITION_RIDGE, start, 0.0))


def strengths_plain(size: int) -> Callable[[], Any]:
    """A logistic regression; its one penalty is for all columns, so the position's is scaled."""
    from scipy import sparse
    from sklearn.linear_model import LogisticRegression

    comparisons, _ = compared(size)
    rows = np.arange(size)
    scale = np.sqrt(RIDGE / POSITION_RIDGE)
    design = sparse.csr_matrix(
        (
            np.concatenate([np.ones(size), -np.ones(size), np.full(size, scale)]),
            (
                np.concatenate([rows, rows, rows]),
                np.concatenate([comparisons.first, comparisons.second, np.full(size, PUBLISHED)]),
            ),
        )
    )
    model = LogisticRegression(
        C=1 / RIDGE, fit_intercept=False, solver="newton-cg", tol=1e-13, max_iter=1_000
    )

    def work() -> Any:
        found = model.fit(design, comparisons.share).coef_[0]
        found[-1] *= scale
        return found

    return work


def scoring(size: int) -> Callable[[], Any]:
    """The whole fit; how often its intervals hold what was planted."""
    from opencs_assets.scores.bradley_terry import fit

    comparisons, strengths = compared(size)

    def work() -> float:
        known = fit(comparisons)
        return float(np.mean(np.abs(known.strengths - strengths) < 1.96 * known.deviations))

    return work


def _stability() -> Row:
    ours = _side(stability, PUBLISHED)
    runs, jaccard = ours.result
    return Row(
        f"stability, {RUNS} re-runs of tags, clusters, scores and choice",
        f"{PUBLISHED:,} samples, {tagset.source()}",
        ours,
        None,
        f"{runs} runs, Jaccard index {jaccard:.2f}",
        "<= 60 s",
        ours.seconds <= 60,
    )


def stability(size: int) -> Callable[[], Any]:
    """Re-runs on samples whose tags are drawn from a real distribution; scores are made."""
    from opencs_assets.config.profiles import resolve_constants
    from opencs_assets.planning.rerun import KeptScores, Reruns
    from opencs_assets.planning.stability import measure, variants
    from opencs_assets.selection.pins import Pins
    from opencs_assets.tables.datasets import RAW_DATASET
    from opencs_assets.tables.scores import SCORE_COMPARISONS
    from resources.settings import Method

    rng = np.random.default_rng(9)
    tags = tagset.open_tags(size)
    samples = pl.DataFrame(
        {
            "sample_id": tags["sample_id"],
            "row": np.arange(size),
            "instruction": [""] * size,
            "response": ["x" * int(length) for length in rng.lognormal(5, 1, size)],
        },
        schema_overrides={name: RAW_DATASET.schema[name] for name in ("sample_id", "row")},
    )
    constants = resolve_constants("corrected", Method(), size)
    nothing_kept = KeptScores(
        samples, tags, SCORE_COMPARISONS.empty(), frozenset(), Pins({}, {}), made_vectors
    )
    asked = Reruns(nothing_kept).comparisons(constants)
    quality = dict(zip(samples["sample_id"], rng.normal(0, 10, size), strict=True))
    lead = [quality[each.sample_a] - quality[each.sample_b] for each in asked]
    lead += rng.normal(0, 10, len(asked))
    comparisons = pl.DataFrame(
        {
            "cluster": [each.cluster for each in asked],
            "sample_a": [each.sample_a for each in asked],
            "sample_b": [each.sample_b for each in asked],
            "shown_first": [each.shown_first for each in asked],
            "score_a": np.clip(50 + lead / 2, 1, 100),
            "score_b": np.clip(50 - lead / 2, 1, 100),
        }
    ).with_columns(
        pl.lit(None, dtype=dtype).alias(name)
        for name, dtype in SCORE_COMPARISONS.schema.items()
        if name in ("round", "status", "reading", "reply_id", "model", "prompt_version")
    )
    kept = KeptScores(samples, tags, comparisons, frozenset(), Pins({}, {}), made_vectors)

    def work() -> tuple[int, float]:
        reruns = Reruns(kept)
        found = measure(
            reruns.run(constants).chosen, list(variants(constants, RUNS)), reruns.run, 0
        )
        return found.runs["jaccard"].count(), found.jaccard[0]

    return work


def made_vectors(texts: Sequence[str]) -> np.ndarray:
    """Unit vectors in groups, the same for the same text, as if they had been kept."""
    middles = np.random.default_rng(8).standard_normal((200, DIMENSIONS), np.float32)
    points = np.empty((len(texts), DIMENSIONS), np.float32)
    for place, text in enumerate(texts):
        number = zlib.crc32(text.encode())
        own = np.random.default_rng(number).standard_normal(DIMENSIONS, np.float32)
        points[place] = middles[number % 200] + own
    return points / np.linalg.norm(points, axis=1, keepdims=True)

"""What is benchmarked: made data of realistic shape, our way and the plain way."""

import json
import tempfile
from collections import Counter, defaultdict
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl

from opencs_assets.clusters.kmeans import kmeans
from opencs_assets.datasets.canonical import read_dataset
from opencs_assets.open_tags.normalize import normalize
from opencs_assets.profiles import resolve_constants
from opencs_assets.schemas import OPEN_TAGS
from opencs_assets.selection.baselines import k_center_greedy
from opencs_assets.selection.quota import choose_by_quota
from resources.settings import Method

SAMPLES = 52_000
VOCABULARY = 20_000
DIMENSIONS = 384
CENTRES = 1000
CLUSTERS = 50


@dataclass(frozen=True)
class Work:
    """One benchmark.

    Attributes:
        name: What is done.
        size: On how much.
        run: The platform's way.
        plain: The plain way, if there is one.
        same: Whether both results are the same.
    """

    name: str
    size: str
    run: Callable[[], Any]
    plain: Callable[[], Any] | None = None
    same: Callable[[Any, Any], bool] = lambda found, expected: bool(found == expected)


def all_works() -> Iterator[Work]:
    """The benchmarks, each made only when it is its turn."""
    yield _reading()
    yield _normalizing()
    yield _clustering()
    yield _centres()
    yield _choosing()


def _reading() -> Work:
    rng = np.random.default_rng(0)
    folder = Path(tempfile.mkdtemp())
    rows = [
        {"instruction": f"Question {row}", "input": "", "output": "word " * int(count)}
        for row, count in enumerate(rng.integers(5, 120, SAMPLES))
    ]
    path = folder / "data.json"
    path.write_text(json.dumps(rows))
    return Work(
        "read a dataset (Alpaca JSON)",
        f"{SAMPLES:,} rows, {path.stat().st_size / 1e6:.0f} MB",
        lambda: read_dataset(path).samples.height,
    )


def _tags() -> pl.DataFrame:
    rng = np.random.default_rng(1)
    words = [f"topic {rank % 700} kind{rank % 31}s {rank}" for rank in range(VOCABULARY)]
    # Alpaca's shape: mostly two or three tags a sample, frequencies with a heavy tail.
    counts = rng.choice([1, 2, 3, 4, 5], SAMPLES, p=[0.04, 0.34, 0.50, 0.10, 0.02])
    ranks = np.minimum(rng.zipf(1.3, counts.sum()) - 1, VOCABULARY - 1)
    places = np.split(ranks, np.cumsum(counts)[:-1])
    return pl.DataFrame(
        {
            "sample_id": [str(row) for row in range(SAMPLES)],
            "tags": [
                [{"tag": words[rank], "explanation": ""} for rank in sample] for sample in places
            ],
            "status": ["ok"] * SAMPLES,
            "detail": [None] * SAMPLES,
            "attempts": [1] * SAMPLES,
            "reply_id": ["r"] * SAMPLES,
            "model": ["m"] * SAMPLES,
            "prompt_version": ["v"] * SAMPLES,
        },
        schema=OPEN_TAGS.schema,
    )


def _normalizing() -> Work:
    table = _tags()
    constants = resolve_constants("corrected", Method(), SAMPLES)
    rows = [[tag["tag"] for tag in tags] for tags in table["tags"].to_list()]

    def plain() -> int:
        """A loop over every occurrence: clean, stem, count, filter."""
        import re

        import Stemmer

        stemmer = Stemmer.Stemmer("porter")

        def key(tag: str) -> str:
            cleaned = re.sub(r"[^\w+#]+|_", " ", tag.lower()).strip()
            return " ".join(stemmer.stemWord(word) for word in cleaned.split())

        carriers: dict[str, set[int]] = defaultdict(set)
        keyed = []
        for row, tags in enumerate(rows):
            keyed.append({key(tag) for tag in tags})
            for tag in keyed[-1]:
                carriers[tag].add(row)
        counts = Counter({tag: len(found) for tag, found in carriers.items()})
        return sum(sum(counts[tag] >= constants.alpha.value for tag in tags) for tags in keyed)

    return Work(
        "normalize tags (merge, then filter)",
        f"{SAMPLES:,} samples, {table['tags'].list.len().sum():,} tags",
        lambda: int(normalize(table, constants).tags["tags"].list.len().sum()),
        plain,
    )


def _clustering() -> Work:
    rng = np.random.default_rng(2)
    middles = rng.normal(size=(CLUSTERS, DIMENSIONS))
    points = (
        middles[rng.integers(CLUSTERS, size=6000)] + rng.normal(size=(6000, DIMENSIONS))
    ).astype(np.float32)
    weights = rng.zipf(1.5, 6000).clip(1, 1000).astype(np.float32)

    def plain() -> float:
        from sklearn.cluster import KMeans

        fitted = KMeans(CLUSTERS, n_init=5, random_state=0).fit(points, sample_weight=weights)
        return float(fitted.inertia_)

    return Work(
        f"k-means, K = {CLUSTERS}, weighted (scikit-learn)",
        f"6,000 x {DIMENSIONS}",
        lambda: kmeans(points, weights, CLUSTERS, seed=0).objective,
        plain,
        lambda found, expected: found <= expected * 1.02,
    )


def _centres() -> Work:
    rng = np.random.default_rng(3)
    points = rng.normal(size=(20_000, DIMENSIONS)).astype(np.float32)
    points /= np.linalg.norm(points, axis=1, keepdims=True)
    centres = 200

    def plain() -> list[int]:
        """All distances to all centres anew at every step."""
        picks = [0]
        nearest = np.full(len(points), np.inf)
        for _ in range(centres - 1):
            nearest = np.minimum(nearest, np.linalg.norm(points - points[picks[-1]], axis=1))
            nearest[picks] = -1
            picks.append(int(nearest.argmax()))
        return picks

    return Work(
        f"k-center greedy, {centres} centres (NumPy differences)",
        f"20,000 x {DIMENSIONS}",
        lambda: k_center_greedy(points, centres, 0)[0].tolist(),
        plain,
    )


def _choosing() -> Work:
    rng = np.random.default_rng(4)
    scores = pl.DataFrame(
        {
            "cluster": rng.integers(CLUSTERS, size=SAMPLES),
            "sample_id": [str(row) for row in range(SAMPLES)],
            "score": rng.uniform(1, 100, SAMPLES),
        }
    )
    clusters = pl.DataFrame(
        {"cluster": list(range(CLUSTERS)), "name": [f"c{each}" for each in range(CLUSTERS)]}
    )
    return Work(
        f"choose {CENTRES:,} by quota",
        f"{SAMPLES:,} samples, {CLUSTERS} clusters",
        lambda: len(
            choose_by_quota(
                scores,
                clusters,
                k=CENTRES,
                quota=20,
                refill=True,
                taken=frozenset(),
                banned=frozenset(),
            )
        ),
    )

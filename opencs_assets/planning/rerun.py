"""The way from tags to a subset under other settings, from stored tables and without a call.

It shows which samples a change would choose and which comparisons it would have to pay for. A
comparison of two samples of a cluster that was never made is missing, and is counted.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field

import polars as pl

from opencs_assets.clusters.kmeans import Floats
from opencs_assets.clusters.membership import Clustering, cluster_samples
from opencs_assets.config.profiles import Constants
from opencs_assets.open_tags.normalize import normalize
from opencs_assets.scores import pairing
from opencs_assets.scores.aggregate import contrastive_scores
from opencs_assets.scores.pairing import Comparison
from opencs_assets.selection.choice import SelectorOptions
from opencs_assets.selection.pins import PINS, Pins, read_pins
from opencs_assets.selection.registry import Subset, select
from opencs_assets.tables.lake import Lake
from resources.settings import Settings

# Normalization and clustering read these constants; equal ones give equal results.
_TAGGING = ("steps", "alpha", "support", "confidence", "semantic_distance", "semantic_neighbours")
_CLUSTERING = (*_TAGGING, "clusterer", "clusters", "cluster_distance", "cluster_neighbours", "seed")


@dataclass(frozen=True)
class KeptScores:
    """The stored tables and settings of a dataset that a rerun needs.

    Attributes:
        samples: Rows of ``raw_dataset``.
        open_tags: Rows of ``open_tags``.
        comparisons: Rows of ``score_comparisons``, of any clusters.
        contaminated: Samples that are left out because they match a benchmark.
        pins: The dataset's pins.
        embed: Gives texts their embeddings, (n, d).
    """

    samples: pl.DataFrame
    open_tags: pl.DataFrame
    comparisons: pl.DataFrame
    contaminated: frozenset[str]
    pins: Pins
    embed: Callable[[Sequence[str]], Floats]

    @classmethod
    def of(
        cls,
        settings: Settings,
        dataset: str,
        samples: pl.DataFrame,
        open_tags: pl.DataFrame,
        comparisons: pl.DataFrame,
        embed: Callable[[Sequence[str]], Floats],
    ) -> "KeptScores":
        """Made from a dataset's tables, with the contaminated samples and pins of its home."""
        contaminated: Iterable[str] = ()
        if settings.method.exclude_contaminated:
            lake = Lake(settings.lake)
            contaminated = lake.read("contaminated_samples", {"dataset": dataset})["sample_id"]
        pins = read_pins(settings.home / PINS, samples["sample_id"].to_list())
        return cls(samples, open_tags, comparisons, frozenset(contaminated), pins, embed)


@dataclass(frozen=True)
class RerunOutcome:
    """The result of other settings.

    Attributes:
        subset: The subset that they choose.
        scored: ``cluster`` and ``sample_id`` of the candidates.
        missing: How many candidates are in no stored comparison of their cluster.
    """

    subset: Subset
    scored: pl.DataFrame
    missing: int

    @property
    def chosen(self) -> frozenset[str]:
        """The chosen samples."""
        return frozenset(self.subset.rows["sample_id"])


@dataclass
class Reruns:
    """Reruns of one dataset, which share the steps that they have in common."""

    kept_scores: KeptScores
    _tags: dict[tuple[object, ...], pl.DataFrame] = field(default_factory=dict)
    _clusters: dict[tuple[object, ...], Clustering] = field(default_factory=dict)
    _vectors: dict[tuple[str, ...], Floats] = field(default_factory=dict)

    def run(self, constants: Constants) -> RerunOutcome:
        """Choose by ``opencs`` with other constants.

        Raises:
            MethodError: Nothing is left with these constants.
        """
        clustering = self.clustering(constants)
        scored = pairing.candidates(clustering.samples, constants)
        comparisons = _in_clusters(self.kept_scores.comparisons, scored)
        scores = contrastive_scores(comparisons, scored, constants.aggregate, intervals=False).table
        tables: Mapping[str, pl.DataFrame] = {
            "raw_dataset": self.kept_scores.samples,
            "contrastive_scores": scores,
            "clusters": clustering.clusters,
            "sample_clusters": clustering.samples,
            "unclustered_samples": clustering.unclustered,
        }
        subset = select(
            "opencs",
            tables.__getitem__,
            self.kept_scores.pins,
            SelectorOptions.of(constants),
            self.kept_scores.contaminated,
        )
        return RerunOutcome(subset, scored, scores.filter(pl.col("comparisons") == 0).height)

    def clustering(self, constants: Constants) -> Clustering:
        """The clusters that these constants lead to."""
        key = _of(constants, _CLUSTERING)
        if key not in self._clusters:
            self._clusters[key] = cluster_samples(
                self._normalized(constants),
                self.kept_scores.samples.select(
                    "sample_id", "row", length=pl.col("response").str.len_chars()
                ),
                self._embed,
                constants,
            )
        return self._clusters[key]

    def comparisons(self, constants: Constants) -> list[Comparison]:
        """The comparisons that scoring with these constants would make first."""
        scored = pairing.candidates(self.clustering(constants).samples, constants)
        return pairing.comparisons(scored, self.kept_scores.samples, constants)

    def _normalized(self, constants: Constants) -> pl.DataFrame:
        key = _of(constants, _TAGGING)
        if key not in self._tags:
            self._tags[key] = normalize(self.kept_scores.open_tags, constants, self._embed).tags
        return self._tags[key]

    def _embed(self, texts: Sequence[str]) -> Floats:
        key = tuple(texts)
        if key not in self._vectors:
            self._vectors[key] = self.kept_scores.embed(texts)
        return self._vectors[key]


def _of(constants: Constants, names: Sequence[str]) -> tuple[object, ...]:
    return tuple(getattr(constants, name) for name in names)


def _in_clusters(comparisons: pl.DataFrame, scored: pl.DataFrame) -> pl.DataFrame:
    """The comparisons of two samples that share a cluster now, moved to that cluster."""
    places = scored.select("cluster", "sample_id")
    return (
        comparisons.drop("cluster")
        .join(places, left_on="sample_a", right_on="sample_id")
        .join(places.rename({"cluster": "other", "sample_id": "sample_b"}), on="sample_b")
        .filter(pl.col("cluster") == pl.col("other"))
        .unique(["cluster", "sample_a", "sample_b", "shown_first"], maintain_order=True)
        .select(list(comparisons.columns))
    )

"""The way from tags to a subset under other settings, from what is kept: no model is asked.

What a change would choose, and which comparisons it would have to pay for. Where the scorer was
never asked about two samples of a cluster, that comparison is missing, and is counted.
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

# What normalization and clustering read of the constants: where these are equal, so is the result.
_TAGGING = ("steps", "alpha", "support", "confidence", "semantic_distance", "semantic_neighbours")
_CLUSTERING = (*_TAGGING, "clusterer", "clusters", "cluster_distance", "cluster_neighbours", "seed")


@dataclass(frozen=True)
class KeptScores:
    """What is kept of a dataset.

    Attributes:
        samples: Rows of ``raw_dataset``.
        open_tags: Rows of ``open_tags``.
        comparisons: Rows of ``score_comparisons``, in whatever clusters they were made.
        contaminated: Samples that are left out.
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
        """What is kept of a dataset, with what its home leaves out and pins."""
        contaminated: Iterable[str] = ()
        if settings.method.exclude_contaminated:
            lake = Lake(settings.lake)
            contaminated = lake.read("contaminated_samples", {"dataset": dataset})["sample_id"]
        pins = read_pins(settings.home / PINS, samples["sample_id"].to_list())
        return cls(samples, open_tags, comparisons, frozenset(contaminated), pins, embed)


@dataclass(frozen=True)
class RerunOutcome:
    """What other settings lead to.

    Attributes:
        subset: The subset that they choose.
        scored: ``cluster`` and ``sample_id`` of the candidates.
        missing: Candidates that no kept comparison tells anything of.
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
    """Reruns of one dataset; what two of them have in common is done once.

    Attributes:
        kept: What is kept of the dataset.
    """

    kept: KeptScores
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
        comparisons = _in_clusters(self.kept.comparisons, scored)
        scores = contrastive_scores(comparisons, scored, constants.aggregate, intervals=False).table
        tables: Mapping[str, pl.DataFrame] = {
            "raw_dataset": self.kept.samples,
            "contrastive_scores": scores,
            "clusters": clustering.clusters,
            "sample_clusters": clustering.samples,
            "unclustered_samples": clustering.unclustered,
        }
        subset = select(
            "opencs",
            tables.__getitem__,
            self.kept.pins,
            SelectorOptions.of(constants),
            self.kept.contaminated,
        )
        return RerunOutcome(subset, scored, scores.filter(pl.col("comparisons") == 0).height)

    def clustering(self, constants: Constants) -> Clustering:
        """Clusters with these constants."""
        key = _of(constants, _CLUSTERING)
        if key not in self._clusters:
            self._clusters[key] = cluster_samples(
                self._normalized(constants),
                self.kept.samples.select(
                    "sample_id", "row", length=pl.col("response").str.len_chars()
                ),
                self._embed,
                constants,
            )
        return self._clusters[key]

    def comparisons(self, constants: Constants) -> list[Comparison]:
        """The comparisons that scoring with these constants would ask for first."""
        scored = pairing.candidates(self.clustering(constants).samples, constants)
        return pairing.comparisons(scored, self.kept.samples, constants)

    def _normalized(self, constants: Constants) -> pl.DataFrame:
        key = _of(constants, _TAGGING)
        if key not in self._tags:
            self._tags[key] = normalize(self.kept.open_tags, constants, self._embed).tags
        return self._tags[key]

    def _embed(self, texts: Sequence[str]) -> Floats:
        key = tuple(texts)
        if key not in self._vectors:
            self._vectors[key] = self.kept.embed(texts)
        return self._vectors[key]


def _of(constants: Constants, names: Sequence[str]) -> tuple[object, ...]:
    return tuple(getattr(constants, name) for name in names)


def _in_clusters(comparisons: pl.DataFrame, scored: pl.DataFrame) -> pl.DataFrame:
    """The comparisons of two samples that are in one cluster now, in that cluster."""
    places = scored.select("cluster", "sample_id")
    return (
        comparisons.drop("cluster")
        .join(places, left_on="sample_a", right_on="sample_id")
        .join(places.rename({"cluster": "other", "sample_id": "sample_b"}), on="sample_b")
        .filter(pl.col("cluster") == pl.col("other"))
        .unique(["cluster", "sample_a", "sample_b", "shown_first"], maintain_order=True)
        .select(list(comparisons.columns))
    )

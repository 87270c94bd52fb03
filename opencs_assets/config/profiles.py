"""The two profiles: every difference between the published code and ours is one named setting.

``faithful`` keeps OpenCS's published constants and order of steps (arXiv 2507.03673) and fails
clearly where they leave nothing. ``corrected``, the default, mends what the research code gets
wrong and scales the constants with the data, so that 200 samples work as well as a million.
"""

from dataclasses import dataclass

from resources.errors import MendableError
from resources.settings import Aggregate, Clusterer, ClusterSize, Method, NormalizationStep, Profile

PUBLISHED_SAMPLES = 52_000
PUBLISHED_ALPHA = 20
PUBLISHED_CLUSTERS = 50
PUBLISHED_QUOTA = 20
PUBLISHED_K = PUBLISHED_CLUSTERS * PUBLISHED_QUOTA
PUBLISHED_SUPPORT = 40
# Fewer samples say little about whether one tag always comes with another.
LEAST_SUPPORT = 10
# Merging before counting keeps "Math" 15 and "math" 15, which filtering first loses both.
MERGE_FIRST: tuple[NormalizationStep, ...] = ("rule", "semantic", "association", "frequency")
FILTER_FIRST: tuple[NormalizationStep, ...] = ("frequency", "rule", "semantic", "association")
# OpenCS left 5,047 candidates to choose 1,000 from; fewer than five a choice is hardly a choice.
CANDIDATES_PER_CHOICE = 5


class MethodError(MendableError):
    """The data can't be processed with these constants; the message says which would work."""


@dataclass(frozen=True)
class Constant:
    """A number of the method and why it has its value."""

    value: int
    reason: str


@dataclass(frozen=True)
class Constants:
    """The method's constants and choices for one dataset.

    Attributes:
        profile: Name of the profile.
        steps: Steps of normalization in order: ``corrected`` merges tags before counting them,
            ``faithful`` drops rare ones first.
        alpha: Tags in fewer samples are dropped.
        support: Fewest samples with two tags that let one merge into the other.
        confidence: Share of a tag's samples that must carry the tag that it merges into.
        semantic_distance: Cosine distance up to which two tags say the same.
        semantic_neighbours: Tags within it, itself among them, that make a cluster grow.
        clusterer: How tags are clustered.
        clusters: Number of clusters, K; ``corrected`` never takes more than unique tags.
        automatic_clusters: Find K in the tags; quotas are still computed from ``clusters``.
        cluster_distance: DBSCAN's Euclidean distance between unit vectors.
        cluster_neighbours: DBSCAN's fewest tags within it, itself among them.
        k: Samples in a subset.
        quota: Samples taken from a cluster in its turn.
        stem_words: Stem every word of a tag; ``faithful`` stems the phrase, which changes only
            its last word.
        keep_symbols: Keep ``+`` and ``#`` in tags, so that C, C++ and C# stay three.
        readable_tags: Call a merged tag by its commonest form; ``faithful`` by its stem.
        count_occurrences: Count a tag's occurrences among DBSCAN's neighbours, as where every
            occurrence is a point; ``corrected`` counts unique tags. (k-means weighs unique tags by
            their counts in both, which has the same objective as occurrences.)
        one_cluster_each: Score a sample in its primary cluster only, so that it is paid for once;
            ``faithful`` scores it in each of its clusters.
        longest_only: Keep one candidate, the longest response, of a label set; ``corrected``
            keeps as many as leave five candidates a choice.
        both_orders: Show each pair in both orders.
        ring: Compare each candidate with two others, so that none is left out; ``faithful`` pairs
            neighbours, and the odd one drops out.
        aggregate: How comparisons become a score; ``faithful`` takes the mean.
        cluster_size: What makes a cluster small, whose turn comes first.
        comparisons: Most calls for comparisons, in rounds; ``None``: as ``ring`` and
            ``both_orders`` say.
        comparisons_usd: The same in dollars.
        refill: Where a cluster can't fill its quota, take the next best of the others.
        seed: Seed of k-means, pairing and sampling.
    """

    profile: Profile
    steps: tuple[NormalizationStep, ...]
    alpha: Constant
    support: Constant
    confidence: float
    semantic_distance: float
    semantic_neighbours: int
    clusterer: Clusterer
    clusters: Constant
    automatic_clusters: bool
    cluster_distance: float
    cluster_neighbours: int
    k: Constant
    quota: Constant
    stem_words: bool
    keep_symbols: bool
    readable_tags: bool
    count_occurrences: bool
    one_cluster_each: bool
    longest_only: bool
    both_orders: bool
    ring: bool
    aggregate: Aggregate
    cluster_size: ClusterSize
    comparisons: int | None
    comparisons_usd: float | None
    refill: bool
    seed: int

    def table(self) -> str:
        """The scaled constants with their reasons, as a Markdown table."""
        rows = [
            f"| {name} | {constant.value:,} | {constant.reason} |"
            for name, constant in (
                ("α (smallest tag)", self.alpha),
                ("support (of a merge)", self.support),
                ("K (clusters)", self.clusters),
                ("k (subset)", self.k),
                ("quota (a cluster)", self.quota),
            )
        ]
        return "\n".join([f"| {self.profile} | value | why |", "| --- | --- | --- |", *rows])


def resolve_constants(profile: Profile, method: Method, samples: int) -> Constants:
    """The constants for a dataset of so many samples; settings in ``method`` override them.

    ``corrected`` scales with n = samples / 52,000, the size that the published values were set
    at. α grows with n, so that it is the same share of the samples (0.04 %) and small data do not
    lose most of their tags. So does the support of a merge, which is never under 10. K and quota
    each grow with the cube root of n, and so k = K · quota with n^(2/3).
    K follows the rule of thumb for k-means, K ∝ √(points): the points are unique tags, whose
    number grows like n^(2/3) (Heaps' law). At 52,000 samples all are the published values.
    """
    ratio = samples / PUBLISHED_SAMPLES

    def constant(set_to: int | None, published: int, power: float, least: int) -> Constant:
        if set_to is not None:
            return Constant(set_to, "set in the settings")
        if profile == "faithful":
            return Constant(published, "published value")
        scaled = max(least, round(published * ratio**power))
        exponent = {1: "", 1 / 3: "^(1/3)", 2 / 3: "^(2/3)"}[power]
        return Constant(scaled, f"{published:,} × ({samples:,} / {PUBLISHED_SAMPLES:,}){exponent}")

    alpha = constant(method.alpha, PUBLISHED_ALPHA, 1, 1)
    support = constant(method.support, PUBLISHED_SUPPORT, 1, LEAST_SUPPORT)
    clusters = constant(
        None if method.clusters == "auto" else method.clusters, PUBLISHED_CLUSTERS, 1 / 3, 2
    )
    k = constant(method.k, PUBLISHED_K, 2 / 3, 2)
    if method.quota is not None or profile == "faithful":
        quota = constant(method.quota, PUBLISHED_QUOTA, 1 / 3, 1)
    else:
        quota = Constant(-(-k.value // clusters.value), "k / K, rounded up")
    corrected = profile == "corrected"
    return Constants(
        profile=profile,
        steps=(
            method.normalization
            if method.normalization is not None
            else (MERGE_FIRST if corrected else FILTER_FIRST)
        ),
        alpha=alpha,
        support=support,
        confidence=method.confidence,
        semantic_distance=method.semantic_distance,
        semantic_neighbours=method.semantic_neighbours,
        clusterer=method.clustering,
        clusters=clusters,
        automatic_clusters=method.clusters == "auto",
        cluster_distance=method.cluster_distance,
        cluster_neighbours=method.cluster_neighbours,
        k=k,
        quota=quota,
        stem_words=corrected,
        keep_symbols=corrected,
        readable_tags=corrected,
        count_occurrences=not corrected,
        one_cluster_each=corrected,
        longest_only=not corrected or samples >= PUBLISHED_SAMPLES,
        both_orders=corrected,
        ring=corrected,
        aggregate=method.aggregate or ("bradley_terry" if corrected else "mean"),
        cluster_size=method.cluster_size,
        comparisons=method.comparisons,
        comparisons_usd=method.comparisons_usd,
        refill=corrected,
        seed=method.seed,
    )

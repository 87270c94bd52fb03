"""The number of clusters, chosen from the points."""

from dataclasses import dataclass

import numpy as np

from opencs_assets.clusters.kmeans import Floats, kmeans

# The curve is made of at most so many points; with more it looks the same and takes longer.
MOST_POINTS = 20_000
GRID_SIZE = 14
CRITERION = "simplified silhouette"


@dataclass(frozen=True)
class ClusterCountCurve:
    """How a number of clusters was chosen.

    Attributes:
        clusters: The number chosen.
        tried: The numbers tried, ascending.
        values: The criterion at each; the largest wins, of equal ones the smallest number.
        criterion: The criterion's name.
    """

    clusters: int
    tried: tuple[int, ...]
    values: tuple[float, ...]
    criterion: str = CRITERION


def choose_clusters(points: Floats, weights: Floats, *, seed: int) -> ClusterCountCurve:
    """Find K by the weighted simplified silhouette (Hruschka et al. 2004).

    A point's value is (b - a) / max(a, b), with its distances a and b to the nearest and the second
    nearest centroid; a point that is a cluster of its own is worth 0, as in Rousseeuw's silhouette,
    since otherwise as many clusters as points would be best. The numbers tried are a geometric
    series from 2 to twice the root of the number of points, and then numbers around the best.

    Args:
        points: float32 (n, d), finite.
        weights: float32 (n,), positive.
        seed: Seed of k-means, and of the points drawn where there are more than 20,000.
    """
    if len(points) < 3:
        return ClusterCountCurve(len(points), (len(points),), (0.0,))
    if len(points) > MOST_POINTS:
        drawn = np.random.default_rng(seed).choice(
            len(points), MOST_POINTS, replace=False, p=weights / weights.sum(dtype=np.float64)
        )
        drawn.sort()
        points, weights = points[drawn], np.ones(MOST_POINTS, np.float32)
    most = min(len(points) - 1, max(3, round(2 * len(points) ** 0.5)))
    grid = np.unique(np.geomspace(2, most, GRID_SIZE).round().astype(int)).tolist()
    values: dict[int, float] = {}

    def worth(clusters: int) -> float:
        if clusters not in values:
            values[clusters] = simplified_silhouette(points, weights, clusters, seed=seed)
        return values[clusters]

    best = max(grid, key=lambda clusters: (worth(clusters), -clusters))
    # The numbers halfway to the best one's neighbours are tried until no number lies between.
    while True:
        tried = sorted(values)
        place = tried.index(best)
        low, high = tried[max(place - 1, 0)], tried[min(place + 1, len(tried) - 1)]
        between = {(low + best) // 2, (best + high + 1) // 2} - set(values)
        if not between:
            return ClusterCountCurve(best, tuple(tried), tuple(values[k] for k in tried))
        best = max([best, *sorted(between)], key=lambda clusters: (worth(clusters), -clusters))


def simplified_silhouette(points: Floats, weights: Floats, clusters: int, *, seed: int) -> float:
    """The weighted mean of the points' values (``choose_clusters``), in [0, 1], for one K."""
    import faiss

    clustering = kmeans(points, weights, clusters, seed=seed)
    if len(clustering.centroids) < 2:
        return 0.0
    squared, _ = faiss.knn(np.ascontiguousarray(points, np.float32), clustering.centroids, 2)
    near, second = np.sqrt(np.maximum(squared, 0)).astype(np.float64).T
    alone = np.bincount(clustering.labels)[clustering.labels] == 1
    value = np.where(alone | (second == 0), 0, 1 - near / np.where(second == 0, 1, second))
    return float(np.average(value, weights=weights))

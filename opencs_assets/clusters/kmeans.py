"""Weighted k-means over embeddings: k-means++ starts, faiss on all points, best of several."""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

ITERATIONS = 50
RESTARTS = 5

Floats = npt.NDArray[np.float32]
Ints = npt.NDArray[np.int64]


@dataclass(frozen=True)
class KMeans:
    """A clustering of n points in d dimensions.

    Attributes:
        labels: Cluster of each point, int64 (n,), numbered by first appearance without gaps.
        objective: Weighted sum of squared distances to the centroids.
    """

    labels: Ints
    objective: float


def kmeans(points: Floats, weights: Floats, clusters: int, *, seed: int) -> KMeans:
    """Cluster weighted points.

    Args:
        points: float32 (n, d), finite.
        weights: float32 (n,), positive.
        clusters: Most clusters, at least 1 and at most n.
        seed: Seed of the initial centroids.

    Returns:
        The best of the restarts. Clusters that no point is nearest to are left out.

    Raises:
        ValueError: A point is not finite, or more clusters than points.
    """
    if not np.isfinite(points).all():
        row = int(np.flatnonzero(~np.isfinite(points).all(axis=1))[0])
        raise ValueError(f"point {row} has a value that is not finite")
    if clusters > len(points):
        raise ValueError(f"{clusters} clusters can't be made of {len(points)} points")
    points = np.ascontiguousarray(points, dtype=np.float32)
    weights = np.ascontiguousarray(weights, dtype=np.float32)
    distances, nearest = min(
        (_lloyd(points, weights, clusters, seed + restart) for restart in range(RESTARTS)),
        key=lambda found: float((found[0] * weights).sum()),
    )
    _, first, labels = np.unique(nearest, return_index=True, return_inverse=True)
    renumbered = np.argsort(np.argsort(first))[labels]
    return KMeans(
        labels=renumbered.astype(np.int64),
        objective=float((distances * weights).sum()),
    )


def _lloyd(points: Floats, weights: Floats, clusters: int, seed: int) -> tuple[Floats, Ints]:
    """One run: squared distance to the nearest centroid and its number, for each point."""
    import faiss
    from sklearn.cluster import kmeans_plusplus

    # faiss starts from random points, which leaves the objective some per cent above k-means++.
    start, _ = kmeans_plusplus(points, clusters, sample_weight=weights, random_state=seed)
    model = faiss.Kmeans(
        points.shape[1],
        clusters,
        niter=ITERATIONS,
        seed=seed,
        # faiss takes a subsample by default, and warns below 39 points a centroid.
        min_points_per_centroid=1,
        max_points_per_centroid=len(points),
    )
    model.train(points, weights=weights, init_centroids=start)
    distances, nearest = model.index.search(points, 1)
    return distances[:, 0], nearest[:, 0]

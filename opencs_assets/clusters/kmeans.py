"""Weighted k-means over embeddings: k-means++ starts, faiss on all points, best of several."""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from threadpoolctl import threadpool_limits

RESTARTS = 5
# With few clusters a restart costs little, and the results of restarts differ more.
MOST_RESTARTS = 20
RESTARTED_CLUSTERS = 100
# Where an iteration has fewer multiplications, threads wait for each other longer than they work.
ONE_THREAD = 2e8
# k-means++ tries so many points for each next centroid. Its default, 2 + ln K, costs nearly as
# much, as going over the points takes longer, and leaves the objective 1 to 2 per cent higher.
TRIED_STARTS = 12
# A restart is tried on so many points a cluster; which one is best is decided on all points.
CORESET = 128
TRIAL_ITERATIONS = 20
# The objective over all points is computed after so many iterations, at most so many times, and
# stands still once it falls by less than this share.
CHUNK = 5
MOST_CHUNKS = 20
STILL = 1e-4

Floats = npt.NDArray[np.float32]
Ints = npt.NDArray[np.int64]


@dataclass(frozen=True)
class KMeans:
    """A clustering of n points in d dimensions.

    Attributes:
        labels: Cluster of each point, int64 (n,), numbered by first appearance without gaps.
        centroids: Middle of each cluster, float32 (k, d), in the order of the labels.
        objective: Weighted sum of squared distances to the centroids.
    """

    labels: Ints
    centroids: Floats
    objective: float


def kmeans(points: Floats, weights: Floats, clusters: int, *, seed: int) -> KMeans:
    """Cluster weighted points.

    Restarts begin with k-means++ and are tried on a sample of the points that is drawn by weight;
    the one with the best objective over all points is refined on all points until the objective
    stands still. The same seed gives the same result, on any number of threads.

    Args:
        points: float32 (n, d), finite.
        weights: float32 (n,), positive and finite.
        clusters: Most clusters, at least 1 and at most n.
        seed: Seed of the sample and of the initial centroids.

    Returns:
        The best of the restarts. Clusters that no point is nearest to are left out.

    Raises:
        ValueError: A point or weight is not finite, points are no rows of values, or more clusters
            than points.
    """
    if points.ndim != 2 or not points.shape[1]:
        raise ValueError(f"points must be rows of at least one value, not {points.shape}")
    if not np.isfinite(points).all():
        row = int(np.flatnonzero(~np.isfinite(points).all(axis=1))[0])
        raise ValueError(f"point {row} has a value that is not finite")
    if weights.shape != (len(points),) or not (np.isfinite(weights) & (weights > 0)).all():
        raise ValueError(f"weights must be {len(points)} positive numbers")
    if not 1 <= clusters <= len(points):
        raise ValueError(f"{clusters} clusters can't be made of {len(points)} points")
    points = np.ascontiguousarray(points, dtype=np.float32)
    weights = np.ascontiguousarray(weights, dtype=np.float32)
    # The limit below holds for libraries that are loaded already, so faiss is loaded before it.
    import faiss  # noqa: F401

    small = len(points) * points.shape[1] * clusters < ONE_THREAD
    with threadpool_limits(1 if small else None):
        objective, nearest, centroids = _best(points, weights, clusters, seed)
    used, first, labels = np.unique(nearest, return_index=True, return_inverse=True)
    order = np.argsort(first)
    return KMeans(np.argsort(order)[labels].astype(np.int64), centroids[used[order]], objective)


def _best(points: Floats, weights: Floats, clusters: int, seed: int) -> tuple[float, Ints, Floats]:
    """Objective, nearest centroids and centroids of the best restart after its refinement."""
    trial, trial_weights = _coreset(points, weights, clusters, seed)
    restarts = max(RESTARTS, min(MOST_RESTARTS, RESTARTED_CLUSTERS // clusters))
    # k-means++ makes many small products. Where another process has a core, threads that wait for
    # each other make it ten times slower or worse.
    with threadpool_limits(1):
        starts = [
            _start(trial, trial_weights, clusters, seed + restart) for restart in range(restarts)
        ]

    def outcome(start: Floats) -> tuple[float, Ints, Floats]:
        centroids = _lloyd(trial, trial_weights, start, TRIAL_ITERATIONS)
        return (*_assign(points, weights, centroids), centroids)

    best = min(map(outcome, starts), key=lambda restart: restart[0])
    for _ in range(MOST_CHUNKS):
        centroids = _lloyd(points, weights, best[2], CHUNK)
        objective, nearest = _assign(points, weights, centroids)
        gained = best[0] - objective
        if gained <= 0:
            break
        still = gained < STILL * best[0]
        best = objective, nearest, centroids
        if still:
            break
    return best


def _coreset(points: Floats, weights: Floats, clusters: int, seed: int) -> tuple[Floats, Floats]:
    """Points drawn by weight, weighted by how often each was drawn; all where they are few."""
    size = clusters * CORESET
    if size >= len(points):
        return points, weights
    drawn = np.random.default_rng(seed).choice(
        len(points), size, p=weights / weights.sum(dtype=np.float64)
    )
    rows, times = np.unique(drawn, return_counts=True)
    if len(rows) < clusters:
        # A few points have nearly all the weight, but the others must become clusters too.
        return points, weights
    return points[rows], times.astype(np.float32)


def _start(points: Floats, weights: Floats, clusters: int, seed: int) -> Floats:
    import sklearn
    from sklearn.cluster import kmeans_plusplus

    # faiss starts from random points, which leaves the objective some per cent above k-means++. The
    # points are known to be finite, and scikit-learn would check it anew in each small step.
    with sklearn.config_context(assume_finite=True, skip_parameter_validation=True):
        start, _ = kmeans_plusplus(
            points, clusters, sample_weight=weights, random_state=seed, n_local_trials=TRIED_STARTS
        )
    return np.ascontiguousarray(start, dtype=np.float32)


def _lloyd(points: Floats, weights: Floats, start: Floats, iterations: int) -> Floats:
    """Centroids after so many iterations of faiss, float32 (k, d)."""
    import faiss

    model = faiss.Kmeans(
        points.shape[1],
        len(start),
        niter=iterations,
        seed=0,
        # faiss takes a subsample by default, and warns below 39 points a centroid.
        min_points_per_centroid=1,
        max_points_per_centroid=len(points),
    )
    model.train(points, weights=weights, init_centroids=start)
    return np.asarray(model.centroids, dtype=np.float32)


def _assign(points: Floats, weights: Floats, centroids: Floats) -> tuple[float, Ints]:
    """Weighted objective, and the nearest centroid of each point, int64 (n,)."""
    import faiss

    distances, nearest = faiss.knn(points, centroids, 1)
    objective = np.dot(distances[:, 0].astype(np.float64), weights.astype(np.float64))
    return float(objective), nearest[:, 0]

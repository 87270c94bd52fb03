"""DBSCAN over unit vectors without a matrix of all distances."""

from collections.abc import Iterator
from typing import Literal

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float32]
Ints = npt.NDArray[np.int64]

# A block of inner products has so many rows and columns: 4096 x 4096 float32 are 64 MB.
BLOCK = 4096
# Inner products this near to the limit are computed again in double precision.
MARGIN = 1e-5
# A graph may hold so many neighbours, at 12 bytes each; a pair of points makes two.
MOST_NEIGHBOURS = 100_000_000


def dbscan(
    points: Floats,
    *,
    distance: float,
    neighbours: int,
    metric: Literal["cosine", "euclidean"] = "cosine",
    weights: Ints | None = None,
) -> Ints:
    """Cluster unit vectors by density (Ester et al. 1996), as scikit-learn does.

    Neighbours are found in blocks of inner products and kept as a sparse graph, on which
    scikit-learn's DBSCAN then works: memory grows with the neighbours, not with n². Equal vectors
    are one point with their number as its weight.

    Args:
        points: float32 (n, d), rows of unit length.
        distance: Largest distance of neighbours.
        neighbours: Fewest points within the distance, itself among them, that make a point a core.
        metric: ``cosine`` (1 - inner product) or ``euclidean``.
        weights: How many points each row stands for, (n,); by default one.

    Returns:
        Cluster of each point, int64 (n,), numbered by first appearance; -1 is noise: no cluster.

    Raises:
        ValueError: A point is not finite, or the distance makes nearly all points neighbours.
    """
    if not len(points):
        return np.zeros(0, np.int64)
    finite = np.isfinite(points).all(axis=1)
    if not finite.all():
        raise ValueError(f"point {int(np.flatnonzero(~finite)[0])} has a value that is not finite")
    from scipy import sparse
    from sklearn.cluster import DBSCAN

    points = np.ascontiguousarray(points, dtype=np.float32)
    unique, inverse = np.unique(points, axis=0, return_inverse=True)
    inverse = inverse.reshape(-1)
    sizes = np.bincount(inverse, weights=weights, minlength=len(unique))
    # Unit vectors: |a - b|² = 2 (1 - ab).
    least = 1 - distance if metric == "cosine" else 1 - distance**2 / 2
    parts = list(_near_pairs(unique, least, distance))
    own = np.arange(len(unique), dtype=np.int32)
    lower = np.concatenate([rows for rows, _ in parts])
    upper = np.concatenate([columns for _, columns in parts])
    rows, columns = np.concatenate([lower, upper, own]), np.concatenate([upper, lower, own])
    # DBSCAN only reads which entries there are, so that any distance within the limit will do.
    within = np.full(len(rows), distance / 2, np.float32)
    graph = sparse.csr_matrix((within, (rows, columns)), shape=(len(unique), len(unique)))
    model = DBSCAN(eps=max(distance, 1e-12), min_samples=neighbours, metric="precomputed")
    labels = model.fit(graph, sample_weight=sizes).labels_[inverse]
    return _by_first_appearance(labels.astype(np.int64))


def _near_pairs(points: Floats, least: float, distance: float) -> Iterator[tuple[Ints, Ints]]:
    """Pairs i < j whose inner product is at least ``least``, block by block."""
    total = 0
    for top in range(0, len(points), BLOCK):
        rows = points[top : top + BLOCK]
        for left in range(top, len(points), BLOCK):
            products = rows @ points[left : left + BLOCK].T
            i, j = np.nonzero(products >= least - MARGIN)
            near, i, j = products[i, j], i + top, j + left
            upper = i < j
            near, i, j = near[upper], i[upper], j[upper]
            unsure = np.flatnonzero(near < least + MARGIN)
            exact = np.einsum("ij,ij->i", points[i[unsure]], points[j[unsure]], dtype=np.float64)
            keep = np.ones(len(i), bool)
            keep[unsure] = exact >= least
            total += int(keep.sum())
            if 2 * total > MOST_NEIGHBOURS:
                raise ValueError(
                    f"at distance {distance} more than {MOST_NEIGHBOURS // 2:,} pairs of "
                    f"{len(points):,} points are neighbours, so that nearly all are one cluster; "
                    "set a smaller distance"
                )
            yield i[keep].astype(np.int32), j[keep].astype(np.int32)


def _by_first_appearance(labels: Ints) -> Ints:
    clustered = labels[labels >= 0]
    _, first, place = np.unique(clustered, return_index=True, return_inverse=True)
    renumbered = labels.copy()
    renumbered[labels >= 0] = np.argsort(np.argsort(first))[place]
    return renumbered

"""DBSCAN without a matrix of all distances gives what scikit-learn's gives."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from opencs_assets.statistics import density
from opencs_assets.statistics.density import dbscan


def near_points(points, seed, dimensions=12, kinds=None):
    rng = np.random.default_rng(seed)
    middles = rng.normal(size=(kinds or max(points // 6, 1), dimensions))
    made = middles[rng.integers(len(middles), size=points)]
    made = made + rng.uniform(0, 0.4, (points, 1)) * rng.normal(size=(points, dimensions))
    return (made / np.linalg.norm(made, axis=1, keepdims=True)).astype(np.float32)


def same_clusters(found, expected):
    return len(set(zip(found, expected, strict=True))) == len(set(found)) == len(set(expected))


def reference(points, distance, neighbours, metric, weights=None):
    from sklearn.cluster import DBSCAN

    model = DBSCAN(eps=distance, min_samples=neighbours, metric=metric)
    return model.fit(points.astype(np.float64), sample_weight=weights).labels_


@given(
    st.integers(1, 120),
    st.integers(0, 1000),
    st.sampled_from([0.01, 0.05, 0.2]),
    st.integers(1, 6),
    st.sampled_from(["cosine", "euclidean"]),
    st.booleans(),
)
def test_is_what_scikit_learn_finds(points, seed, distance, neighbours, metric, weighted):
    made = near_points(points, seed)
    made[points // 2 :: 3] = made[0]
    weights = np.random.default_rng(seed).integers(1, 4, points) if weighted else None
    found = dbscan(made, distance=distance, neighbours=neighbours, metric=metric, weights=weights)
    expected = reference(made, distance, neighbours, metric, weights)
    assert ((found < 0) == (expected < 0)).all()
    core = expected >= 0
    if neighbours <= 2:
        # Without points at a border, which may go to either side.
        assert same_clusters(found[core], expected[core])
    assert len(set(found[core])) == len(set(expected[core]))


def test_across_blocks(monkeypatch):
    made = near_points(300, 1)
    whole = dbscan(made, distance=0.05, neighbours=2)
    monkeypatch.setattr(density, "BLOCK", 37)
    assert (dbscan(made, distance=0.05, neighbours=2) == whole).all()


def test_distance_is_not_similarity():
    # At a similarity of 0.05 all of these were one.
    points = np.array([[1, 0], [0.6, 0.8], [0.2, 0.98]], np.float32)
    points /= np.linalg.norm(points, axis=1, keepdims=True)
    assert dbscan(points, distance=0.05, neighbours=2).tolist() == [-1, -1, -1]


def test_numbers_follow_first_appearance():
    points = np.array([[0, 1, 0], [1, 0, 0], [1, 0, 0], [0, 1, 0], [0, 0, 1]], np.float32)
    assert dbscan(points, distance=0.05, neighbours=2).tolist() == [0, 1, 1, 0, -1]


def test_nothing_and_one_point():
    assert dbscan(np.zeros((0, 4), np.float32), distance=0.05, neighbours=2).tolist() == []
    assert dbscan(np.eye(1, dtype=np.float32), distance=0.05, neighbours=2).tolist() == [-1]
    assert dbscan(np.eye(1, dtype=np.float32), distance=0.05, neighbours=1).tolist() == [0]


def test_points_that_are_not_finite_are_named():
    points = np.eye(3, dtype=np.float32)
    points[2, 0] = np.inf
    with pytest.raises(ValueError, match="point 2"):
        dbscan(points, distance=0.05, neighbours=2)


def test_more_neighbours_than_a_graph_may_hold_are_an_error(monkeypatch):
    # All ten pairs of five points are near, which are twenty neighbours.
    points = near_points(5, 0, kinds=1)
    monkeypatch.setattr(density, "MOST_NEIGHBOURS", 20)
    assert dbscan(points, distance=0.9, neighbours=2).tolist() == [0] * 5
    monkeypatch.setattr(density, "MOST_NEIGHBOURS", 18)
    with pytest.raises(ValueError, match=r"at distance 0.9 more than 9 pairs of 5 points .* set a"):
        dbscan(points, distance=0.9, neighbours=2)

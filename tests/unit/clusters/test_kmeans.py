import numpy as np
import pytest

from opencs_assets.clusters.kmeans import kmeans


def blobs(seed=0, each=30, centres=4, dimensions=8):
    rng = np.random.default_rng(seed)
    middles = rng.normal(size=(centres, dimensions)) * 10
    points = np.concatenate([middle + rng.normal(size=(each, dimensions)) for middle in middles])
    return points.astype(np.float32)


def test_finds_what_is_apart():
    found = kmeans(blobs(), np.ones(120, np.float32), 4, seed=0)
    groups = [set(found.labels[start : start + 30]) for start in range(0, 120, 30)]
    assert all(len(group) == 1 for group in groups)
    assert len(set().union(*groups)) == 4


def test_same_seed_same_clusters():
    points, weights = blobs(), np.ones(120, np.float32)
    first, second = (kmeans(points, weights, 7, seed=3) for _ in range(2))
    assert (first.labels == second.labels).all()


def test_not_worse_than_scikit_learn():
    from sklearn.cluster import KMeans

    rng = np.random.default_rng(1)
    points = rng.normal(size=(400, 16)).astype(np.float32)
    weights = rng.integers(1, 20, 400).astype(np.float32)
    reference = KMeans(10, n_init=5, random_state=0).fit(points, sample_weight=weights)
    assert kmeans(points, weights, 10, seed=0).objective <= reference.inertia_ * 1.03


def test_weights_are_repeated_points():
    points = blobs(each=5)
    weights = np.arange(1, 21, dtype=np.float32)
    found = kmeans(points, weights, 4, seed=0)
    repeated = np.repeat(np.arange(20), weights.astype(int))
    same = kmeans(points[repeated], np.ones(len(repeated), np.float32), 4, seed=0)
    assert found.objective == pytest.approx(same.objective, rel=1e-4)


def test_bad_points_are_named():
    points = blobs()
    points[17, 0] = np.nan
    with pytest.raises(ValueError, match="point 17"):
        kmeans(points, np.ones(120, np.float32), 4, seed=0)
    with pytest.raises(ValueError, match="500 clusters"):
        kmeans(blobs(), np.ones(120, np.float32), 500, seed=0)


def test_equal_points_leave_no_gap_in_the_numbers():
    points = np.ones((10, 4), np.float32)
    labels = kmeans(points, np.ones(10, np.float32), 3, seed=0).labels
    assert sorted(set(labels)) == list(range(len(set(labels))))

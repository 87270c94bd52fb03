import numpy as np
import pytest
from threadpoolctl import threadpool_limits

from opencs_assets.clusters import kmeans as kmeans_module
from opencs_assets.clusters.kmeans import kmeans
from opencs_assets.statistics.density import dbscan


def blobs(seed=0, each=30, centres=4, dimensions=8):
    rng = np.random.default_rng(seed)
    middles = rng.normal(size=(centres, dimensions)) * 10
    points = np.concatenate([middle + rng.normal(size=(each, dimensions)) for middle in middles])
    return points.astype(np.float32)


def test_the_seed_decides_and_clusters_are_numbered_by_first_appearance():
    points, weights = (
        np.random.default_rng(2).normal(size=(200, 8)).astype("f4"),
        np.ones(200, "f4"),
    )
    first, second, other = (kmeans(points, weights, 40, seed=seed) for seed in (3, 3, 4))
    assert (first.labels == second.labels).all()
    assert (first.labels != other.labels).any()
    assert list(dict.fromkeys(first.labels.tolist())) == list(range(40))


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


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_bad_points_are_named(value):
    points = blobs()
    points[17, 0] = value
    with pytest.raises(ValueError, match="point 17 has a value that is not finite"):
        kmeans(points, np.ones(120, np.float32), 4, seed=0)


@pytest.mark.parametrize("clusters", [0, 121])
def test_more_clusters_than_points_or_none_are_an_error(clusters):
    with pytest.raises(ValueError, match=f"{clusters} clusters can't be made of 120 points"):
        kmeans(blobs(), np.ones(120, np.float32), clusters, seed=0)


def test_centroids_are_the_middles_of_their_points():
    points = blobs()
    weights = np.random.default_rng(0).uniform(1, 5, 120).astype(np.float32)
    found = kmeans(points, weights, 4, seed=0)
    for cluster, centroid in enumerate(found.centroids):
        own = found.labels == cluster
        middle = np.average(points[own], axis=0, weights=weights[own])
        assert np.allclose(centroid, middle, atol=1e-3)
    distances = ((points - found.centroids[found.labels]) ** 2).sum(axis=1)
    assert found.objective == pytest.approx(float(distances @ weights), rel=1e-4)


def test_more_points_than_are_tried_on_is_not_worse_than_scikit_learn():
    from sklearn.cluster import KMeans

    points = blobs(seed=4, each=400, centres=12, dimensions=16) / 10
    weights = np.random.default_rng(1).integers(1, 20, len(points)).astype(np.float32)
    reference = KMeans(8, n_init=5, random_state=0).fit(points, sample_weight=weights)
    assert kmeans(points, weights, 8, seed=0).objective <= reference.inertia_ * 1.01


@pytest.mark.parametrize("weights", [[1, 0], [1, -1], [1, np.nan], [1]])
def test_bad_weights_are_an_error(weights):
    with pytest.raises(ValueError, match="2 positive numbers"):
        kmeans(np.eye(2, dtype=np.float32), np.array(weights, np.float32), 1, seed=0)


def test_planted_clusters_are_all_found_in_more_points_than_are_tried_on():
    points = blobs(seed=3, each=300, centres=40, dimensions=32)
    for seed in range(3):
        found = kmeans(points, np.ones(len(points), np.float32), 40, seed=seed)
        assert all(len(set(own)) == 1 for own in found.labels.reshape(40, 300))
        assert len(found.centroids) == 40


def test_light_points_get_clusters_beside_a_few_very_heavy_ones():
    # 1,024 draws by weight are only ever the three heavy points.
    points = np.random.default_rng(0).normal(size=(3000, 4)).astype(np.float32)
    weights = np.full(3000, 1e-3, np.float32)
    weights[:3] = 1e6
    assert len(kmeans(points, weights, 8, seed=0).centroids) == 8


@pytest.mark.parametrize(
    ("points", "clusters", "found"),
    [
        (np.eye(6), 1, 1),
        (np.eye(6), 6, 6),
        (np.eye(6)[:1], 1, 1),
        (np.zeros((50, 3)), 5, 1),
        (np.repeat(np.eye(3), 10, axis=0), 8, 3),
        (np.repeat(np.eye(3), 1000, axis=0), 8, 3),
    ],
)
def test_no_more_clusters_than_kinds_of_points_and_no_noise_on_stderr(
    points, clusters, found, capfd
):
    import warnings

    with warnings.catch_warnings():
        warnings.simplefilter("error")
        made = kmeans(points.astype(np.float32), np.ones(len(points), np.float32), clusters, seed=0)
    assert len(made.centroids) == found
    assert set(made.labels) == set(range(found))
    assert np.isfinite(made.centroids).all()
    assert capfd.readouterr().err == ""


@pytest.mark.parametrize("shape", [(5, 0), (5,)])
def test_points_without_values_are_an_error(shape):
    with pytest.raises(ValueError, match="at least one value"):
        kmeans(np.zeros(shape, np.float32), np.ones(5, np.float32), 2, seed=0)


@pytest.mark.parametrize("size", ["small", "large"])
def test_the_same_on_one_or_two_threads(size, monkeypatch):
    if size == "large":
        monkeypatch.setattr(kmeans_module, "ONE_THREAD", 0)
    rng = np.random.default_rng(5)
    points = rng.normal(size=(4000, 48))
    points[2000:] = points[:2000] + 0.02 * rng.normal(size=(2000, 48))
    points = (points / np.linalg.norm(points, axis=1, keepdims=True)).astype(np.float32)
    weights = rng.zipf(1.5, 4000).clip(1, 1000).astype(np.float32)
    labels = []
    for threads in (1, 2):
        with threadpool_limits(threads):
            labels.append(kmeans(points, weights, 20, seed=0).labels)
            labels.append(dbscan(points, distance=0.05, neighbours=2))
    assert labels[0].max() == 19
    assert labels[1].max() > 100
    np.testing.assert_array_equal(labels[:2], labels[2:])

import numpy as np
import pytest

from opencs_assets.clusters.automatic import choose_clusters, simplified_silhouette


def planted(clusters, dimensions, seed, points=600):
    rng = np.random.default_rng(seed)
    middles = rng.normal(size=(clusters, dimensions))
    own = np.arange(points) % clusters
    return (middles[own] + 0.3 * rng.normal(size=(points, dimensions))).astype(np.float32)


@pytest.mark.parametrize("seed", [0, pytest.param(1, marks=pytest.mark.soak)])
@pytest.mark.parametrize("dimensions", [32, 200])
@pytest.mark.parametrize("clusters", [2, 3, 8, 25])
def test_finds_what_was_planted(clusters, dimensions, seed):
    points = planted(clusters, dimensions, seed)
    found = choose_clusters(points, np.ones(len(points), np.float32), seed=seed)
    assert found.clusters == clusters
    assert found.values[found.tried.index(clusters)] == max(found.values)
    assert list(found.tried) == sorted(set(found.tried))


def test_points_that_are_clusters_of_their_own_are_worth_nothing():
    points = np.eye(12, dtype=np.float32)
    assert simplified_silhouette(points, np.ones(12, np.float32), 12, seed=0) == 0


def test_weights_count():
    points = np.concatenate([planted(2, 16, 0, 40), planted(1, 16, 9, 20) + 20])
    close = np.ones(60, np.float32)
    far = close.copy()
    far[40:] = 1000
    assert simplified_silhouette(points, far, 2, seed=0) > simplified_silhouette(
        points, close, 2, seed=0
    )


@pytest.mark.parametrize("points", [1, 2, 3, 4])
def test_few_points(points):
    found = choose_clusters(
        np.eye(8, dtype=np.float32)[:points], np.ones(points, np.float32), seed=0
    )
    assert 1 <= found.clusters <= points


def test_equal_points_are_one_kind():
    found = choose_clusters(np.ones((50, 4), np.float32), np.ones(50, np.float32), seed=0)
    assert found.clusters == 2
    assert set(found.values) == {0.0}

import numpy as np
import pytest

from opencs_assets.clusters import automatic
from opencs_assets.clusters.automatic import (
    CRITERION,
    ClusterCountCurve,
    choose_clusters,
    simplified_silhouette,
)
from opencs_assets.clusters.kmeans import kmeans


def planted(clusters, dimensions, seed, points=200):
    rng = np.random.default_rng(seed)
    middles = rng.normal(size=(clusters, dimensions))
    own = np.arange(points) % clusters
    return (middles[own] + 0.3 * rng.normal(size=(points, dimensions))).astype(np.float32)


def ones(points):
    return np.ones(len(points), np.float32)


@pytest.mark.parametrize(("clusters", "dimensions"), [(2, 32), (8, 100), (25, 32)])
def test_finds_what_was_planted(clusters, dimensions):
    points = planted(clusters, dimensions, 0)
    found = choose_clusters(points, ones(points), seed=0)
    assert found.clusters == clusters
    assert found.criterion == CRITERION == "simplified silhouette"
    values = dict(zip(found.tried, found.values, strict=True))
    assert values[clusters] == max(values.values())
    assert list(values) == sorted(values)
    # From 2 to twice the root of the number of points, and both numbers beside the best.
    series = np.geomspace(2, round(2 * 200**0.5), 14)
    assert {int(number) for number in series.round()} <= set(values)
    assert {max(clusters - 1, 2), clusters + 1} <= set(values)
    assert min(values) == 2
    assert max(values) == 28
    assert values[5] == simplified_silhouette(points, ones(points), 5, seed=0)


@pytest.mark.parametrize("weighted", [False, True])
def test_the_criterion_is_the_mean_of_what_the_points_are_worth(weighted):
    points = np.concatenate([planted(3, 4, 1, 30), np.full((1, 4), 40, np.float32)])
    weights = np.arange(1, 32, dtype=np.float32) if weighted else ones(points)
    found = kmeans(points, weights, 4, seed=2)
    worth = []
    for point, label in zip(points, found.labels, strict=True):
        a, b = sorted(np.linalg.norm(point - found.centroids, axis=1))[:2]
        worth.append(0 if (found.labels == label).sum() == 1 else 1 - a / b)
    assert worth[-1] == 0
    expected = np.average(worth, weights=weights)
    assert simplified_silhouette(points, weights, 4, seed=2) == pytest.approx(expected, rel=1e-4)


def test_points_that_are_clusters_of_their_own_or_all_in_one_are_worth_nothing():
    points = np.eye(12, dtype=np.float32)
    assert simplified_silhouette(points, ones(points), 12, seed=0) == 0
    assert simplified_silhouette(points, ones(points), 1, seed=0) == 0


def test_of_many_points_some_are_drawn_by_weight(monkeypatch):
    monkeypatch.setattr(automatic, "MOST_POINTS", 60)
    points = planted(4, 8, 0, 61)
    weights = np.arange(1, 62, dtype=np.float32)
    drawn = np.random.default_rng(3).choice(
        61, 60, replace=False, p=weights / weights.sum(dtype=np.float64)
    )
    drawn.sort()
    expected = choose_clusters(points[drawn], ones(drawn), seed=3)
    assert choose_clusters(points, weights, seed=3) == expected
    # As many as the most are all taken, with their weights.
    monkeypatch.setattr(automatic, "MOST_POINTS", 61)
    some = choose_clusters(points, weights, seed=3)
    assert some.values[0] == simplified_silhouette(points, weights, 2, seed=3)


@pytest.mark.parametrize(
    ("points", "tried"), [(0, (0,)), (1, (1,)), (2, (2,)), (3, (2,)), (4, (2, 3)), (8, None)]
)
def test_few_points(points, tried):
    found = choose_clusters(np.eye(8, dtype=np.float32)[:points], np.ones(points, "f4"), seed=0)
    if tried is None:
        assert found.tried[-1] == 6
    else:
        assert found.tried == tried
    if points < 3:
        assert found == ClusterCountCurve(points, (points,), (0.0,))


def test_of_equally_good_numbers_the_smallest_is_taken():
    found = choose_clusters(np.ones((50, 4), np.float32), np.ones(50, np.float32), seed=0)
    assert found.clusters == 2
    assert set(found.values) == {0.0}

from collections import Counter

import polars as pl
from hypothesis import given
from hypothesis import strategies as st

from opencs_assets.config.profiles import resolve_constants
from opencs_assets.scores.pairing import (
    adjacent_pairs,
    candidates,
    comparisons,
    ring_pairs,
    whole_set,
)
from resources.settings import Method


@given(st.integers(0, 200))
def test_ring_leaves_no_one_out(count):
    pairs = ring_pairs(count)
    seen = Counter(member for pair in pairs for member in pair)
    assert set(seen) == (set(range(count)) if count > 1 else set())
    assert len({frozenset(pair) for pair in pairs}) == len(pairs)
    if count > 2:
        assert set(seen.values()) == {2}


@given(st.integers(0, 200))
def test_adjacent_drops_the_odd_one_as_published(count):
    pairs = adjacent_pairs(count)
    assert len(pairs) == count // 2
    assert all(second == first + 1 for first, second in pairs)


def table(clusters):
    """Clusters of samples; a sample in several is primary in the first."""
    seen, rows = set(), []
    for cluster, members in clusters.items():
        for sample in members:
            rows.append((sample, cluster, sample not in seen, True))
            seen.add(sample)
    samples = pl.DataFrame(
        rows, schema=["sample_id", "cluster", "is_primary", "is_candidate"], orient="row"
    )
    order = sorted(seen)
    return samples, pl.DataFrame({"sample_id": order, "row": list(range(len(order)))})


def asked(profile, clusters):
    samples, rows = table(clusters)
    constants = resolve_constants(profile, Method(), 100)
    return comparisons(candidates(samples, constants), rows, constants)


def test_the_odd_sample_is_compared_in_corrected_and_dropped_in_faithful():
    clusters = {0: ["a", "b", "c"]}
    corrected = {each.sample_a for each in asked("corrected", clusters)}
    assert corrected == {"a", "b", "c"}
    faithful = {
        side for each in asked("faithful", clusters) for side in (each.sample_a, each.sample_b)
    }
    assert faithful == {"a", "b"}


def test_corrected_asks_two_opponents_in_both_orders():
    found = asked("corrected", {0: ["a", "b", "c", "d"]})
    orders = Counter((each.sample_a, each.sample_b) for each in found)
    assert set(orders.values()) == {2}
    assert {each.shown_first for each in found} == {"a", "b"}
    met = Counter(side for pair in orders for side in pair)
    assert set(met.values()) == {2}
    assert {each.shown_first for each in asked("faithful", {0: ["a", "b"]})} == {"a"}


def test_a_sample_in_two_clusters_is_paid_for_once():
    found = asked("corrected", {0: ["a", "b"], 1: ["a", "c", "d"]})
    assert {each.cluster for each in found if "a" in (each.sample_a, each.sample_b)} == {0}
    both = asked("faithful", {0: ["a", "b"], 1: ["a", "c"]})
    assert {each.cluster for each in both} == {0, 1}


def test_same_pairs_whatever_the_order_of_the_rows():
    samples, rows = table({0: [f"s{i}" for i in range(9)], 1: [f"t{i}" for i in range(4)]})
    constants = resolve_constants("corrected", Method(), 100)
    mixed = comparisons(candidates(samples.reverse(), constants), rows.reverse(), constants)
    assert mixed == comparisons(candidates(samples, constants), rows, constants)


def test_one_more_sample_changes_few_pairs():
    names = [f"s{i:03}" for i in range(100)]
    before = {frozenset((each.sample_a, each.sample_b)) for each in asked("corrected", {0: names})}
    after = {
        frozenset((each.sample_a, each.sample_b))
        for each in asked("corrected", {0: [*names, "s050x"]})
    }
    assert len(before - after) == 1
    assert len(after - before) == 2


def test_a_cluster_of_one_makes_no_comparison():
    assert asked("corrected", {0: ["a"]}) == []


def test_the_whole_set_is_one_cluster():
    _, rows = table({0: ["a", "b"], 1: ["c"]})
    found = comparisons(whole_set(rows), rows, resolve_constants("corrected", Method(), 3))
    assert {(each.sample_a, each.sample_b) for each in found} == {
        ("a", "b"),
        ("b", "c"),
        ("c", "a"),
    }

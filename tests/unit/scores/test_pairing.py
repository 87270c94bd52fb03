from collections import Counter
from dataclasses import astuple

import polars as pl
import pytest

from opencs_assets.config.profiles import resolve_constants
from opencs_assets.scores.pairing import (
    adjacent_pairs,
    candidates,
    comparisons,
    ring_pairs,
    whole_set,
)
from resources.settings import Method

SCHEMA = {
    "sample_id": pl.String,
    "cluster": pl.Int64,
    "is_primary": pl.Boolean,
    "is_candidate": pl.Boolean,
}
# Five clusters of two, so that an order that is left to chance is hardly ever the right one.
OTHERS = [(f"{name}{n}", n, True, True) for n in range(3, 8) for name in "xy"]
CLUSTERS = pl.DataFrame(
    [
        ("a", 1, True, True),
        ("b", 1, True, True),
        ("c", 1, True, False),
        ("d", 0, True, True),
        ("a", 0, False, True),
        ("e", 0, True, True),
        ("f", 0, True, True),
        ("g", 2, True, True),
        *OTHERS,
    ],
    schema=SCHEMA,
    orient="row",
)
# The order in the file is another one than that of the ids.
IN_FILE = ["e", "f", "b", "d", "a", "c", "g", *(sample for sample, *_ in OTHERS)]
ROWS = pl.DataFrame({"sample_id": IN_FILE, "row": list(range(len(IN_FILE)))})


def asked(profile, samples, rows=ROWS):
    constants = resolve_constants(profile, Method(), 100)
    made = comparisons(candidates(samples, constants), rows, constants)
    return [astuple(each) for each in made]


@pytest.mark.parametrize(
    ("count", "adjacent", "ring"),
    [
        (0, [], []),
        (1, [], []),
        (2, [(0, 1)], [(0, 1)]),
        (3, [(0, 1)], [(0, 1), (1, 2), (2, 0)]),
        (4, [(0, 1), (2, 3)], [(0, 1), (1, 2), (2, 3), (3, 0)]),
        (5, [(0, 1), (2, 3)], [(0, 1), (1, 2), (2, 3), (3, 4), (4, 0)]),
    ],
)
def test_neighbours_drop_the_odd_one_as_published_and_a_ring_leaves_no_one_out(
    count, adjacent, ring
):
    assert adjacent_pairs(count) == adjacent
    assert ring_pairs(count) == ring


@pytest.mark.parametrize("mixed", [False, True], ids=["in order", "mixed"])
def test_corrected_compares_a_ring_by_id_in_both_orders_in_the_primary_cluster(mixed):
    samples, rows = (CLUSTERS.reverse(), ROWS.reverse()) if mixed else (CLUSTERS, ROWS)
    pairs = [(0, "d", "e"), (0, "e", "f"), (0, "f", "d"), (1, "a", "b")]
    pairs += [(n, f"x{n}", f"y{n}") for n in range(3, 8)]
    assert asked("corrected", samples, rows) == [
        (*pair, first, 0) for pair in pairs for first in ("a", "b")
    ]


@pytest.mark.parametrize("mixed", [False, True], ids=["in order", "mixed"])
def test_faithful_compares_neighbours_in_the_file_in_one_order_in_every_cluster(mixed):
    samples, rows = (CLUSTERS.reverse(), ROWS.reverse()) if mixed else (CLUSTERS, ROWS)
    pairs = [(0, "e", "f"), (0, "d", "a"), (1, "b", "a")]
    pairs += [(n, f"x{n}", f"y{n}") for n in range(3, 8)]
    assert asked("faithful", samples, rows) == [(*pair, "a", 0) for pair in pairs]


def test_candidates_stand_by_cluster_and_id():
    constants = resolve_constants("corrected", Method(), 100)
    found = candidates(CLUSTERS.reverse(), constants)
    assert found.columns == ["cluster", "sample_id"]
    assert found.rows()[:6] == [(0, "d"), (0, "e"), (0, "f"), (1, "a"), (1, "b"), (2, "g")]


def test_one_more_sample_changes_few_pairs():
    names = [f"s{i:03}" for i in range(100)]

    def pairs(samples):
        clusters = pl.DataFrame([(each, 0, True, True) for each in samples], SCHEMA, orient="row")
        rows = pl.DataFrame({"sample_id": samples, "row": list(range(len(samples)))})
        return Counter((a, b) for _, a, b, *_ in asked("corrected", clusters, rows))

    before, after = pairs(names), pairs([*names, "s050x"])
    assert set(before.values()) == {2}
    assert set(before - after) == {("s050", "s051")}
    assert set(after - before) == {("s050", "s050x"), ("s050x", "s051")}


def test_the_whole_set_is_one_cluster():
    scored = whole_set(pl.DataFrame({"sample_id": ["c", "a", "b"]}))
    assert scored.schema == {"cluster": pl.Int64, "sample_id": pl.String}
    assert scored.rows() == [(-1, "a"), (-1, "b"), (-1, "c")]
    rows = pl.DataFrame({"sample_id": ["a", "b", "c"], "row": [0, 1, 2]})
    found = comparisons(scored, rows, resolve_constants("corrected", Method(), 3))
    assert [(each.sample_a, each.sample_b) for each in found[::2]] == [
        ("a", "b"), ("b", "c"), ("c", "a"),
    ]  # fmt: skip

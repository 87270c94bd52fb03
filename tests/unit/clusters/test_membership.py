import hashlib

import numpy as np
import polars as pl
import pytest

from opencs_assets.clusters.membership import cluster_samples
from opencs_assets.profiles import MethodError, resolve_constants
from opencs_assets.schemas import CLUSTERS, NORMALIZED_TAGS, SAMPLE_CLUSTERS, conform
from resources.settings import Method

CALLS = []


def embed(texts):
    """A vector a text that depends on the text alone; near for texts with an equal first letter."""
    CALLS.append(list(texts))
    vectors = []
    for text in texts:
        seed = int(hashlib.sha256(text[:1].encode()).hexdigest()[:8], 16)
        own = int(hashlib.sha256(text.encode()).hexdigest()[:8], 16)
        vectors.append(
            np.random.default_rng(seed).normal(size=8)
            + 0.01 * np.random.default_rng(own).normal(size=8)
        )
    return np.array(vectors, np.float32)


def normalized(tags_by_sample):
    return pl.DataFrame(
        [
            {
                "sample_id": sample,
                "tags": sorted(tags),
                "raw_tags": len(tags),
                "reason": None if tags else "not_tagged",
            }
            for sample, tags in tags_by_sample.items()
        ],
        schema=NORMALIZED_TAGS.schema,
    )


def lengths(samples):
    return pl.DataFrame(
        {
            "sample_id": samples,
            "row": list(range(len(samples))),
            "length": [10 * (row + 1) for row in range(len(samples))],
        },
        schema={"sample_id": pl.String, "row": pl.Int64, "length": pl.UInt32},
    )


def run(tags_by_sample, profile="corrected", samples=None, **method):
    constants = resolve_constants(profile, Method(**method), samples or len(tags_by_sample))
    found = cluster_samples(
        normalized(tags_by_sample), lengths(list(tags_by_sample)), embed, constants
    )
    conform(found.samples, SAMPLE_CLUSTERS)
    conform(found.clusters, CLUSTERS)
    return found


DATA = {
    "s0": ["math", "music"],
    "s1": ["math"],
    "s2": ["cooking"],
    "s3": ["cooking", "cakes"],
    "s4": ["poems", "math"],
    "s5": [],
}


def test_embeds_unique_tags_never_occurrences():
    CALLS.clear()
    run(DATA, clusters=3)
    assert [sorted(call) for call in CALLS] == [["cakes", "cooking", "math", "music", "poems"]]


def test_every_tagged_sample_has_exactly_one_primary_cluster():
    found = run(DATA, clusters=3).samples
    assert set(found["sample_id"]) == set(DATA) - {"s5"}
    assert (found.group_by("sample_id").agg(pl.col("is_primary").sum())["is_primary"] == 1).all()


def test_label_set_is_all_clusters_of_the_sample():
    found = run(DATA, clusters=3).samples
    for (_,), rows in found.group_by("sample_id"):
        assert sorted(rows["cluster"]) == rows["label_set"][0].to_list()


def test_longest_response_stands_for_a_label_set():
    tags = {f"s{i}": ["math"] for i in range(6)}
    found = run(tags, samples=52_000, clusters=1).samples
    assert found.filter("is_candidate")["sample_id"].to_list() == ["s5"]


def test_small_data_keeps_enough_candidates_and_says_so():
    tags = {f"s{i}": ["math"] for i in range(60)}
    found = run(tags, clusters=1, k=6)
    assert found.samples["is_candidate"].sum() == 30
    assert any("30 longest" in note for note in found.notes)


def test_more_clusters_than_tags():
    found = run(DATA, clusters=40)
    assert found.clusters.height == 5
    assert "K = 40 is more than the 5 unique tags" in found.notes[0]
    with pytest.raises(MethodError, match="K = 50 clusters can't be made of 5 unique tags"):
        run(DATA, "faithful")


def test_nothing_to_cluster_is_a_clear_error():
    with pytest.raises(MethodError, match="no sample has a normalized tag"):
        run({"a": [], "b": []})


def test_order_of_the_input_does_not_matter():
    constants = resolve_constants("corrected", Method(clusters=3), 6)
    table, rows = normalized(DATA), lengths(list(DATA))
    first = cluster_samples(table, rows, embed, constants)
    second = cluster_samples(table.reverse(), rows.reverse(), embed, constants)
    assert first.samples.equals(second.samples)
    assert first.clusters.equals(second.clusters)


def test_faithful_and_weighted_agree_on_what_is_clear():
    weighted = run(DATA, clusters=3).samples.select("sample_id", "label_set").unique()
    plain = run(DATA, "faithful", clusters=3).samples.select("sample_id", "label_set").unique()
    assert weighted.height == plain.height

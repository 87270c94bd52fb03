import hashlib

import numpy as np
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from opencs_assets.clusters.membership import cluster_samples
from opencs_assets.config.profiles import MethodError, resolve_constants
from opencs_assets.tables.clusters import (
    CLUSTERS,
    REPRESENTATIVES,
    SAMPLE_CLUSTERS,
    UNCLUSTERED_SAMPLES,
)
from opencs_assets.tables.open_tags import NORMALIZED_TAGS
from resources.schema import conform
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
    points = np.array(vectors, np.float32)
    return points / np.linalg.norm(points, axis=1, keepdims=True)


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
    conform(found.unclustered, UNCLUSTERED_SAMPLES)
    conform(found.representatives, REPRESENTATIVES)
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


def test_samples_in_no_cluster_say_why():
    assert run(DATA, clusters=3).unclustered.rows() == [("s5", "not_tagged")]


def test_noise_of_dbscan_is_no_cluster():
    tags = {f"m{i}": [f"math{i}"] for i in range(6)} | {f"c{i}": [f"cooking{i}"] for i in range(6)}
    found = run(tags | {"alone": ["zebra"], "both": ["zebra", "math0"]}, clustering="dbscan")
    assert found.clusters.height == 2
    assert found.unclustered.rows() == [("alone", "noise")]
    assert found.samples.filter(pl.col("sample_id") == "both").height == 1
    assert found.samples["cluster"].min() == 0
    assert any("1 of 13 tags are noise" in note for note in found.notes)


def test_dbscan_that_finds_nothing_says_what_to_change():
    with pytest.raises(MethodError, match=r"no cluster among 5 tags at distance 0\.001"):
        run(DATA, clustering="dbscan", cluster_distance=0.001)


def test_faithful_dbscan_counts_occurrences():
    tags = {f"s{i}": ["math"] for i in range(5)} | {"t": ["zebra"]}
    assert run(tags, "faithful", clustering="dbscan").clusters.height == 1
    with pytest.raises(MethodError, match="finds no cluster"):
        run(tags, clustering="dbscan")


def test_automatic_number_of_clusters_finds_what_is_there():
    tags = {f"{kind}{i}": [f"{kind}{i}"] for kind in "abcdefg" for i in range(12)}
    found = run(tags, clusters="auto")
    assert found.clusters.height == 7
    assert found.curve.clusters == 7
    assert any("K = 7 has the best simplified silhouette" in note for note in found.notes)


def test_representatives_are_the_longest_of_each_label_set():
    found = run(DATA, samples=52_000, clusters=3)
    rows = found.representatives
    assert rows["label_set"].cast(pl.List(pl.String)).list.join(",").n_unique() == rows.height
    assert rows["stands_for"].sum() == found.samples["sample_id"].n_unique()
    of_length = {f"s{i}": 10 * (i + 1) for i in range(6)}
    for sample, label_set, length in rows.select("sample_id", "label_set", "length").iter_rows():
        alike = found.samples.filter(pl.col("label_set") == pl.lit(label_set, pl.List(pl.Int64)))
        assert length == max(of_length[name] for name in alike["sample_id"])
        assert of_length[sample] == length
    assert set(rows["sample_id"]) == set(found.samples.filter("is_candidate")["sample_id"])


def test_embeddings_that_are_not_finite_are_an_error():
    def broken(texts):
        points = embed(texts)
        points[2, 3] = np.nan
        return points

    constants = resolve_constants("corrected", Method(clusters=3), 6)
    with pytest.raises(ValueError, match="point 2 has a value that is not finite"):
        cluster_samples(normalized(DATA), lengths(list(DATA)), broken, constants)


TAGS = st.lists(
    st.sampled_from(["math", "maths", "cakes", "cooking", "poems", "数学", "🎉", "x" * 1000]),
    unique=True,
    max_size=4,
)


@settings(max_examples=40, deadline=None)
@given(
    st.lists(TAGS, min_size=1, max_size=15),
    st.sampled_from(["kmeans", "dbscan"]),
    st.sampled_from([1, 2, 50, "auto"]),
    st.randoms(use_true_random=False),
)
def test_no_sample_disappears_and_order_does_not_matter(rows, clustering, clusters, random):
    tags = {f"s{row}": each for row, each in enumerate(rows)}
    constants = resolve_constants(
        "corrected",
        Method(clustering=clustering, clusters=clusters, cluster_neighbours=2),
        len(tags),
    )
    table, rows = normalized(tags), lengths(list(tags))
    try:
        found = cluster_samples(table, rows, embed, constants)
    except MethodError:
        return
    clustered, not_clustered = set(found.samples["sample_id"]), set(found.unclustered["sample_id"])
    assert clustered | not_clustered == set(tags)
    assert not clustered & not_clustered
    assert found.clusters["members"].sum() == found.samples.height
    assert found.clusters["primary_members"].sum() == len(clustered)
    shuffled = list(range(table.height))
    random.shuffle(shuffled)
    other = cluster_samples(table[shuffled], rows.reverse(), embed, constants)
    for name in ("samples", "clusters", "unclustered", "representatives"):
        assert getattr(other, name).equals(getattr(found, name)), name

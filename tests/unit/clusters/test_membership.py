import hashlib
from dataclasses import replace

import numpy as np
import polars as pl
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from opencs_assets.clusters.membership import cluster_samples
from opencs_assets.clusters.naming import name_clusters
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


def noise(text):
    seed = int(hashlib.sha256(text.encode()).hexdigest()[:8], 16)
    return np.random.default_rng(seed).normal(size=8)


def embed(texts):
    """A vector a text that depends on the text alone; near for texts with an equal first letter."""
    CALLS.append(list(texts))
    points = np.array([noise(text[:1]) + 0.01 * noise(text) for text in texts], np.float32)
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


def lengths(length_by_sample):
    """Rows are numbered from the last sample to the first."""
    last = len(length_by_sample) - 1
    return pl.DataFrame(
        [(name, last - place, each) for place, (name, each) in enumerate(length_by_sample.items())],
        schema={"sample_id": pl.String, "row": pl.Int64, "length": pl.UInt32},
        orient="row",
    )


def run(tags_by_sample, profile="corrected", samples=None, **method):
    constants = resolve_constants(profile, Method(**method), samples or len(tags_by_sample))
    of_length = {name: 10 * place for place, name in enumerate(tags_by_sample, start=1)}
    return clustered(tags_by_sample, of_length, constants)


def clustered(tags_by_sample, of_length, constants):
    found = cluster_samples(normalized(tags_by_sample), lengths(of_length), embed, constants)
    conform(found.samples, SAMPLE_CLUSTERS)
    conform(found.clusters, CLUSTERS)
    conform(found.unclustered, UNCLUSTERED_SAMPLES)
    conform(found.representatives, REPRESENTATIVES)
    # The input's order does not matter.
    other = cluster_samples(
        normalized(tags_by_sample).reverse(), lengths(of_length).reverse(), embed, constants
    )
    for name in ("samples", "clusters", "unclustered", "representatives"):
        assert getattr(other, name).equals(getattr(found, name)), name
    return found


DATA = {
    "s0": ["math", "music"],
    "s1": ["math"],
    "s2": ["cooking"],
    "s3": ["cooking", "cakes"],
    "s4": ["poems", "math"],
    "s5": [],
}
COMMONEST_FIRST = ["math", "cooking", "cakes", "music", "poems"]


def test_embeds_unique_tags_never_occurrences():
    CALLS.clear()
    found = run(DATA, clusters=3)
    assert CALLS[0] == COMMONEST_FIRST
    assert found.map.tags["tag"].to_list() == COMMONEST_FIRST
    assert found.map.tags["count"].to_list() == [3, 2, 1, 1, 1]
    assert found.map.points.shape == (5, 8)


def by_hand(tags_by_sample, of_length, wanted):
    """Rows of the four tables, worked out sample by sample; ``wanted`` candidates or one each."""
    counts = {}
    for tags in tags_by_sample.values():
        for tag in tags:
            counts[tag] = counts.get(tag, 0) + 1
    tags_in_order = sorted(counts, key=lambda tag: (-counts[tag], tag))
    numbers = {}
    for tag in tags_in_order:
        numbers.setdefault(tag[0], len(numbers))
    own = {
        sample: [numbers[tag[0]] for tag in tags] for sample, tags in tags_by_sample.items() if tags
    }
    sizes = {c: sum(c in clusters for clusters in own.values()) for c in numbers.values()}
    primary = {s: min(set(cs), key=lambda c: (-cs.count(c), sizes[c], c)) for s, cs in own.items()}
    row = {sample: len(of_length) - place for place, sample in enumerate(of_length)}
    label_sets = {}
    for sample in sorted(own, key=lambda sample: (-of_length[sample], row[sample])):
        label_sets.setdefault(tuple(sorted(set(own[sample]))), []).append(sample)
    most = 1
    while wanted and sum(len(each[:most]) for each in label_sets.values()) < wanted:
        most += 1
    representatives = sorted(
        (primary[sample], list(labels), place, sample, of_length[sample], len(alike))
        for labels, alike in label_sets.items()
        for place, sample in enumerate(alike[:most])
    )
    chosen = {sample for _, _, _, sample, _, _ in representatives}
    samples = sorted(
        (s, c, primary[s] == c, s in chosen, sorted(set(cs)))
        for s, cs in own.items()
        for c in set(cs)
    )
    tag_clusters = [(tag, numbers[tag[0]]) for tag in tags_in_order]
    documents = [(primary[sample], tag) for sample in own for tag in tags_by_sample[sample]]
    names = name_clusters(
        pl.DataFrame(tag_clusters, schema=["tag", "cluster"], orient="row"),
        pl.DataFrame(documents, schema=["cluster", "tag"], orient="row"),
    )
    clusters = [
        (
            cluster,
            name,
            [tag for tag, other in tag_clusters if other == cluster],
            sizes[cluster],
            sum(first == cluster for first in primary.values()),
            sum(primary[sample] == cluster for sample in chosen),
        )
        for cluster, name in names.iter_rows()
    ]
    unclustered = [(s, "not_tagged") for s in sorted(tags_by_sample) if not tags_by_sample[s]]
    return samples, representatives, clusters, unclustered


@settings(max_examples=25)
@given(
    st.lists(
        st.tuples(
            st.sets(st.sampled_from(["a", "a1", "b", "b1", "b2", "c"]), max_size=4),
            st.sampled_from([10, 20]),
        ),
        min_size=1,
        max_size=14,
    ),
    st.booleans(),
    st.integers(1, 2),
)
# Two tags in each of two clusters: the smaller one is the primary one, the larger comes first.
@example([({"a", "a1", "b", "b1"}, 10), ({"a"}, 10), ({"b"}, 10), ({"a", "c"}, 20)], False, 1)
@example([({"a", "b"}, 10), ({"b"}, 10), ({"b"}, 10), ({"c"}, 10), ({"c", "a"}, 20)], True, 1)
# Five and six candidates are wanted: exactly as many as three places give, or one too many.
@example([({"a"}, 10)] * 5 + [({"b"}, 20)] * 2 + [({"c"}, 20)] * 1, False, 1)
@example([({"a"}, 10)] * 9 + [({"b"}, 20)] * 1, False, 1)
@example([({"a"}, 20)] * 3, False, 2)
def test_membership_is_that_of_the_rule_taken_sample_by_sample(rows, longest_only, k):
    tags = {f"s{place:02}": sorted(own) for place, (own, _) in enumerate(rows)}
    of_length = {f"s{place:02}": length for place, (_, length) in enumerate(rows)}
    if not any(tags.values()):
        return
    letters = {tag[0] for own in tags.values() for tag in own}
    constants = resolve_constants("corrected", Method(clusters=len(letters), k=k), len(tags))
    constants = replace(constants, longest_only=longest_only)
    found = clustered(tags, of_length, constants)
    wanted = 0 if longest_only else min(5 * k, sum(map(bool, tags.values())))
    samples, representatives, clusters, unclustered = by_hand(tags, of_length, wanted)
    columns = ("sample_id", "cluster", "is_primary", "is_candidate", "label_set")
    assert found.samples.select(columns).rows() == samples
    columns = ("cluster", "label_set", "place", "sample_id", "length", "stands_for")
    assert found.representatives.select(columns).rows() == representatives
    columns = ("cluster", "name", "tags", "members", "primary_members", "candidates")
    assert found.clusters.select(columns).rows() == clusters
    assert found.unclustered.rows() == unclustered
    most = 1 + max(place for _, _, place, *_ in representatives)
    said = [note for note in found.notes if "longest responses" in note]
    assert len(said) == (most > 1)


def test_small_data_keeps_enough_candidates_and_says_so():
    tags = {f"s{i}": ["math"] for i in range(60)}
    found = run(tags, clusters=1, k=6)
    assert found.samples["is_candidate"].sum() == 30
    assert found.notes == (
        "the 30 longest responses of a label set are candidates, so that 5 stand behind each "
        "choice (published: 1)",
    )
    large = run(tags, samples=52_000, clusters=1).samples
    assert large.filter("is_candidate")["sample_id"].to_list() == ["s59"]


def test_more_clusters_than_tags():
    found = run(DATA, clusters=6)
    assert found.clusters.height == 5
    assert found.notes[0] == "K = 6 is more than the 5 unique tags; K = 5 is used"
    assert not any("K = " in note for note in run(DATA, clusters=5).notes)
    assert run(DATA, "faithful", clusters=5).clusters.height == 5
    with pytest.raises(MethodError, match="K = 6 clusters can't be made of 5 unique tags"):
        run(DATA, "faithful", clusters=6)


def test_nothing_to_cluster_is_a_clear_error():
    with pytest.raises(MethodError, match="no sample has a normalized tag"):
        run({"a": [], "b": []})


def test_noise_of_dbscan_is_no_cluster():
    tags = {f"m{i}": [f"math{i}"] for i in range(6)} | {f"c{i}": [f"cooking{i}"] for i in range(6)}
    found = run(tags | {"alone": ["zebra"], "both": ["zebra", "math0"]}, clustering="dbscan")
    assert found.clusters.height == 2
    assert found.unclustered.rows() == [("alone", "noise")]
    assert found.samples.filter(pl.col("sample_id") == "both").height == 1
    assert found.samples["cluster"].min() == 0
    assert found.notes[0] == "1 of 13 tags are noise to DBSCAN and in no cluster"
    assert found.curve is None
    assert not any("noise" in note for note in run(tags, clustering="dbscan").notes)


@pytest.mark.parametrize(
    ("neighbours", "distance", "clusters"), [(4, 0.1, 2), (5, 0.1, 0), (4, 0.005, 0)]
)
def test_dbscan_takes_its_constants(neighbours, distance, clusters):
    # Each of two kinds has four tags at Euclidean distances of some 0.01.
    tags = {f"{kind}{i}": [f"{kind}{i}"] for kind in "ab" for i in range(4)}
    chosen = {"cluster_neighbours": neighbours, "cluster_distance": distance}
    if clusters:
        assert run(tags, clustering="dbscan", **chosen).clusters.height == clusters
    else:
        message = f"no cluster among 8 tags at distance {distance} with {neighbours} neighbours"
        with pytest.raises(MethodError, match=message):
            run(tags, clustering="dbscan", **chosen)


def test_faithful_dbscan_counts_occurrences():
    tags = {f"s{i}": ["math"] for i in range(5)} | {"t": ["zebra"]}
    assert run(tags, "faithful", clustering="dbscan").clusters.height == 1
    with pytest.raises(MethodError, match="finds no cluster"):
        run(tags, clustering="dbscan")


def test_automatic_number_of_clusters_finds_what_is_there():
    tags = {f"{kind}{i}": [f"{kind}{i}"] for kind in "abcdefg" for i in range(6)}
    found = run(tags, clusters="auto")
    assert found.clusters.height == 7
    assert found.curve.clusters == 7
    assert found.notes[0] == "K = 7 has the best simplified silhouette of those that were tried"
    # Of two tags of each kind, no larger number is tried.
    few = {name: own for name, own in tags.items() if name[1] in "01"}
    (note,) = run(few, clusters="auto", k=1).notes
    assert note.startswith("K = 7 has")
    assert note.endswith(
        "; it is the largest of them, so the tags have no clear number of clusters"
    )
    assert run({"a": ["x"]}, clusters="auto").notes[0].endswith("those that were tried")


def test_the_seed_and_the_counts_of_tags_reach_k_means():
    tags = {f"s{i:02}": [chr(0x4E00 + i)] for i in range(90)}
    found = {tuple(run(tags, clusters=25, seed=seed).samples["cluster"]) for seed in (0, 0, 10, 20)}
    assert 1 < len(found) < 4
    # Of two clusters, a tag that is in most of the samples has one to itself.
    heavy = {f"s{i}": ["maths", "mathx" if i % 2 else "mathy"] for i in range(40)}
    assert ["maths"] in run(heavy, clusters=2).clusters["tags"].to_list()


def test_embeddings_that_are_not_finite_are_an_error():
    def broken(texts):
        points = embed(texts)
        points[2, 3] = np.nan
        return points

    constants = resolve_constants("corrected", Method(clusters=3), 6)
    with pytest.raises(ValueError, match="point 2 has a value that is not finite"):
        cluster_samples(normalized(DATA), lengths(dict.fromkeys(DATA, 1)), broken, constants)


@settings(max_examples=10)
@given(
    st.lists(
        st.lists(
            st.sampled_from(["math", "maths", "cakes", "数学", "🎉"]), unique=True, max_size=4
        ),
        min_size=1,
        max_size=15,
    ),
    st.sampled_from(["kmeans", "dbscan"]),
    st.sampled_from([1, 2, 50, "auto"]),
)
def test_no_sample_disappears(rows, clustering, clusters):
    tags = {f"s{row}": each for row, each in enumerate(rows)}
    try:
        found = run(tags, clustering=clustering, clusters=clusters, cluster_neighbours=2)
    except MethodError:
        return
    with_cluster = set(found.samples["sample_id"])
    without = set(found.unclustered["sample_id"])
    assert with_cluster | without == set(tags)
    assert not with_cluster & without

import math

import polars as pl

from opencs_assets.clusters.naming import name_clusters


def frame(*rows):
    return pl.DataFrame(rows, schema={"cluster": pl.Int64, "tag": pl.String}, orient="row")


def test_what_is_everywhere_names_nothing():
    tags = frame((0, "writing"), (0, "poetry"), (1, "cooking"))
    documents = frame(
        *[(0, "writing")] * 6, *[(0, "poetry")] * 5, *[(1, "writing")] * 40, *[(1, "cooking")] * 5
    )
    assert name_clusters(tags, documents, most=1).rows() == [(0, "poetry"), (1, "cooking")]


def test_the_weight_is_c_tf_idf():
    # A = 20 / 2: a has 4 * log(1 + 10 / 4), b has 6 * log(1 + 10 / 12).
    assert 4 * math.log(1 + 10 / 4) > 6 * math.log(1 + 10 / 12)
    tags = frame((0, "a"), (0, "b"), (1, "c"))
    documents = frame(*[(0, "a")] * 4, *[(0, "b")] * 6, *[(1, "b")] * 6, *[(1, "c")] * 4)
    assert name_clusters(tags, documents)["name"].to_list() == ["a, b", "c"]


def test_only_a_clusters_own_tags_name_it():
    documents = frame(*[(0, "b")] * 9, (0, "a"), (1, "b"))
    named = name_clusters(frame((0, "a"), (1, "b")), documents)
    assert named["name"].to_list() == ["a", "b"]


def test_a_cluster_without_primary_samples_has_a_name():
    tags = frame((0, "a"), (1, "c"), (1, "b"))
    documents = frame((0, "a"), (0, "b"))
    assert name_clusters(tags, documents).rows() == [(0, "a"), (1, "b, c")]

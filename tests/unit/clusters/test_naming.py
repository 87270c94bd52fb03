import polars as pl
import pytest

from opencs_assets.clusters.naming import name_clusters


def frame(*counts):
    """Rows of (cluster, tag, how often)."""
    rows = [(cluster, tag) for cluster, tag, times in counts for _ in range(times)]
    return pl.DataFrame(rows, schema={"cluster": pl.Int64, "tag": pl.String}, orient="row")


def tags(*clusters):
    """Each cluster's own tags."""
    return frame(*((number, tag, 1) for number, own in enumerate(clusters) for tag in own))


@pytest.mark.parametrize(
    ("own", "documents", "most", "names"),
    [
        # A tag that is everywhere names nothing.
        (
            [["writing", "poetry"], ["cooking"]],
            [(0, "writing", 6), (0, "poetry", 5), (1, "writing", 40), (1, "cooking", 5)],
            1,
            ["poetry", "cooking"],
        ),
        # The weight of a is 4 log(1 + A/4), that of b 6 log(1 + A/12): with A = 60, a's is larger,
        # with A = 120, b's.
        *(
            (
                [["a", "b"], ["c"]],
                [(0, "a", 4), (0, "b", 6), (1, "b", 6), (1, "c", 2 * mean - 16)],
                3,
                [name, "c"],
            )
            for mean, name in ((60, "a, b"), (120, "b, a"))
        ),
        # 6 log(1 + 10/12) is more than log(1 + 10/1), and e is in no document of the cluster.
        (
            [["b", "d", "e"], ["c"]],
            [(0, "b", 6), (0, "d", 1), (1, "b", 6), (1, "c", 4), (1, "e", 3)],
            3,
            ["b, d, e", "c"],
        ),
        # Only a cluster's own tags name it.
        ([["a"], ["b"]], [(0, "b", 9), (0, "a", 1), (1, "b", 1)], 3, ["a", "b"]),
        # A cluster without primary samples is named by what is commonest elsewhere, and of equally
        # common ones by the first by name.
        ([["a"], ["c", "b", "e", "d"]], [(0, "a", 1), (0, "d", 2), (0, "c", 1), (0, "b", 1)], 3,
         ["a", "d, b, c"]),
        ([["b", "a", "d", "c"]], [(0, tag, 2) for tag in "dcba"], 3, ["a, b, c"]),
        ([["a"]], [], 3, ["a"]),
    ],
)  # fmt: skip
def test_a_cluster_is_named_by_its_most_characteristic_tags(own, documents, most, names):
    found = name_clusters(tags(*own), frame(*documents), most=most)
    assert found.rows() == list(enumerate(names))


def test_three_tags_name_a_cluster_by_default():
    named = name_clusters(tags("dcba", *"efghijklm"), frame())
    assert named.rows() == list(enumerate(["a, b, c", *"efghijklm"]))

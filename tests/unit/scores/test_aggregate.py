import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from opencs_assets.scores.aggregate import contrastive_scores
from opencs_assets.tables.scores import CONTRASTIVE_SCORES, SCORE_COMPARISONS
from resources.schema import conform


def compared(*rows):
    """Rows of ``score_comparisons`` from (cluster, a, b, shown first, score of a, score of b)."""
    return pl.DataFrame(
        [
            {
                "cluster": cluster,
                "sample_a": a,
                "sample_b": b,
                "shown_first": first,
                "score_a": score_a,
                "score_b": score_b,
                "round": 0,
                "status": "ok" if score_a is not None else "unparsable",
                "reading": "generated",
                "reply_id": f"r{number}",
                "model": "m",
                "prompt_version": "p",
            }
            for number, (cluster, a, b, first, score_a, score_b) in enumerate(rows)
        ],
        schema=SCORE_COMPARISONS.schema,
    )


def members(*names, cluster=0):
    return pl.DataFrame(
        {"cluster": [cluster] * len(names), "sample_id": list(names)},
        schema={"cluster": pl.Int64, "sample_id": pl.String},
    )


def both(aggregate_rows, samples):
    return [
        contrastive_scores(aggregate_rows, samples, aggregate)
        for aggregate in ("bradley_terry", "mean")
    ]


def test_one_without_a_readable_comparison_is_missing_not_zero():
    rows = compared(
        (0, "x", "y", "a", 90.0, 10.0),
        (0, "x", "y", "b", 90.0, 10.0),
        (0, "y", "z", "a", None, None),
    )
    for found in both(rows, members("x", "y", "z")):
        conform(found.table, CONTRASTIVE_SCORES)
        x, y, z = found.table.to_dicts()
        assert x["score"] > y["score"]
        assert (z["score"], z["low"], z["high"]) == (None, None, None)
        assert [each["comparisons"] for each in (x, y, z)] == [2, 2, 0]
        assert [each["opponents"] for each in (x, y, z)] == [1, 1, 0]
        assert [each["missing"] for each in (x, y, z)] == [0, 1, 1]


def test_the_mean_is_the_published_one():
    rows = compared((0, "x", "y", "a", 90.0, 10.0), (0, "x", "y", "b", 70.0, 20.0))
    found = contrastive_scores(rows, members("x", "y"), "mean")
    assert found.table["score"].to_list() == [80.0, 15.0]
    assert found.position is None


def test_order_gap_is_what_being_first_was_worth():
    rows = compared((0, "x", "y", "a", 80.0, 20.0), (0, "x", "y", "b", 20.0, 80.0))
    for found in both(rows, members("x", "y")):
        assert found.table["order_gap"].to_list() == [60.0, 60.0]
        assert found.table["score"][0] == pytest.approx(found.table["score"][1])


def test_one_opponent_in_one_order_does_not_decide():
    # z met the weakest only, and was shown first; x met the strong y in both orders.
    rows = compared(
        (0, "x", "y", "a", 60.0, 40.0),
        (0, "x", "y", "b", 60.0, 40.0),
        (0, "y", "w", "a", 90.0, 10.0),
        (0, "y", "w", "b", 90.0, 10.0),
        (0, "z", "w", "a", 70.0, 30.0),
    )
    found = contrastive_scores(rows, members("w", "x", "y", "z"), "bradley_terry").table
    scores = dict(found.select("sample_id", "score").iter_rows())
    assert scores["x"] > scores["y"] > scores["z"] > scores["w"]
    by_mean = contrastive_scores(rows, members("w", "x", "y", "z"), "mean").table
    means = dict(by_mean.select("sample_id", "score").iter_rows())
    assert means["z"] > means["x"], "the mean believes whoever met the weak"


def test_position_is_taken_out_of_the_scores():
    rows = compared(
        *(
            (0, a, b, first, *((80.0, 20.0) if first == "a" else (20.0, 80.0)))
            for a, b in (("x", "y"), ("y", "z"), ("x", "z"))
            for first in ("a", "b")
        )
    )
    found = contrastive_scores(rows, members("x", "y", "z"), "bradley_terry")
    assert found.position == pytest.approx(60, abs=2)
    assert found.table["score"].to_list() == pytest.approx([50.5] * 3, abs=0.01)


def test_a_contradiction_makes_equals():
    rows = compared(
        (0, "x", "y", "a", 80.0, 20.0),
        (0, "y", "z", "a", 80.0, 20.0),
        (0, "z", "x", "a", 80.0, 20.0),
    )
    for found in both(rows, members("x", "y", "z")):
        assert found.table["score"].n_unique() == 1 or found.table["score"].to_list() == (
            pytest.approx([found.table["score"][0]] * 3)
        )


@settings(max_examples=30, deadline=None)
@given(
    st.lists(
        st.tuples(
            st.integers(0, 5),
            st.integers(0, 5),
            st.sampled_from("ab"),
            st.floats(1, 100),
            st.floats(1, 100),
        ).filter(lambda row: row[0] != row[1]),
        max_size=30,
    )
)
def test_scores_are_in_range_and_their_intervals_hold_them(rows):
    table = compared(*((0, f"s{a}", f"s{b}", first, x, y) for a, b, first, x, y in rows))
    for found in both(table, members(*(f"s{i}" for i in range(6)))):
        conform(found.table, CONTRASTIVE_SCORES)
        assert found.table.height == 6
        scored = found.table.drop_nulls("score")
        assert scored.height == found.table.filter(pl.col("comparisons") > 0).height
        assert scored["score"].is_between(1, 100).all()
        with_interval = scored.drop_nulls("low")
        assert (with_interval["low"] <= with_interval["score"] + 1e-9).all()
        assert (with_interval["high"] >= with_interval["score"] - 1e-9).all()


def test_clusters_share_no_scale():
    """What happens in one cluster leaves the order in another as it is."""
    one = ((0, "x", "y", "a", 70.0, 30.0), (0, "x", "y", "b", 70.0, 30.0))
    other = ((1, "p", "q", "a", 99.0, 1.0), (1, "p", "q", "b", 99.0, 1.0))
    samples = pl.concat([members("x", "y"), members("p", "q", cluster=1)])
    found = contrastive_scores(compared(*one, *other), samples, "bradley_terry").table
    scores = {(row["cluster"], row["sample_id"]): row["score"] for row in found.to_dicts()}
    assert scores[0, "x"] > scores[0, "y"]
    assert scores[0, "x"] + scores[0, "y"] == pytest.approx(101)
    assert scores[1, "p"] + scores[1, "q"] == pytest.approx(101)

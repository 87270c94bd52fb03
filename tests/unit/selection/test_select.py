import numpy as np
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from opencs_assets.schemas import SELECTED_SUBSET, conform
from opencs_assets.selection.baselines import k_center_greedy
from opencs_assets.selection.pins import Pins, PinsError, read_pins
from opencs_assets.selection.registry import METHODS, SelectionError, select

NO_PINS = Pins({}, {})
SAMPLES = [f"s{i:02}" for i in range(20)]


def raw():
    return pl.DataFrame(
        {
            "sample_id": SAMPLES,
            "row": list(range(20)),
            "response": ["x" * (5 * (i % 7) + 1) for i in range(20)],
        }
    )


def scores(by_cluster):
    rows = [
        (cluster, sample, value, 2, 0, 0.0)
        for cluster, members in by_cluster.items()
        for sample, value in members
    ]
    return pl.DataFrame(
        rows,
        schema={
            "cluster": pl.Int64,
            "sample_id": pl.String,
            "score": pl.Float64,
            "comparisons": pl.Int64,
            "missing": pl.Int64,
            "order_gap": pl.Float64,
        },
        orient="row",
    )


CLUSTERED = {
    0: [("s00", 10.0), ("s01", 20.0), ("s02", 30.0), ("s03", 40.0), ("s04", 50.0)],
    1: [("s05", 99.0), ("s06", 1.0)],
    2: [("s07", 70.0), ("s08", 80.0), ("s09", None)],
}


def tables(by_cluster=None):
    found = {
        "raw_dataset": raw(),
        "contrastive_scores": scores(by_cluster or CLUSTERED),
        "clusters": pl.DataFrame(
            {"cluster": [0, 1, 2], "name": ["zero", "one", "two"]},
            schema={"cluster": pl.Int64, "name": pl.String},
        ),
        "single_scores": pl.DataFrame(
            {"sample_id": SAMPLES, "score": [None] + [float(i % 5) for i in range(19)]}
        ),
        "sample_embeddings": pl.DataFrame(
            {
                "sample_id": SAMPLES,
                "embedding": np.random.default_rng(0).normal(size=(20, 4)).tolist(),
            }
        ),
    }
    return found.__getitem__


def chosen(method="opencs", pins=NO_PINS, by_cluster=None, **options):
    given = {"k": 6, "quota": 2, "refill": True, "seed": 0, **options}
    subset = select(method, tables(by_cluster), pins, **given)
    conform(subset.rows, SELECTED_SUBSET)
    return subset


def test_smallest_cluster_first_best_of_each():
    assert chosen().rows["sample_id"].to_list() == ["s05", "s06", "s08", "s07", "s04", "s03"]


def test_refill_when_a_cluster_is_short():
    assert chosen(k=8).rows["sample_id"].to_list()[6:] == ["s09", "s02"]
    without = chosen(k=8, refill=False)
    assert without.rows.height == 6
    assert "6 of 8" in without.notes[0]


def test_a_sample_of_two_clusters_is_chosen_once():
    shared = {0: [("s00", 9.0), ("s01", 8.0)], 1: [("s00", 9.0), ("s02", 1.0), ("s03", 2.0)]}
    ids = chosen(by_cluster=shared, k=4).rows["sample_id"].to_list()
    assert sorted(ids) == ["s00", "s01", "s02", "s03"]


def test_reasons_are_for_people():
    assert chosen().rows["reason"][0] == "place 1 of 2 in cluster 1 (one), score 99.0"


def test_unscored_comes_last_not_as_zero():
    only = {0: [("s00", None), ("s01", 1.0)]}
    assert chosen(by_cluster=only, k=2).rows["sample_id"].to_list() == ["s01", "s00"]
    assert chosen(by_cluster=only, k=2).rows["score"].to_list() == [1.0, None]


@pytest.mark.parametrize("method", sorted(METHODS))
@pytest.mark.parametrize("k", [1, 5, 10])
def test_every_selector_gives_exactly_k_without_repeats(method, k):
    subset = chosen(method, k=k)
    assert subset.rows.height == k
    assert subset.rows["sample_id"].n_unique() == k
    assert subset.rows["rank"].to_list() == list(range(k))


@pytest.mark.parametrize("method", sorted(METHODS))
def test_too_few_samples_says_so(method):
    subset = chosen(method, k=100)
    assert subset.rows.height < 100
    assert f"{subset.rows.height} of 100 samples" in subset.notes[0]


@pytest.mark.parametrize("method", sorted(METHODS))
def test_pins_are_honoured_by_all(method):
    subset = chosen(method, Pins({"s19": "my favourite"}, {"s05": "wrong", "s03": "rude"}), k=6)
    ids = subset.rows["sample_id"].to_list()
    assert ids[0] == "s19"
    assert not {"s05", "s03"} & set(ids)
    assert subset.rows.height == 6
    assert subset.rows["pinned"].to_list() == [True] + [False] * 5
    assert subset.rows["reason"][0] == "kept by pins.csv: my favourite"


@pytest.mark.parametrize("method", sorted(METHODS))
def test_same_seed_same_subset(method):
    assert chosen(method, seed=4).rows.equals(chosen(method, seed=4).rows)


def test_another_seed_another_random_subset():
    assert set(chosen("random", seed=1).rows["sample_id"]) != set(
        chosen("random", seed=2).rows["sample_id"]
    )


def test_longest_is_longest():
    lengths = dict(raw().select("sample_id", pl.col("response").str.len_chars()).iter_rows())
    ids = chosen("longest", k=5).rows["sample_id"].to_list()
    assert [lengths[each] for each in ids] == sorted(lengths.values(), reverse=True)[:5]


def test_alpagasus_leaves_unscored_samples_out():
    assert "s00" not in chosen("alpagasus", k=19).rows["sample_id"].to_list()


def test_nothing_to_choose_from_is_a_clear_error():
    with pytest.raises(SelectionError, match="nothing to choose from"):
        chosen("random", Pins({}, dict.fromkeys(SAMPLES, "no")))
    with pytest.raises(SelectionError, match="there is no selector 'best'"):
        chosen("best")
    with pytest.raises(SelectionError, match="keeps 7 samples"):
        chosen(pins=Pins(dict.fromkeys(SAMPLES[:7], "x"), {}))


@settings(max_examples=30, deadline=None)
@given(st.integers(1, 40), st.integers(1, 40), st.integers(0, 5))
def test_k_center_picks_the_farthest(count, k, seed):
    points = np.random.default_rng(seed).normal(size=(count, 3)).astype(np.float32)
    k = min(k, count)
    picks, _ = k_center_greedy(points, k, 0)
    assert len(set(picks.tolist())) == k
    for step in range(1, k):
        gaps = np.linalg.norm(points[:, None] - points[picks[:step]][None], axis=2).min(axis=1)
        assert gaps[picks[step]] == pytest.approx(gaps.max(), abs=1e-3)


def test_k_center_takes_equal_points_once_each():
    picks, _ = k_center_greedy(np.ones((4, 2), np.float32), 4, 1)
    assert sorted(picks.tolist()) == [0, 1, 2, 3]


IDS = ["aaaaaaaa11", "aaaaaaaa22", "bbbbbbbb11"]


def pins_file(tmp_path, text):
    path = tmp_path / "pins.csv"
    path.write_text(text)
    return path


def test_pins_are_read(tmp_path):
    path = pins_file(
        tmp_path, "sample,action,reason\naaaaaaaa11,keep,good\nbbbbbbbb,ban,\nzzzzzzzz,ban,x\n"
    )
    pins = read_pins(path, IDS)
    assert pins.keep == {"aaaaaaaa11": "good"}
    assert pins.ban == {"bbbbbbbb11": "no reason given"}
    assert read_pins(tmp_path / "absent.csv", IDS) == Pins({}, {})


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("id,what\n", "line 1: the columns must be"),
        ("", "line 1: the columns must be"),
        ("sample,action,reason\naaaaaaaa11,love,x\n", "line 2: the action must be"),
        ("sample,action,reason\naaaaaaaa,keep,x\n", "line 2: 'aaaaaaaa' fits 2 samples"),
        ("sample,action,reason\naaa,keep,x\n", "line 2: give at least"),
        (
            "sample,action,reason\nbbbbbbbb11,keep,x\nbbbbbbbb11,ban,y\n",
            "line 3: 'bbbbbbbb11' is both",
        ),
        ("sample,action,reason\naaaaaaaa11\n", "line 2: the action must be"),
    ],
)
def test_bad_pins_name_the_line(tmp_path, text, message):
    with pytest.raises(PinsError, match=message):
        read_pins(pins_file(tmp_path, text), IDS)


def test_samples_that_match_a_benchmark_are_left_out():
    subset = chosen(k=8, contaminated=frozenset({"s05", "s08"}))
    assert not {"s05", "s08"} & set(subset.rows["sample_id"])
    assert subset.rows.height == 8
    assert any("2 samples that match a benchmark question are left out" in n for n in subset.notes)


@pytest.mark.parametrize("method", ["opencs", "longest", "random", "alpagasus", "k_center"])
def test_every_selector_leaves_them_out(method):
    contaminated = frozenset(SAMPLES[:10:2])
    subset = chosen(method, k=5, contaminated=contaminated)
    assert not contaminated & set(subset.rows["sample_id"])


def test_a_pin_keeps_a_sample_that_matches_a_benchmark():
    pins = Pins(keep={"s05": "wanted"}, ban={})
    subset = chosen(pins=pins, contaminated=frozenset({"s05", "s08"}))
    assert subset.rows["sample_id"][0] == "s05"
    assert any("but for 1 that pins.csv keeps" in note for note in subset.notes)

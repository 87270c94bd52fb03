import numpy as np
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from opencs_assets.selection.baselines import k_center_greedy, response_lengths
from opencs_assets.selection.choice import WHOLE, SelectionError, SelectorOptions
from opencs_assets.selection.pins import Pins, PinsError, read_pins
from opencs_assets.selection.registry import METHODS, select
from opencs_assets.tables.datasets import RAW_DATASET
from opencs_assets.tables.scores import CONTRASTIVE_SCORES, SINGLE_SCORES
from opencs_assets.tables.selection import OUTSIDE_SAMPLES, SELECTED_SUBSET, UNSELECTED_SAMPLES
from resources.schema import conform

NO_PINS = Pins({}, {})
SAMPLES = [f"s{i:02}" for i in range(20)]
SCORES = CONTRASTIVE_SCORES.schema
TAKES_ALL = {name for name, method in METHODS.items() if method.takes_all}


def samples(texts):
    """Rows of ``raw_dataset`` from (id, instruction, response)."""
    return pl.DataFrame(
        [
            {
                "sample_id": name,
                "row": row,
                "messages": [
                    {"role": "user", "content": instruction},
                    {"role": "assistant", "content": response},
                ],
                "instruction": instruction,
                "response": response,
                "turns": 1,
                "source_format": "alpaca",
            }
            for row, (name, instruction, response) in enumerate(texts)
        ],
        schema=RAW_DATASET.schema,
    )


def raw():
    return samples((name, f"ask {name}", "x" * (5 * (i % 7) + 1)) for i, name in enumerate(SAMPLES))


def scores(by_cluster):
    return pl.DataFrame(
        [
            {"cluster": cluster, "sample_id": sample, "score": value}
            for cluster, members in by_cluster.items()
            for sample, value in members
        ],
        schema={
            name: CONTRASTIVE_SCORES.schema[name] for name in ("cluster", "sample_id", "score")
        },
    )


def alone(values, criterion="helpfulness"):
    return pl.DataFrame(
        [
            {"sample_id": sample, "criterion": criterion, "score": value}
            for sample, value in values.items()
        ],
        schema={name: SINGLE_SCORES.schema[name] for name in ("sample_id", "criterion", "score")},
    )


CLUSTERED = {
    0: [("s00", 10.0), ("s01", 20.0), ("s02", 30.0), ("s03", 40.0), ("s04", 50.0)],
    1: [("s05", 99.0), ("s06", 1.0)],
    2: [("s07", 70.0), ("s08", 80.0), ("s09", None)],
}


def tables(by_cluster=None):
    by_cluster = by_cluster or CLUSTERED
    places = [
        {
            "sample_id": sample,
            "cluster": cluster,
            "is_primary": all(
                sample not in dict(by_cluster[before]) for before in by_cluster if before < cluster
            ),
            "is_candidate": True,
        }
        for cluster, members in by_cluster.items()
        for sample, _ in members
    ]
    rng = np.random.default_rng(0)
    found = {
        "raw_dataset": raw(),
        "contrastive_scores": scores(by_cluster),
        "whole_set_scores": scores({-1: [(name, float(i)) for i, name in enumerate(SAMPLES)]}),
        # By members, the first cluster is the smallest, by candidates it is the largest.
        "clusters": pl.DataFrame(
            {"cluster": [0, 1, 2], "name": ["zero", "one", "two"], "members": [5, 90, 70]},
            schema={"cluster": pl.Int64, "name": pl.String, "members": pl.Int64},
        ),
        "sample_clusters": pl.DataFrame(places),
        "unclustered_samples": pl.DataFrame({"sample_id": ["s10"], "reason": ["it has no tag"]}),
        "single_scores": pl.concat(
            [
                alone({name: None if i == 0 else float(i % 5) for i, name in enumerate(SAMPLES)}),
                alone({name: float(-i % 6) for i, name in enumerate(SAMPLES)}, "complexity"),
            ]
        ),
        "sample_embeddings": pl.DataFrame(
            {"sample_id": SAMPLES, "embedding": rng.normal(size=(20, 4)).tolist()}
        ),
    }
    return found.__getitem__


@pytest.fixture(scope="module")
def elsewhere(tmp_path_factory):
    """A set that was chosen elsewhere: some of the dataset's samples, one of them turned round."""
    path = tmp_path_factory.mktemp("fixed") / "set.jsonl"
    rows = raw().filter(pl.col("sample_id") != "s03").select("instruction", output="response")
    path.write_text(rows.reverse().write_ndjson())
    return path


@pytest.fixture
def choose(elsewhere):
    def chosen(method="opencs", pins=NO_PINS, by_cluster=None, contaminated=frozenset(), **options):
        given = {"k": 6, "quota": 2, "refill": True, "seed": 0, **options}
        if method == "fixed":
            given.setdefault("file", elsewhere)
        subset = select(method, tables(by_cluster), pins, SelectorOptions(**given), contaminated)
        conform(subset.rows, SELECTED_SUBSET)
        conform(subset.unselected, UNSELECTED_SAMPLES)
        conform(subset.outside, OUTSIDE_SAMPLES)
        here = set(subset.rows["sample_id"]) - set(subset.outside["sample_id"])
        assert here | set(subset.unselected["sample_id"]) == set(SAMPLES)
        assert not here & set(subset.unselected["sample_id"])
        return subset

    return chosen


def test_smallest_cluster_first_best_of_each(choose):
    assert choose().rows["sample_id"].to_list() == ["s05", "s06", "s08", "s07", "s04", "s03"]


def test_refill_when_a_cluster_is_short(choose):
    assert choose(k=8).rows["sample_id"].to_list()[6:] == ["s09", "s02"]
    without = choose(k=8, refill=False)
    assert without.rows.height == 6
    assert "6 of 8" in without.notes[0]


def test_a_sample_of_two_clusters_is_chosen_once(choose):
    shared = {0: [("s00", 9.0), ("s01", 8.0)], 1: [("s00", 9.0), ("s02", 1.0), ("s03", 2.0)]}
    ids = choose(by_cluster=shared, k=4).rows["sample_id"].to_list()
    assert sorted(ids) == ["s00", "s01", "s02", "s03"]


def test_reasons_are_for_people(choose):
    assert choose().rows["reason"][0] == "place 1 of 2 in cluster 1 (one), score 99.0"


def test_unscored_comes_last_not_as_zero(choose):
    only = {0: [("s00", None), ("s01", 1.0)]}
    assert choose(by_cluster=only, k=2).rows["sample_id"].to_list() == ["s01", "s00"]
    assert choose(by_cluster=only, k=2).rows["score"].to_list() == [1.0, None]


@pytest.mark.parametrize("method", sorted(METHODS))
@pytest.mark.parametrize("k", [1, 5, 10])
def test_every_selector_gives_exactly_k_without_repeats(choose, method, k):
    subset = choose(method, k=k)
    assert subset.rows.height == k
    assert subset.rows["sample_id"].n_unique() == k
    assert subset.rows["rank"].to_list() == list(range(k))


@pytest.mark.parametrize("method", sorted(METHODS))
def test_too_few_samples_says_so(choose, method):
    subset = choose(method, k=100)
    assert subset.rows.height < 100
    assert any(f"{subset.rows.height} of 100 samples" in note for note in subset.notes)


@pytest.mark.parametrize("method", sorted(METHODS))
def test_pins_are_honoured_by_all(choose, method):
    subset = choose(method, Pins({"s19": "my favourite"}, {"s05": "wrong", "s03": "rude"}), k=6)
    ids = subset.rows["sample_id"].to_list()
    assert ids[0] == "s19"
    assert not {"s05", "s03"} & set(ids)
    assert subset.rows.height == 6
    assert subset.rows["pinned"].to_list() == [True] + [False] * 5
    assert subset.rows["reason"][0] == "kept by pins.csv: my favourite"


@pytest.mark.parametrize("method", sorted(METHODS))
def test_same_seed_same_subset(choose, method):
    assert choose(method, seed=4).rows.equals(choose(method, seed=4).rows)


def test_another_seed_another_random_subset(choose):
    assert set(choose("random", seed=1).rows["sample_id"]) != set(
        choose("random", seed=2).rows["sample_id"]
    )


def test_longest_is_longest(choose):
    lengths = dict(raw().select("sample_id", pl.col("response").str.len_chars()).iter_rows())
    ids = choose("longest", k=5).rows["sample_id"].to_list()
    assert [lengths[each] for each in ids] == sorted(lengths.values(), reverse=True)[:5]


def test_alpagasus_leaves_unscored_samples_out(choose):
    assert "s00" not in choose("alpagasus", k=19).rows["sample_id"].to_list()


def test_nothing_to_choose_from_is_a_clear_error(choose):
    with pytest.raises(SelectionError, match="nothing to choose from"):
        choose("random", Pins({}, dict.fromkeys(SAMPLES, "no")))
    with pytest.raises(SelectionError, match="there is no selector 'best'"):
        choose("best")
    with pytest.raises(SelectionError, match="keeps 7 samples"):
        choose(pins=Pins(dict.fromkeys(SAMPLES[:7], "x"), {}))


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
        ("", "is empty"),
        ("sample,action,reason\naaaaaaaa11,love,x\n", "line 2: the action must be"),
        ("sample,action,reason\naaaaaaaa,keep,x\n", "line 2: 'aaaaaaaa' fits 2 samples"),
        ("sample,action,reason\naaa,keep,x\n", "line 2: give at least"),
        (
            "sample,action,reason\nbbbbbbbb11,keep,x\nbbbbbbbb11,ban,y\n",
            "line 3: 'bbbbbbbb11' is both",
        ),
        ("sample,action,reason\naaaaaaaa11\n", "line 2 has 1 fields, but the header has 3"),
    ],
)
def test_bad_pins_name_the_line(tmp_path, text, message):
    with pytest.raises(PinsError, match=message):
        read_pins(pins_file(tmp_path, text), IDS)


def test_samples_that_match_a_benchmark_are_left_out(choose):
    subset = choose(k=8, contaminated=frozenset({"s05", "s08"}))
    assert not {"s05", "s08"} & set(subset.rows["sample_id"])
    assert subset.rows.height == 8
    assert any("2 samples that match a benchmark question are left out" in n for n in subset.notes)


@pytest.mark.parametrize("method", ["opencs", "longest", "random", "alpagasus", "k_center"])
def test_every_selector_leaves_them_out(choose, method):
    contaminated = frozenset(SAMPLES[:10:2])
    subset = choose(method, k=5, contaminated=contaminated)
    assert not contaminated & set(subset.rows["sample_id"])


def test_a_pin_keeps_a_sample_that_matches_a_benchmark(choose):
    pins = Pins(keep={"s05": "wanted"}, ban={})
    subset = choose(pins=pins, contaminated=frozenset({"s05", "s08"}))
    assert subset.rows["sample_id"][0] == "s05"
    assert any("but for 1 that pins.csv keeps" in note for note in subset.notes)


@pytest.mark.parametrize("method", sorted(TAKES_ALL))
def test_what_takes_a_whole_set_takes_it_all_without_a_k(choose, method):
    subset = choose(method, k=WHOLE)
    assert subset.rows.height == subset.requested_size == {"full": 20, "fixed": 19}[method]


@pytest.mark.parametrize("method", sorted(METHODS))
def test_every_sample_of_the_dataset_has_its_reason(choose, method):
    subset = choose(method, k=5, contaminated=frozenset({"s08"}), pins=Pins({}, {"s07": "rude"}))
    reasons = dict(subset.unselected.select("sample_id", "reason").iter_rows())
    assert reasons["s08"] == "asks what a benchmark asks"
    assert reasons["s07"] == "banned by pins.csv: rude"
    assert all(reasons.values())


def test_why_a_sample_was_not_chosen_names_the_cut_that_it_missed(choose):
    reasons = dict(choose().unselected.select("sample_id", "reason").iter_rows())
    assert reasons["s02"] == (
        "place 3 of 5 in cluster 0 (zero), score 30.0; the last one chosen has 40.0"
    )
    assert reasons["s10"] == "in no cluster: it has no tag"
    assert choose(k=2).unselected.filter(pl.col("sample_id") == "s04")["reason"][0] == (
        "place 1 of 5 in cluster 0 (zero), score 50.0; none of the cluster was chosen: "
        "the subset was full"
    )


def test_a_small_cluster_is_one_of_few_candidates_or_of_few_members(choose):
    assert choose(k=2).rows["cluster"].to_list() == [1, 1]
    assert choose(k=2, cluster_size="members").rows["cluster"].to_list() == [0, 0]


def test_equal_scores_are_drawn_with_the_seed_and_not_by_id(choose):
    equal = {0: [(name, 50.0) for name in SAMPLES[:10]]}
    drawn = {
        seed: frozenset(choose(by_cluster=equal, k=3, quota=3, seed=seed).rows["sample_id"])
        for seed in range(8)
    }
    assert len(set(drawn.values())) > 4
    assert choose(by_cluster=equal, k=3, quota=3, seed=1).rows.equals(
        choose(by_cluster=equal, k=3, quota=3, seed=1).rows
    )


def test_a_cluster_of_one_is_chosen_though_nobody_could_be_compared_with_it(choose):
    alone_in_it = {0: [("s00", None)], 1: [("s01", 9.0), ("s02", 1.0)]}
    assert choose(by_cluster=alone_in_it, k=2, quota=1).rows["sample_id"].to_list() == [
        "s00",
        "s01",
    ]


def test_scores_of_different_clusters_are_never_compared(choose):
    # All of the second cluster score lower than all of the first; each gives its own best.
    found = {
        0: [(f"s0{i}", 90.0 + i) for i in range(5)],
        1: [(f"s1{i}", 1.0 + i) for i in range(5)],
    }
    ids = choose(by_cluster=found, k=4, quota=2).rows["sample_id"].to_list()
    assert sorted(ids) == ["s03", "s04", "s13", "s14"]


def test_the_criterion_that_is_asked_for_is_read(choose):
    assert choose("alpagasus", k=1, criterion="complexity").rows["score"].to_list() == [5.0]
    assert "complexity score" in choose("alpagasus", criterion="complexity").rows["reason"][0]
    with pytest.raises(SelectionError, match=r"by 'quality', only by complexity, helpfulness"):
        choose("alpagasus", criterion="quality")


@pytest.mark.parametrize(
    ("unit", "expected"), [("characters", [11, 3, 0]), ("words", [2, 1, 0]), ("tokens", [2, 1, 0])]
)
def test_lengths_are_counted_as_asked(unit, expected):
    texts = samples([("a", "?", "hello world"), ("b", "?", "cat"), ("c", "?", "")])
    assert response_lengths(texts, unit).to_list() == expected


def test_a_selector_that_needs_the_whole_set_ranks_it_as_one(choose):
    ids = choose("no_clusters", k=3).rows["sample_id"].to_list()
    assert ids == ["s19", "s18", "s17"]


def test_no_contrast_ranks_the_same_clusters_by_single_scores(choose):
    ids = choose("no_contrast", k=5, quota=2).rows["sample_id"].to_list()
    # Cluster one, then two, then zero; s09 has 4, s08 has 3; s04 has 4, s03 has 3.
    assert ids == ["s05", "s06", "s09", "s08", "s04"] or ids == ["s06", "s05", "s09", "s08", "s04"]

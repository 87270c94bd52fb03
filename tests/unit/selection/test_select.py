import numpy as np
import polars as pl
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from opencs_assets.config.profiles import resolve_constants
from opencs_assets.selection.baselines import k_center_greedy, response_lengths
from opencs_assets.selection.choice import (
    CONSIDERED,
    WHOLE,
    SelectionError,
    SelectorOptions,
    first_of,
)
from opencs_assets.selection.pins import Pins, PinsError, read_pins
from opencs_assets.selection.registry import METHODS, select
from opencs_assets.tables.datasets import RAW_DATASET
from opencs_assets.tables.scores import CONTRASTIVE_SCORES, SINGLE_SCORES
from opencs_assets.tables.selection import OUTSIDE_SAMPLES, SELECTED_SUBSET, UNSELECTED_SAMPLES
from resources.schema import conform
from resources.settings import Method

NO_PINS = Pins({}, {})
SAMPLES = [f"s{i:02}" for i in range(20)]


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
# s11 is a member and no candidate; s04 is also in cluster 1, which is not its primary one.
NOT_SCORED = [("s11", 0, True, False), ("s04", 1, False, True)]


def tables():
    """Each table that a selector reads."""
    places = [
        (sample, cluster, True, True) for cluster, own in CLUSTERED.items() for sample, _ in own
    ]
    return {
        "raw_dataset": raw(),
        "contrastive_scores": scores(CLUSTERED),
        "whole_set_scores": scores(
            {-1: [(name, 4.26 * i if i else None) for i, name in enumerate(SAMPLES)]}
        ),
        # By members, the first cluster is the smallest, by candidates it is the largest.
        "clusters": pl.DataFrame(
            {"cluster": [0, 1, 2], "name": ["zero", "one", "two"], "members": [5, 90, 70]},
            schema={"cluster": pl.Int64, "name": pl.String, "members": pl.Int64},
        ),
        "sample_clusters": pl.DataFrame(
            [*places, *NOT_SCORED],
            schema=["sample_id", "cluster", "is_primary", "is_candidate"],
            orient="row",
        ),
        "unclustered_samples": pl.DataFrame({"sample_id": ["s10"], "reason": ["it has no tag"]}),
        "single_scores": pl.concat(
            [
                # s00 has no row, and s12 one without a score.
                alone(
                    {
                        name: None if i == 12 else i % 5 + 0.126
                        for i, name in enumerate(SAMPLES)
                        if i
                    }
                ),
                alone({name: float(-i % 6) for i, name in enumerate(SAMPLES)}, "complexity"),
            ]
        ),
        "sample_embeddings": pl.DataFrame({"sample_id": SAMPLES, "embedding": VECTORS.tolist()}),
    }


@pytest.fixture(scope="module")
def elsewhere(tmp_path_factory):
    """A set that was chosen elsewhere: some of the dataset's samples, one of them turned round."""
    path = tmp_path_factory.mktemp("fixed") / "set.jsonl"
    rows = raw().filter(pl.col("sample_id") != "s03").select("instruction", output="response")
    path.write_text(rows.reverse().write_ndjson())
    return path


@pytest.fixture
def choose(elsewhere):
    def chosen(method="opencs", pins=NO_PINS, contaminated=frozenset(), turned=False, **options):
        given = {"k": 6, "quota": 2, "refill": True, "seed": 0, **options}
        if method == "fixed":
            given.setdefault("file", elsewhere)
        found = {name: rows.reverse() if turned else rows for name, rows in tables().items()}
        subset = select(method, found.__getitem__, pins, SelectorOptions(**given), contaminated)
        conform(subset.rows, SELECTED_SUBSET)
        conform(subset.unselected, UNSELECTED_SAMPLES)
        conform(subset.outside, OUTSIDE_SAMPLES)
        here = set(subset.rows["sample_id"]) - set(subset.outside["sample_id"])
        # The others are in the file's order.
        assert subset.unselected["sample_id"].to_list() == [s for s in SAMPLES if s not in here]
        return subset

    return chosen


def reasons(subset):
    return dict(subset.unselected.select("sample_id", "reason").iter_rows())


def drawn(names, seed, score=None):
    """Samples in the order of their scores; a draw with the seed orders equal ones."""
    draw = np.random.default_rng(seed).permutation(len(names))
    if score is None:
        return [names[place] for place in draw]
    return [name for *_, name in sorted(zip(map(score, names), draw, names, strict=True))]


VECTORS = np.random.default_rng(0).normal(size=(20, 4))


def farthest(seed):
    """All samples by greedy k-center."""
    picks = [int(np.random.default_rng(seed).integers(len(VECTORS)))]
    while len(picks) < len(VECTORS):
        gaps = np.linalg.norm(VECTORS[:, None] - VECTORS[picks], axis=2).min(axis=1)
        picks.append(int(gaps.argmax()))
    return [SAMPLES[pick] for pick in picks]


EXPECTED = {
    "opencs": ["s05", "s06", "s08", "s07", "s04", "s03", "s09", "s02", "s01", "s00"],
    "no_contrast": ["s06", "s05", "s09", "s08", "s04", "s03", "s07", "s02", "s01", "s00"],
    "no_clusters": SAMPLES[:0:-1],
    "longest": sorted(SAMPLES, key=lambda name: -(int(name[1:]) % 7)),
    "random": drawn(SAMPLES, 3),
    "alpagasus": drawn([*SAMPLES[1:12], *SAMPLES[13:]], 3, lambda name: -(int(name[1:]) % 5)),
    "k_center": farthest(3),
    "full": SAMPLES,
    "fixed": [name for name in reversed(SAMPLES) if name != "s03"],
}


@pytest.mark.parametrize("method", sorted(METHODS))
def test_what_each_selector_chooses_whatever_the_order_of_rows(choose, method):
    for k in (1, 2, 7, 10):
        subset = choose(method, k=k, seed=3)
        assert subset.rows["sample_id"].to_list() == EXPECTED[method][:k]
        assert subset.rows["rank"].to_list() == list(range(k))
        assert subset.requested_size == k
    turned = choose(method, k=10, seed=3, turned=True)
    assert turned.rows.equals(subset.rows)
    assert turned.unselected.equals(subset.unselected)
    every = choose(method, k=100, seed=3)
    assert every.rows["sample_id"].to_list() == EXPECTED[method]
    size = len(EXPECTED[method])
    assert every.notes[-1] == f"{size} of 100 samples: no more candidates"
    assert not any("no more candidates" in note for note in choose(method, k=size, seed=3).notes)


@pytest.mark.parametrize(
    ("method", "scored_by", "score", "why", "passed", "why_not"),
    [
        ("opencs", "contrastive_scores", 99, "place 1 of 2 in cluster 1 (one), score 99.0", "s02",
         "place 3 of 5 in cluster 0 (zero), score 30.0; the last one chosen has 40.0"),
        ("opencs", "contrastive_scores", 99, "place 1 of 2 in cluster 1 (one), score 99.0", "s11",
         "no candidate: samples with longer responses stand for its clusters"),
        ("opencs", "contrastive_scores", 99, "place 1 of 2 in cluster 1 (one), score 99.0", "s10",
         "in no cluster: it has no tag"),
        ("opencs", "contrastive_scores", 99, "place 1 of 2 in cluster 1 (one), score 99.0", "s12",
         "not considered by this selector"),
        ("no_contrast", "single_scores", 1.126, "place 1 of 2 in cluster 1 (one), score 1.1", "s07",
         "place 3 of 3 in cluster 2 (two), score 2.1; the last one chosen has 3.1"),
        ("no_clusters", "whole_set_scores", 80.94,
         "contrastive score over the whole set 80.9, place 1 of 19", "s01",
         "contrastive score over the whole set 4.3, place 19 of 19; the last one chosen has 59.6"),
        ("no_clusters", "whole_set_scores", 80.94,
         "contrastive score over the whole set 80.9, place 1 of 19", "s00",
         "no contrastive score over the whole set could be read"),
        ("longest", None, 31, "response of 31 characters", "s14",
         "response of 1 characters, place 20 of 20; the last one chosen has 21"),
        ("random", None, None, "drawn with seed 0", None, "not drawn with seed 0"),
        ("alpagasus", "single_scores", 4.126, "helpfulness score 4.13, place 1 of 18", "s00",
         "no helpfulness score could be read"),
        ("full", None, None, "among the first 6", "s06", "not among the first 6"),
        ("fixed", None, None, "row 0 of set.jsonl", "s13", "in set.jsonl, but k leaves it out"),
        ("fixed", None, None, "row 0 of set.jsonl", "s03", "not in set.jsonl"),
    ],
)  # fmt: skip
def test_why_a_sample_was_chosen_or_not(choose, method, scored_by, score, why, passed, why_not):
    subset = choose(method)
    first = subset.rows.row(0, named=True)
    assert (first["scored_by"], first["score"]) == (scored_by, pytest.approx(score))
    assert first["reason"] == why
    assert reasons(subset)[passed or subset.unselected["sample_id"][0]] == why_not


@pytest.mark.parametrize(
    ("k", "choices", "cut"), [(0, [None] * 3, 9), (2, [0, 1, None], 7), (5, [0, 1, 2], 4)]
)
def test_the_first_of_samples_in_order(k, choices, cut):
    rows = pl.DataFrame({"sample_id": ["a", "b", "c"], "score": [9, 7, 4], "more": [1, 2, 3]})
    found = first_of(rows, k, chosen=pl.lit("chosen"), passed=pl.lit("passed"))
    assert found.schema == CONSIDERED
    assert found.drop("reason", "sample_id").rows() == [
        (choice, None, score, place, 3, cut)
        for choice, score, place in zip(choices, (9, 7, 4), (1, 2, 3), strict=True)
    ]
    assert found["reason"].to_list() == [
        "passed" if choice is None else "chosen" for choice in choices
    ]
    nothing = first_of(rows.clear().drop("score"), k, chosen=pl.lit("x"), passed=pl.lit("y"))
    assert (nothing.height, nothing.schema) == (0, CONSIDERED)


def test_k_center_says_how_far_each_centre_is_from_those_before(choose):
    subset = choose("k_center", k=3)
    places = [SAMPLES.index(sample) for sample in subset.rows["sample_id"]]
    points = VECTORS[places]
    gaps = [np.linalg.norm(points[:step] - points[step], axis=1).min() for step in (1, 2)]
    first, *others = subset.rows.select("score", "reason").iter_rows()
    assert first == (None, "first centre, drawn with the seed")
    assert [score for score, _ in others] == pytest.approx(gaps, rel=1e-5)
    cut = str(round(gaps[1], 3))
    assert others[1][1] == f"distance {cut} from those chosen before"
    (why_not,) = set(reasons(subset).values())
    assert why_not == f"no centre: the last centre was {cut} from those before it, this is nearer"


def test_every_candidate_of_its_primary_cluster_is_scored_alone(choose):
    assert "s11" not in choose("no_contrast", k=20).rows["sample_id"].to_list()
    # Where a sample competes in each of its clusters, s04 is the best of cluster 1.
    both = choose("no_contrast", k=2, one_cluster_each=False, cluster_size="candidates")
    assert both.rows.select("cluster", "sample_id").rows() == [(1, "s04"), (1, "s06")]


def test_the_quota_of_faithful_is_named_where_it_leaves_too_few(choose):
    for method, said in (("opencs", True), ("no_contrast", True), ("longest", False)):
        subset = choose(method, k=21, refill=False)
        size = 6 if said else 20
        within = " within the quota (profile faithful)" if said else ""
        assert subset.notes == (f"{size} of 21 samples: no more candidates{within}",)


@pytest.mark.parametrize("method", sorted(METHODS))
def test_pins_are_honoured_by_all(choose, method):
    pins = Pins({"s19": "my favourite", "s02": "too"}, {"s05": "wrong", "s03": "rude"})
    subset = choose(method, pins, contaminated=frozenset({"s08", "s05", "s02"}), k=6)
    ids = subset.rows["sample_id"].to_list()
    assert ids[:2] == ["s19", "s02"]
    if method in ("no_clusters", "longest", "full", "fixed"):
        left = [s for s in EXPECTED[method] if s not in {"s19", "s02", "s05", "s03", "s08"}]
        assert ids[2:] == left[:4]
    assert len(set(ids)) == 6
    assert not {"s05", "s03", "s08"} & set(ids)
    assert subset.rows["pinned"].to_list() == [True] * 2 + [False] * 4
    assert subset.rows["reason"][0] == "kept by pins.csv: my favourite"
    assert subset.rows["scored_by"][0] is None
    why_not = reasons(subset)
    assert why_not["s08"] == "asks what a benchmark asks"
    # A person's ban outranks the match with a benchmark.
    assert why_not["s05"] == "banned by pins.csv: wrong"
    assert all(why_not.values())
    assert subset.notes[-2:] == (
        "3 samples that match a benchmark question are left out, but for 1 that pins.csv keeps",
        "pins.csv kept 2 and banned 2 samples",
    )


def test_what_match_a_benchmark_is_told_without_pins(choose):
    subset = choose(contaminated=frozenset({"s05", "s08"}))
    assert subset.notes == ("2 samples that match a benchmark question are left out",)
    assert choose().notes == ()
    assert choose(pins=Pins({}, {"s05": "x"})).notes == ("pins.csv kept 0 and banned 1 samples",)


def test_pins_may_fill_the_subset(choose):
    kept = dict.fromkeys(SAMPLES[:6], "x")
    subset = choose("longest", pins=Pins(kept, {}))
    assert subset.rows["sample_id"].to_list() == SAMPLES[:6]
    assert subset.notes == ("pins.csv kept 6 and banned 0 samples",)
    # Where none is left to be chosen, the cut is the best score of all.
    assert reasons(subset)["s07"].endswith("the last one chosen has 31")
    with pytest.raises(SelectionError, match="keeps 7 samples, but the subset has 6"):
        choose(pins=Pins(dict.fromkeys(SAMPLES[:7], "x"), {}))


def test_another_seed_another_random_subset(choose):
    assert choose("random", seed=1).rows["sample_id"].to_list() == drawn(SAMPLES, 1)[:6]


@pytest.mark.parametrize("method", ["random", "k_center", "opencs"])
def test_nothing_to_choose_from_is_a_clear_error(choose, method):
    with pytest.raises(SelectionError, match="nothing to choose from"):
        choose(method, Pins({}, dict.fromkeys(SAMPLES, "no")))


def test_an_unknown_selector_names_those_that_there_are(choose):
    with pytest.raises(SelectionError, match="there is no selector 'best'; known: opencs, no_con"):
        choose("best")


@settings(max_examples=25)
@given(st.integers(1, 40), st.integers(1, 40), st.integers(0, 5))
@example(40, 40, 0)
def test_k_center_picks_the_farthest(count, k, seed):
    points = np.random.default_rng(seed).normal(size=(count, 3)).astype(np.float32)
    k, first = min(k, count), seed % count
    picks, distances = k_center_greedy(points, k, first)
    assert picks[0] == first
    assert distances[0] == 0
    assert len(set(picks.tolist())) == k
    for step in range(1, k):
        gaps = np.linalg.norm(points[:, None] - points[picks[:step]][None], axis=2).min(axis=1)
        assert gaps[picks[step]] == pytest.approx(gaps.max(), abs=1e-3)
        assert distances[step] == pytest.approx(gaps.max(), abs=1e-3)


def test_of_equal_points_k_center_takes_the_first_and_each_once():
    picks, distances = k_center_greedy(np.ones((4, 2), np.float32), 4, 1)
    assert picks.tolist() == [1, 0, 2, 3]
    assert distances.tolist() == [0, 0, 0, 0]


@pytest.mark.parametrize(("method", "size"), [("full", 20), ("fixed", 19)])
def test_what_takes_a_whole_set_takes_it_all_without_a_k(choose, method, size):
    subset = choose(method, k=WHOLE)
    assert subset.rows.height == subset.requested_size == size
    if method == "full":
        assert subset.rows["reason"].unique().to_list() == ["the whole dataset"]
        assert choose(method, k=20).rows["reason"][0] == "the whole dataset"
    assert {name for name, each in METHODS.items() if each.takes_all} == {"full", "fixed"}


def test_the_criterion_that_is_asked_for_is_read(choose):
    assert choose("alpagasus", k=1, criterion="complexity").rows["score"].to_list() == [5.0]
    assert "complexity score" in choose("alpagasus", criterion="complexity").rows["reason"][0]
    with pytest.raises(SelectionError, match=r"by 'quality', only by complexity, helpfulness"):
        choose("alpagasus", criterion="quality")


@pytest.mark.parametrize(
    ("unit", "expected"), [("characters", [12, 3, 0]), ("words", [2, 1, 0]), ("tokens", [3, 1, 0])]
)
def test_lengths_are_counted_as_asked(unit, expected):
    texts = samples([("a", "?", "hello  world"), ("b", "?", "cat"), ("c", "?", "")])
    assert response_lengths(texts, unit).to_list() == expected
    assert response_lengths(texts, unit).dtype == pl.Int64


def test_an_option_that_is_not_given_has_its_default():
    assert SelectorOptions(k=3) == SelectorOptions(
        3, 1, True, 0, True, "candidates", "helpfulness", "characters", None
    )
    constants = resolve_constants(
        "faithful", Method(k=7, quota=3, seed=5, cluster_size="members"), 9
    )
    assert SelectorOptions.of(constants) == SelectorOptions(7, 3, False, 5, False, "members")


IDS = ["aaaaaaaa11", "aaaaaaaa22", "bbbbbbbb11"]


def pins_file(tmp_path, *lines):
    path = tmp_path / "pins.csv"
    path.write_text("".join(f"{line}\n" for line in lines))
    return path


def test_pins_are_read(tmp_path):
    lines = ("aaaaaaaa11, keep ,good", "bbbbbbbb,ban,", "zzzzzzzz,ban,x")
    path = pins_file(tmp_path, "sample,action,reason", *lines)
    assert read_pins(path, IDS) == Pins({"aaaaaaaa11": "good"}, {"bbbbbbbb11": "no reason given"})
    assert read_pins(tmp_path / "absent.csv", IDS) == Pins({}, {})


@pytest.mark.parametrize(
    ("header", "lines", "message"),
    [
        ("id,what", [], "line 1: the columns must be"),
        (None, [], "is empty"),
        ("sample,action,reason", ["aaaaaaaa11,love,x"], "line 2: the action must be"),
        ("sample,action,reason", ["aaaaaaaa,keep,x"], "line 2: 'aaaaaaaa' fits 2 samples"),
        ("sample,action,reason", ["bbbbbbb,keep,x"], "line 2: give at least the first 8"),
        ("sample,action,reason", ["bbbbbbbb11,keep,x", "bbbbbbbb,ban,y"], "line 3: .* is both"),
        ("sample,action,reason", ["bbbbbbbb11,ban,x", "bbbbbbbb,keep,y"], "line 3: .* is both"),
        ("sample,action,reason", ["aaaaaaaa11"], "line 2 has 1 fields, but the header has 3"),
    ],
)
def test_bad_pins_name_the_line(tmp_path, header, lines, message):
    with pytest.raises(PinsError, match=message):
        read_pins(pins_file(tmp_path, *([header] if header else []), *lines), IDS)

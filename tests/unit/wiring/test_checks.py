"""Every check passes on sound data and fails for the reason that it is there for."""

import polars as pl
import pytest

from opencs_assets.clusters.checks import every_sample_accounted_for, one_unit_vector_each
from opencs_assets.datasets.checks import few_rejected, sound_samples
from opencs_assets.open_tags.checks import few_not_tagged, few_without_tag
from opencs_assets.scores.checks import (
    balanced_orders,
    decided_by_quality,
    every_candidate,
    few_unread,
)
from opencs_assets.selection.checks import sound_subset

SAMPLES = pl.DataFrame(
    {"sample_id": ["a", "b", "c"], "instruction": ["x", "y", "z"], "response": ["1", "2", "3"]}
)


def statuses(ok, bad):
    return pl.DataFrame({"status": ["ok"] * ok + ["unparsable"] * bad})


def rejected(reasons):
    return pl.DataFrame({"reason": reasons}, schema={"reason": pl.String})


def tags(*lists, reasons=None):
    return pl.DataFrame(
        {
            "sample_id": [str(place) for place in range(len(lists))],
            "tags": list(lists),
            "reason": reasons or [None if each else "not_tagged" for each in lists],
        },
        schema={"sample_id": pl.String, "tags": pl.List(pl.String), "reason": pl.String},
    )


def members(*rows):
    return pl.DataFrame(
        rows, schema=["sample_id", "cluster", "is_primary", "is_candidate"], orient="row"
    )


def unclustered(*samples):
    return pl.DataFrame({"sample_id": samples}, schema={"sample_id": pl.String})


def comparison(cluster, a, b, first):
    return {"cluster": cluster, "sample_a": a, "sample_b": b, "shown_first": first}


def embeddings(vectors):
    return pl.DataFrame(
        {"sample_id": ["a", "b", "c"][: len(vectors)], "embedding": vectors},
        schema={"sample_id": pl.String, "embedding": pl.List(pl.Float32)},
    )


def subset(ids, ranks=None):
    return pl.DataFrame(
        {"sample_id": ids, "rank": ranks or list(range(len(ids)))},
        schema={"sample_id": pl.String, "rank": pl.Int64},
    )


def scores(value):
    return pl.DataFrame({"cluster": [0], "sample_id": ["a"], "score": [value]})


def leads(values):
    """Comparisons with these leads of the sample shown first, by turns a and b."""
    return pl.DataFrame(
        [
            {
                "shown_first": "ab"[number % 2],
                "score_a": None if lead is None else 50.0 + lead * (1 - 2 * (number % 2)),
                "score_b": None if lead is None else 50.0,
            }
            for number, lead in enumerate(values)
        ],
        schema={"shown_first": pl.String, "score_a": pl.Float64, "score_b": pl.Float64},
    )


OUTSIDE = pl.DataFrame({"sample_id": ["out"]})
PAIR = [comparison(0, "a", "b", "a"), comparison(0, "a", "b", "b")]
UNIT = [[1.0, 0.0], [0.0, 1.0], [0.6, 0.8]]

PASSING = {
    "samples": lambda: sound_samples(SAMPLES),
    "rejected": lambda: few_rejected(rejected(["no_response"]), SAMPLES),
    "duplicates are not bad rows": lambda: few_rejected(rejected(["duplicate"] * 9), SAMPLES),
    "tagged": lambda: few_not_tagged(statuses(9, 1)),
    "normalized": lambda: few_without_tag(tags(["x"], ["y"], [])),
    "embeddings": lambda: one_unit_vector_each(embeddings(UNIT), SAMPLES),
    "clusters": lambda: every_sample_accounted_for(
        members(("0", 1, True, True), ("0", 2, False, True)), tags(["x"], []), unclustered("1")
    ),
    "orders": lambda: balanced_orders(pl.DataFrame(PAIR)),
    "decided": lambda: decided_by_quality(leads([3, -2, 4, -1])),
    "nothing to decide": lambda: decided_by_quality(leads([None])),
    "read": lambda: few_unread(statuses(19, 1)),
    "no comparisons": lambda: few_unread(statuses(0, 0)),
    "candidates": lambda: every_candidate(scores(50.0), members(("a", 0, True, True))),
    "unscored candidate": lambda: every_candidate(scores(None), members(("a", 0, True, True))),
    "subset with one from its own file": lambda: sound_subset(
        subset(["a", "out"]), SAMPLES, OUTSIDE
    ),
    "subset": lambda: sound_subset(subset(["a", "b"]), SAMPLES, OUTSIDE),
}
FAILING = {
    "no samples": lambda: sound_samples(SAMPLES.clear()),
    "blank response": lambda: sound_samples(SAMPLES.with_columns(response=pl.lit(" "))),
    "repeated sample": lambda: sound_samples(pl.concat([SAMPLES, SAMPLES])),
    "most rejected": lambda: few_rejected(rejected(["no_response"] * 4), SAMPLES),
    "many not tagged": lambda: few_not_tagged(statuses(7, 3)),
    "nothing to tag": lambda: few_not_tagged(statuses(0, 0)),
    "most without tag": lambda: few_without_tag(tags(["x"], [], [])),
    "no reason": lambda: few_without_tag(tags(["x"], ["y"], [], reasons=[None, None, None])),
    "not unit": lambda: one_unit_vector_each(embeddings([[1.0, 1.0], *UNIT[1:]]), SAMPLES),
    "nan": lambda: one_unit_vector_each(embeddings([[float("nan"), 0.0], *UNIT[1:]]), SAMPLES),
    "embedding missing": lambda: one_unit_vector_each(embeddings(UNIT[:2]), SAMPLES),
    "sample lost": lambda: every_sample_accounted_for(
        members(("0", 1, True, True)), tags(["x"], ["y"]), unclustered()
    ),
    "untagged sample lost": lambda: every_sample_accounted_for(
        members(("0", 1, True, True)), tags(["x"], []), unclustered()
    ),
    "clustered and not": lambda: every_sample_accounted_for(
        members(("0", 1, True, True)), tags(["x"]), unclustered("0")
    ),
    "two primaries": lambda: every_sample_accounted_for(
        members(("0", 1, True, True), ("0", 2, True, True)), tags(["x"]), unclustered()
    ),
    "one order": lambda: balanced_orders(pl.DataFrame(PAIR[:1])),
    "one order twice": lambda: balanced_orders(pl.DataFrame([PAIR[0], PAIR[0]])),
    "always the first": lambda: decided_by_quality(leads([30, 20, 25, 30, 9])),
    "always the second": lambda: decided_by_quality(leads([-30, -20, -25, -30, -9])),
    "all equal": lambda: decided_by_quality(leads([0, 0, 0])),
    "many unread": lambda: few_unread(statuses(8, 2)),
    "candidate lost": lambda: every_candidate(
        scores(50.0), members(("a", 0, True, True), ("b", 0, True, True))
    ),
    "score out of range": lambda: every_candidate(scores(0.0), members(("a", 0, True, True))),
    "empty subset": lambda: sound_subset(subset([]), SAMPLES, OUTSIDE),
    "chosen twice": lambda: sound_subset(subset(["a", "a"]), SAMPLES, OUTSIDE),
    "not of the dataset": lambda: sound_subset(subset(["a", "q"]), SAMPLES, OUTSIDE),
    "rank gap": lambda: sound_subset(subset(["a", "b"], [0, 2]), SAMPLES, OUTSIDE),
}


@pytest.mark.parametrize("name", PASSING)
def test_passes_on_sound_data(name):
    finding = PASSING[name]()
    assert finding.passed, finding.description


@pytest.mark.parametrize("name", FAILING)
def test_fails_for_its_reason(name):
    finding = FAILING[name]()
    assert not finding.passed, finding.description

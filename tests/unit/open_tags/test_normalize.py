"""Normalization; each defect named here was seen in research code."""

from dataclasses import replace

import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from opencs_assets.open_tags.normalize import normalize, rule
from opencs_assets.profiles import MethodError, resolve_constants
from opencs_assets.schemas import NORMALIZED_TAGS, OPEN_TAGS, TAG_LINEAGE, conform
from resources.settings import Method


def open_tags(tags_by_sample):
    rows = [
        {
            "sample_id": sample,
            "tags": [{"tag": tag, "explanation": ""} for tag in tags],
            "status": "ok" if tags else "unparsable",
            "detail": None,
            "attempts": 1,
            "reply_id": "r",
            "model": "m",
            "prompt_version": "v",
        }
        for sample, tags in tags_by_sample.items()
    ]
    return pl.DataFrame(rows, schema=OPEN_TAGS.schema)


def constants(profile="corrected", alpha=1):
    return resolve_constants(profile, Method(alpha=alpha), 52_000)


def test_every_word_is_stemmed_not_only_the_last():
    assert rule(pl.Series(["Solving Equations"]), stem_words=True)[0] == "solv equat"
    # What the research code does, kept in profile faithful.
    assert rule(pl.Series(["Solving Equations"]), stem_words=False)[0] == "solving equ"


def test_counts_of_merged_tags_add_up_instead_of_overwriting():
    tags = {f"a{i}": ["Math"] for i in range(15)} | {f"b{i}": ["math"] for i in range(15)}
    found = normalize(open_tags(tags), constants(alpha=20))
    assert found.lineage["normalized_tag"].to_list() == ["math", "math"]
    assert (found.tags["tags"].list.len() == 1).all()


def test_faithful_filters_first_and_loses_both_halves():
    tags = {f"a{i}": ["Math"] for i in range(15)} | {f"b{i}": ["math"] for i in range(15)}
    with pytest.raises(MethodError, match="largest α that leaves something is 15"):
        normalize(open_tags(tags), constants("faithful", alpha=20))


def test_a_sample_with_both_spellings_counts_once():
    tags = {"a": ["Math", "math"], "b": ["cooking"], "c": ["cooking"]}
    found = normalize(open_tags(tags), constants(alpha=2))
    dropped = found.lineage.filter(pl.col("dropped_by") == "frequency")["raw_tag"].to_list()
    assert sorted(dropped) == ["Math", "math"]


def test_merged_tags_are_called_by_their_commonest_form():
    tags = {"a": ["cooking"], "b": ["cooking"], "c": ["cook"]}
    assert normalize(open_tags(tags), constants()).lineage["normalized_tag"].unique().to_list() == [
        "cooking"
    ]


def test_samples_without_tags_say_why():
    found = normalize(
        open_tags({"untagged": [], "blank": ["!!!"], "rare": ["x"], "fine": ["y"], "also": ["y"]}),
        constants(alpha=2),
    ).tags
    reasons = dict(found.select("sample_id", "reason").iter_rows())
    assert reasons == {
        "untagged": "not_tagged",
        "blank": "all_blank",
        "rare": "all_infrequent",
        "fine": None,
        "also": None,
    }


def test_no_tags_at_all_is_every_sample_untagged():
    found = normalize(open_tags({"a": [], "b": []}), constants())
    assert found.tags["reason"].to_list() == ["not_tagged", "not_tagged"]
    assert found.lineage.height == 0


def test_only_punctuation_is_a_clear_error():
    with pytest.raises(MethodError, match="no tag has a letter or a digit"):
        normalize(open_tags({"a": ["!!!"], "b": ["?"]}), constants())


@pytest.mark.parametrize(
    "tag", ["数学", "العربية", "naïve Bayes", "C++", "c#", "x" * 10_000, "🎉 party", "हिन्दी"]
)
def test_any_script_survives(tag):
    found = normalize(open_tags({"a": [tag]}), constants())
    assert found.tags["tags"].list.len()[0] == 1


def test_c_plus_plus_is_not_c():
    found = normalize(open_tags({"a": ["C++"], "b": ["C"], "c": ["C#"]}), constants())
    assert found.lineage["normalized_tag"].n_unique() == 3


TAGS = st.lists(st.sampled_from(["Math", "math", "maths", "Cooking", "cook", "!!", "日本", "a b"]))
DATASETS = st.dictionaries(st.text("abcdef", min_size=1, max_size=4), TAGS, min_size=1, max_size=12)


@settings(max_examples=60, deadline=None)
@given(DATASETS, st.integers(1, 3), st.sampled_from(["corrected", "faithful"]))
def test_invariants(tags_by_sample, alpha, profile):
    try:
        found = normalize(open_tags(tags_by_sample), constants(profile, alpha))
    except MethodError:
        return
    conform(found.tags, NORMALIZED_TAGS)
    conform(found.lineage, TAG_LINEAGE)
    # No sample disappears, none without tags lacks a reason.
    assert found.tags["sample_id"].to_list() == list(tags_by_sample)
    empty = found.tags["tags"].list.len() == 0
    assert (found.tags["reason"].is_not_null() == empty).all()
    # Every raw tag is accounted for, once, with the samples that carry it.
    raw = {tag for tags in tags_by_sample.values() for tag in tags}
    assert set(found.lineage["raw_tag"]) == raw
    for tag, count in found.lineage.select("raw_tag", "count").iter_rows():
        assert count == sum(tag in tags for tags in tags_by_sample.values())
    # The input's order does not matter.
    backwards = normalize(
        open_tags(dict(reversed(tags_by_sample.items()))), constants(profile, alpha)
    )
    assert backwards.lineage.equals(found.lineage)
    assert backwards.tags.sort("sample_id").equals(found.tags.sort("sample_id"))


@settings(max_examples=40, deadline=None)
@given(DATASETS)
def test_normalizing_normalized_tags_changes_nothing(tags_by_sample):
    chosen = replace(constants(), readable_tags=True)
    try:
        once = normalize(open_tags(tags_by_sample), chosen).tags
        again = normalize(open_tags(dict(once.select("sample_id", "tags").iter_rows())), chosen)
    except MethodError:
        return
    assert again.tags["tags"].to_list() == once["tags"].to_list()

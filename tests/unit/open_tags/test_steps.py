"""The steps of normalization one by one."""

import numpy as np
import polars as pl
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from opencs_assets.open_tags.association import association
from opencs_assets.open_tags.frequency import frequency
from opencs_assets.open_tags.pairs import pair_up, rename, tag_lists
from opencs_assets.open_tags.rule import rule
from opencs_assets.open_tags.semantic import semantic


def pairs(*samples):
    return pair_up(pl.Series("tags", samples, dtype=pl.List(pl.String)))


def merged(found, became):
    return dict(zip(found.names, became, strict=True))


def test_every_word_is_stemmed_not_only_the_last():
    found = pairs(["Solving Equations"])
    assert rule(found, stem_words=True, readable=False).to_list() == ["solv equat"]
    # What the research code does, kept in profile faithful.
    published = rule(found, stem_words=False, keep_symbols=False, readable=False)
    assert published.to_list() == ["solving equ"]


def test_distance_is_no_similarity():
    # "Similarity 0.05" read as a similarity would merge these: their similarity is 0.9.
    vectors = np.array([[1, 0], [0.9, np.sqrt(1 - 0.81)]], np.float32)
    found = pairs(["a"], ["b"])
    assert semantic(found, lambda _: vectors, distance=0.05, neighbours=2).became.to_list() == [
        "a",
        "b",
    ]
    near = semantic(found, lambda _: vectors, distance=0.11, neighbours=2)
    assert near.became.to_list() == ["a", "a"]


def test_noise_is_no_cluster():
    vectors = np.eye(4, dtype=np.float32)
    found = pairs(["a"], ["b"], ["c"], ["d"])
    assert semantic(found, lambda _: vectors, distance=0.05, neighbours=2).became.to_list() == [
        "a",
        "b",
        "c",
        "d",
    ]


def test_texts_that_the_model_cannot_tell_apart_stay_apart():
    # A model without the script gives both tags the vector of its unknown token.
    vectors = np.array([[1, 0, 0], [1, 0, 0], [0, 1, 0], [0, 1, 0]], np.float32)
    found = pairs(["cafe"], ["café"], ["数学"], ["音楽"])
    assert found.names.to_list() == ["cafe", "café", "数学", "音楽"]
    told = semantic(found, lambda _: vectors, distance=0.05, neighbours=2)
    assert told.became.to_list() == ["cafe", "cafe", "数学", "音楽"]
    assert told.unreadable == 2


def test_an_unreadable_tag_holds_no_others_together():
    angles = np.deg2rad([0, 15, 15, 30])
    vectors = np.stack([np.cos(angles), np.sin(angles)], axis=1).astype(np.float32)
    found = pairs(["a"], ["b 数"], ["c 音"], ["d"])
    told = semantic(found, lambda _: vectors, distance=0.05, neighbours=2)
    assert told.became.to_list() == ["a", "b 数", "c 音", "d"]


def test_embeddings_that_are_not_finite_are_an_error():
    with pytest.raises(ValueError, match="point 1 has a value that is not finite"):
        semantic(
            pairs(["a"], ["b"]),
            lambda _: np.array([[1, 0], [np.nan, 0]], np.float32),
            distance=0.05,
            neighbours=2,
        )


def test_association_follows_chains_and_repeats_until_nothing_merges():
    rows = [["a", "b", "c"]] * 10 + [["b", "c"]] * 10 + [["c"]] * 10
    found = pairs(*rows)
    told = association(found, support=5, confidence=0.99)
    assert merged(found, told.became) == {"a": "c", "b": "c", "c": "c"}
    # d comes with a or with b; only when those are one does it always come with it.
    rows = [["a", "b", "d"]] * 6 + [["a", "b"]] * 20 + [["b", "d"]] * 4
    found = pairs(*rows)
    told = association(found, support=5, confidence=0.99)
    assert merged(found, told.became) == {"a": "b", "b": "b", "d": "b"}


def test_association_needs_support_and_confidence():
    found = pairs(*[["a", "b"]] * 9, ["b"])
    assert association(found, support=10, confidence=0.99).became.to_list() == ["a", "b"]
    assert association(found, support=9, confidence=0.99).became.to_list() == ["b", "b"]
    found = pairs(*[["a", "b"]] * 98, *[["a"]] * 2, *[["b"]] * 50)
    assert association(found, support=40, confidence=0.99).became.to_list() == ["a", "b"]
    found = pairs(*[["a", "b"]] * 99, *[["a"]] * 1, *[["b"]] * 50)
    assert association(found, support=40, confidence=0.99).became.to_list() == ["b", "b"]


def test_two_tags_that_always_come_together_become_the_first():
    found = pairs(*[["b", "a"]] * 50)
    assert association(found, support=40, confidence=0.99).became.to_list() == ["a", "a"]


def fp_growth(samples, support, confidence):
    """The same by mlxtend's rules between single tags, round after round."""
    import pandas as pd
    from mlxtend.frequent_patterns import association_rules, fpgrowth
    from mlxtend.preprocessing import TransactionEncoder

    names = {tag: tag for tags in samples for tag in tags}
    while True:
        rows = [sorted({names[tag] for tag in tags}) for tags in samples]
        encoder = TransactionEncoder()
        table = pd.DataFrame(encoder.fit_transform(rows), columns=encoder.columns_)
        counts = table.sum()
        sets = fpgrowth(table, min_support=support / len(rows), use_colnames=True, max_len=2)
        targets = {}
        if len(sets):
            rules = association_rules(sets, metric="confidence", min_threshold=confidence - 1e-12)
            for row in rules.itertuples():
                (tag,), (other,) = row.antecedents, row.consequents
                if (counts[other], [-ord(c) for c in other]) > (
                    counts[tag],
                    [-ord(c) for c in tag],
                ):
                    key = (row.confidence, counts[other], [-ord(c) for c in other])
                    targets.setdefault(tag, []).append((key, other))
        step = {tag: max(found)[1] for tag, found in targets.items()}
        if not step:
            return names

        def root(tag, step=step):
            return root(step[tag]) if tag in step else tag

        names = {tag: root(name) for tag, name in names.items()}


@pytest.mark.filterwarnings("ignore:invalid value encountered in divide")
@settings(max_examples=40, deadline=None)
@given(
    st.lists(st.lists(st.sampled_from("abcdef"), max_size=4), min_size=1, max_size=30),
    st.integers(1, 4),
    st.sampled_from([0.6, 0.8, 0.99, 1.0]),
)
def test_association_is_what_fp_growth_finds(samples, support, confidence):
    assume(any(samples) and support <= len(samples))
    found = pairs(*samples)
    told = association(found, support=support, confidence=confidence)
    assert merged(found, told.became) == fp_growth(samples, support, confidence)


def test_frequency_counts_samples():
    found = pairs(["a", "a"], ["a", "b"], ["b"])
    assert frequency(found, alpha=2, reason="").to_list() == ["a", "b"]
    assert frequency(pairs(["a", "a"], ["b"], ["b"]), alpha=2, reason="").to_list() == [None, "b"]


@given(st.lists(st.lists(st.text(max_size=3), max_size=4), max_size=8))
def test_pairs_hold_each_sample_and_tag_once(samples):
    found = pairs(*samples)
    assert tag_lists(found, len(samples)).to_list() == [sorted(set(tags)) for tags in samples]
    assert found.counts.tolist() == [sum(name in tags for tags in samples) for name in found.names]


def test_nulls_are_no_tags():
    found = pairs(["a", None], None, [], ["b"])
    assert tag_lists(found, 4).to_list() == [["a"], [], [], ["b"]]


def test_renaming_merges_and_drops():
    found = pairs(["a", "b"], ["b", "c"])
    renamed, numbers = rename(found, pl.Series(["x", "x", None], dtype=pl.String))
    assert tag_lists(renamed, 2).to_list() == [["x"], ["x"]]
    assert numbers.tolist() == [0, 0, -1]
    assert renamed.counts.tolist() == [2]

"""The steps of normalization one by one."""

import numpy as np
import polars as pl
import pytest
from hypothesis import assume, example, given, settings
from hypothesis import strategies as st

from opencs_assets.config.profiles import MethodError
from opencs_assets.open_tags.association import association
from opencs_assets.open_tags.frequency import frequency
from opencs_assets.open_tags.pairs import pair_up, rename, tag_lists
from opencs_assets.open_tags.rule import clean, rule
from opencs_assets.open_tags.semantic import semantic


def pairs(*samples):
    return pair_up(pl.Series("tags", samples, dtype=pl.List(pl.String)))


def carried(**counts):
    """Each tag in so many samples, which have no other."""
    return pairs(*([tag] for tag, count in counts.items() for _ in range(count)))


@pytest.mark.parametrize(
    ("tag", "corrected", "published"),
    [
        ("Solving  Equations!", "solving equations", "solving equations"),
        ("--C++/C#--", "c++ c#", "c c"),
        ("snake_case", "snake case", "snake_case"),
        ("ﬁne Ａ１", "fine a1", "ﬁne ａ１"),
        # Marks belong to the word: a vowel sign, a tone.
        ("हिन्दी", "हिन्दी", "हिन्दी"),
        ("ภาษาที่", "ภาษาที่", "ภาษาที่"),
        ("İ", "i̇", "i̇"),
        ("?!", "", ""),
    ],
)
def test_what_is_no_word_becomes_one_space(tag, corrected, published):
    tags = pl.Series([tag])
    # Composition can't be seen, and is the same in both.
    assert clean(tags, keep_symbols=True).to_list() == [corrected]
    assert clean(tags, keep_symbols=False).to_list() == [published]


def test_every_word_is_stemmed_not_only_the_last():
    found = pairs(["Solving Equations"])
    assert rule(found, stem_words=True, readable=False).to_list() == ["solv equat"]
    # What the research code does, kept in profile faithful.
    published = rule(found, stem_words=False, keep_symbols=False, readable=False)
    assert published.to_list() == ["solving equ"]


def test_tags_of_one_stem_have_its_commonest_form_and_of_equal_ones_the_first():
    # "cooking" is commonest only if its spellings are counted together.
    found = carried(**{"Cooking": 1, "cooking": 1, "cooking!": 1, "cook": 2, "!": 9})
    assert found.names.to_list() == ["!", "Cooking", "cook", "cooking", "cooking!"]
    assert rule(found, stem_words=True).to_list() == [None, *["cooking"] * 4]
    assert rule(carried(cooks=2, cooked=2, cook=1), stem_words=True).to_list() == ["cooked"] * 3
    symbols = carried(**{"c": 1, "c#": 1})
    assert rule(symbols, stem_words=True).to_list() == ["c", "c#"]


def vectors(*degrees):
    angles = np.deg2rad(degrees)
    points = np.stack([np.cos(angles), np.sin(angles)], axis=1).astype(np.float32)
    return lambda _: points


@pytest.mark.parametrize(
    ("distance", "became"),
    # "Similarity 0.05" read as a similarity would merge these: their similarity is 0.9.
    [(0.05, ["a", "b", "c"]), (0.11, ["a", "a", "c"])],
)
def test_distance_is_no_similarity_and_noise_is_no_cluster(distance, became):
    near = np.rad2deg(np.arccos(0.9))
    found = semantic(pairs(["a"], ["b"], ["c"]), vectors(0, near, 180), distance=distance,
                     neighbours=2)  # fmt: skip
    assert found.became.to_list() == became
    assert found.unreadable == 0


def test_a_cluster_becomes_its_commonest_tag_and_of_equal_ones_the_first():
    found = carried(a=1, b=3, c=2, d=1, e=2, f=2, g=5)
    told = semantic(found, vectors(0, 1, 2, 90, 91, 92, 180), distance=0.01, neighbours=2)
    assert told.became.to_list() == ["b", "b", "b", "e", "e", "e", "g"]
    alone = semantic(found, vectors(*range(0, 350, 50)), distance=0.01, neighbours=2)
    assert alone.became.to_list() == list("abcdefg")


def test_texts_that_the_model_cannot_tell_apart_stay_apart():
    # A model without the script gives both tags the vector of its unknown token. Spellings that
    # differ by case, accents or spaces have one vector for a better reason.
    names = ["Ca fe", "cafe", "café", "数学", "音楽"]
    told = semantic(pairs(names), vectors(0, 0, 0, 90, 90), distance=0.05, neighbours=2)
    assert told.became.to_list() == ["Ca fe", "Ca fe", "Ca fe", "数学", "音楽"]
    assert told.unreadable == 2


def test_an_unreadable_tag_holds_no_others_together():
    told = semantic(
        pairs(["a"], ["b 数"], ["c 音"], ["d"]), vectors(0, 15, 15, 30), distance=0.05, neighbours=2
    )
    assert told.became.to_list() == ["a", "b 数", "c 音", "d"]
    # Beside them, those that are near each other stay one, apart from other clusters.
    told = semantic(
        pairs(["a"], ["b 数"], ["c 音"], ["d"], ["e"], ["f"], ["g"]),
        vectors(0, 15, 15, 30, 31, 180, 181),
        distance=0.05,
        neighbours=2,
    )
    assert told.became.to_list() == ["a", "b 数", "c 音", "d", "d", "f", "f"]


def test_embeddings_that_are_not_finite_are_an_error():
    with pytest.raises(ValueError, match="point 1 has a value that is not finite"):
        semantic(pairs(["a"], ["b"]), vectors(0, np.nan), distance=0.05, neighbours=2)


@pytest.mark.parametrize(
    ("rows", "support", "confidence", "became", "rounds"),
    [
        # Exactly at the support and one short of it.
        ([["a", "b"]] * 9 + [["b"]], 9, 0.99, "bb", 2),
        ([["a", "b"]] * 9 + [["b"]], 10, 0.99, "ab", 1),
        # Enough samples have a, and too few of them b.
        ([["a", "b"]] * 9 + [["a"]] + [["b"]] * 4, 10, 0.9, "ab", 1),
        # Exactly at the confidence and one short of it.
        ([["a", "b"]] * 99 + [["a"]] + [["b"]] * 50, 40, 0.99, "bb", 2),
        ([["a", "b"]] * 98 + [["a"]] * 2 + [["b"]] * 50, 40, 0.99, "ab", 1),
        # Two that always come together become the first.
        ([["b", "a"]] * 50, 40, 0.99, "aa", 2),
        # The most confident rule, though c is commoner than b.
        ([["a", "b", "c"]] * 9 + [["a", "b"]] + [["b"]] * 8 + [["c"]] * 12, 5, 0.9, "bbc", 2),
        # Of equally confident ones the commoner, and of equally common ones the first by name.
        ([["a", "b", "c"]] * 9 + [["b"]] * 2 + [["c"]] * 3, 5, 0.9, "cbc", 2),
        ([["a", "b", "c"]] * 6 + [["b"]] * 4 + [["c"]] * 4, 5, 0.9, "bbc", 2),
        # Where a becomes b, b becomes c and c becomes d, all are d: a never comes with c.
        (
            [["a", "b"]] * 2 + [["b", "c"]] * 4 + [["c", "d"]] * 8 + [["d"]] * 8,
            2, 0.6, "dddd", 2,
        ),
        # d comes with a or with b; only when those are one does it always come with it.
        (
            [["a", "b", "d"]] * 6 + [["a", "b"]] * 20 + [["b", "d"]] * 4 + [["a", "d"]] * 1,
            5, 0.96, "bbb", 3,
        ),
    ],
)  # fmt: skip
def test_association_merges_what_nearly_always_comes_together(
    rows, support, confidence, became, rounds
):
    told = association(pairs(*rows), support=support, confidence=confidence)
    assert "".join(told.became) == became
    assert told.rounds == rounds


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
                if (counts[other], -ord(other)) > (counts[tag], -ord(tag)):
                    key = (row.confidence, counts[other], -ord(other))
                    targets.setdefault(tag, []).append((key, other))
        step = {tag: max(found)[1] for tag, found in targets.items()}
        if not step:
            return names

        def root(tag, step=step):
            return root(step[tag]) if tag in step else tag

        names = {tag: root(name) for tag, name in names.items()}


@pytest.mark.filterwarnings("ignore:invalid value encountered in divide")
@settings(max_examples=25)
@given(
    st.lists(st.lists(st.sampled_from("abcdef"), max_size=4), min_size=1, max_size=30),
    st.integers(1, 4),
    st.sampled_from([0.6, 0.8, 0.99, 1.0]),
)
def test_association_is_what_fp_growth_finds(samples, support, confidence):
    assume(any(samples) and support <= len(samples))
    found = pairs(*samples)
    told = association(found, support=support, confidence=confidence)
    became = dict(zip(found.names, told.became, strict=True))
    assert became == fp_growth(samples, support, confidence)


@pytest.mark.parametrize(
    ("counts", "alpha", "kept"),
    [
        ({"a": 2, "b": 1, "c": 3}, 2, ["a", None, "c"]),
        # A tag without a word is dropped or kept like any other, and leaves nothing to complain of.
        ({"!": 3, "a": 2, "b": 1}, 2, ["!", "a", None]),
        ({"!": 3, "?": 1}, 2, ["!", None]),
        ({"!": 1}, 2, [None]),
        ({}, 2, []),
    ],
)
def test_frequency_keeps_what_alpha_samples_carry(counts, alpha, kept):
    assert frequency(carried(**counts), alpha=alpha, reason="").to_list() == kept


def test_frequency_counts_samples():
    assert frequency(pairs(["a", "a"], ["b"], ["b"]), alpha=2, reason="").to_list() == [None, "b"]


@pytest.mark.parametrize("wordless", [1, 9])
def test_an_alpha_that_leaves_no_word_names_the_largest_that_leaves_one(wordless):
    message = r"α = 5 samples or more \(published\), .* the largest α that .* is 4\. Set"
    with pytest.raises(MethodError, match=message):
        frequency(carried(**{"!": wordless, "数": 4, "1": 3}), alpha=5, reason="published")


@given(st.lists(st.none() | st.lists(st.none() | st.text("abc", max_size=2), max_size=4)))
@example([["a", None], None, [], ["b"]])
def test_pairs_hold_each_sample_and_tag_once_and_no_nulls(samples):
    found = pairs(*samples)
    expected = [sorted(set(tags or []) - {None}) for tags in samples]
    assert tag_lists(found, len(samples)).to_list() == expected
    assert found.counts.tolist() == [sum(name in tags for tags in expected) for name in found.names]


@given(
    st.lists(st.lists(st.sampled_from("abcd"), max_size=4), max_size=5),
    st.fixed_dictionaries(dict.fromkeys("abcd", st.sampled_from(["a", "b", "x", "y", None]))),
)
@example([["a", "b"], ["b", "c"]], {"a": "x", "b": "x", "c": None, "d": None})
@example([["a", "b"]], {"a": "y", "b": "x", "c": None, "d": None})
@example([["a", "b"], ["b"], ["c"]], {"a": "a", "b": None, "c": "x", "d": None})
def test_renaming_merges_drops_and_keeps_order(samples, names):
    found = pairs(*samples)
    became = pl.Series([names[tag] for tag in found.names], dtype=pl.String)
    renamed, numbers = rename(found, became)
    expected = [sorted({names[tag] for tag in tags} - {None}) for tags in samples]
    assert tag_lists(renamed, len(samples)).to_list() == expected
    assert renamed.names.to_list() == sorted(set(became) - {None})
    assert [renamed.names[n] if n >= 0 else None for n in numbers.tolist()] == became.to_list()
    assert renamed.counts.tolist() == [sum(n in tags for tags in expected) for n in renamed.names]

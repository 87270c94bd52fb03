import numpy as np
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from opencs_assets.datasets import duplicates
from opencs_assets.datasets.duplicates import bands_for, find_duplicates
from opencs_assets.tables.columns import MESSAGES
from opencs_assets.tables.datasets import NEAR_DUPLICATES
from resources.schema import conform

LONG = " ".join(f"word{number}" for number in range(60))


def samples(*texts):
    """Samples of one user message each, named and numbered in order."""
    return pl.DataFrame(
        {
            "sample_id": [f"s{row}" for row in range(len(texts))],
            "row": list(range(len(texts))),
            "messages": [[{"role": "user", "content": text}] for text in texts],
        },
        schema={"sample_id": pl.String, "row": pl.Int64, "messages": MESSAGES},
    )


def groups_of(*texts, **options):
    return conform(find_duplicates(samples(*texts), **options), NEAR_DUPLICATES).rows()


def text_of(*numbers):
    """A text of the words from the first number up to the second."""
    return " ".join(f"w{number}" for number in range(*numbers))


def test_equal_but_for_case_and_punctuation_is_exact():
    assert groups_of("Write a poem!", "other words here", "write  a POEM") == [
        ("s0", 0, "s0", "first", 1.0),
        ("s2", 0, "s0", "exact", 1.0),
    ]


def test_nearly_equal_is_near_with_its_similarity():
    # 56 runs of five words; the last word's change spoils one: 55 of 57.
    changed = LONG.removesuffix("word59") + "another"
    (_, near) = groups_of(LONG, "nothing like it at all, really", changed)
    assert near == ("s2", 0, "s0", "near", pytest.approx(55 / 57))


def test_what_is_half_alike_is_not_near():
    assert groups_of(LONG, " ".join(LONG.split()[:30] + [f"x{n}" for n in range(30)])) == []


def test_the_whole_conversation_counts():
    said = pl.Series([[{"content": "hi"}, {"content": answer}] for answer in (LONG, "no")])
    assert find_duplicates(samples("hi", "hi").with_columns(messages=said)).height == 0


def test_a_chain_is_one_group_named_by_its_first():
    words = LONG.split()
    second = " ".join([*words[4:], *[f"y{n}" for n in range(4)]])
    third = " ".join([*words[8:], *[f"y{n}" for n in range(8)]])
    found = groups_of("nothing", LONG, second, third, similarity=0.8)
    assert [(row[0], row[2], row[3]) for row in found] == [
        ("s1", "s1", "first"),
        ("s2", "s1", "near"),
        ("s3", "s1", "near"),
    ]
    assert found[2][4] < 0.8


@pytest.mark.parametrize("text", ["🎉🎉", "你好世界", "مرحبا بالعالم", "!!!", "x" * 10_000, "a"])
def test_any_text(text):
    assert [row[3] for row in groups_of(text, "quite another one", text)] == ["first", "exact"]


def test_texts_without_words_are_not_all_one():
    assert groups_of("🎉", "🚀", "!!!", "???") == []


def test_many_equal_and_many_alike_are_one_group_each(monkeypatch):
    monkeypatch.setattr(duplicates, "MOST_COMPARED", 5)
    found = find_duplicates(samples(*[LONG] * 500, *[f"{LONG} end {n}" for n in range(300)]))
    assert found["group"].n_unique() == 1
    assert found["kind"].value_counts().sort("kind").rows() == [
        ("exact", 499),
        ("first", 1),
        ("near", 300),
    ]


def filled(number):
    """A template filled in: each shares 0.73 of its runs with any other."""
    return " ".join([*LONG.split()[:52], *[f"f{number}x{place}" for place in range(9)]])


@pytest.mark.parametrize("most", [1, 100])
def test_a_near_pair_is_found_among_many_that_are_not_near(monkeypatch, most):
    monkeypatch.setattr(duplicates, "MOST_COMPARED", most)
    last = filled(299)
    found = groups_of(*[filled(number) for number in range(300)], f"{last} more")
    assert [(row[0], row[2]) for row in found] == [("s299", "s299"), ("s300", "s299")]


@pytest.fixture
def compared(monkeypatch):
    """The pairs whose sets were compared."""
    pairs = []
    jaccard = duplicates.jaccard
    monkeypatch.setattr(duplicates, "jaccard", lambda *sets: pairs.append(1) or jaccard(*sets))
    return pairs


@pytest.mark.timeout(30)
def test_many_alike_are_compared_a_few_times_each(compared):
    found = find_duplicates(samples(*[f"{LONG} end{number}" for number in range(2_000)]))
    assert found.height == 2_000
    assert found["group"].n_unique() == 1
    assert len(compared) < 5 * 2_000


def test_all_of_a_bucket_are_compared(monkeypatch):
    monkeypatch.setattr(
        duplicates,
        "_signatures",
        lambda sets, seed: np.zeros((len(sets), duplicates.PERMUTATIONS), np.uint32),
    )
    other = " ".join(f"other{number}" for number in range(60))
    found = groups_of(other, LONG, f"{LONG} more")
    assert [(row[0], row[2]) for row in found] == [("s1", "s1"), ("s2", "s1")]


def test_a_late_sample_joins_two_groups():
    found = groups_of(*[text_of(4 * at, 4 * at + 60) for at in (0, 1, 3, 4, 2)])
    assert [(row[0], row[1], row[2]) for row in found] == [(f"s{n}", 0, "s0") for n in range(5)]


def test_many_filled_templates_are_compared_so_often_and_no_more(monkeypatch, compared):
    monkeypatch.setattr(duplicates, "MOST_COMPARED", 10)
    assert find_duplicates(samples(*[filled(number) for number in range(300)])).height == 0
    assert 300 < len(compared) <= 10 * 300


def test_exactly_at_the_limit_is_near():
    # 0.55 * 100 is a little more than 55 in floating point.
    (_, near) = groups_of(text_of(104), text_of(59), similarity=0.55)
    assert near == ("s1", 0, "s0", "near", 0.55)
    (_, near) = groups_of(text_of(64), text_of(52))
    assert near == ("s1", 0, "s0", "near", 0.8)
    assert groups_of(text_of(64), text_of(51)) == []


def test_parts_of_the_table_give_what_the_whole_gives(monkeypatch):
    texts = [text_of(at % 7, 20 + at % 7) for at in range(23)] + ["a", "a b c d e", "A", "b"]
    whole = find_duplicates(samples(*texts), similarity=0.7)
    for name, size in (("_CHUNK", 4), ("_SIGNED", 3)):
        monkeypatch.setattr(duplicates, name, size)
    assert find_duplicates(samples(*texts), similarity=0.7).equals(whole)
    assert whole["group"].n_unique() == 2


def test_rows_decide_which_sample_is_first_and_then_ids():
    table = samples("same", "same", "same").with_columns(row=pl.Series([5, 3, 3]))
    found = find_duplicates(table[::-1])
    assert found.select("sample_id", "duplicate_of", "kind").rows() == [
        ("s1", "s1", "first"),
        ("s2", "s1", "exact"),
        ("s0", "s1", "exact"),
    ]


@pytest.mark.parametrize("similarity", [0, -0.1, 1.1, float("nan")])
def test_a_similarity_that_is_none(similarity):
    with pytest.raises(ValueError, match="above 0 and at most 1"):
        groups_of("a", "b", similarity=similarity)


def test_nothing():
    assert groups_of() == []
    assert groups_of("alone") == []


@pytest.mark.parametrize(
    ("similarity", "bands"), [(0.01, 120), (0.5, 60), (0.7, 30), (0.8, 24), (0.9, 15), (1.0, 1)]
)
def test_the_fewest_bands_that_miss_few_at_the_limit(similarity, bands):
    assert bands_for(similarity) == bands
    chances = {
        count: (1 - similarity ** (120 // count)) ** count
        for count in range(1, 121)
        if 120 % count == 0
    }
    assert bands == next((count for count, missed in chances.items() if missed < 1e-3), 120)


TEXTS = st.lists(
    st.lists(st.sampled_from("abc"), min_size=1, max_size=12).map(" ".join), max_size=10
)


@settings(max_examples=60)
@given(TEXTS, st.sampled_from([0.6, 0.8, 1.0]), st.randoms(use_true_random=False))
def test_is_what_comparing_all_with_all_finds(texts, similarity, random):
    def shingles(text):
        words = text.split()
        if len(words) < 5:
            return {tuple(words)}
        return {tuple(words[at : at + 5]) for at in range(len(words) - 4)}

    table = samples(*texts)
    found = find_duplicates(table, similarity=similarity)
    group = {row: row for row in range(len(texts))}
    for row in range(len(texts)):
        for other in range(row):
            mine, its = shingles(texts[row]), shingles(texts[other])
            if len(mine & its) / len(mine | its) >= similarity:
                old, new = max(group[row], group[other]), min(group[row], group[other])
                group = {at: new if root == old else root for at, root in group.items()}
    sizes = np.bincount(list(group.values())) if texts else []
    expected = sorted((f"s{row}", f"s{root}") for row, root in group.items() if sizes[root] > 1)
    assert sorted(found.select("sample_id", "duplicate_of").rows()) == expected
    for sample, of, kind, alike in found.select(
        "sample_id", "duplicate_of", "kind", "similarity"
    ).iter_rows():
        mine, its = shingles(texts[int(sample[1:])]), shingles(texts[int(of[1:])])
        assert alike == pytest.approx(len(mine & its) / len(mine | its))
        assert (kind == "near") == (texts[int(sample[1:])] != texts[int(of[1:])])
    order = list(range(len(texts)))
    random.shuffle(order)
    assert find_duplicates(table[order], similarity=similarity).equals(found)


def test_alpaca_rows_given_twice_are_found(alpaca):
    read = alpaca.samples.head(2000).select("sample_id", "row", "messages")
    again = read.head(100).with_columns(pl.col("sample_id") + "again", pl.col("row") + 2000)
    found = find_duplicates(pl.concat([read, again])).filter(
        pl.col("sample_id").str.ends_with("again")
    )
    assert found.height == 100
    assert set(found["kind"]) <= {"exact", "near"}
    assert (found["similarity"] >= 0.8).all()

import polars as pl
import pytest

from opencs_assets.datasets.words import _BASE, shingle_hashes, words


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("Don't STOP, now!", ["don", "t", "stop", "now"]),
        ("ﬁve x² Å", ["five", "x2", "å"]),
        ("कविता 2nd", ["कविता", "2nd"]),
        ("写a首かカ한", ["写", "a", "首", "か", "カ", "한"]),
        ("_ 🎉 -", []),
    ],
)
def test_words_are_letters_and_digits_in_one_writing(text, expected):
    assert words(pl.Series([text])).to_list() == [expected]


def runs(*texts):
    hashes, text, place = shingle_hashes(
        pl.Series([text.split() for text in texts], dtype=pl.List(pl.String)), 3
    )
    return hashes.tolist(), list(zip(text.tolist(), place.tolist(), strict=True))


def test_each_run_has_its_text_and_place_and_none_goes_into_the_next_text():
    hashes, places = runs("a b", "a b c d", "", "b c d")
    assert places == [(1, 0), (1, 1), (3, 0)]
    assert hashes[1] == hashes[2] != hashes[0]
    assert runs("a b c")[1] == [(0, 0)]
    assert runs("a", "b")[1] == runs()[1] == []


def test_runs_of_the_same_words_in_another_order_are_others():
    (first, second, third, fourth), _ = runs("a b c", "c b a", "a c b", "a a b")
    assert len({first, second, third, fourth}) == 4
    # By an odd number, multiplying loses no bit of the first words.
    assert _BASE % 2

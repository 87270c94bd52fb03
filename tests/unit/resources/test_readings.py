import contextlib
import json
import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from resources.llm.readings import (
    Unparsable,
    expected_number,
    parse_json_list,
    parse_score,
    parse_score_pair,
    preference,
)
from resources.llm.types import Reply


def reply(*alternatives: tuple[str, float]) -> Reply:
    return Reply("id", "ok", logprobs=(alternatives,))


logprobs = st.floats(-30, 0)
numbers = st.floats(1, 100).map(lambda value: round(value, 2))


def test_preference_sums_the_variants_of_a_label():
    found = preference(reply(("A", math.log(0.3)), (" A", math.log(0.1)), ("B", math.log(0.2))))
    assert found == pytest.approx(math.log(2))


def test_preference_bounds_a_label_that_is_not_listed():
    assert preference(reply(("A", -1.0), ("The", -2.0), ("I", -5.0))) == pytest.approx(4.0)


@pytest.mark.parametrize("alternatives", [(("The", -1.0), ("a", -2.0)), ()])
def test_preference_without_labels_is_missing(alternatives):
    with pytest.raises(Unparsable):
        preference(reply(*alternatives))


def test_no_probabilities_says_what_to_set():
    with pytest.raises(Unparsable, match="generated"):
        preference(Reply("id", "ok", text="A"))


@given(logprobs, logprobs)
def test_preference_is_antisymmetric(first, second):
    asked = reply(("A", first), ("B", second), ("x", -31.0))
    assert preference(asked) == -preference(asked, ("B", "A")) == first - second


def test_expected_number():
    asked = reply(("2", math.log(0.2)), (" 4", math.log(0.2)), ("9", math.log(0.5)), ("x", -1.0))
    assert expected_number(asked, 1, 5) == pytest.approx(3.0)


def test_expected_number_of_no_number_is_missing():
    with pytest.raises(Unparsable, match="from 1 to 5"):
        expected_number(reply(("The", -0.1), ("9", -0.2), ("²", -0.3)), 1, 5)


@given(st.lists(st.tuples(st.integers(-5, 20), logprobs), min_size=1))
def test_expected_number_stays_in_range(pairs):
    asked = reply(*((str(number), logprob) for number, logprob in pairs))
    if any(1 <= number <= 9 for number, _ in pairs):
        assert 1 <= expected_number(asked, 1, 9) <= 9
    else:
        with pytest.raises(Unparsable):
            expected_number(asked, 1, 9)


@pytest.mark.parametrize(
    ("text", "score"),
    [
        ("7", 7),
        ("7.5", 7.5),
        (" **7**\nBecause it is short.", 7),
        ("7.", 7),
        ("7/10", 7),
        ("10", 10),
        ("Score: 7/10", 7),
        ("The score is 7.", 7),
        ("rating = 8 out of 10", 8),
        ("It is fine. Rating: [[6]]", 6),
        ('{"score": 7}', 7),
        ('```json\n{"reason": "has 3 parts", "score": 6.5}\n```', 6.5),
        ("Two of 3 facts are right.\n\nScore: 4", 4),
    ],
)
def test_parse_score(text, score):
    assert parse_score(text, 1, 10) == score


@pytest.mark.parametrize(
    "text",
    ["", "good", "I see 3 problems", "11", "0", "Score: -3", "4/5", "Score: 70/100", "[[42]]",
     '{"score": "high"}', '{"score": NaN}', '{"score": true}', "1.2.3", "v2"],
)  # fmt: skip
def test_what_is_no_score_is_missing(text):
    with pytest.raises(Unparsable):
        parse_score(text, 1, 10)


@given(numbers)
def test_parse_score_reads_what_was_written(score):
    for form in ("{}", "[[{}]]", "Score: {}", '{{"score": {}}}', "{}/100"):
        assert parse_score(form.format(score), 1, 100) == score


@given(st.text())
def test_parse_score_never_leaves_its_range(text):
    with contextlib.suppress(Unparsable):
        assert 1 <= parse_score(text, 1, 10) <= 10


@pytest.mark.parametrize(
    ("text", "scores"),
    [
        ("8 7", (8, 7)),
        ("8, 7\nThe first has 3 steps and 2 notes.", (8, 7)),
        ("Here are the scores:\n8 7", (8, 7)),
        ("Sample 1: 80, Sample 2: 65", (80, 65)),
        ("A: 80/100 B: 65/100", (80, 65)),
        ("[[80]] [[65.5]]", (80, 65.5)),
        ("(80, 65)", (80, 65)),
    ],
)
def test_parse_score_pair(text, scores):
    assert parse_score_pair(text, 1, 100) == scores


@pytest.mark.parametrize("text", ["", "8", "8 7 6", "101 5", "8/10 7/10", "A is better"])
def test_what_is_no_pair_is_missing(text):
    with pytest.raises(Unparsable):
        parse_score_pair(text, 1, 100)


@given(numbers, numbers, st.sampled_from(["{} {}", "{}, {}", "A: {} B: {}"]))
def test_parse_score_pair_reads_what_was_written(first, second, form):
    assert parse_score_pair(form.format(first, second), 1, 100) == (first, second)


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ('["a", "b"]', ["a", "b"]),
        ('```json\n["a"]\n```\nI hope this helps!', ["a"]),
        ('The tags [of this] are: ["a"]', ["a"]),
        ('{"tag": "a"}', [{"tag": "a"}]),
        ("['a', 'b']", ["a", "b"]),
        ('["a]b", "c\\"d["]', ["a]b", 'c"d[']),
        ("[]", []),
        ('[{"tag": "a"}, {"tag": "b"}] and [1]', [{"tag": "a"}, {"tag": "b"}]),
    ],
)
def test_parse_json_list(text, found):
    assert parse_json_list(text) == found


@pytest.mark.parametrize("text", ["", "a, b", '["a", "b', '[{"tag": "a"}, {"tag":', "[not json]"])
def test_what_is_no_list_is_missing(text):
    with pytest.raises(Unparsable):
        parse_json_list(text)


json_lists = st.lists(st.one_of(st.text(), st.integers(), st.dictionaries(st.text(), st.text())))


@given(json_lists, st.text(alphabet="abc ,.\n"), st.text())
def test_a_list_is_found_in_any_text(values, before, after):
    assert parse_json_list(before + json.dumps(values) + after) == values


@given(json_lists, st.data())
def test_a_list_that_is_cut_is_missing(values, data):
    text = json.dumps(values)
    with pytest.raises(Unparsable):
        parse_json_list(text[: data.draw(st.integers(0, len(text) - 1))])

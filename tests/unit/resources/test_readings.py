import contextlib
import json
import math

import pytest
from hypothesis import assume, given
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

END = "<|im_end|>"


def reply(*alternatives: tuple[str, float]) -> Reply:
    return Reply("id", "ok", logprobs=(alternatives,))


def generated(text: str, *positions: dict[str, float], finish_reason: str = "stop") -> Reply:
    """A reply whose alternatives have the given probabilities."""
    logprobs = tuple(
        tuple((token, math.log(share)) for token, share in position.items())
        for position in positions
    )
    return Reply("id", "ok", text=text, logprobs=logprobs, finish_reason=finish_reason)


def spelled(weights: dict[int, float], number: int, digits: int) -> Reply:
    """A reply that writes the number in tokens of so many digits, by a model that is so inclined.

    Every alternative is listed, and the end mark is a token like others.
    """
    positions: list[dict[str, float]] = []
    written, token = "", ""
    while token != END:
        shares: dict[str, float] = {}
        for each, weight in weights.items():
            if str(each).startswith(written):
                following = str(each)[len(written) :][:digits] or END
                shares[following] = shares.get(following, 0.0) + weight
        total = sum(shares.values())
        positions.append({each: share / total for each, share in shares.items()})
        token = str(number)[len(written) :][:digits] or END
        written += token
    return generated(str(number), *positions)


def mean_of(weights: dict[int, float]) -> float:
    return sum(number * weight for number, weight in weights.items()) / sum(weights.values())


def bounds_by_digit(
    weights: dict[int, float], number: int, low: int, high: int
) -> tuple[float, float]:
    """What the mean is between when numbers are known up to their first digit off the path."""
    least = most = 0.0
    for each, weight in weights.items():
        shared = 0
        while str(each)[shared : shared + 1] == str(number)[shared : shared + 1] != "":
            shared += 1
        known = str(each)[: shared + 1]
        ended = len(known) == shared
        possible = [
            other
            for other in range(low, high + 1)
            if (str(other) == known if ended else str(other).startswith(known))
        ]
        least += weight * min(possible)
        most += weight * max(possible)
    total = sum(weights.values())
    return least / total, most / total


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


@pytest.mark.parametrize(
    ("labels", "asked", "odds"),
    [
        # Told apart by the second token only.
        (
            ("Sample A", "Sample B"),
            generated("Sample B", {"Sample": 0.9, "B": 0.1}, {" A": 0.2, " B": 0.6, " C": 0.2}),
            1 / 3,
        ),
        (
            ("Sample A", "Sample B"),
            generated("\nSample A", {"\n": 1}, {"Sample": 1}, {" ": 1}, {"A": 0.8, "B": 0.2}),
            4,
        ),
        # A label's first token is enough where it begins one label only.
        (("Alpha", "Beta"), generated("Beta", {"Al": 0.3, "Be": 0.5, "B": 0.1}, {"ta": 1}), 0.5),
        (("Alpha", "Beta"), generated("Alpha", {"Alpha": 0.6, "Al": 0.1, "Beta": 0.3}), 2),
        # One label begins the other.
        (("10", "1"), generated("10", {"1": 1}, {"0": 0.6, END: 0.3, ".": 0.1}), 1.5),
        (("10", "1"), generated("1", {"1": 1}, {"0": 0.4, "": 0.6}), 2 / 3),
        (("10", "1"), generated("1", {"1": 0.8, "10": 0.2}), 0.25),
        (("Both", "Both of them"), generated("Both", {"Both": 1}, {" of": 0.2, END: 0.8}), 4),
        # What came may be neither.
        (("A", "B"), generated("I think", {"I": 0.7, "A": 0.2, "B": 0.1}, {" think": 1}), 2),
        (("A", "B"), generated("B", {"\n": 0.5, "B": 0.3, "A": 0.2}), 2 / 3),
        (("A", "B"), generated("\nB", {"\n": 1.0}, {"B": 0.8, "A": 0.2}), 0.25),
        (("A", "B"), generated("A", {"A": 0.7, " ": 0.2, "": 0.05, "x": 0.01}), 70),
    ],
)  # fmt: skip
def test_preference_of_labels_of_several_tokens(labels, asked, odds):
    assert preference(asked, labels) == pytest.approx(math.log(odds))


@pytest.mark.parametrize(
    ("labels", "asked"),
    [
        (("10", "1"), generated("1", {"1": 0.9, "2": 0.1})),
        (("Sample A", "Sample B"), generated("Sample", {"Sample": 1.0}, finish_reason="length")),
        (("Sample A", "Sample B"), generated("Sample C", {"Sample": 1.0}, {" C": 1.0})),
        (("Sample A", "Sample B"), generated("None", {"None": 1.0})),
    ],
)
def test_preference_that_no_token_tells_is_missing(labels, asked):
    with pytest.raises(Unparsable, match=labels[0]):
        preference(asked, labels)


@given(
    st.lists(st.tuples(st.text("AB Sample\n", max_size=8), logprobs), min_size=1),
    st.text("AB Sample"),
)
def test_preference_of_any_tokens_is_antisymmetric(tokens, text):
    asked = Reply("id", "ok", text=text, logprobs=(tuple(tokens),) * 3)
    labels = ("Sample A", "Sample B")
    found: list[float | None] = []
    for order in (labels, labels[::-1]):
        try:
            found.append(preference(asked, order))
        except Unparsable:
            found.append(None)
    forth, back = found
    assert forth == (None if back is None else -back)


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
    ("high", "asked", "expected"),
    [
        (10, generated("10", {"10": 0.5, "1": 0.5}), 5.5),
        (10, generated("10", {"1": 0.8, "9": 0.2}, {"0": 0.75, END: 0.25}), 8.0),
        (10, generated("1", {"1": 0.8, "9": 0.2}, {"0": 0.25, "": 0.75}), 4.4),
        (10, generated("1.", {"1": 0.8, "9": 0.2}, {"0": 0.25, ".": 0.75}), 4.4),
        # Variants and blanks before the number.
        (10, generated(" 10", {" 1": 0.5, "1": 0.3, "9": 0.2}, {"0": 0.75, END: 0.25}), 8.0),
        (10, generated("\n10", {"\n": 0.5, "4": 0.5}, {"1": 1.0}, {"0": 0.5, END: 0.5}), 4.75),
        # Beyond the range, and no number.
        (10, generated("1", {"1": 0.5, "The": 0.5}, {"5": 0.2, "0": 0.4, END: 0.4}), 5.5),
        # Two digits a token.
        (100, generated("100", {"10": 0.6, "50": 0.4}, {"0": 0.5, "\n": 0.5}), 53.0),
        # The same text of one token or of two.
        (
            100,
            generated("10", {"10": 0.6, "1": 0.02, "50": 0.38}, {END: 0.9, "0": 0.1}),
            0.6 * 19
            + 0.38 * 50
            + 0.02 * (1 + 11 + 12 + 13 + 14 + 15 + 16 + 17 + 18 + 19 + 100) / 11,
        ),
        # Little of what is open is bearable.
        (10, generated("7", {"7": 0.95, "1": 0.05}), 0.95 * 7 + 0.05 * 5.5),
        # The end of the text is the end of the number.
        (10, generated("1", {"1": 1.0}), 1.0),
        (10, generated("1 of 10", {"1": 1.0}, finish_reason="length"), 1.0),
        # Every number is as far as it is listed.
        (10, generated("10", {"10\n": 0.5, "05": 0.5}), 7.5),
    ],
)
def test_expected_number_of_several_tokens(high, asked, expected):
    assert expected_number(asked, 1, high) == pytest.approx(expected)


@pytest.mark.parametrize(
    ("high", "asked"),
    [
        (10, generated("1", {"1": 1.0}, finish_reason="length")),
        (10, generated("7", {"7": 0.8, "1": 0.2})),
        (100, generated("85", {"8": 0.8, "9": 0.2}, {"5": 1.0}, {END: 1.0})),
        (100, Reply("id", "ok", logprobs=((("8", -0.1),),))),
    ],
)
def test_numbers_that_are_not_told_apart_say_what_does(high, asked):
    with pytest.raises(Unparsable, match=r"'generated'.*single digits"):
        expected_number(asked, 1, high)


@given(st.data())
def test_expected_number_by_digits_is_within_its_bounds(data):
    low = data.draw(st.integers(0, 120))
    high = data.draw(st.integers(low + 1, 1100))
    around = data.draw(st.integers(low, high))
    near = st.integers(max(low, around - 12), min(high, around + 12))
    shares = st.floats(0.001, 1)
    weights = data.draw(st.dictionaries(st.integers(low, high), st.floats(1e-6, 0.01), max_size=8))
    weights |= data.draw(st.dictionaries(near, shares, min_size=1, max_size=8))
    number = data.draw(st.sampled_from(sorted(weights)))
    least, most = bounds_by_digit(weights, number, low, high)
    doubt = (most - least) / 2 / (high - low)
    assume(abs(doubt - 0.05) > 1e-9)
    asked = spelled(weights, number, digits=1)
    if doubt > 0.05:
        with pytest.raises(Unparsable):
            expected_number(asked, low, high)
        return
    found = expected_number(asked, low, high)
    assert least - 1e-6 <= found <= most + 1e-6
    assert least - 1e-6 <= mean_of(weights) <= most + 1e-6


@given(st.data())
def test_expected_number_of_whole_tokens_is_exact(data):
    low = data.draw(st.integers(0, 950))
    high = low + data.draw(st.integers(1, 49))
    shares = data.draw(
        st.lists(st.floats(1e-6, 1), min_size=high - low + 1, max_size=high - low + 1)
    )
    weights = dict(zip(range(low, high + 1), shares, strict=True))
    asked = spelled(weights, data.draw(st.sampled_from(sorted(weights))), digits=3)
    assert expected_number(asked, low, high) == pytest.approx(mean_of(weights))


@given(
    st.lists(st.lists(st.tuples(st.text("019 \n.A<>", max_size=3), logprobs)), max_size=4),
    st.text("019 \n.A<>", max_size=5),
    st.integers(0, 20),
    st.integers(1, 200),
)
def test_expected_number_of_any_tokens_stays_in_range(positions, text, low, more):
    asked = Reply("id", "ok", text=text, logprobs=tuple(map(tuple, positions)))
    with contextlib.suppress(Unparsable):
        assert low <= expected_number(asked, low, low + more) <= low + more


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

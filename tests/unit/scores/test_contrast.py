import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from opencs_assets.scores import contrast, single
from opencs_assets.scores.pairing import Comparison
from opencs_assets.tables.scores import SCORE_COMPARISONS, SINGLE_SCORES
from resources.llm.errors import Unparsable
from resources.llm.types import Outcome, Reply
from resources.schema import conform

TEXTS = {"x": ("Ask X", "Answer X"), "y": ("Ask Y", "Answer Y")}


def outcome(value, status="ok"):
    return Outcome(value, status, None, 1, Reply(reply_id="r", status="ok"))


def replied(text):
    return Reply(reply_id="r", status="ok", text=text)


def labels(log_odds):
    a = -math.log1p(math.exp(-log_odds))
    b = -math.log1p(math.exp(log_odds))
    return Reply(reply_id="r", status="ok", text="A", logprobs=((("A", a), ("B", b)),))


@pytest.mark.parametrize("reading", ["generated", "logprobs"])
def test_the_order_is_really_shown(reading):
    for shown_first, order in (("a", ["Ask X", "Ask Y"]), ("b", ["Ask Y", "Ask X"])):
        call = contrast.build_call(Comparison(0, "x", "y", shown_first), TEXTS, reading, 0, None)
        text = "\n".join(message["content"] for message in call.messages)
        assert text.index(order[0]) < text.index(order[1])
        assert "Answer X" in text
        assert "Answer Y" in text


def test_scores_of_the_second_order_are_swapped_back():
    asked = [Comparison(0, "x", "y", "a"), Comparison(0, "x", "y", "b")]
    # x is the better one and the scorer says so in both orders.
    table = contrast.comparison_table(
        asked, [outcome((90.0, 10.0)), outcome((10.0, 90.0))], model="m", reading="generated"
    )
    conform(table, SCORE_COMPARISONS)
    assert table["score_a"].to_list() == [90.0, 90.0]
    assert table["score_b"].to_list() == [10.0, 10.0]


def test_an_unreadable_reply_is_missing_not_zero():
    table = contrast.comparison_table(
        [Comparison(0, "x", "y", "a")],
        [outcome(None, "unparsable")],
        model="m",
        reading="generated",
    )
    assert table.select("score_a", "score_b", "status").row(0) == (None, None, "unparsable")


@given(st.floats(-30, 30))
def test_probabilities_become_scores_in_range(log_odds):
    first, second = contrast.parse_scores(labels(log_odds), "logprobs")
    assert 1 <= first <= 100
    assert first + second == pytest.approx(101)
    assert (first > second) == (log_odds > 0) or abs(log_odds) < 1e-6


@pytest.mark.parametrize(
    ("text", "scores"),
    [
        ("85 40\nSample A is complete.", (85.0, 40.0)),
        # A scorer may give its reasons in another language; the numbers are the same.
        ("85 40\n样本 A 更完整。", (85.0, 40.0)),
        ("85, 40\nПервый ответ полнее.", (85.0, 40.0)),
        ("72.5 1", (72.5, 1.0)),
    ],
)
def test_parser_reads_what_the_prompt_asks_for(text, scores):
    assert contrast.parse_scores(replied(text), "generated") == scores


@pytest.mark.parametrize(
    "text",
    [
        "",
        "Both are good.",
        "850 40",
        "85",
        "I'm sorry, but I can't compare these samples.",
        "两个样本都很好。",
        "Das erste Beispiel ist besser.",
    ],
)
def test_what_holds_no_two_scores_is_unparsable(text):
    with pytest.raises(Unparsable):
        contrast.parse_scores(replied(text), "generated")


def test_a_changed_prompt_is_another_version(monkeypatch):
    versions = {
        contrast.prompt_version("logprobs"),
        *(
            single.prompt_version(criterion, reading)
            for criterion in single.SCALES
            for reading in ("generated", "logprobs")
        ),
    }
    assert len(versions) == 7
    monkeypatch.setattr(contrast, "_LOGPROBS", "Else?")
    monkeypatch.setattr(single, "_GENERATED", "Else.")
    assert contrast.prompt_version("logprobs") not in versions
    assert single.prompt_version("helpfulness", "generated") not in versions


def test_single_scores_keep_unread_samples_as_missing():
    table = single.score_table(
        ["x", "y"],
        "quality",
        [outcome(4.5), outcome(None, "unparsable")],
        model="m",
        reading="generated",
    )
    conform(table, SINGLE_SCORES)
    assert table["score"].to_list() == [4.5, None]
    assert table["criterion"].unique().to_list() == ["quality"]


@pytest.mark.parametrize(
    ("criterion", "low", "high"), [("helpfulness", 0, 5), ("complexity", 0, 6), ("quality", 0, 6)]
)
def test_each_criterion_has_its_scale_in_prompt_and_parser(criterion, low, high):
    prompt = single.build_call("Ask", "Answer", criterion, "generated", 0, None).messages[0]
    assert f"from {low} " in prompt["content"]
    assert f"to {high} " in prompt["content"]
    for value in (low, high):
        assert single.parse_rating(replied(f"{value}\nWhy."), "generated", criterion) == value
    with pytest.raises(Unparsable):
        single.parse_rating(replied(str(high + 1)), "generated", criterion)


def test_single_rating_by_probabilities_is_the_expected_value():
    half = math.log(0.5)
    reply = Reply(reply_id="r", status="ok", text="5", logprobs=((("5", half), ("0", half)),))
    assert single.parse_rating(reply, "logprobs", "helpfulness") == pytest.approx(2.5)

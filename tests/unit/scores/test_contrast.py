import math

import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st

from opencs_assets.schemas import CONTRASTIVE_SCORES, SCORE_COMPARISONS, SINGLE_SCORES, conform
from opencs_assets.scores import contrast, single
from opencs_assets.scores.pairing import Comparison
from resources.llm.errors import Unparsable
from resources.llm.types import Outcome, Reply

TEXTS = {"x": ("Ask X", "Answer X"), "y": ("Ask Y", "Answer Y")}


def outcome(value, status="ok"):
    return Outcome(value, status, None, 1, Reply(reply_id="r", status="ok"))


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
    asked = [Comparison(0, "x", "y", "a"), Comparison(0, "x", "y", "b")]
    table = contrast.comparison_table(
        asked, [outcome((90.0, 10.0)), outcome(None, "unparsable")], model="m", reading="generated"
    )
    members = pl.DataFrame({"cluster": [0, 0, 0], "sample_id": ["x", "y", "z"]})
    scores = contrast.contrastive_scores(table, members)
    conform(scores, CONTRASTIVE_SCORES)
    assert scores["score"].to_list() == [90.0, 10.0, None]
    assert scores["comparisons"].to_list() == [1, 1, 0]
    assert scores["missing"].to_list() == [1, 1, 0]


def test_order_gap_is_what_being_first_is_worth():
    asked = [Comparison(0, "x", "y", "a"), Comparison(0, "x", "y", "b")]
    table = contrast.comparison_table(
        asked, [outcome((80.0, 20.0)), outcome((80.0, 20.0))], model="m", reading="generated"
    )
    members = pl.DataFrame({"cluster": [0, 0], "sample_id": ["x", "y"]})
    scores = contrast.contrastive_scores(table, members)
    assert scores["score"].to_list() == [50.0, 50.0]
    assert scores["order_gap"].to_list() == [60.0, 60.0]


@given(st.floats(-30, 30))
def test_probabilities_become_scores_in_range(log_odds):
    first, second = contrast.parse_scores(labels(log_odds), "logprobs")
    assert 1 <= first <= 100
    assert first + second == pytest.approx(101)
    assert (first > second) == (log_odds > 0) or abs(log_odds) < 1e-6


def test_parser_reads_what_the_prompt_asks_for():
    text = Reply(reply_id="r", status="ok", text="85 40\nSample A is complete.")
    assert contrast.parse_scores(text, "generated") == (85.0, 40.0)
    for bad in ("", "Both are good.", "850 40", "85"):
        with pytest.raises(Unparsable):
            contrast.parse_scores(Reply(reply_id="r", status="ok", text=bad), "generated")


def test_a_changed_prompt_is_another_version(monkeypatch):
    before = contrast.prompt_version("logprobs"), single.prompt_version("generated")
    monkeypatch.setattr(contrast, "_LOGPROBS", "Else?")
    monkeypatch.setattr(single, "_GENERATED", "Else.")
    assert contrast.prompt_version("logprobs") != before[0]
    assert single.prompt_version("generated") != before[1]


def test_single_scores_keep_unread_samples_as_missing():
    table = single.score_table(
        ["x", "y"], [outcome(4.5), outcome(None, "unparsable")], model="m", reading="generated"
    )
    conform(table, SINGLE_SCORES)
    assert table["score"].to_list() == [4.5, None]


def test_single_rating_by_probabilities_is_the_expected_value():
    half = math.log(0.5)
    found = single.parse_rating(
        Reply(reply_id="r", status="ok", text="5", logprobs=((("5", half), ("0", half)),)),
        "logprobs",
    )
    assert found == pytest.approx(2.5)

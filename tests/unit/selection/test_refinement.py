"""Refinement against a refiner whose replies are written here; reading and retrying are real."""

import polars as pl
import pytest

from opencs_assets.selection import refinement
from opencs_assets.selection.refinement import Draft, build_call, parse_better
from opencs_assets.tables.selection import REFINED_SAMPLES
from opencs_assets.tables.subset import SubsetError, subset_content
from resources.llm.errors import Unparsable
from resources.llm.types import Reply
from resources.schema import conform
from tests.unit.selection.test_select import samples


def replied(text):
    return Reply(reply_id="r", status="ok", text=text)


def test_the_response_is_asked_for_with_the_published_sampling():
    call = build_call(Draft("s", "Ask", "Answer"), "response", 1024, 0, None)
    assert (call.temperature, call.top_p, call.max_tokens) == (0.7, 0.8, 1024)
    assert "Ask" in call.messages[1]["content"]
    assert "Answer" in call.messages[1]["content"]


def test_each_further_attempt_has_twice_the_room_and_says_why():
    draft = Draft("s", "Ask", "Answer")
    rooms = [build_call(draft, "response", 100, attempt, None).max_tokens for attempt in range(3)]
    assert rooms == [100, 200, 400]
    again = build_call(draft, "response", 100, 1, "</better> is missing")
    assert "</better> is missing" in again.messages[1]["content"]


@pytest.mark.parametrize(
    ("text", "better"),
    [
        ("<better>Good.</better>", "Good."),
        ("Sure!\n<better>\nOne.\n\nTwo.\n</better>\nDone.", "One.\n\nTwo."),
        ("<better>答案更好。</better>", "答案更好。"),
        ("<better>a <b>bold</b> word</better>", "a <b>bold</b> word"),
    ],
)
def test_what_stands_between_the_marks_is_taken(text, better):
    assert parse_better(replied(text)) == better


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("<better>It was cut here", "</better> is missing"),
        ("I can't help with that.", "<better> is missing"),
        ("<better>  </better>", "nothing stands between"),
        ("", "<better> is missing"),
    ],
)
def test_what_is_not_whole_is_never_taken(text, reason):
    with pytest.raises(Unparsable, match=reason):
        parse_better(replied(text))


RAW = samples([("a", "Ask a", "Old a"), ("b", "Ask b", "Old b")])
SUBSET = pl.DataFrame({"rank": [0, 1], "sample_id": ["b", "a"]})
NOTHING = RAW.clear()


def refined(**changes):
    row = {
        "rank": 0,
        "sample_id": "a",
        "instruction_before": "Ask a",
        "instruction": "Ask a well",
        "response_before": "Old a",
        "response": "New a",
        "response_status": "ok",
        "instruction_status": "ok",
        "response_reply_id": "r",
        "instruction_reply_id": "r",
        "model": "m",
        "prompt_version": "p",
    }
    rows = [row, {**row, "rank": 1, "sample_id": "b", **changes}]
    return conform(pl.DataFrame(rows, schema=REFINED_SAMPLES.schema), REFINED_SAMPLES)


def test_content_comes_in_the_order_of_choice():
    content = subset_content(SUBSET, RAW, NOTHING)
    assert content["sample_id"].to_list() == ["b", "a"]
    assert content["messages"][0][1]["content"] == "Old b"


def test_refined_text_takes_the_place_of_the_first_turn():
    content = subset_content(SUBSET, RAW, NOTHING, refined())
    assert content["sample_id"].to_list() == ["b", "a"]
    assert [each["content"] for each in content["messages"][1]] == ["Ask a well", "New a"]
    assert content.select("instruction", "response").row(1) == ("Ask a well", "New a")


def test_a_subset_of_an_older_dataset_or_without_refinement_is_an_error():
    with pytest.raises(SubsetError, match=r"1 of 2 samples of the subset are not in the dataset"):
        subset_content(SUBSET, RAW.head(1), NOTHING)
    with pytest.raises(SubsetError, match=r"1 of 2 samples .* were not refined, first b"):
        subset_content(SUBSET, RAW, NOTHING, refined().head(1))


def test_what_was_left_is_counted_by_reason():
    table = refined(response_status="truncated", response="Old b")
    assert refinement.unrefined_parts(table) == {"response: truncated": 1}

"""Refinement against a refiner whose replies are written here; reading and retrying are real."""

import polars as pl
import pytest

from opencs_assets.selection import refinement
from opencs_assets.selection.refinement import Draft, build_call, parse_better
from opencs_assets.tables.selection import REFINED_SAMPLES
from opencs_assets.tables.subset import SubsetError, subset_content
from resources.llm.errors import Unparsable
from resources.llm.types import Outcome, Reply
from resources.schema import conform
from tests.unit.selection.test_select import samples


def replied(text):
    return Reply(reply_id="r", status="ok", text=text)


def test_the_call_has_the_published_sampling_and_shows_both():
    draft = Draft("s", "Ask", "Answer")
    call = build_call(draft, "response", 100, 0, None)
    assert (call.temperature, call.top_p, call.max_tokens, call.attempt) == (0.7, 0.8, 100, 0)
    assert call.messages[1]["content"] == "[Instruction]\nAsk\n\n[Response]\nAnswer"
    assert "Improve the response" in call.messages[0]["content"]
    assert call.grammar == 'root ::= "<better>" [^<]+ "</better>"'
    # Each further attempt has twice the room and says why.
    again = build_call(draft, "instruction", 100, 2, "</better> is missing")
    assert (again.max_tokens, again.attempt) == (400, 2)
    assert again.messages[1]["content"].endswith(
        "Answer\n\n(The last reply could not be used: </better> is missing.)"
    )
    assert (call.prompt_version, again.prompt_version) == (
        "refine-response-15350a3d",
        "refine-instruction-1beb13e5",
    )
    assert refinement.prompt_versions() == "refine-response-15350a3d+refine-instruction-1beb13e5"


def test_the_instruction_is_refined_for_the_better_response_and_what_could_not_be_is_left():
    replies = {
        "refined responses": {"a": "<better>New a</better>", "b": "Sorry."},
        "refined instructions": {"a": "<better>", "b": "<better>Ask b well</better>"},
    }
    shown = []

    def complete(drafts, call, parse, *, label, max_attempts):
        assert max_attempts == 3
        outcomes = []
        for draft in drafts:
            reply = replied(replies[label][draft.sample_id])
            shown.append(call(draft, 0, None).messages[1]["content"].split("\n")[1::3])
            assert call(draft, 0, None).max_tokens == 64
            try:
                outcomes.append(Outcome(parse(reply), "ok", None, 1, reply))
            except Unparsable as error:
                outcomes.append(Outcome(None, "unparsable", str(error), 3, reply))
        return outcomes

    content = subset_content(
        pl.DataFrame({"rank": [0, 1, 2], "sample_id": ["b", "c", "a"]}),
        samples([(name, f"Ask {name}", f"Old {name}") for name in "abc"]),
        NOTHING,
    )
    several = pl.col("messages").list.concat(pl.col("messages"))
    content = content.with_columns(
        messages=pl.when(pl.col("sample_id") == "c").then(several).otherwise("messages")
    )
    table = refinement.refine(content, complete, "m", 64)
    assert shown == [["Ask b", "Old b"], ["Ask a", "Old a"], ["Ask b", "Old b"], ["Ask a", "New a"]]
    columns = [
        f"{part}{of}"
        for part in ("response", "instruction")
        for of in ("_before", "", "_status", "_detail", "_reply_id")
    ]
    assert conform(table, REFINED_SAMPLES).select("rank", "sample_id", *columns).rows() == [
        (0, "b", "Old b", "Old b", "unparsable", "<better> is missing", "r",
         "Ask b", "Ask b well", "ok", None, "r"),
        (1, "c", "Old c", "Old c", "several_turns", None, None,
         "Ask c", "Ask c", "several_turns", None, None),
        (2, "a", "Old a", "New a", "ok", None, "r",
         "Ask a", "Ask a", "unparsable", "</better> is missing", "r"),
    ]  # fmt: skip
    assert set(table.select("model", "prompt_version").iter_rows()) == {
        ("m", refinement.prompt_versions())
    }
    assert refinement.unrefined_parts(table) == {
        "response: unparsable": 1, "response: several_turns": 1,
        "instruction: unparsable": 1, "instruction: several_turns": 1,
    }  # fmt: skip


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

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
PAIR = Comparison(0, "x", "y", "a")


def outcome(value, status="ok"):
    return Outcome(value, status, None, 1, Reply(reply_id="r", status="ok"))


def replied(text="", **odds):
    """A reply of text, or with the log-odds of tokens."""
    return Reply("r", "ok", text=text, logprobs=(tuple(odds.items()),) if odds else ())


@pytest.mark.parametrize("shown_first", ["a", "b"])
def test_the_order_is_really_shown(shown_first):
    comparison = Comparison(0, "x", "y", shown_first)
    first, second = "XY" if shown_first == "a" else "YX"
    _, shown = contrast.build_call(comparison, TEXTS, "generated", 0, None).messages
    assert shown == {
        "role": "user",
        "content": f"[Sample A]\nInstruction: Ask {first}\nResponse: Answer {first}\n\n"
        f"[Sample B]\nInstruction: Ask {second}\nResponse: Answer {second}",
    }
    _, shown = contrast.build_call(comparison, TEXTS, "logprobs", 0, None).messages
    assert shown["content"].startswith(
        f"### Example A\nQuestion: Ask {first}\nAnswer: Answer {first}\n\n"
        f"### Example B\nQuestion: Ask {second}\nAnswer: Answer {second}\n\nWhich"
    )


CALLS = {
    "generated": lambda *why: contrast.build_call(PAIR, TEXTS, "generated", *why),
    "logprobs": lambda *why: contrast.build_call(PAIR, TEXTS, "logprobs", *why),
    "single generated": lambda *why: single.build_call("I", "R", "quality", "generated", *why),
    "single logprobs": lambda *why: single.build_call("I", "R", "quality", "logprobs", *why),
}


@pytest.mark.parametrize(
    ("name", "tokens", "grammar", "alternatives"),
    [
        ("generated", 256, None, None),
        ("logprobs", 1, 'root ::= "A" | "B"', 40),
        ("single generated", 128, None, None),
        ("single logprobs", 1, "root ::= [0-6]", 40),
    ],
)
def test_how_the_scorer_is_sampled(name, tokens, grammar, alternatives):
    call = CALLS[name](2, "why")
    assert (call.max_tokens, call.temperature, call.attempt) == (tokens, 0.0, 2)
    assert (call.grammar, call.top_logprobs) == (grammar, alternatives)
    repeats = [
        message["content"].endswith("\n\n(The last reply could not be used: why.)")
        for message in call.messages
    ]
    assert any(repeats) is repeats[-1] is (grammar is None)
    assert "could not be used" not in str(CALLS[name](0, None).messages)


def test_results_of_before_stay_the_same_results():
    """Replies are kept by what was asked: an edit of a prompt must be wanted."""
    readings = ("generated", "logprobs")
    assert [contrast.prompt_version(reading) for reading in readings] == [
        "contrast-generated-2f63a975",
        "contrast-logprobs-a3a1f191",
    ]
    assert {
        single.prompt_version(criterion, reading)
        for criterion in single.SCALES
        for reading in readings
    } == {
        "single-helpfulness-generated-856fc567",
        "single-complexity-generated-00dc59b9",
        "single-quality-generated-9c04e577",
        "single-helpfulness-logprobs-468de76f",
        "single-complexity-logprobs-28bf2d5d",
        "single-quality-logprobs-466a16f7",
    }
    assert CALLS["generated"](0, None).prompt_version == "contrast-generated-2f63a975"
    assert CALLS["single logprobs"](0, None).prompt_version == "single-quality-logprobs-466a16f7"


@pytest.mark.parametrize(
    ("module", "constant", "version"),
    [
        (contrast, "_GENERATED", lambda: contrast.prompt_version("generated")),
        (contrast, "_LOGPROBS", lambda: contrast.prompt_version("logprobs")),
        (single, "_GENERATED", lambda: single.prompt_version("quality", "generated")),
    ],
)
def test_a_changed_prompt_is_another_version(monkeypatch, module, constant, version):
    before = version()
    monkeypatch.setattr(module, constant, "Else.")
    assert version() != before


def test_scores_of_the_second_order_are_swapped_back_and_unread_ones_are_missing():
    asked = [
        Comparison(4, "x", "y", "a", 2),
        Comparison(4, "x", "y", "b", 2),
        Comparison(4, "x", "z", "b", 3),
    ]
    # x is the better one and the scorer says so in both orders.
    outcomes = [outcome((90.0, 10.0)), outcome((10.0, 80.0)), outcome(None, "unparsable")]
    table = contrast.comparison_table(asked, outcomes, model="m", reading="generated")
    same = ("generated", "r", "m", contrast.prompt_version("generated"))
    assert conform(table, SCORE_COMPARISONS).rows() == [
        (4, "x", "y", "a", 90.0, 10.0, 2, "ok", *same),
        (4, "x", "y", "b", 80.0, 10.0, 2, "ok", *same),
        (4, "x", "z", "b", None, None, 3, "unparsable", *same),
    ]


@given(st.floats(0.001, 0.999))
def test_probabilities_become_scores_in_range(share):
    found = contrast.parse_scores(
        replied("A", A=math.log(share), B=math.log(1 - share)), "logprobs"
    )
    assert found == pytest.approx((1 + 99 * share, 1 + 99 * (1 - share)))


@pytest.mark.parametrize(("odds", "scores"), [(900.0, (100, 1)), (-900.0, (1, 100))])
def test_certainty_is_the_end_of_the_scale(odds, scores):
    assert contrast.parse_scores(replied("A", A=odds, B=0.0), "logprobs") == pytest.approx(scores)


@pytest.mark.parametrize(
    ("text", "scores"),
    [
        ("85 40\nSample A is complete.", (85.0, 40.0)),
        # A scorer may give its reasons in another language; the numbers are the same.
        ("85 40\n样本 A 更完整。", (85.0, 40.0)),
        ("85, 40\nПервый ответ полнее.", (85.0, 40.0)),
        ("72.5 1", (72.5, 1.0)),
        ("100 1", (100.0, 1.0)),
        ("", None),
        ("Both are good.", None),
        ("101 40", None),
        ("85 0.5", None),
        ("85", None),
        ("I'm sorry, but I can't compare these samples.", None),
        ("两个样本都很好。", None),
    ],
)
def test_parser_reads_what_the_prompt_asks_for(text, scores):
    if scores is not None:
        assert contrast.parse_scores(replied(text), "generated") == scores
        return
    with pytest.raises(Unparsable):
        contrast.parse_scores(replied(text), "generated")


def test_single_scores_keep_unread_samples_as_missing():
    outcomes = [outcome(4.5), outcome(None, "unparsable")]
    table = single.score_table(["x", "y"], "quality", outcomes, model="m", reading="logprobs")
    same = ("logprobs", "r", "m", single.prompt_version("quality", "logprobs"))
    assert conform(table, SINGLE_SCORES).rows() == [
        ("x", "quality", 4.5, "ok", *same),
        ("y", "quality", None, "unparsable", *same),
    ]


@pytest.mark.parametrize(
    ("criterion", "high"), [("helpfulness", 5), ("complexity", 6), ("quality", 6)]
)
def test_each_criterion_has_its_scale_in_prompt_and_parser(criterion, high):
    system, shown = single.build_call("Ask", "Answer", criterion, "generated", 0, None).messages
    assert "from 0 " in system["content"]
    assert f"to {high} " in system["content"]
    assert shown["content"] == "Instruction: Ask\nResponse: Answer"
    for value in (0, high):
        assert single.parse_rating(replied(f"{value}\nWhy."), "generated", criterion) == value
    for text in (str(high + 1), "-1"):
        with pytest.raises(Unparsable):
            single.parse_rating(replied(text), "generated", criterion)
    ends = replied("0", **{"0": math.log(0.25), str(high): math.log(0.75)})
    assert single.parse_rating(ends, "logprobs", criterion) == pytest.approx(0.75 * high)

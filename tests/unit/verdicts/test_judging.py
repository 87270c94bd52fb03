"""From what came of the calls to rows, swapped back to the models."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from opencs_assets.protocols.merging import merged_outcomes
from opencs_assets.protocols.reading import PairReply
from opencs_assets.protocols.tasks import pair_tasks, single_tasks
from opencs_assets.tables.verdicts import PAIRWISE_VERDICTS, SINGLE_VERDICTS
from opencs_assets.verdicts.judging import pair_table, single_table
from resources.schema import conform
from tests.unit.protocols.frames import (
    answer_frame,
    both_turns,
    outcome,
    pair_of,
    question_frame,
    single_of,
)


def scored(first: float, second: float) -> PairReply:
    better = "tie" if first == second else "first" if first > second else "second"
    return PairReply(better, first, second)


def sampled(_outcome) -> str:
    return "{}"


def tables(first: PairReply, second: PairReply | None, status: str = "ok", name: str = "scores"):
    protocol = pair_of(name)
    tasks = pair_tasks(
        question_frame("q1"), both_turns("q1"), both_turns("q1"), "smoke", by_turn=protocol.by_turn
    )[:2]
    outcomes = {tasks[0]: outcome(first), tasks[1]: outcome(second, status)}
    table = pair_table(
        tasks, outcomes, protocol, model_a="x", model_b="y", judge="j", sampling=sampled
    )
    return conform(table, PAIRWISE_VERDICTS).sort("shown_first")


def test_the_reversed_order_is_swapped_back():
    # Model a is better in both orders: 8 against 3 when first, 2 against 9 when second.
    table = tables(scored(8, 3), scored(2, 9))
    assert table["winner"].to_list() == ["a", "a"]
    assert table["score_a"].to_list() == [8, 9]
    assert table["score_b"].to_list() == [3, 2]


def test_a_choice_is_swapped_back_and_has_no_scores():
    table = tables(PairReply("first"), PairReply("first"), name="choice")
    assert table["winner"].to_list() == ["a", "b"]
    assert tables(PairReply("tie"), PairReply("second"), name="choice")["winner"].to_list() == [
        "tie",
        "a",
    ]
    assert table["score_a"].null_count() == 2
    assert set(table["turn"]) == {1}
    assert set(table["protocol"]) == {"choice"}


@given(st.tuples(*[st.integers(1, 10)] * 2))
def test_a_judge_that_sees_only_positions_never_wins(scores):
    shown = scored(max(scores), min(scores))
    winners = tables(shown, shown)["winner"].to_list()
    assert sorted(winners) in (["a", "b"], ["tie", "tie"])


@pytest.mark.parametrize("status", ["unparsable", "too_long", "truncated", "failed"])
def test_what_has_no_value_is_missing_not_a_tie_nor_zero(status):
    table = tables(scored(8, 3), None, status)
    assert table["winner"].to_list() == ["a", None]
    assert table["score_a"].to_list() == [8, None]
    assert table["status"].to_list() == ["ok", status]


def test_what_was_not_asked_says_why():
    """The shorter answer file costs no row: its turn has no answer; the others were stopped."""
    tasks = pair_tasks(
        question_frame("q1", "q2"),
        both_turns("q1", "q2"),
        answer_frame(("q1", 1), ("q1", 2), ("q2", 1)),
        "smoke",
        by_turn=True,
    )
    outcomes = {task: outcome(PairReply("tie")) for task in tasks[:4]}
    table = pair_table(
        tasks,
        outcomes,
        pair_of("choice"),
        model_a="x",
        model_b="y",
        judge="j",
        sampling=sampled,
    )
    assert table["status"].to_list() == ["ok"] * 4 + ["stopped"] * 2 + ["no_answer"] * 2
    assert table["reply_id"].null_count() == 4
    assert table["winner"].null_count() == 4


def test_a_missing_answer_becomes_a_row_that_says_so():
    tasks = single_tasks(question_frame("q1", "q2"), answer_frame(("q1", 1), ("q2", 1)))
    asked = {task: outcome(5.0) for task in tasks if task.answered}
    table = conform(
        single_table(tasks, asked, single_of("generated"), judge="j", sampling=sampled),
        SINGLE_VERDICTS,
    )
    assert table.select("question_id", "turn", "score", "status").rows() == [
        ("q1", 1, 5.0, "ok"),
        ("q1", 2, None, "no_answer"),
        ("q2", 1, 5.0, "ok"),
        ("q2", 2, None, "no_answer"),
    ]


def test_a_result_has_one_version_and_says_where_a_reference_was_shown():
    references = {"category": "math", "references": ["4", "5"]}
    tasks = [
        *single_tasks(question_frame("q1"), both_turns("q1")),
        *single_tasks(question_frame("q2", **references), both_turns("q2")),
    ]
    table = single_table(tasks, {}, single_of("logprobs"), judge="j", sampling=sampled)
    assert table["prompt_version"].unique().to_list() == [single_of("logprobs").version]
    assert table["with_reference"].to_list() == [False, False, True, True]


def test_turns_are_merged_by_the_protocols_rule():
    tasks = pair_tasks(
        question_frame("q1"), both_turns("q1"), both_turns("q1"), "smoke", by_turn=True
    )
    said = ["first", "tie", "second", "first"]  # turn 1: a, tie; turn 2: b, b
    outcomes = {task: outcome(PairReply(better)) for task, better in zip(tasks, said, strict=True)}
    (results,) = merged_outcomes(outcomes, pair_of("choice")).values()
    assert results == ["tie", "lose"]
    outcomes[tasks[3]] = outcome(None, "unparsable")
    (results,) = merged_outcomes(outcomes, pair_of("choice")).values()
    assert results == ["tie", "unparsable"]

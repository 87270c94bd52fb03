"""Which judgments are expected, whatever answers are there."""

import polars as pl
import pytest

from opencs_assets.protocols.tasks import by_benchmark, most_turns, pair_tasks, single_tasks
from tests.unit.protocols.frames import answer_frame, both_turns, question_frame


@pytest.mark.parametrize("by_turn", [True, False])
def test_answer_files_of_different_length_lose_no_judgment(by_turn):
    tasks = pair_tasks(
        question_frame("q1", "q2", "q3"),
        both_turns("q3", "q2", "q1"),
        both_turns("q1", "q3"),
        "smoke",
        by_turn=by_turn,
    )
    turns = (1, 2) if by_turn else (0,)
    assert [(task.question.question_id, task.turn, task.shown_first) for task in tasks] == [
        (name, turn, side) for name in ("q1", "q2", "q3") for turn in turns for side in ("a", "b")
    ]
    assert {task.question.question_id for task in tasks if not task.answered} == {"q2"}


def test_answers_are_joined_by_question_and_turn_not_by_row():
    tasks = pair_tasks(
        question_frame("q1", "q2"),
        both_turns("q1", "q2").reverse(),
        both_turns("q2", "q1"),
        "smoke",
        by_turn=False,
    )
    assert tasks[0].answers_a == ("says q1.1", "says q1.2")
    assert tasks[0].answers_b == ("says q1.1", "says q1.2")


def test_the_first_turn_is_judged_where_only_the_second_answer_is_missing():
    tasks = pair_tasks(
        question_frame("q1"), both_turns("q1"), answer_frame(("q1", 1)), "smoke", by_turn=True
    )
    assert [(task.turn, task.answered) for task in tasks] == [
        (1, True), (1, True), (2, False), (2, False),
    ]  # fmt: skip


@pytest.mark.parametrize("reason", ["too_long", "refused", "failed", "garbled"])
def test_a_turn_that_was_not_answered_is_not_judged_as_an_empty_answer(reason):
    tasks = single_tasks(
        question_frame("q1"),
        pl.concat([answer_frame(("q1", 1)), answer_frame(("q1", 2), finish_reason=reason)]),
    )
    assert [task.answered for task in tasks] == [True, False]


def test_benchmarks_that_were_not_answered_are_not_expected():
    other = question_frame("x").with_columns(benchmark=pl.lit("other"))
    tasks = single_tasks(pl.concat([question_frame("q1"), other]), both_turns("q1"))
    assert {task.question.benchmark for task in tasks} == {"smoke"}


def test_tasks_go_question_by_question():
    tasks = single_tasks(question_frame("q2", "q1"), both_turns("q1", "q2"))
    assert [(task.question.question_id, task.turn) for task in tasks] == [
        ("q1", 1), ("q1", 2), ("q2", 1), ("q2", 2),
    ]  # fmt: skip


def test_tasks_by_benchmark():
    other = question_frame("x").with_columns(benchmark=pl.lit("other"))
    questions = pl.concat([question_frame("q1"), other])
    answers = both_turns("q1", "x").with_columns(
        benchmark=pl.when(pl.col("question_id") == "x")
        .then(pl.lit("other"))
        .otherwise(pl.lit("smoke"))
    )
    found = by_benchmark(single_tasks(questions, answers))
    assert [(tasks[0].question.benchmark, len(tasks)) for tasks in found] == [
        ("other", 2), ("smoke", 2),
    ]  # fmt: skip
    assert by_benchmark([]) == []


def test_turns_of_the_longest_question():
    assert most_turns(question_frame("q1"), "smoke") == 2
    assert most_turns(question_frame("q1"), "unknown") == 0
    same = pl.lit(pl.Series([["Why?", "Why?", "Why?"]]))
    assert most_turns(question_frame("q1").with_columns(turns=same), "smoke") == 3


@pytest.mark.parametrize(("by_turn", "asked"), [(True, [1, 1, 2, 2]), (False, [2, 2])])
def test_a_task_asks_up_to_its_turn_or_all_of_the_conversation(by_turn, asked):
    questions = question_frame("q1", category="math", references=["4", "5"])
    answers = both_turns("q1")
    tasks = pair_tasks(questions, answers, answers, "smoke", by_turn=by_turn)
    assert [len(task.asked) for task in tasks] == asked
    assert [len(task.references) for task in tasks] == asked
    unseen = questions.with_columns(category=pl.lit("stem"))
    (first, *_) = pair_tasks(unseen, answers, answers, "smoke", by_turn=by_turn)
    assert first.references == ()

"""Stopping early: whole questions in the seed's order, and a decision that can be trusted."""

import random

import pytest

from opencs_assets.protocols.stopping import EarlyStop, Look, batches, look
from opencs_assets.protocols.tasks import JudgedQuestion, PairTask


def tasks(count: int) -> list[PairTask]:
    return [
        PairTask(
            JudgedQuestion("b", f"q{n}", "c", ("x", "y"), ()), turn, side, ("1", "2"), ("3", "4")
        )
        for n in range(count)
        for turn in (1, 2)
        for side in ("a", "b")
    ]


def order(count: int, seed: int = 0) -> list[str]:
    early = EarlyStop(0.95, 4, seed)
    return [task.question.question_id for batch in batches(tasks(count), early) for task in batch]


def test_batches_hold_whole_questions_and_all_of_them():
    found = list(batches(tasks(10), EarlyStop(0.95, 4, 0)))
    assert [len(batch) for batch in found] == [16, 16, 8]
    for batch in found:
        ids = [task.question.question_id for task in batch]
        assert all(ids[at : at + 4] == [ids[at]] * 4 for at in range(0, len(ids), 4))
    assert {task for batch in found for task in batch} == set(tasks(10))
    assert list(batches([], EarlyStop(0.95, 4, 0))) == []


def test_the_seed_decides_the_order():
    assert order(50) == order(50)
    assert order(50) != order(50, seed=1)
    assert order(50) != sorted(order(50))


def test_added_questions_leave_the_others_in_their_order():
    few = set(order(30))
    assert [name for name in order(50) if name in few] == order(30)


def test_a_question_without_all_its_outcomes_is_left_out_and_counted():
    questions = [JudgedQuestion("b", str(n), "c", ("x", "y"), ()) for n in range(4)]
    outcomes = [["win", "win"], ["win", "lose"], ["tie", "unparsable"], ["unparsable"]]
    found = look(dict(zip(questions, outcomes, strict=True)), 0.95)
    assert (found.questions, found.unread, found.mean) == (4, 2, 0.75)
    assert not found.is_clear


def test_nothing_known_is_not_clear():
    assert not look({}, 0.95).is_clear
    assert look({}, 0.95).mean == 0.5


@pytest.mark.parametrize(("winner", "side"), [("win", "above"), ("lose", "below")])
def test_a_clear_result_is_clear(winner, side):
    questions = {JudgedQuestion("b", str(n), "c", ("x",), ()): [winner] for n in range(40)}
    found = look(questions, 0.95)
    assert found.is_clear
    assert (found.low > 0.5) if side == "above" else (found.high < 0.5)


@pytest.mark.parametrize(
    ("low", "high", "is_clear"),
    [(0.5, 0.9, False), (0.51, 0.9, True), (0.1, 0.5, False), (0.1, 0.49, True)],
)
def test_an_interval_that_ends_at_a_half_leaves_nothing_out(low, high, is_clear):
    assert Look(9, 0, (low + high) / 2, low, high).is_clear is is_clear


def test_equal_models_are_rarely_found_to_differ_however_often_one_looks():
    draw = random.Random(0)
    wrong = 0
    for _ in range(400):
        outcomes = {}
        for n in range(200):
            outcomes[JudgedQuestion("b", str(n), "c", ("x",), ())] = [draw.choice(["win", "lose"])]
            if (n + 1) % 10 == 0 and look(outcomes, 0.9).is_clear:
                wrong += 1
                break
    assert wrong / 400 <= 0.1

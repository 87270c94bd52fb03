"""Checks and plots of verdicts."""

import polars as pl
import pytest

from opencs_assets.tables.catalog import TABLES
from opencs_assets.verdicts import plots
from opencs_assets.verdicts.checks import both_orders, every_turn, few_unread

QUESTIONS = pl.DataFrame(
    [
        {
            "benchmark": benchmark,
            "question_id": name,
            "category": "math",
            "turns": ["one", "two"],
            "references": [],
        }
        for benchmark, name in (("smoke", "q1"), ("smoke", "q2"), ("other", "x"))
    ],
    schema=TABLES["benchmark_questions"].schema,
)


ASKED = {
    "benchmark": "smoke",
    "category": "math",
    "status": "ok",
    "reading": "generated",
    "judge": "j",
    "prompt_version": "v",
    "sampling": "{}",
    "reply_id": "r",
}


def pairs(orders=(("q1", "a"), ("q1", "b"), ("q2", "a"), ("q2", "b")), **columns):
    said = {"model_a": "x", "model_b": "y", "winner": "a", "score_a": 7.0, "score_b": 4.0}
    same = {**ASKED, **said, "turn": 0, "protocol": "scores"}
    rows = [{**same, "question_id": name, "shown_first": side} for name, side in orders]
    return pl.DataFrame(rows, schema=TABLES["pairwise_verdicts"].schema).with_columns(**columns)


def singles(turns=(("q1", 1), ("q1", 2), ("q2", 1), ("q2", 2))):
    same = {**ASKED, "score": 5.0, "with_reference": False, "protocol": "single"}
    rows = [{**same, "question_id": name, "turn": turn} for name, turn in turns]
    return pl.DataFrame(rows, schema=TABLES["single_verdicts"].schema)


def test_complete_verdicts_pass():
    assert both_orders(pairs(), QUESTIONS).passed
    assert every_turn(singles(), QUESTIONS).passed


@pytest.mark.parametrize(
    ("orders", "key"),
    [
        ((("q1", "a"), ("q1", "b"), ("q2", "a")), "missing"),
        ((("q1", "a"), ("q1", "b")), "missing"),
        ((("q1", "a"), ("q1", "b"), ("q2", "a"), ("q2", "b"), ("q3", "a")), "unknown"),
        ((("q1", "a"), ("q1", "b"), ("q2", "a"), ("q2", "b"), ("q2", "b")), "duplicated"),
    ],
)
def test_orders_that_are_missing_unknown_or_doubled_fail(orders, key):
    finding = both_orders(pairs(orders), QUESTIONS)
    assert not finding.passed
    assert finding.metadata[key] > 0


def test_a_dropped_second_turn_fails():
    finding = every_turn(singles((("q1", 1), ("q1", 2), ("q2", 1))), QUESTIONS)
    assert not finding.passed
    assert finding.metadata["missing"] == 1


def test_nothing_judged_is_not_complete():
    assert not both_orders(pairs(()), QUESTIONS).passed
    assert not every_turn(singles(()), QUESTIONS).passed


def test_many_unread_verdicts_fail_and_are_counted_by_status():
    finding = few_unread(pairs(status=pl.Series(["ok", "ok", "unparsable", "too_long"])))
    assert not finding.passed
    assert finding.metadata["by_status"] == {"too_long": 1, "unparsable": 1}


@pytest.mark.parametrize(("unread", "passed"), [(0, True), (1, True), (2, False)])
def test_a_tenth_may_be_unread_and_what_was_stopped_does_not_count(unread, passed):
    ten = pairs([(f"q{n}", "a") for n in range(20)])
    status = ["unparsable"] * unread + ["ok"] * (10 - unread) + ["stopped"] * 10
    assert few_unread(ten.with_columns(status=pl.Series(status))).passed is passed


def by_turn(*turns, **columns):
    """Verdicts of ``choice`` in both orders."""
    rows = [
        pairs(((name, side),), turn=pl.lit(turn, pl.Int64), protocol=pl.lit("choice"))
        for name, turn in turns
        for side in ("a", "b")
    ]
    return pl.concat(rows).with_columns(**columns)


ALL_TURNS = (("q1", 1), ("q1", 2), ("q2", 1), ("q2", 2))


def test_a_choice_is_expected_of_every_turn():
    assert both_orders(by_turn(*ALL_TURNS), QUESTIONS).passed
    finding = both_orders(by_turn(*ALL_TURNS[:3]), QUESTIONS)
    assert not finding.passed
    assert finding.metadata["missing"] == 2
    # Scores of the whole conversation are no verdicts by turn.
    assert not both_orders(pairs(protocol=pl.lit("choice")), QUESTIONS).passed


def test_verdicts_of_a_protocol_whose_package_is_gone_are_looked_at():
    assert both_orders(pairs(protocol=pl.lit("gone")), QUESTIONS).passed


def test_what_was_stopped_is_there_and_not_unread():
    stopped = by_turn(*ALL_TURNS).with_columns(
        status=pl.Series(["ok"] * 4 + ["stopped"] * 4), winner=pl.Series(["a"] * 4 + [None] * 4)
    )
    assert both_orders(stopped, QUESTIONS).passed
    assert few_unread(stopped).passed
    assert "0 of 4" in few_unread(stopped).description
    assert not few_unread(stopped.with_columns(status=pl.lit("unparsable"))).passed
    assert plots.outcomes(stopped).select("question_id", "turn", "outcome").rows() == [
        ("q1", 1, "win"),
        ("q1", 2, "win"),
    ]


def test_outcomes_merge_orders_by_question():
    one_unread = pairs(status=pl.Series(["ok", "ok", "ok", "unparsable"]))
    found = plots.outcomes(one_unread)
    assert found["outcome"].to_list() == ["win", "unparsable"]
    assert found["orders_disagree"].to_list() == [False, None]


@pytest.mark.parametrize("rows", [4, 0])
def test_plots_are_drawn_with_and_without_rows(rows):
    for figure in (plots.scores(singles().head(rows)), plots.win_tie_lose(pairs().head(rows))):
        assert figure.axes

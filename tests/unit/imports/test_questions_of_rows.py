"""Which question of which benchmark a row is about, by its id or by what it asks."""

import re

import polars as pl
import pytest

from opencs_assets.imports.errors import VerdictRowError
from opencs_assets.imports.questions import ByText, KnownQuestion, Questions, question_text
from opencs_assets.imports.questions import same_question as asks


def questions(*rows) -> Questions:
    """Questions of one turn: benchmark, id and text of each."""
    return Questions(
        pl.DataFrame(
            [(benchmark, name, "c", [text]) for benchmark, name, text in rows],
            schema=["benchmark", "question_id", "category", "turns"],
            orient="row",
        )
    )


def asked(rows, known, benchmark=None) -> list[tuple[str, str]]:
    by_text = ByText(rows, known, benchmark)
    return [(question.benchmark, question.question_id) for question in map(by_text.of, rows)]


@pytest.mark.parametrize(
    ("row", "text"),
    [
        ({"text": "", "prompt": "Why?"}, "Why?"),
        ({"Instruction": "Why?", "question": "How?"}, "Why?"),
        ({"conversations": ["Why?", "So."]}, "Why?"),
        ({"conversations": [{"from": "human", "value": "Why?"}]}, "Why?"),
        ({"conversations": [{"role": "user", "content": "Why?"}]}, "Why?"),
        ({"instruction": "Add.", "input": "1 2"}, "Add.\n\n1 2"),
        ({"instruction": "Add.", "input": " "}, "Add."),
        ({"instruction": "Add.", "instances": [{"input": "1 2"}]}, "Add.\n\n1 2"),
        ({"instruction": "Add.", "input": "3", "instances": [{"input": "1 2"}]}, "Add.\n\n3"),
        ({"instruction": "Add.", "instances": []}, "Add."),
        ({"instruction": "Add.", "instances": ["x"]}, "Add."),
        ({"conversations": [7]}, None),
        ({"prompt": None}, None),
    ],
)
def test_what_a_row_asks(row, text):
    assert question_text(row) == text


def test_a_text_of_several_benchmarks_is_of_the_one_that_asks_most_of_the_file():
    known = questions(
        ("a", "1", "Say 1."), ("b", "1", "Say 1."), ("b", "2", "Say 2."), ("c", "1", "Say 1.")
    )
    both = [{"text": "Say  1."}, {"text": "Say 2.\n"}]
    assert asked(both, known) == [("b", "1"), ("b", "2")]
    # Of equals, the first by name.
    assert asked(both[:1], known) == [("a", "1")]
    assert asked(both[:1], known, "c") == [("c", "1")]


def test_a_text_that_a_benchmark_asks_twice_goes_by_id_or_else_in_order():
    known = questions(
        ("a", "20", "Why?"), ("a", "27", "Why?"), ("a", "30", "Why?"), ("b", "1", "How?")
    )
    row = {"text": "Why?"}
    assert [name for _, name in asked([row] * 4, known)] == ["20", "27", "30", "30"]
    assert [name for _, name in asked([row | {"idx": 30}, row], known)] == ["30", "27"]
    assert [name for _, name in asked([row | {"id": 5}, {"text": "How?"}], known)] == ["20", "1"]


@pytest.mark.parametrize(
    ("row", "benchmark", "reason", "detail"),
    [
        ({}, None, "unknown_question", "no field says what was asked"),
        ({"text": "Who?"}, None, "unknown_question", "no benchmark asks 'Who?'"),
        ({"text": "Why?"}, "b", "unknown_question", "b does not ask 'Why?'"),
        ({"text": "Why?"}, "x", "no_benchmark", "there are: a, b"),
        ({"text": "Why?"}, "koala", "no_benchmark", "run `opencs benchmarks fetch koala`"),
        ({"text": "Why?"}, "smoke", "no_benchmark", "there are: a, b"),
    ],
)
def test_a_row_of_no_question(row, benchmark, reason, detail):
    known = questions(("a", "1", "Why?"), ("b", "1", "How?"))
    with pytest.raises(VerdictRowError, match=re.escape(detail)) as error:
        asked([row], known, benchmark)
    assert error.value.reason == reason


@pytest.mark.parametrize("value", ["", None, True, [1]])
def test_an_id_that_is_none(value):
    with pytest.raises(VerdictRowError, match="must be a text or number"):
        questions(("a", "1", "Why?")).of("a", value)


def test_an_id_is_looked_up_as_it_stands_before_it_is_read_as_a_number():
    known = questions(("a", "1", "Why?"), ("a", "2.0", "How?"))
    assert known.of("a", 1.0).turns == ("Why?",)
    assert known.of("a", "2.0").turns == ("How?",)
    with pytest.raises(VerdictRowError, match="a has no question '1ab'"):
        known.of("a", "1ab")


@pytest.mark.parametrize(
    ("prompt", "is_the_same"),
    [("", True), (None, True), ("So: And  why?", True), ("Rate: Why?", True), ("Cuánto?", False)],
)
def test_a_prompt_shows_a_turn_of_its_question(prompt, is_the_same):
    question = KnownQuestion("a", "1", "c", ("Why? ", "And why?"))
    assert asks(prompt, question) == is_the_same

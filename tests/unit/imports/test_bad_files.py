"""Files and rows that are not what they should be: nothing is guessed, nothing lost silently."""

import json

import pytest

from opencs_assets.imports.errors import NotUnderstoodError, VerdictFileError, VerdictRowError
from opencs_assets.imports.recognize import refusal


@pytest.fixture
def two(desk, score_row):
    """Imports rows of a FastChat single file of the benchmark ``two``."""
    return lambda *rows, name="a.jsonl": desk.imported(name, rows, benchmark="two")


@pytest.mark.parametrize(
    ("score", "reason"),
    [
        (11, "score_out_of_range"),
        (-0.5, "score_out_of_range"),
        (-2, "score_out_of_range"),
        (10.01, "score_out_of_range"),
        (True, "bad_score"),
        (float("nan"), "bad_score"),
        (float("inf"), "bad_score"),
        ("7", "bad_score"),
        (None, "bad_score"),
        ([7], "bad_score"),
    ],
)
def test_scores_that_are_none(two, score_row, reasons, score, reason):
    found = two(score_row(1, score=score), score_row(2))
    assert reasons(found) == [(0, reason)]
    assert found.verdicts["score_a"].to_list() == [7]
    assert found.rejected["excerpt"][0].startswith('{"question_id": 1')


@pytest.mark.parametrize(
    ("changed", "column", "expected"),
    [
        ({"score": 8.25}, "score_a", 8.25),
        ({"score": 10}, "score_a", 10),
        ({"turn": 2.0}, "turn", 2),
        # Ids that a table program took for numbers, or wrote with spaces.
        ({"question_id": 1.0}, "question_id", "1"),
        ({"question_id": " 1 "}, "question_id", "1"),
        ({"judge": "gpt-4"}, "prompt_version", "fastchat-unknown"),
        ({"judge": ["gpt-4"]}, "judge", "gpt-4"),
        ({"user_prompt": ""}, "question_id", "1"),
        ({"user_prompt": "Rate: What is  1\nplus one?"}, "question_id", "1"),
        ({"judgment": None}, "reply", None),
    ],
)
def test_other_ways_to_write_a_field(two, score_row, changed, column, expected):
    assert two(score_row() | changed).verdicts[column].to_list() == [expected]


@pytest.mark.parametrize("name", ["my model/v 2", "模型 7б", " padded ", "a'b\"c|d", "é" * 300])
def test_names_are_kept_exactly(two, score_row, name):
    assert two(score_row(model=name)).verdicts["model_a"].to_list() == [name]


@pytest.mark.parametrize("name", ["", "  ", None, 7])
def test_a_model_without_a_name(two, score_row, reasons, name):
    assert reasons(two(score_row(model=name))) == [(0, "no_model")]


@pytest.mark.parametrize(
    ("changed", "reason"),
    [
        ({"question_id": 99}, "unknown_question"),
        ({"question_id": True}, "unknown_question"),
        ({"question_id": None}, "unknown_question"),
        ({"turn": 3}, "unknown_turn"),
        ({"turn": 0}, "unknown_turn"),
        ({"turn": "1"}, "unknown_turn"),
        ({"turn": True}, "unknown_turn"),
        ({"turn": 1.5}, "unknown_turn"),
        ({"judge": []}, "no_judge"),
        ({"judge": 5}, "no_judge"),
        ({"judge": ["gpt-4", ""]}, "no_judge"),
        ({"judge": ["gpt-4", "single-v1", "x"]}, "no_judge"),
        ({"user_prompt": "Translated: ¿Cuánto es uno más uno?"}, "other_question"),
    ],
)
def test_fields_that_are_off(two, score_row, reasons, changed, reason):
    assert reasons(two(score_row() | changed, score_row(2))) == [(0, reason)]


def test_a_benchmark_that_is_not_here(desk, score_row):
    found = desk.imported("a.jsonl", [score_row()], benchmark="three")
    (row,) = found.rejected.to_dicts()
    assert row["reason"] == "no_benchmark"
    assert "one, smoke, two" in row["detail"]


def test_a_benchmark_that_comes_later_makes_verdicts_of_what_was_kept(desk, score_row):
    assert desk.imported("a.jsonl", [score_row()], benchmark="three").verdicts.is_empty()
    folder = desk.home / "benchmarks"
    (folder / "three.jsonl").write_text((folder / "two.jsonl").read_text())
    assert desk.read().verdicts["benchmark"].to_list() == ["three"]


VOTE = {"question_id": 1, "turn": 1, "model_a": "m", "model_b": "n", "winner": "tie"}
PAIR = {
    "question_id": 1,
    "turn": 1,
    "model_1": "m",
    "model_2": "n",
    "judge": ["j", "pair-v2"],
    "g1_winner": "tie",
    "g2_winner": "tie",
}
ANSWER = {"question_id": 1, "model_id": "m", "choices": [{"turns": ["2"]}]}


@pytest.mark.parametrize(
    ("row", "reason"),
    [
        (VOTE | {"model_b": "m"}, "self_pair"),
        (VOTE | {"model_b": ""}, "no_model"),
        (VOTE | {"turn": 0}, "unknown_turn"),
        *[(VOTE | {"winner": winner}, "bad_winner") for winner in ("model_c", None, ["a"], {})],
        *[(PAIR | {f"g{order}_winner": "model_3"}, "bad_winner") for order in (1, 2)],
        (PAIR | {"g1_winner": ["tie"]}, "bad_winner"),
        *[(PAIR | {f"g{order}_user_prompt": "Cuánto?"}, "other_question") for order in (1, 2)],
        *[
            (ANSWER | {"choices": [{"turns": turns}]}, "no_answer")
            for turns in ([], ["a", None], "ab", None)
        ],
        (ANSWER | {"choices": []}, "no_answer"),
        (ANSWER | {"choices": [{"turns": ["a", "b", "c"]}]}, "unknown_turn"),
        (ANSWER | {"model_id": None}, "no_model"),
    ],
)
def test_pairs_votes_and_answers_that_are_none(desk, reasons, row, reason):
    found = desk.imported("v.jsonl", [row], benchmark="two", judge="j")
    assert reasons(found) == [(0, reason)]
    assert found.verdicts.is_empty()
    assert found.answers.is_empty()


def test_a_vote_of_nobody(desk, reasons):
    votes = [VOTE, VOTE | {"judge": " "}, VOTE | {"judge": []}, VOTE | {"judge": "j"}]
    found = desk.imported("v.jsonl", votes, benchmark="two")
    assert reasons(found) == [(0, "no_judge"), (1, "no_judge"), (2, "no_judge")]


def test_the_form_is_that_of_most_rows(desk, reasons):
    found = desk.imported("v.jsonl", [PAIR, VOTE, VOTE | {"turn": 2}], benchmark="two", judge="j")
    assert reasons(found) == [(0, "other_form")]
    assert found.verdicts["format"].to_list() == ["votes", "votes"]


def test_broken_rows_in_the_middle_keep_the_numbers_of_the_others(two, score_row, reasons):
    found = two("{", "[1]", json.dumps(score_row(2)), "", '{"colour": "red"}', score_row(3))
    assert reasons(found) == [(0, "broken_json"), (1, "not_an_object"), (3, "other_form")]
    assert found.verdicts["row"].to_list() == [2, 4]


def test_a_file_that_is_not_what_its_name_says(desk):
    file = desk.write("judgments.jsonl", b"\x89PNG\r\n\x1a\n" + bytes(50))
    with pytest.raises(NotUnderstoodError, match=f"{file}.*not what its name says.*a PNG image"):
        desk.take(file)
    assert not (desk.home / "verdicts").exists()


@pytest.mark.parametrize(
    ("data", "said"),
    [
        (b"[]", "has no rows"),
        (b"[1, 2]", "no form that can be imported"),
        (b'{"colour": "red"}', "its rows have colour"),
        (b'"text"', "a JSON str, not rows"),
        (b"7", "a JSON int, not rows"),
        (b'{"question_id": 1, "model": ', "broken JSON"),
        (b"[{]", "broken JSON"),
        (b"just words", "begins with 'just words'"),
        (b"a,b\n", "has no rows below its header"),
    ],
)
def test_a_file_that_is_not_understood_is_refused_and_not_kept(desk, data, said):
    with pytest.raises(VerdictFileError) as caught:
        desk.take(desk.write("a.jsonl", data))
    assert said in str(caught.value)
    assert not (desk.home / "verdicts").exists()


def test_a_refusal_says_which_forms_there_are(desk):
    with pytest.raises(NotUnderstoodError) as caught:
        desk.take(desk.write("a.jsonl", '{"colour": "red"}'))
    message = refusal(caught.value)
    for word in ("FastChat", "votes", "AlpaGasus", "AlpacaEval", "CSV"):
        assert word in message


def test_a_csv_cell_that_is_no_number(desk, reasons):
    text = "question,model,score\nSay 1.,m,seven\nSay 2.,m,nan\nSay 3.,m,11\nSay 4.,m,8\n"
    found = desk.imported("t.csv", text, judge="j")
    assert [reason for _, reason in reasons(found)] == [
        "bad_score",
        "bad_score",
        "score_out_of_range",
    ]


def test_a_review_whose_scores_are_not_its_own_is_rejected(desk, reasons):
    rows = [
        {"text": "Say 1.", "review": "9 8\nx", "scores": "[9.0, 3.0]"},
        {"text": "Say 2.", "review": "9 8\nx", "scores": "[9.0, 8.0]"},
        {
            "text": "Say 3.",
            "review": "9 8\nx",
            "scores": "[9.0, 8.0]",
            "review_reverse": "6 7\nx",
            "scores_reverse": "[6.0, 5.0]",
        },
        {"text": "Say 4.", "review": "9 8\nx", "scores": "nine, eight"},
        {"text": "Say 5.", "review": "9 8\nx", "scores": [9, 8, 7]},
        {"text": "Say 6.", "review": "9 8 7\nx", "scores": [1, 2]},
        {"text": "What?", "review": "9 8\nx", "scores": [9, 8]},
    ]
    found = desk.imported("r.json", json.dumps(rows), model_a="x", model_b="y", judge="gpt-4")
    assert reasons(found) == [
        (0, "contradicts_reply"),
        (2, "contradicts_reply"),
        (3, "bad_score"),
        (4, "bad_score"),
        (6, "unknown_question"),
    ]


def test_an_answer_file_that_ends_early_keeps_what_it_has(desk):
    rows = [
        {"question_id": 1, "model_id": "m", "choices": [{"turns": ["2", "3"]}]},
        {"question_id": 2, "model_id": "m", "choices": [{"turns": ["3"]}]},
    ]
    assert desk.imported("a.jsonl", rows, benchmark="two").answers.height == 3


@pytest.mark.timeout(60)
def test_twenty_thousand_rows_are_no_burden(desk, score_row):
    line = json.dumps(score_row(judgment="why " * 50))
    rows = [line.replace('"model": "m"', f'"model": "model {at}"') for at in range(20_000)]
    found = desk.imported("big.jsonl", rows, benchmark="two")
    assert found.verdicts["state"].to_list() == ["used"] * 20_000


def test_every_reason_is_declared():
    with pytest.raises(KeyError):
        VerdictRowError("no such reason", "x")

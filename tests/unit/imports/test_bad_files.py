"""Files and rows that are not what they should be: nothing is guessed, nothing lost silently."""

import gzip
import io
import json
import time
import zipfile

import polars as pl
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


def test_fractional_scores_are_kept(two, score_row):
    assert two(score_row(score=8.25)).verdicts["score_a"].to_list() == [8.25]


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
        ({"judge": []}, "no_judge"),
        ({"judge": 5}, "no_judge"),
        ({"user_prompt": "Translated: ¿Cuánto es uno más uno?"}, "other_question"),
    ],
)
def test_fields_that_are_off(two, score_row, reasons, changed, reason):
    assert reasons(two(score_row() | changed, score_row(2))) == [(0, reason)]


def test_an_id_that_a_table_program_wrote_as_a_fraction(two, score_row):
    assert two(score_row() | {"question_id": 1.0}).verdicts["question_id"].to_list() == ["1"]


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


def test_a_model_against_itself(desk, reasons):
    row = {"question_id": 1, "turn": 1, "model_a": "m", "model_b": "m", "winner": "tie"}
    assert reasons(desk.imported("v.jsonl", [row], benchmark="two", judge="j")) == [
        (0, "self_pair")
    ]


@pytest.mark.parametrize("winner", ["model_c", "", None, 1, ["model_a"], {"a": 1}])
def test_a_winner_that_is_none(desk, reasons, winner):
    row = {"question_id": 1, "turn": 1, "model_a": "m", "model_b": "n", "winner": winner}
    assert reasons(desk.imported("v.jsonl", [row], benchmark="two", judge="j")) == [
        (0, "bad_winner")
    ]


def test_a_line_cut_in_the_middle(two, score_row, reasons):
    lines = [json.dumps(score_row(number)) for number in (1, 2, 3)]
    found = two(*lines[:2], lines[2][:40])
    assert found.verdicts.height == 2
    assert reasons(found) == [(2, "broken_json")]
    assert "line 3" in found.rejected["detail"][0]


def test_broken_rows_in_the_middle_keep_the_numbers_of_the_others(two, score_row, reasons):
    found = two("{", "[1]", json.dumps(score_row(2)), "", '{"colour": "red"}', score_row(3))
    assert reasons(found) == [(0, "broken_json"), (1, "not_an_object"), (3, "other_form")]
    assert found.verdicts["row"].to_list() == [2, 4]


def test_bytes_and_characters_that_are_no_unicode(desk, score_row, reasons):
    good = json.dumps(score_row(3)).encode()
    latin = json.dumps(score_row(1, model="caf\u00e9"), ensure_ascii=False).encode("latin-1")
    half = json.dumps(score_row(2, model="\ud83d")).encode()
    found = desk.imported("a.jsonl", b"\n".join([latin, half, good]), benchmark="two")
    assert reasons(found) == [(0, "bad_encoding"), (1, "bad_encoding")]
    assert found.verdicts["row"].to_list() == [2]


def test_an_array_that_was_cut(desk, score_row, reasons):
    text = json.dumps([score_row(number) for number in (1, 2, 3)], indent=1)
    found = desk.imported("a.json", text[:-60], benchmark="two")
    assert found.verdicts["row"].to_list() == [0, 1]
    assert reasons(found) == [(2, "broken_json")]


def test_an_array_of_one_line_and_rows_among_other_keys(desk, score_row):
    rows = [score_row(number) for number in (1, 2)]
    assert desk.imported("a.json", json.dumps(rows), benchmark="two").verdicts.height == 2
    wrapped = {"Meta_Info": {"n": [1]}, "data": [score_row(3)]}
    assert desk.imported("b.json", json.dumps(wrapped), benchmark="two").verdicts.height == 3


def test_byte_order_marks_and_windows_line_ends(desk, score_row):
    text = "\r\n".join(json.dumps(score_row(number)) for number in (1, 2)) + "\r\n"
    for name, data in {
        "bom.jsonl": b"\xef\xbb\xbf" + text.encode(),
        "utf16.jsonl": text.encode("utf-16"),
    }.items():
        desk.take(desk.write(name, data), benchmark="two")
    table = "\ufeffquestion_id,model,score,turn\r\n1,n,7,1\r\n2,n,8,1\r\n"
    desk.take(desk.write("t.csv", table), benchmark="two", judge="j")
    found = desk.read()
    assert found.rejected.is_empty()
    assert found.verdicts.filter(model_a="m")["state"].to_list() == ["used"] * 2 + ["duplicate"] * 2
    assert found.verdicts.filter(model_a="n")["score_a"].to_list() == [7, 8]


def test_a_gzip(desk, score_row):
    data = gzip.compress(json.dumps(score_row()).encode())
    assert desk.imported("a.jsonl.gz", data, benchmark="two").verdicts.height == 1
    # What it is called does not matter.
    other = gzip.compress(json.dumps(score_row(2)).encode())
    assert desk.imported("b.json", other, benchmark="two").verdicts.height == 2


def test_a_gzip_that_was_cut_keeps_the_rows_before(desk, score_row, reasons):
    text = "\n".join(json.dumps(score_row(n, 1, judgment="x" * n)) for n in range(1, 11))
    data = gzip.compress(text.encode() + b"\n")
    found = desk.imported("a.jsonl.gz", data[:-12], benchmark="two")
    assert found.verdicts.height >= 8
    assert (-1, "cut_file") in reasons(found)


def zipped() -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        archive.writestr("a.jsonl", "{}")
    return buffer.getvalue()


def parquet() -> bytes:
    buffer = io.BytesIO()
    pl.DataFrame({"score": [1]}).write_parquet(buffer)
    return buffer.getvalue()


@pytest.mark.parametrize(
    ("data", "what"),
    [
        (b"\x89PNG\r\n\x1a\n" + bytes(50), "a PNG image"),
        (b"\xff\xd8\xff\xe0" + bytes(50), "a JPEG image"),
        (zipped(), "a zip archive"),
        (parquet(), "a Parquet file"),
        (b"<!DOCTYPE html>\n<html><body>Sign in</body></html>", "an HTML or XML page"),
        (b"%PDF-1.7\n", "a PDF"),
        (b"\x01\x00\x02\x00" * 20, "binary data"),
    ],
)
def test_a_file_that_is_not_what_its_name_says(desk, data, what):
    file = desk.write("judgments.jsonl", data)
    with pytest.raises(NotUnderstoodError, match="not what its name says") as caught:
        desk.take(file)
    assert what in str(caught.value)
    assert str(file) in str(caught.value)
    assert not (desk.home / "verdicts").exists()


@pytest.mark.parametrize(
    ("data", "said"),
    [
        (b"", "is empty (0 bytes)"),
        (b" \n\n", "nothing but white space"),
        (b"[]", "has no rows"),
        (b"[1, 2]", "no form that can be imported"),
        (b'{"colour": "red"}', "its rows have colour"),
        (b'"text"', "a JSON str, not rows"),
        (b"7", "a JSON int, not rows"),
        (b'{"question_id": 1, "model": ', "broken JSON"),
        (b"[{]", "broken JSON"),
        (b"just words", "begins with 'just words'"),
        (b"a,b\n", "has no rows below its header"),
        (b"\x1f\x8b\x08\x00broken", "gzip data is broken"),
        (b"\xff\xfe\x00", "UTF-16"),
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


def test_a_csv_record_that_does_not_fit_its_header(desk, reasons):
    text = 'question,model,score\nSay 1.,m,7\nSay 2.,m\nSay 3.,m,7,8\n"Say 4.,m,7\n'
    found = desk.imported("t.csv", text, judge="j")
    assert found.verdicts["row"].to_list() == [0]
    assert {reason for _, reason in reasons(found)} == {"broken_csv"}


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
    ]
    found = desk.imported("r.json", json.dumps(rows), model_a="x", model_b="y", judge="gpt-4")
    assert reasons(found) == [
        (0, "contradicts_reply"),
        (2, "contradicts_reply"),
        (3, "bad_score"),
    ]


@pytest.mark.parametrize("turns", [[], ["a", "b", "c"], ["a", None], "ab", None])
def test_answers_that_are_none(desk, turns, reasons):
    row = {"question_id": 1, "model_id": "m", "choices": [{"turns": turns}]}
    found = desk.imported("a.jsonl", [row], benchmark="two")
    assert found.answers.is_empty()
    assert found.rejected.height == 1


def test_an_answer_file_that_ends_early_keeps_what_it_has(desk):
    rows = [
        {"question_id": 1, "model_id": "m", "choices": [{"turns": ["2", "3"]}]},
        {"question_id": 2, "model_id": "m", "choices": [{"turns": ["3"]}]},
    ]
    assert desk.imported("a.jsonl", rows, benchmark="two").answers.height == 3


def test_a_hundred_thousand_rows_within_seconds(desk, score_row):
    rows = [score_row(n, turn, judgment="why " * 50) for n in range(1, 11) for turn in (1, 2)]
    lines = [json.dumps(row) for row in rows]
    text = "\n".join(
        line.replace('"model": "m"', f'"model": "model {at}"')
        for at in range(5000)
        for line in lines
    )
    file = desk.write("big.jsonl", text)
    began = time.process_time()
    desk.take(file, benchmark="two")
    found = desk.read()
    spent = time.process_time() - began
    assert found.verdicts.height == 100_000
    assert set(found.verdicts["state"]) == {"used"}
    # About 3 s of one core; what grows with the square of the rows takes minutes.
    assert spent < 30


def test_every_reason_is_declared():
    with pytest.raises(KeyError):
        VerdictRowError("no such reason", "x")

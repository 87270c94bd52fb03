"""What a person is told about files after an import, and the choice between them."""

import pytest

from opencs_assets.imports.errors import VerdictFileError
from opencs_assets.imports.options import ImportOptions
from opencs_assets.imports.taking import first_details, outcomes, prefer, take
from opencs_assets.tables.lake import Lake


@pytest.fixture
def lake(desk, score_row):
    """The lake after the import of three files, two of which contradict each other."""
    rows = {
        "a.jsonl": [score_row(1, score=7), score_row(2, score=8), score_row(3, score=3)],
        "b.jsonl": [
            score_row(1, score=7),
            score_row(2, score=9),
            *[score_row(n) for n in (98, 99)],
            score_row(3, score=11),
        ],
        "c.jsonl": [
            {"question_id": number, "model_id": "m", "choices": [{"turns": [text]}]}
            for number, text in ((99, "5"), (1, "2"), (2, "3"), (2, "4"))
        ],
    }
    for name, lines in rows.items():
        desk.take(desk.write(name, lines), benchmark="two")
    lake = Lake(str(desk.home / "lake"))
    tables = desk.read()
    lake.write("imported_verdicts", tables.verdicts, {})
    lake.write("rejected_verdicts", tables.rejected, {})
    lake.write("imported_answers", tables.answers, {})
    return lake


def test_each_file_is_told_with_its_rows_by_state_and_reason(desk, lake, score_row):
    options = ImportOptions(benchmark="two")
    files = [desk.home.parent / "files" / name for name in ("a.jsonl", "b.jsonl", "c.jsonl")]
    kept = take(desk.home, [*files, files[0]], options).kept_files
    names = ("file", "used", "duplicate", "conflict", "overruled", "answers", "rejected", "reasons")
    assert [tuple(row[name] for name in names) for row in outcomes(lake, kept)] == [
        ("a.jsonl", 2, 0, 1, 0, 0, 0, ""),
        ("b.jsonl", 0, 1, 1, 0, 0, 3, "score_out_of_range 1, unknown_question 2"),
        ("c.jsonl", 0, 0, 0, 0, 1, 3, "conflicting_answer 2, unknown_question 1"),
    ]
    assert [row["sha256"] for row in outcomes(lake, kept)] == [file.sha256[:8] for file in kept]
    first, second, third, fourth = sorted(first_details(lake, kept))
    assert first == "b.jsonl, row 2: two has no question '98' (unknown_question, and 1 more)"
    assert second.startswith("b.jsonl, row 4: `score` is 11")
    assert third == "c.jsonl, row 0: two has no question '99' (unknown_question)"
    assert fourth.startswith("c.jsonl, row 2: m's answers to question 2 of two differ")
    places = desk.read().rejected.select("file", "row").rows()
    assert places == sorted(places)
    assert first_details(lake, kept[:1]) == []


def test_notes_say_what_changed_and_which_options_mean_nothing(desk, score_row):
    file = desk.write("a.jsonl", [score_row()])
    first = take(desk.home, [file], ImportOptions(judge="j", model_a="m"))
    assert first.notes == [
        f"{file}: --model-a, --judge says nothing here: the file is FastChat model_judgment, "
        "single (question_id, model, judge, score, turn)"
    ]
    assert take(desk.home, [file], ImportOptions()).notes == [
        f"{file}: imported already, nothing changed"
    ]
    again = take(desk.home, [file], ImportOptions(benchmark="two"))
    assert again.notes == [f"{file}: imported already; now read with benchmark two"]
    # Options that mean nothing to the file leave those of its import.
    assert take(desk.home, [file], ImportOptions(judge="j")).kept_files[0].state == "unchanged"
    assert desk.read().verdicts.height == 1


def test_a_file_or_a_row_is_preferred_where_something_is_in_conflict(desk, lake):
    for name, row in (("a.jsonl", 1), ("b.jsonl", None), ("c.jsonl", None)):
        assert prefer(desk.home, lake, name, row, "better").name == name
    # A file that contradicts itself settles nothing until a row is named.
    assert desk.read().conflicting_answers == 1
    prefer(desk.home, lake, "c.jsonl", 3, "")
    for name, row in (("a.jsonl", 0), ("b.jsonl", 2), ("c.jsonl", 0)):
        with pytest.raises(VerdictFileError, match=f"nothing of row {row} of {name}"):
            prefer(desk.home, lake, name, row, "")
    found = desk.read()
    assert found.verdicts.filter(question_id="2")["state"].to_list() == ["overruled", "used"]
    assert found.answers.filter(question_id="2")["answer"].to_list() == ["4"]
    lake.write("imported_verdicts", found.verdicts, {})
    assert prefer(desk.home, lake, "a.jsonl", 1, "after all").name == "a.jsonl"
    assert desk.read().verdicts.filter(question_id="2")["state"].to_list() == ["used", "overruled"]


def test_answers_that_stand_beside_verdicts_are_left_out_where_they_differ(desk):
    reviews = [
        {"text": "Say 1.", "Answer1": "x", "Answer2": text, "review": "9 8", "scores": [9, 8]}
        for text in ("y", "z")
    ]
    found = desk.imported("r.jsonl", reviews, model_a="m", model_b="n", judge="j")
    assert found.answers["model"].to_list() == ["m"]
    assert (found.duplicate_answers, found.conflicting_answers) == (1, 1)
    assert found.rejected.is_empty()
    assert found.verdicts["state"].to_list() == ["used", "duplicate"]

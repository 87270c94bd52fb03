"""Copies count once, contradictions wait for a person, and a person's word is obeyed."""

from pathlib import Path

import pytest

from opencs_assets.imports.choices import COLUMNS, NAME, Choice, add_choice, read_choices
from opencs_assets.imports.claims import conflicting
from opencs_assets.imports.errors import VerdictFileError
from opencs_assets.imports.kept import KeptFile
from opencs_assets.imports.options import ImportOptions


@pytest.fixture
def take(desk, score_row):
    """Imports a file of one row a score, question 1 first; returns its hash."""

    def take(name, *scores, **options):
        rows = [
            score_row(at, score=score, note=name)
            for at, score in enumerate(scores, 1)
            if score is not None
        ]
        return desk.take(desk.write(name, rows), benchmark="two", **options).sha256

    return take


def vote(judge="expert_1", winner="model_a") -> dict:
    sides = {"model_a": "m", "model_b": "n", "winner": winner}
    return {"question_id": 1, "turn": 1, "judge": judge, **sides}


def by_file(found) -> dict[str, list[str]]:
    return {
        name: found.verdicts.filter(file_name=name)["state"].to_list()
        for name in found.verdicts["file_name"].unique()
    }


def test_the_same_claim_is_used_once_and_of_others_none(desk, take):
    take("a.jsonl", 7, 8)
    take("b.jsonl", 7, 9)
    take("c.jsonl", None, 8)
    found = desk.read()
    assert by_file(found) == {
        "a.jsonl": ["used", "conflict"],
        "b.jsonl": ["duplicate", "conflict"],
        "c.jsonl": ["conflict"],
    }
    assert conflicting(found.verdicts) == 1


def test_a_file_may_contradict_itself(desk, score_row, states):
    rows = [score_row(score=7), score_row(score=7, tstamp=2), score_row(2), score_row(2, score=3)]
    found = desk.imported("a.jsonl", rows, benchmark="two")
    assert states(found) == ["used", "duplicate", "conflict", "conflict"]


def test_unparsable_and_a_score_are_different_claims(desk, take):
    take("a.jsonl", 7)
    take("b.jsonl", -1)
    assert by_file(desk.read()) == {"a.jsonl": ["conflict"], "b.jsonl": ["conflict"]}


@pytest.mark.parametrize(
    "other",
    [{"judge": ["gpt-4o", "single-math-v1"]}, {"judge": ["gpt-4", "single-v2"]}, {"model": "n"}],
)
def test_another_judge_prompt_or_model_is_another_judgment(desk, score_row, states, other):
    desk.take(desk.write("a.jsonl", [score_row(score=7)]), benchmark="two")
    desk.take(desk.write("b.jsonl", [score_row(score=3) | other]), benchmark="two")
    assert states(desk.read()) == ["used", "used"]


def test_a_pair_in_the_other_order_of_names_is_the_same_judgment(desk, states):
    other = vote("gpt-4") | {"model_a": "n", "model_b": "m"}
    rows = [vote("gpt-4"), other | {"winner": "model_b"}]
    assert states(desk.imported("a.jsonl", rows, benchmark="two")) == ["used", "duplicate"]
    assert states(desk.imported("b.jsonl", [other], benchmark="two")) == ["conflict"] * 3


def test_each_vote_of_a_person_is_its_own_and_the_same_in_another_file_and_order(desk, states):
    votes = [vote(), vote(), vote("expert_2"), vote(winner="model_b")]
    assert states(desk.imported("v.jsonl", votes, benchmark="two")) == ["used"] * 4
    found = desk.imported("w.jsonl", votes[::-1], benchmark="two")
    assert states(found) == ["used"] * 4 + ["duplicate"] * 4


def test_a_person_prefers_a_file(desk, take):
    take("a.jsonl", 7, 8)
    right = take("b.jsonl", 7, 9)
    take("c.jsonl", 5, 9)
    add_choice(desk.home, Choice(right, None, "judged again"))
    found = desk.read()
    assert by_file(found) == {
        "a.jsonl": ["used", "overruled"],
        "b.jsonl": ["duplicate", "used"],
        "c.jsonl": ["overruled", "duplicate"],
    }
    assert conflicting(found.verdicts) == 0


def test_the_last_word_counts_and_may_be_of_one_row(desk, take):
    first, second = take("a.jsonl", 7, 8), take("b.jsonl", 6, 9)
    add_choice(desk.home, Choice(first, None, ""))
    add_choice(desk.home, Choice(second, 1, ""))
    assert by_file(desk.read()) == {
        "a.jsonl": ["used", "overruled"],
        "b.jsonl": ["overruled", "used"],
    }
    add_choice(desk.home, Choice(first, None, ""))
    assert by_file(desk.read())["a.jsonl"] == ["used", "used"]


def test_a_preferred_file_that_contradicts_itself_settles_nothing_until_a_row_is_named(
    desk, score_row, states
):
    rows = [score_row(score=7), score_row(score=3)]
    sha256 = desk.take(desk.write("a.jsonl", rows), benchmark="two").sha256
    add_choice(desk.home, Choice(sha256, None, ""))
    assert states(desk.read()) == ["conflict", "conflict"]
    add_choice(desk.home, Choice(sha256, 1, ""))
    assert states(desk.read()) == ["overruled", "used"]


HEADER = ",".join(COLUMNS)
FILES = [
    KeptFile(sha256, Path(sha256), "x.jsonl", ImportOptions(), "")
    for sha256 in ("abcdef01" + "2" * 56, "abcdef01" + "3" * 56)
]


@pytest.mark.parametrize("text", [None, "", HEADER, f"{HEADER}\n", f"\ufeff{HEADER}\n"])
def test_a_choice_is_added_to_a_file_as_it_stands(tmp_path, text):
    if text is not None:
        (tmp_path / NAME).write_text(text, encoding="utf-8")
    choices = [Choice(FILES[1].sha256, None, 'says "no", twice'), Choice(FILES[0].sha256, 0, "")]
    for choice in choices:
        add_choice(tmp_path, choice)
    assert read_choices(tmp_path, FILES) == choices


def test_a_file_is_meant_by_the_beginning_of_its_hash_in_any_case(tmp_path):
    (tmp_path / NAME).write_text(f"{HEADER}\n ABCDEF012 , 3 , why \nabcdef01,,\n")
    with pytest.raises(VerdictFileError, match=r"line 3: 'abcdef01' fits 2 .*give more"):
        read_choices(tmp_path, FILES)
    assert read_choices(tmp_path, FILES[:1])[0] == Choice(FILES[0].sha256, 3, "why")


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("file,reason\n", "line 1: the columns must be file,row,reason"),
        (f"{HEADER}\nabc,,x\n", "line 2: give at least the first 8"),
        (f"{HEADER}\n{'0' * 64},,x\n", "fits 0 imported files"),
        (f"{HEADER}\n{{sha}},first,x\n", "the row must be a number"),
    ],
)
def test_a_file_of_choices_that_is_off_is_said(desk, take, text, said):
    sha256 = take("a.jsonl", 7)
    (desk.home / NAME).write_text(text.replace("{sha}", sha256))
    with pytest.raises(VerdictFileError, match=said):
        desk.read()


def answers(*turns, number=1) -> dict:
    return {"question_id": number, "model_id": "m", "choices": [{"turns": list(turns)}]}


def test_answers_that_differ_are_kept_apart_until_a_person_chooses(desk):
    desk.take(desk.write("a.jsonl", [answers("2", "3"), answers("3", number=2)]), benchmark="two")
    other = desk.take(
        desk.write("b.jsonl", [answers("two"), answers("3", number=2)]), benchmark="two"
    )
    found = desk.read()
    assert found.answers["question_id"].to_list() == ["2"]
    assert found.rejected["reason"].to_list() == ["conflicting_answer"] * 2
    assert (found.duplicate_answers, found.conflicting_answers) == (1, 1)
    add_choice(desk.home, Choice(other.sha256, None, ""))
    found = desk.read()
    assert found.rejected.is_empty()
    assert found.answers.filter(question_id="1")["answer"].to_list() == ["two"]

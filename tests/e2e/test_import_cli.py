"""Importing verdicts from a terminal: what was taken, what was not, and a person's choice."""

import json
from pathlib import Path

import pytest

from opencs_assets.tables.lake import Lake
from tests.e2e.conftest import several, small_home

pytestmark = pytest.mark.e2e


def line(score, number=1):
    judged = {"question_id": f"smoke-{number}", "model": "my model/7b", "turn": 1}
    return json.dumps(judged | {"judge": ["gpt-4", "single-v1"], "score": score})


@pytest.fixture(scope="module")
def files(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("files")
    (folder / "a.jsonl").write_text("\n".join(line(7, number) for number in (1, 2, 3)))
    (folder / "b.jsonl").write_text("\n".join([line(4), line(7, 2), line(11, 3), line(5, 99)]))
    (folder / "page.jsonl").write_text("<html>Sign in</html>")
    (folder / "plain.csv").write_text("who,what,how\nx,Say yes.,7\n")
    return folder


@pytest.fixture(scope="module")
def ran(files, tmp_path_factory):
    """Outcome of each command line, in order; and the home."""
    home = small_home(tmp_path_factory.mktemp("home"), tmp_path_factory.mktemp("models"))
    smoke = ("--benchmark", "smoke")
    lines = {
        "first": ("import-verdicts", str(files / "a.jsonl"), *smoke, "--json"),
        "again": ("import-verdicts", str(files / "a.jsonl"), *smoke, "--json"),
        "second": ("import-verdicts", str(files / "b.jsonl"), *smoke),
        "page": ("import-verdicts", str(files / "page.jsonl")),
        "table": ("import-verdicts", str(files / "plain.csv")),
        "option": ("import-verdicts", str(files / "a.jsonl"), "--reversed", "sideways"),
        "nowhere": ("import-verdicts", str(files / "nowhere.jsonl")),
        "folder": ("import-verdicts", str(files), *smoke, "--json"),
        "prefer": ("prefer-verdicts", str(files / "b.jsonl"), "--reason", "judged anew", "--json"),
        "prefer_nothing": ("prefer-verdicts", "a.jsonl", "--row", "1"),
        "prefer_unknown": ("prefer-verdicts", "other.jsonl"),
    }
    return home, dict(zip(lines, several(home, lines.values()), strict=True))


def test_files_are_taken_and_told(ran):
    _home, outcome = ran
    assert outcome["first"].returncode == 0, outcome["first"].stderr
    (row,) = json.loads(outcome["first"].stdout)
    assert (row["form"], row["state"], row["used"]) == ("fastchat_single", "new", 3)
    assert outcome["again"].returncode == 0
    assert json.loads(outcome["again"].stdout)[0]["state"] == "unchanged"
    assert "nothing changed" in outcome["again"].stderr
    rows = json.loads(outcome["folder"].stdout)
    assert [row["file"] for row in rows] == ["a.jsonl", "b.jsonl"]
    assert "left out" in outcome["folder"].stderr


def test_rejected_rows_and_conflicts_are_told(ran):
    _home, outcome = ran
    said = " ".join(outcome["second"].stderr.split())
    assert outcome["second"].returncode == 1
    assert "row 2: `score` is 11" in said
    assert "smoke has no question 'smoke-99'" in said
    assert "opencs prefer-verdicts FILE" in said


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("page", ["page.jsonl", "not what its name says", "HTML", "Forms that can be", "CSV"]),
        ("table", ["plain.csv", "no column for question_id or question", "--column"]),
        ("option", ["--reversed must be as-shown or swapped-back"]),
        ("nowhere", ["nowhere.jsonl", "neither a file nor a folder"]),
        ("prefer_nothing", ["row 1 of a.jsonl", "nothing to prefer"]),
        ("prefer_unknown", ["other.jsonl was not imported"]),
    ],
)
def test_what_cannot_be_done_is_one_clear_error(ran, name, words):
    _home, outcome = ran
    said = " ".join(outcome[name].stderr.split())
    assert outcome[name].returncode == 1
    assert "Traceback" not in said
    for word in words:
        assert word in said


def test_a_person_chooses(ran):
    home, outcome = ran
    assert outcome["prefer"].returncode == 0, outcome["prefer"].stderr
    (row,) = json.loads(outcome["prefer"].stdout)
    assert (row["used"], row["duplicate"], row["conflict"]) == (1, 1, 0)
    assert "judged anew" in (home / "verdict_choices.csv").read_text()
    verdicts = Lake(str(home / "lake")).read("imported_verdicts", {})
    assert verdicts.filter(question_id="smoke-1").sort("score_a")["state"].to_list() == [
        "used",
        "overruled",
    ]

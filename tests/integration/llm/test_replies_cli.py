"""``opencs replies``: real processes over real stores."""

import json
import sqlite3
import subprocess
import sys
from pathlib import Path

import pytest

from resources.llm.store import ReadingRow, ReplyStore
from tests.e2e.conftest import environment, opencs, several
from tests.unit.resources.test_archive import fill, key, record, rows


@pytest.fixture
def home(tmp_path: Path) -> Path:
    folder = tmp_path / "home"
    with ReplyStore(folder / "llm" / "replies.sqlite") as store:
        fill(store)
    return folder


def store_of(home: Path) -> list[dict]:
    with ReplyStore(home / "llm" / "replies.sqlite") as store:
        return rows(store)


def done(home: Path, *words: str, code: int = 0) -> subprocess.CompletedProcess[str]:
    ran = opencs(home, "replies", *words)
    assert ran.returncode == code, ran.stdout + ran.stderr
    assert "Traceback" not in ran.stderr
    return ran


def test_from_one_home_to_another_and_to_postgres(home, tmp_path, postgres_url):
    file = str(tmp_path / "out.parquet")
    said = json.loads(done(home, "export", file, "--json").stdout)
    assert said == {"file": file, "replies": 12, "bytes": Path(file).stat().st_size}
    other = tmp_path / "other"
    assert "12 new, 0 already there, 0 rejected" in done(other, "import", file).stdout
    assert "0 new, 12 already there, 0 rejected" in done(other, "import", file).stdout
    assert store_of(other) == store_of(home)

    team = tmp_path / "team"
    team.mkdir()
    (team / "settings.toml").write_text(f'replies_url = "{postgres_url}"\n')
    source = str(home / "llm" / "replies.sqlite")
    assert json.loads(done(team, "import", source, "--json").stdout)["new"] == 12
    back = done(home, "import", postgres_url, "--json")
    assert json.loads(back.stdout)["already_there"] == 12
    assert "12 replies;" in done(team, "compact").stdout


def test_export_takes_a_part(home, tmp_path):
    file, other, csv = (str(tmp_path / name) for name in ("out.jsonl", "other.jsonl", "out.csv"))
    words = ("--dataset", "d", "--stage", "open_tags", "--since", "2020-01-01")
    taken, none, form, day = several(
        home,
        [
            ("replies", "export", file, *words, "--without-requests"),
            ("replies", "export", other, "--since", "2999-01-01"),
            ("replies", "export", csv),
            ("replies", "export", other, "--since", "today"),
        ],
    )
    assert [each.returncode for each in (taken, none, form, day)] == [0, 0, 1, 2]
    assert "12 replies in" in taken.stdout
    assert "secret" not in Path(file).read_text()
    assert "0 replies in" in none.stdout
    assert "must end in" in form.stderr
    assert "does not match" in day.stderr


def test_rejected_rows_are_told_and_fail(home, tmp_path):
    file = tmp_path / "in.jsonl"
    done(home, "export", str(file))
    file.write_text(file.read_text() + '{"reply_id": "short"}\n' * 7)
    ran = done(tmp_path / "other", "import", str(file), code=1)
    assert "12 new, 0 already there, 7 rejected" in ran.stdout
    assert "rejected line 13: role is missing" in ran.stderr
    assert "and 2 more" in ran.stderr
    assert len(store_of(tmp_path / "other")) == 12


@pytest.mark.soak
def test_unusable_replies_are_deleted_after_a_yes(home):
    with ReplyStore(home / "llm" / "replies.sqlite") as store:
        store.put(record(100, status="truncated", cost_usd=0.25))
        store.put_readings([ReadingRow(key(3), "v1", "unparsable", None, "no list")])
    command = [sys.executable, "-m", "opencs_assets.cli", "replies", "compact", "--drop-unusable"]

    def answered(answer: str, *words: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [*command, *words],
            input=answer,
            env=environment(home),
            capture_output=True,
            text=True,
            check=False,
        )

    for answer in ("n\n", ""):
        refused = answered(answer)
        assert refused.returncode == 1
        assert "Delete 3 replies that had cost $0.25" in refused.stderr
        assert len(store_of(home)) == 13
    agreed = answered("y\n", "--drop-raw", "--json")
    told = json.loads(agreed.stdout)
    assert (told["dropped_unusable"], told["dropped_raw"], told["replies"]) == (3, 10, 10)
    assert told["dropped_cost_usd"] > 0.25
    assert all(row["raw"] is None for row in store_of(home))
    with ReplyStore(home / "llm" / "replies.sqlite") as store:
        store.put(record(100, status="truncated", cost_usd=None))
    ran = done(home, "compact", "--drop-unusable", "--yes")
    assert "deleted 1 unusable replies, which had cost $0.0000 and 1 an unknown sum" in ran.stdout
    assert "deleted 0 unusable" in done(home, "compact", "--drop-unusable").stdout


def test_compacting_without_options_loses_nothing(home):
    before = store_of(home)
    told = json.loads(done(home, "compact", "--json").stdout)
    assert (told["replies"], told["dropped_raw"], told["dropped_unusable"]) == (12, 0, 0)
    assert 0 < told["bytes_after"] <= told["bytes_before"]
    assert store_of(home) == before


@pytest.mark.soak
@pytest.mark.e2e
def test_a_store_in_use_is_a_clear_failure(home):
    """Takes the busy timeout, half a minute."""
    writer = sqlite3.connect(home / "llm" / "replies.sqlite", isolation_level=None)
    writer.execute("begin immediate")
    said = done(home, "compact", code=1).stderr
    writer.close()
    assert "another process holds it" in " ".join(said.split())


def test_one_reply_is_shown_with_its_prompt(home):
    said, whole, unknown, short = several(
        home,
        [
            ("replies", "show", key(3)[:10]),
            ("replies", "show", key(2), "--json"),
            ("replies", "show", "0" * 9),
            ("replies", "show", "abc"),
        ],
    )
    assert [each.returncode for each in (said, whole, unknown, short)] == [0, 0, 1, 1]
    for words in ("tagger for open_tags", "run-1", "13 in (3 cached), 4 out", "secret", "täg 3"):
        assert words in said.stdout
    kept = json.loads(whole.stdout)
    assert kept["request"]["messages"] == [{"role": "user", "content": "secret"}]
    assert kept["readings"] == [
        {"prompt_version": "v1", "status": "ok", "value": ["a", 2], "detail": None}
    ]
    assert "no reply's id begins with" in unknown.stderr
    assert "8 or more characters" in short.stderr


def test_control_characters_reach_no_terminal_and_markup_is_text(home):
    with ReplyStore(home / "llm" / "replies.sqlite") as store:
        store.put(record(50, text="\x1b[31m[bold]red[/bold]\n" + "long " * 100 + "end"))
    said = done(home, "show", key(50)).stdout
    assert "\\x1b[31m[bold]red[/bold]\n" in said
    assert "long " * 100 + "end" in said


def test_an_ambiguous_beginning_lists_what_there_is(home):
    twin = key(3)[:63] + ("0" if key(3)[63] != "0" else "1")
    connection = sqlite3.connect(home / "llm" / "replies.sqlite")
    connection.execute("update replies set reply_id = ? where reply_id = ?", [twin, key(4)])
    connection.commit()
    lines = [("replies", "show", key(3)[:8], *more) for more in (("--json",), ())]
    listed, shown = several(home, lines)
    assert [listed.returncode, shown.returncode] == [2, 2]
    assert [row["reply_id"] for row in json.loads(listed.stdout)] == sorted([key(3), twin])
    assert "several ids" in listed.stderr
    assert key(3) in shown.stdout

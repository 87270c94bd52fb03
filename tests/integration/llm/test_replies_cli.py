"""``opencs replies``: real processes over real stores."""

import json
import sqlite3
import subprocess
import sys
from pathlib import Path

import pytest

from resources.llm.store import ReadingRow, ReplyStore
from tests.e2e.conftest import environment, opencs
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
    file = tmp_path / "out.jsonl"
    words = ("--dataset", "d", "--stage", "open_tags", "--since", "2020-01-01")
    assert "12 replies in" in done(home, "export", str(file), *words, "--without-requests").stdout
    assert "secret" not in file.read_text()
    assert "0 replies in" in done(home, "export", str(file), "--since", "2999-01-01").stdout
    assert "must end in" in done(home, "export", str(tmp_path / "out.csv"), code=1).stderr
    assert "does not match" in done(home, "export", str(file), "--since", "today", code=2).stderr


def test_rejected_rows_are_told_and_fail(home, tmp_path):
    file = tmp_path / "in.jsonl"
    done(home, "export", str(file))
    file.write_text(file.read_text() + '{"reply_id": "short"}\n' * 7)
    ran = done(tmp_path / "other", "import", str(file), code=1)
    assert "12 new, 0 already there, 7 rejected" in ran.stdout
    assert "rejected line 13: role is missing" in ran.stderr
    assert "and 2 more" in ran.stderr
    assert len(store_of(tmp_path / "other")) == 12


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


@pytest.mark.e2e
def test_a_store_in_use_is_a_clear_failure(home):
    """Takes the busy timeout, half a minute."""
    writer = sqlite3.connect(home / "llm" / "replies.sqlite", isolation_level=None)
    writer.execute("begin immediate")
    said = done(home, "compact", code=1).stderr
    writer.close()
    assert "another process holds it" in " ".join(said.split())


def test_one_reply_is_shown_with_its_prompt(home):
    said = done(home, "show", key(3)[:10]).stdout
    for words in ("tagger for open_tags", "run-1", "13 in (3 cached), 4 out", "secret", "täg 3"):
        assert words in said
    kept = json.loads(done(home, "show", key(2), "--json").stdout)
    assert kept["request"]["messages"] == [{"role": "user", "content": "secret"}]
    assert kept["readings"] == [
        {"prompt_version": "v1", "status": "ok", "value": ["a", 2], "detail": None}
    ]
    assert "no reply's id begins with" in done(home, "show", "0" * 9, code=1).stderr
    assert "8 or more characters" in done(home, "show", "abc", code=1).stderr


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
    ran = done(home, "show", key(3)[:8], "--json", code=2)
    assert [row["reply_id"] for row in json.loads(ran.stdout)] == sorted([key(3), twin])
    assert "several ids" in ran.stderr
    assert key(3) in done(home, "show", key(3)[:8], code=2).stdout

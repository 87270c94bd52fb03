import os
import subprocess
import sys

from resources import progress
from resources.progress import Reporter


def test_lines_at_tenths_where_nobody_watches(capfd, monkeypatch):
    monkeypatch.delenv("OPENCS_PROGRESS", raising=False)
    with Reporter("tags", 100) as bar:
        for _ in range(100):
            bar.advance()
    lines = capfd.readouterr().err.splitlines()
    assert len(lines) == 10
    assert lines[0].startswith("tags: 10/100")
    assert lines[0].endswith("left")
    assert "100/100" in lines[-1]
    assert "took" in lines[-1]


def test_a_line_comes_after_a_minute_too_when_a_tenth_takes_longer(capfd, monkeypatch):
    monkeypatch.delenv("OPENCS_PROGRESS", raising=False)
    monkeypatch.setattr(progress, "_LINE_EVERY_S", 0.0)
    with Reporter("training", 1000) as bar:
        bar.advance()
        assert "1/1000" in capfd.readouterr().err


def test_stored_and_failed_are_told(capfd):
    with Reporter("tags", 10) as bar:
        bar.advance(8, stored=8)
        bar.advance(2, failed=1)
    assert "10/10 · 8 stored · 1 failed" in capfd.readouterr().err


def test_a_note_stands_behind_the_count_and_its_unit_until_the_next_one(capfd):
    with Reporter("training", 10, unit="steps") as bar:
        for step in range(1, 11):
            bar.advance(note=f"loss {11 - step}.000" if step < 9 else "")
    lines = capfd.readouterr().err.splitlines()
    assert lines[0].startswith("training: 1/10 steps · loss 10.000")
    assert lines[-1].startswith("training: 10/10 steps · loss 3.000")


def test_nothing_to_do_says_nothing(capfd):
    logged: list[str] = []
    with Reporter("tags", 0, logged.append):
        pass
    assert capfd.readouterr().err == ""
    assert logged == []


def test_the_log_gets_few_lines_and_the_last(monkeypatch, capfd):
    now = [0.0]
    monkeypatch.setattr(progress.time, "monotonic", lambda: now[0])
    logged: list[str] = []
    with Reporter("tags", 100, logged.append) as bar:
        for _ in range(100):
            now[0] += 1.0
            bar.advance()
    assert [line.split()[1] for line in logged] == [
        "20/100",
        "40/100",
        "60/100",
        "80/100",
        "100/100",
    ]
    assert "1.0/s · 1 min 20 s left" in logged[0]


def test_an_interrupted_work_tells_where_it_stood(capfd):
    logged: list[str] = []
    try:
        with Reporter("tags", 100, logged.append) as bar:
            bar.advance(3)
            raise KeyboardInterrupt
    except KeyboardInterrupt:
        pass
    assert "3/100" in logged[-1]


def test_a_bar_where_it_is_asked_for():
    code = (
        "from resources.progress import Reporter\n"
        "with Reporter('tags', 4) as bar:\n"
        "    bar.advance(4, stored=1)\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", code],
        capture_output=True,
        text=True,
        env={**os.environ, "OPENCS_PROGRESS": "1", "COLUMNS": "120"},
        check=True,
    )
    # In a pipe, too, it is drawn anew in its line.
    assert "\x1b[2K" in done.stderr
    assert "━" in done.stderr
    assert "4/4 · 1 stored" in done.stderr

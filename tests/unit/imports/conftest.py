"""A home with a benchmark of its own under MT-Bench's ids, and one of single-turn questions."""

import json
import os
import shutil
from collections.abc import Callable, Iterable
from pathlib import Path
from types import SimpleNamespace

import polars as pl
import pytest

from opencs_assets.benchmarks.questions import read_benchmarks
from opencs_assets.imports.kept import keep
from opencs_assets.imports.options import ImportOptions
from opencs_assets.imports.reading import ImportedTables, read_imports

ASKED = {number: f"What is {number} plus one?" for number in range(1, 11)}


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    for name in list(os.environ):
        if name.startswith("OPENCS_"):
            monkeypatch.delenv(name)
    folder = tmp_path / "home" / "benchmarks"
    folder.mkdir(parents=True)
    two = [
        {
            "question_id": number,
            "category": "math" if number % 2 else "writing",
            "turns": [f"What is {number} plus one?", f"And {number} plus two?"],
        }
        for number in ASKED
    ]
    one = [{"question_id": f"s{number}", "prompt": f"Say {number}."} for number in ASKED]
    for name, rows in (("two", two), ("one", one)):
        (folder / f"{name}.jsonl").write_text("\n".join(map(json.dumps, rows)))
    return tmp_path / "home"


@pytest.fixture(scope="session")
def published_home(shared_data: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A home with the published benchmarks and nothing imported."""
    home = tmp_path_factory.mktemp("published")
    shutil.copytree(shared_data / "benchmarks", home / "benchmarks")
    return home


@pytest.fixture
def desk(home: Path, tmp_path: Path) -> SimpleNamespace:
    """Writes files, imports them into the home and reads all that was imported."""
    return make_desk(home, tmp_path / "files")


@pytest.fixture
def published_desk(published_home: Path, tmp_path: Path) -> SimpleNamespace:
    """The same for the published benchmarks, with a home of the test's own."""
    home = tmp_path / "home"
    home.mkdir()
    (home / "benchmarks").symlink_to(published_home / "benchmarks")
    return make_desk(home, tmp_path / "files")


def make_desk(home: Path, folder: Path) -> SimpleNamespace:
    folder.mkdir()

    def write(name: str, rows: Iterable[object] | bytes | str) -> Path:
        file = folder / name
        if isinstance(rows, bytes):
            file.write_bytes(rows)
        elif isinstance(rows, str):
            file.write_text(rows, encoding="utf-8")
        else:
            lines = [row if isinstance(row, str) else json.dumps(row) for row in rows]
            file.write_text("\n".join(lines) + "\n", encoding="utf-8")
        return file

    def take(file: Path, **options):
        return keep(home, file, ImportOptions(**options))

    def read() -> ImportedTables:
        return read_imports(home, read_benchmarks(home, {}))

    def imported(name: str, rows, **options) -> ImportedTables:
        take(write(name, rows), **options)
        return read()

    return SimpleNamespace(home=home, write=write, take=take, read=read, imported=imported)


@pytest.fixture
def score_row() -> Callable[..., dict]:
    """A row of a FastChat single file."""

    def row(number=1, turn=1, score=7, model="m", judge="gpt-4", **more) -> dict:
        prompt = "single-math-v1" if number % 2 else "single-v1"
        return {
            "question_id": number,
            "model": model,
            "judge": [judge, prompt + ("-multi-turn" if turn == 2 else "")],
            "user_prompt": f"Rate this.\n{ASKED.get(number, '')}\nIt is 3.",
            "judgment": f"Rating: [[{score}]]",
            "score": score,
            "turn": turn,
            "tstamp": 1.5,
            **more,
        }

    return row


@pytest.fixture
def reasons() -> Callable[[ImportedTables], list[tuple[int, str]]]:
    """Rejected rows as (row, reason)."""
    return lambda found: list(found.rejected.select("row", "reason").iter_rows())


@pytest.fixture
def states() -> Callable[[ImportedTables], list[str]]:
    """States in the order of the table."""
    return lambda found: found.verdicts["state"].to_list()


def only(frame: pl.DataFrame) -> dict:
    assert frame.height == 1
    return frame.row(0, named=True)

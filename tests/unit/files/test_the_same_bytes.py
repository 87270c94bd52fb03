"""The same bytes mean the same to all that read people's files.

Datasets and imports keep the rows that can be read and count the others with reason and place.
Pins, choices and benchmarks mean something only as a whole: there the first damaged row is an error
that names the same place.
"""

import gzip
import io
import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import polars as pl
import pytest

from opencs_assets.benchmarks.questions import BenchmarkFiles, read_benchmark
from opencs_assets.datasets.canonical import read_dataset
from opencs_assets.datasets.errors import DatasetError
from opencs_assets.files.reading import rows_of
from opencs_assets.files.rows import WHOLE_FILE, AcceptedFiles
from opencs_assets.imports.kept import keep
from opencs_assets.imports.options import ImportOptions
from opencs_assets.imports.reading import read_imports
from opencs_assets.imports.recognize import ACCEPTED
from opencs_assets.selection.pins import read_pins
from resources.errors import MendableError

Record = dict[str, str]
SAMPLE_IDS = [f"sample{number}0" for number in range(1, 5)]


class User(NamedTuple):
    """Who reads a file: rows that it takes, and how many good and which bad ones it makes of it."""

    rows: list[Record]
    read: Callable[[Path], tuple[int, list[tuple[int, str]]]]
    counts: bool = False


def samples(path: Path) -> tuple[int, list[tuple[int, str]]]:
    read = read_dataset(path)
    return read.samples.height, list(read.rejected.select("row", "reason").iter_rows())


def verdicts(path: Path) -> tuple[int, list[tuple[int, str]]]:
    home = path.parent / "home"
    keep(home, path, ImportOptions(benchmark="b", judge="j"))
    questions = pl.DataFrame(
        {
            "benchmark": ["b"] * 4,
            "question_id": ["1", "2", "3", "4"],
            "category": ["c"] * 4,
            "turns": [["Why?"]] * 4,
            "references": [[""]] * 4,
        }
    )
    read = read_imports(home, questions)
    return read.verdicts.height, list(read.rejected.select("row", "reason").iter_rows())


def pins(path: Path) -> tuple[int, list[tuple[int, str]]]:
    return len(read_pins(path, SAMPLE_IDS).keep), []


def questions(path: Path) -> tuple[int, list[tuple[int, str]]]:
    return read_benchmark(BenchmarkFiles("b", path)).height, []


def of_rows(*fields: Sequence[Any]) -> list[dict[str, Any]]:
    return [dict(zip(fields[0], row, strict=True)) for row in fields[1:]]


USERS = {
    "datasets": User(
        of_rows(("prompt", "completion"), ("caf", "x"), ("b", "y"), ("c", "z")),
        samples,
        counts=True,
    ),
    "imports": User(
        of_rows(
            ("question_id", "model", "score", "turn", "judge"),
            *[(number, name, 7, 1, "j") for number, name in ((1, "caf"), (2, "n"), (3, "o"))],
        ),
        verdicts,
        counts=True,
    ),
    "pins": User(
        of_rows(
            ("sample", "action", "reason"),
            *[
                (sample, "keep", reason)
                for sample, reason in zip(SAMPLE_IDS[:3], ("caf", "b", "c"), strict=True)
            ],
        ),
        pins,
    ),
    "benchmarks": User(
        of_rows(("question_id", "prompt"), (1, "caf"), (2, "b"), (3, "c")), questions
    ),
}


def as_csv(rows: list[Record]) -> bytes:
    return pl.DataFrame(rows).write_csv().encode()


def as_jsonl(rows: list[Record]) -> bytes:
    return "".join(json.dumps(row) + "\n" for row in rows).encode()


def as_json(rows: list[Record]) -> bytes:
    return json.dumps(rows, indent=1).encode()


def as_parquet(rows: list[Record]) -> bytes:
    file = io.BytesIO()
    pl.DataFrame(rows).write_parquet(file)
    return file.getvalue()


FORMS = {
    "datasets": (as_csv, as_jsonl, as_json),
    "imports": (as_csv, as_jsonl, as_json),
    "pins": (as_csv,),
    "benchmarks": (as_jsonl, as_json),
}


def last_line(edit: Callable[[bytes], bytes]) -> Callable[[bytes], bytes]:
    """Damages the file's last line."""

    def damaged(data: bytes) -> bytes:
        *lines, last = data.rstrip(b"\n").split(b"\n")
        return b"\n".join([*lines, edit(last)])

    return damaged


class Damage(NamedTuple):
    """A damage: what it does, to which forms, and the good and bad rows that are left of three."""

    do: Callable[[bytes], bytes]
    forms: Sequence[Callable[[list[Record]], bytes]]
    good: int
    bad: list[tuple[int, str]]
    says: str = ""


ALL = (as_csv, as_jsonl, as_json)
DAMAGES = {
    "nothing": Damage(bytes, ALL, 3, []),
    "gzip": Damage(gzip.compress, ALL, 3, []),
    "byte order mark": Damage(lambda data: b"\xef\xbb\xbf" + data, ALL, 3, []),
    "UTF-16": Damage(lambda data: data.decode().encode("utf-16"), ALL, 3, []),
    "Windows line ends": Damage(lambda data: data.replace(b"\n", b"\r\n"), ALL, 3, []),
    "blank lines": Damage(lambda data: b"\n\n" + data.replace(b"\n", b"\n\n"), ALL, 3, []),
    "a gzip without its end": Damage(
        lambda data: gzip.compress(data)[:-6],
        ALL,
        3,
        [(WHOLE_FILE, "cut_file")],
        "gzip data is broken",
    ),
    "a UTF-16 without its end": Damage(
        lambda data: data.decode().encode("utf-16") + b"\n",
        ALL,
        3,
        [(WHOLE_FILE, "cut_file")],
        "UTF-16",
    ),
    "latin-1": Damage(
        lambda data: data.replace(b"caf", "café".encode("latin-1")),
        ALL,
        2,
        [(0, "bad_encoding")],
        "not UTF-8",
    ),
    "cp1252": Damage(
        lambda data: data.replace(b"caf", "caf€".encode("cp1252")),
        ALL,
        2,
        [(0, "bad_encoding")],
        "not UTF-8",
    ),
    "a cut array": Damage(lambda data: data[:-12], [as_json], 2, [(2, "broken_json")], "breaks"),
    "a cut line": Damage(
        lambda data: data[:-7], [as_jsonl], 2, [(2, "broken_json")], "line 3, column"
    ),
    "a short row": Damage(
        last_line(lambda line: line.rsplit(b",", 1)[0]),
        [as_csv],
        2,
        [(2, "broken_csv")],
        "line 4 has",
    ),
    "a long row": Damage(
        last_line(lambda line: line + b",surplus"), [as_csv], 2, [(2, "broken_csv")], "line 4 has"
    ),
    "separators behind a row": Damage(last_line(lambda line: line + b",,"), [as_csv], 3, []),
    "a record of nothing": Damage(lambda data: data + b",,,,\n", [as_csv], 3, []),
    "a quote that is not closed": Damage(
        last_line(lambda line: b'"' + line), [as_csv], 2, [(2, "broken_csv")], "line 4: "
    ),
    "a row of NUL bytes": Damage(
        last_line(lambda line: bytes(len(line))),
        [as_csv, as_jsonl],
        2,
        [(2, "bad_encoding")],
        "line ",
    ),
    "a list for a row": Damage(
        lambda data: data + b"[1]\n", [as_jsonl], 3, [(3, "not_an_object")], "line 4: it is a"
    ),
}


@pytest.mark.parametrize("name", USERS)
@pytest.mark.parametrize("damage", DAMAGES)
def test_damaged_bytes_give_the_same_rows_and_the_same_rejections_to_all(
    tmp_path: Path, name: str, damage: str
) -> None:
    user, case = USERS[name], DAMAGES[damage]
    forms = [form for form in case.forms if form in FORMS[name]]
    for form in forms:
        folder = tmp_path / form.__name__
        folder.mkdir()
        path = folder / "file"
        path.write_bytes(case.do(form(user.rows)))
        if user.counts or not case.bad:
            assert user.read(path) == (case.good, case.bad), form
        else:
            with pytest.raises(MendableError, match=case.says) as error:
                user.read(path)
            assert str(path) in str(error.value)


def absent(path: Path) -> None:
    """Leaves nothing at the path."""


def holding(data: bytes) -> Callable[[Path], Any]:
    return lambda path: path.write_bytes(data)


@pytest.mark.parametrize("name", USERS)
@pytest.mark.parametrize(
    ("make", "says"),
    [
        (holding(b""), r"is empty \(0 bytes\)"),
        (holding(b" \n\n"), "nothing but white space"),
        (holding(b"\xef\xbb\xbf"), "nothing but white space"),
        (holding(b"\x1f\x8bnot gzip"), "gzip data is broken after 0"),
        (holding(b"\x89PNG\r\n\x1a\n" + bytes(50)), "it is a PNG image"),
        (holding(b"PK\x03\x04rest"), "it is a zip archive"),
        (holding(b"<!DOCTYPE html>\n<html></html>"), "it is an HTML or XML page"),
        (holding(bytes(100)), "it is binary data"),
        (holding(b"caf\xe9,b\n1,2\n"), "not UTF-8|nor a CSV|neither|columns must be"),
        (Path.mkdir, r"can't be read \(Is a directory\)"),
        (absent, "No such file"),
    ],
)
def test_what_can_not_be_read_at_all_is_one_clear_error_for_all(
    tmp_path: Path, name: str, make: Callable[[Path], Any], says: str
) -> None:
    path = tmp_path / "file"
    make(path)
    if name == "pins" and make is absent:
        assert USERS[name].read(path) == (0, [])
        return
    with pytest.raises(MendableError, match=says) as error:
        USERS[name].read(path)
    assert str(path) in str(error.value)


@pytest.mark.parametrize("name", USERS)
def test_parquet_is_read_where_a_user_names_its_columns_and_refused_by_its_name_elsewhere(
    tmp_path: Path, name: str
) -> None:
    path = tmp_path / "file"
    for pack in (bytes, gzip.compress):
        path.write_bytes(pack(as_parquet(USERS[name].rows)))
        if name == "datasets":
            assert USERS[name].read(path) == (3, [])
        else:
            with pytest.raises(MendableError, match="it is a Parquet file"):
                USERS[name].read(path)


def test_a_gzip_that_unpacks_to_more_than_is_allowed_is_refused() -> None:
    data = gzip.compress(as_jsonl(USERS["datasets"].rows * 100))
    accepted = AcceptedFiles(DatasetError, most_unpacked=1000)
    with pytest.raises(DatasetError, match="unpacks to too many bytes"):
        list(rows_of(io.BufferedReader(io.BytesIO(data)), "a.gz", accepted).rows)
    assert ACCEPTED.most_unpacked == 2 << 30

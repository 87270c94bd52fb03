"""The same bytes mean the same to all that read people's files.

Datasets and imports keep the rows that can be read and count the others with reason and place.
Pins, choices and benchmarks mean something only as a whole: there the first damaged row is an error
that names the same place.
"""

import gzip
import io
import json
from pathlib import Path

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
from opencs_assets.tables.benchmarks import BENCHMARK_QUESTIONS
from resources.errors import MendableError
from tests.unit.rows import filled

SAMPLE_IDS = [f"sample{number}0" for number in range(1, 5)]


def samples(path):
    read = read_dataset(path)
    return read.samples.height, read.rejected.select("row", "reason").rows()


def verdicts(path):
    home = path.parent / "home"
    keep(home, path, ImportOptions(benchmark="b", judge="j"))
    asked = {"benchmark": "b", "question_id": list("1234"), "turns": [["Why?"]] * 4}
    lists = pl.DataFrame(asked | {"references": [[""]] * 4})
    read = read_imports(home, filled(BENCHMARK_QUESTIONS, lists))
    return read.verdicts.height, read.rejected.select("row", "reason").rows()


def pins(path):
    return len(read_pins(path, SAMPLE_IDS).keep), []


def questions(path):
    return read_benchmark(BenchmarkFiles("b", path)).height, []


def of_rows(*fields):
    return [dict(zip(fields[0], row, strict=True)) for row in fields[1:]]


# Who reads a file, with three rows that it takes. The readings give the number of good rows and the
# bad ones; only the first two users count bad rows.
USERS = {
    "datasets": (samples, of_rows(("prompt", "completion"), ("caf", "x"), ("b", "y"), ("c", "z"))),
    "imports": (
        verdicts,
        of_rows(
            ("question_id", "model", "score", "turn", "judge"),
            *[(number, name, 7, 1, "j") for number, name in ((1, "caf"), (2, "n"), (3, "o"))],
        ),
    ),
    "pins": (
        pins,
        of_rows(
            ("sample", "action", "reason"),
            *[(SAMPLE_IDS[at], "keep", reason) for at, reason in enumerate(("caf", "b", "c"))],
        ),
    ),
    "benchmarks": (
        questions,
        of_rows(("question_id", "prompt"), (1, "caf"), (2, "b"), (3, "c")),
    ),
}
COUNTING = ("datasets", "imports")


def as_csv(rows):
    return pl.DataFrame(rows).write_csv().encode()


def as_jsonl(rows):
    return "".join(json.dumps(row) + "\n" for row in rows).encode()


def as_json(rows):
    return json.dumps(rows, indent=1).encode()


def as_parquet(rows):
    file = io.BytesIO()
    pl.DataFrame(rows).write_parquet(file)
    return file.getvalue()


ALL = (as_csv, as_jsonl, as_json)
FORMS = dict.fromkeys(COUNTING, ALL) | {"pins": (as_csv,), "benchmarks": (as_jsonl, as_json)}


def last_line(edit):
    """Damages the file's last line."""

    def damaged(data):
        *lines, last = data.rstrip(b"\n").split(b"\n")
        return b"\n".join([*lines, edit(last)])

    return damaged


def utf16(data):
    return data.decode().encode("utf-16")


def accented(text, encoding):
    return lambda data: data.replace(b"caf", text.encode(encoding))


CUT = [(WHOLE_FILE, "cut_file")]
BROKEN = [(2, "broken_csv")]
CSV, JSONL = (as_csv,), (as_jsonl,)
# What a damage does to which forms; the good and the bad rows that are left of three; and what an
# error says of it.
DAMAGES = {
    "nothing": (bytes, ALL, 3, [], ""),
    "gzip": (gzip.compress, ALL, 3, [], ""),
    "byte order mark": (lambda data: b"\xef\xbb\xbf" + data, ALL, 3, [], ""),
    "UTF-16": (utf16, ALL, 3, [], ""),
    "Windows line ends": (lambda data: data.replace(b"\n", b"\r\n"), ALL, 3, [], ""),
    "blank lines": (lambda data: b"\n\n" + data.replace(b"\n", b"\n\n"), ALL, 3, [], ""),
    "a cut gzip": (lambda data: gzip.compress(data)[:-6], ALL, 3, CUT, "gzip data is broken"),
    "a cut UTF-16": (lambda data: utf16(data) + b"\n", ALL, 3, CUT, "UTF-16"),
    "latin-1": (accented("café", "latin-1"), ALL, 2, [(0, "bad_encoding")], "not UTF-8"),
    "cp1252": (accented("caf€", "cp1252"), ALL, 2, [(0, "bad_encoding")], "not UTF-8"),
    "a cut array": (lambda data: data[:-12], (as_json,), 2, [(2, "broken_json")], "breaks"),
    "a cut line": (lambda data: data[:-7], JSONL, 2, [(2, "broken_json")], "line 3, column"),
    "a short row": (last_line(lambda line: line.rsplit(b",", 1)[0]), CSV, 2, BROKEN, "line 4 has"),
    "a long row": (last_line(lambda line: line + b",surplus"), CSV, 2, BROKEN, "line 4 has"),
    "separators behind a row": (last_line(lambda line: line + b",,"), CSV, 3, [], ""),
    "a record of nothing": (lambda data: data + b",,,,\n", CSV, 3, [], ""),
    "an open quote": (last_line(lambda line: b'"' + line), CSV, 2, BROKEN, "line 4: "),
    "a row of NUL bytes": (
        last_line(lambda line: bytes(len(line))),
        (as_csv, as_jsonl),
        2,
        [(2, "bad_encoding")],
        "line ",
    ),
    "a list for a row": (
        lambda data: data + b"[1]\n",
        JSONL,
        3,
        [(3, "not_an_object")],
        "line 4: it is a",
    ),
}


@pytest.mark.parametrize("name", USERS)
@pytest.mark.parametrize("damage", DAMAGES)
def test_damaged_bytes_give_the_same_rows_and_the_same_rejections_to_all(tmp_path, name, damage):
    (read, rows), (change, forms, good, bad, says) = USERS[name], DAMAGES[damage]
    for form in set(forms) & set(FORMS[name]):
        path = tmp_path / form.__name__ / "file"
        path.parent.mkdir()
        path.write_bytes(change(form(rows)))
        if name in COUNTING or not bad:
            assert read(path) == (good, bad), form
        else:
            with pytest.raises(MendableError, match=says) as error:
                read(path)
            assert str(path) in str(error.value)


@pytest.mark.parametrize("name", USERS)
@pytest.mark.parametrize(
    ("content", "says"),
    [
        (b"", r"is empty \(0 bytes\)"),
        (b" \n\n", "nothing but white space"),
        (b"\xef\xbb\xbf", "nothing but white space"),
        (gzip.compress(b"", mtime=0), "nothing but white space"),
        (b"\x1f\x8bnot gzip", "gzip data is broken after 0"),
        (b"\x89PNG\r\n\x1a\n" + bytes(50), "it is a PNG image"),
        (b"\xff\xd8\xff\xe0" + bytes(50), "it is a JPEG image"),
        (b"%PDF-1.7\n", "it is a PDF"),
        (b"PK\x03\x04rest", "it is a zip archive"),
        (b"<!DOCTYPE html>\n<html></html>", "it is an HTML or XML page"),
        (bytes(100), "it is binary data"),
        (b"caf\xe9,b\n1,2\n", "not UTF-8|nor a CSV|neither|columns must be"),
        (Path.mkdir, r"can't be read \(Is a directory\)"),
        (None, "No such file"),
    ],
)
def test_what_can_not_be_read_at_all_is_one_clear_error_for_all(tmp_path, name, content, says):
    path, (read, _) = tmp_path / "file", USERS[name]
    if isinstance(content, bytes):
        path.write_bytes(content)
    elif content:
        content(path)
    elif name == "pins":
        assert read(path) == (0, [])
        return
    with pytest.raises(MendableError, match=says) as error:
        read(path)
    assert str(path) in str(error.value)


@pytest.mark.parametrize("name", USERS)
@pytest.mark.parametrize("pack", [bytes, gzip.compress])
def test_parquet_is_read_where_a_user_names_its_columns_and_refused_by_its_name_elsewhere(
    tmp_path, name, pack
):
    path, (read, rows) = tmp_path / "file", USERS[name]
    path.write_bytes(pack(as_parquet(rows)))
    if name == "datasets":
        assert read(path) == (3, [])
    else:
        with pytest.raises(MendableError, match="it is a Parquet file"):
            read(path)


def raw_rows(data, **accepted):
    """The rows of some bytes, for a user without columns of its own."""
    file = io.BufferedReader(io.BytesIO(data))
    return list(rows_of(file, "file", AcceptedFiles(DatasetError, **accepted)).rows)


@pytest.mark.parametrize(
    ("data", "rows"),
    [
        # Of several lists, the rows are the only one of objects.
        (b'{"none": [], "n": [1], "data": [{"a": 1}]}', [(0, None, None)]),
        (b'{"n": [1], "m": [2]}', None),
        (b'{"data": []}', []),
        (b'{"a": 1}', [(0, 1, None)]),
        (
            b'[{"a": "\\ud83d"}, {"a": "\\ud83d\\ude00"}]',
            [(0, None, "bad_encoding"), (1, None, None)],
        ),
        (
            b'[{"a": "\\udc00"}, 7,\n{"a": 1},\n{"a',
            [
                (0, None, "bad_encoding"),
                (1, None, "not_an_object"),
                (2, None, None),
                (3, 3, "broken_json"),
            ],
        ),
        (b'{"x": {"y": [{}]}, "data": [{"a": 1} {', [(0, None, None), (1, 1, "broken_json")]),
        # A broken row with a list of its own is no list of rows.
        (b'{"turns": [{"a": 1}, {', None),
        (b'{"a": 1}\n\n[1]\n{', [(0, 1, None), (1, 3, "not_an_object"), (2, 4, "broken_json")]),
        (b'oops\n{"a": 1}\n{"a": 2}\n', [(0, 1, "broken_json"), (1, 2, None), (2, 3, None)]),
        (b'a,b\n1,2\n"x\n\ny",3\n4\n', [(0, 2, None), (1, 3, None), (2, 6, "broken_csv")]),
        (b"a;b;c,d\n1;2;3\n", [(0, 2, None)]),
        (b"a\rb\n", None),
        (b"a,a\n1,2\n", None),
        (b'a,b\n1,2,""\n1,2,3\n', [(0, 2, None), (1, 3, "broken_csv")]),
    ],
)
def test_rows_with_their_places_and_problems(data, rows):
    if rows is None:
        with pytest.raises(DatasetError, match="file"):
            raw_rows(data, markers=["turns"])
    else:
        assert [
            (raw.row, raw.line, raw.problem and raw.problem.reason)
            for raw in raw_rows(data, markers=["turns"])
        ] == rows


def test_columns_that_are_read_are_known_in_any_writing():
    (row,) = raw_rows(b' a , B ,C\n1,2,""\n', markers=["b"], columns=["a", "b"])
    assert row.value == {"a": "1", "b": "2", "C": ""}


def test_a_gzip_that_unpacks_to_more_than_is_allowed_is_refused():
    lines = as_jsonl([{"a": "b"}] * 100)
    assert len(raw_rows(gzip.compress(lines), most_unpacked=len(lines))) == 100
    with pytest.raises(DatasetError, match="unpacks to too many bytes"):
        raw_rows(gzip.compress(lines), most_unpacked=len(lines) - 1)
    assert ACCEPTED.most_unpacked == 2 << 30

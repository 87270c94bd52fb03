import gzip
import io
import json

import polars as pl
import pytest

from opencs_assets.datasets.canonical import read_dataset
from opencs_assets.datasets.errors import DatasetError

ALPACA = [
    {"instruction": "Add.", "input": "1, 2", "output": "3"},
    {"instruction": 'Say "hi", please.', "input": "", "output": "hi\nthere"},
    {"instruction": "Übersetze: 日本", "input": "", "output": "Japan"},
]


def as_json(rows):
    return json.dumps(rows, indent=2).encode()


def as_jsonl(rows):
    return "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows).encode()


def as_csv(rows, separator=","):
    return pl.DataFrame(rows).write_csv(separator=separator).encode()


def as_parquet(rows):
    file = io.BytesIO()
    pl.DataFrame(rows).write_parquet(file)
    return file.getvalue()


WAYS = {
    "json": as_json,
    "json in a line": lambda rows: json.dumps(rows).encode(),
    "json among other fields": lambda rows: json.dumps({"version": 1, "data": rows}).encode(),
    "jsonl": as_jsonl,
    "jsonl utf-8-sig": lambda rows: as_jsonl(rows).decode().encode("utf-8-sig"),
    "jsonl utf-16": lambda rows: as_jsonl(rows).decode().encode("utf-16"),
    "csv": as_csv,
    "csv with ;": lambda rows: as_csv(rows, ";"),
    "csv with tabs": lambda rows: as_csv(rows, "\t"),
    "parquet": as_parquet,
}


def read(folder, data, name="data.bin", **options):
    file = folder / name
    file.write_bytes(data)
    return read_dataset(file, **options)


@pytest.mark.parametrize("pack", [bytes, gzip.compress], ids=["plain", "gzip"])
@pytest.mark.parametrize("name", ["data.json", "data.csv", "data.parquet", "data"])
@pytest.mark.parametrize("way", WAYS)
def test_containers_and_encodings_are_recognized_by_content(tmp_path, way, name, pack):
    dataset = read(tmp_path, pack(WAYS[way](ALPACA)), name)
    container, _, encoding = way.partition(" ")
    assert dataset.container == container + ("+gzip" if pack is gzip.compress else "")
    usual = "binary" if way == "parquet" else "utf-8"
    assert dataset.encoding == (encoding if encoding.startswith("utf") else usual)
    assert dataset.samples["instruction"].to_list() == [
        "Add.\n\n1, 2",
        'Say "hi", please.',
        "Übersetze: 日本",
    ]
    assert dataset.samples["response"].to_list() == ["3", "hi\nthere", "Japan"]
    assert (dataset.rows, dataset.rejected.height) == (3, 0)


def test_a_jsonl_file_of_one_row(tmp_path):
    dataset = read(tmp_path, as_jsonl(ALPACA[:1]), "one.jsonl")
    assert (dataset.container, dataset.rows) == ("jsonl", 1)


def test_csv_and_parquet_columns_with_conversations(tmp_path):
    messages = [{"role": "user", "content": "Hi"}, {"role": "assistant", "content": "Hello"}]
    csv_file = read(tmp_path, as_csv([{"id": 1, "messages": json.dumps(messages)}]))
    parquet_file = read(tmp_path, as_parquet([{"id": 1, "messages": messages}]))
    assert csv_file.samples.equals(parquet_file.samples)
    assert csv_file.samples["source_format"].to_list() == ["openai"]


def test_table_with_columns_of_several_shapes(tmp_path):
    rows = [
        {"instruction": "a", "output": "1", "prompt": None, "completion": None},
        {"instruction": None, "output": None, "prompt": "b", "completion": "2"},
    ]
    for write in (as_csv, as_parquet):
        dataset = read(tmp_path, write(rows))
        assert dataset.samples["source_format"].to_list() == ["alpaca", "prompt_completion"]


def test_broken_jsonl_lines_are_named_and_the_rest_is_kept(tmp_path):
    good = as_jsonl(ALPACA).splitlines(keepends=True)
    data = good[0] + b'{"instruction": "cut\n' + b"\n" + good[1] + b"[1]\n42\n" + good[2]
    for name in ("data.jsonl", "data.json"):
        dataset = read(tmp_path, data, name)
        assert dataset.samples["row"].to_list() == [0, 2, 5]
        assert dataset.rejected.select("row", "line", "reason").rows() == [
            (1, 2, "broken_json"),
            (3, 5, "not_an_object"),
            (4, 6, "not_an_object"),
        ]
        assert dataset.rejected["detail"][0].startswith("line 2, column 17: Unterminated string")
        assert dataset.rejected["excerpt"][0] == '{"instruction": "cut'


def test_unicode_line_separators_do_not_end_a_jsonl_line(tmp_path):
    rows = [{"instruction": "a\u2028b\x85c", "output": "1"}, {"instruction": "d", "output": "2"}]
    assert read(tmp_path, as_jsonl(rows)).samples["instruction"][0] == "a\u2028b\x85c"


def test_bytes_that_are_no_utf8_cost_their_line_only(tmp_path):
    bad = '{"instruction": "caf\xe9", "output": "1"}\n'.encode("latin-1")
    dataset = read(tmp_path, as_jsonl(ALPACA) + bad, "data.jsonl")
    assert dataset.samples.height == 3
    assert dataset.rejected.select("row", "line", "reason").rows() == [(3, 4, "bad_encoding")]
    assert dataset.rejected["detail"].to_list() == ["line 4, byte 21 is not UTF-8"]

    csv_data = b"prompt,completion\na,b\ncaf\xe9,c\nd,e\n"
    dataset = read(tmp_path, csv_data, "data.csv")
    assert dataset.samples["instruction"].to_list() == ["a", "d"]
    assert dataset.rejected.select("row", "line", "reason").rows() == [(1, 3, "bad_encoding")]


def test_csv_field_over_the_csv_modules_own_limit(tmp_path):
    dataset = read(tmp_path, b"prompt,completion\na," + b"x" * 200_000 + b"\n")
    assert len(dataset.samples["response"][0]) == 200_000


def test_numbers_deeper_or_longer_than_python_reads_cost_their_line_only(tmp_path):
    deep = b'{"prompt": ' + b"[" * 100_000 + b"\n"
    long = b'{"prompt": ' + b"9" * 5_000 + b"}\n"
    dataset = read(tmp_path, as_jsonl(ALPACA) + deep + long, "data.jsonl")
    assert dataset.rejected["reason"].to_list() == ["broken_json", "broken_json"]


@pytest.mark.parametrize("write", [as_json, as_jsonl, as_csv, as_parquet])
@pytest.mark.parametrize("limit", [1, 2])
def test_limit_reads_the_first_rows(tmp_path, write, limit):
    dataset = read(tmp_path, write(ALPACA), limit=limit)
    assert (dataset.rows, dataset.samples["row"].to_list()) == (limit, list(range(limit)))
    with pytest.raises(ValueError, match="at least 1"):
        read(tmp_path, write(ALPACA), limit=0)


def test_a_header_that_names_a_column_twice_is_refused_where_it_is_read(tmp_path):
    with pytest.raises(DatasetError, match="names 'prompt' more than once"):
        read(tmp_path, b"prompt,Prompt,completion\na,b,c\n")
    assert read(tmp_path, b"id,id,prompt,completion\n1,2,a,b\n").samples.height == 1


@pytest.mark.parametrize(
    ("data", "name", "message"),
    [
        (gzip.compress(b"", mtime=0), "a.json.gz", "is empty"),
        (b'{"data": [1', "a.json", "broken JSON at line 1, column 12"),
        (b"[" * 100_000, "a.json", "can't be read"),
        (b"[]", "a.json", "has no rows"),
        (b"{}", "a.json", "unknown_shape 1"),
        (b'{"a": [1], "b": [2]}', "a.json", "lists found: `a`, `b`"),
        (b"42", "a.json", "a JSON int, not rows"),
        (b"[1, 2]", "a.json", r"none of 2 rows can be used \(not_an_object 2\)\. The first: it is"),
        (b'[{"text": "x"}]', "a.json", "unknown_shape 1"),
        (b'{"prompt": "x"}\n{"prompt": ""}\n', "a.jsonl", "no_response 1, no_instruction 1"),
        ('[{"prompt": "é"}]'.encode("latin-1"), "a.json", r"bad_encoding 1.*iconv"),
        ("[1, 2]".encode("utf-16")[:-1], "a.json", "ends in the middle of a character"),
        (b"hello world\n", "a.txt", "neither JSON, JSONL, Parquet nor a CSV"),
        (b"question,answer\na,b\n", "a.csv", "A CSV needs a header"),
        (b"prompt,completion\n", "a.csv", "has no rows"),
        (b"PAR1 but not really", "a.parquet", "broken Parquet"),
        (as_parquet([{"text": "x"}]), "a.parquet", "columns found: `text`"),
        (gzip.compress(as_json(ALPACA), mtime=0)[:60], "a.json.gz", "gzip data is broken"),
    ],
)
def test_files_that_cannot_be_used(tmp_path, data, name, message):
    with pytest.raises(DatasetError, match=f"(?s){name}: .*{message}"):
        read(tmp_path, data, name)

import gzip
import io
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import polars as pl
import pytest

from opencs_assets.datasets.canonical import DatasetRead, read_dataset
from opencs_assets.datasets.errors import DatasetError

Rows = list[dict[str, Any]]
ALPACA: Rows = [
    {"instruction": "Add.", "input": "1, 2", "output": "3"},
    {"instruction": 'Say "hi", please.', "input": "", "output": "hi\nthere"},
    {"instruction": "Übersetze: 日本", "input": "", "output": "Japan"},
]


def as_json(rows: Rows) -> bytes:
    return json.dumps(rows, indent=2).encode()


def as_json_line(rows: Rows) -> bytes:
    return json.dumps(rows).encode()


def as_object(rows: Rows) -> bytes:
    return json.dumps({"version": 1, "data": rows}).encode()


def as_jsonl(rows: Rows) -> bytes:
    return "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows).encode()


def as_csv(rows: Rows) -> bytes:
    return pl.DataFrame(rows).write_csv().encode()


def as_parquet(rows: Rows) -> bytes:
    file = io.BytesIO()
    pl.DataFrame(rows).write_parquet(file)
    return file.getvalue()


def read(folder: Path, data: bytes, name: str = "data.bin", **options: Any) -> DatasetRead:
    file = folder / name
    file.write_bytes(data)
    return read_dataset(file, **options)


@pytest.mark.parametrize("pack", [bytes, gzip.compress], ids=["plain", "gzip"])
@pytest.mark.parametrize("name", ["data.json", "data.jsonl", "data.csv", "data.parquet", "data"])
@pytest.mark.parametrize(
    ("write", "container"),
    [
        (as_json, "json"),
        (as_json_line, "json"),
        (as_object, "json"),
        (as_jsonl, "jsonl"),
        (as_csv, "csv"),
        (as_parquet, "parquet"),
    ],
)
def test_containers_are_recognized_by_content(
    tmp_path: Path,
    write: Callable[[Rows], bytes],
    container: str,
    name: str,
    pack: Callable[[bytes], bytes],
) -> None:
    found = read(tmp_path, pack(write(ALPACA)), name)
    assert found.container == container + ("+gzip" if pack is gzip.compress else "")
    assert found.samples["instruction"].to_list() == [
        "Add.\n\n1, 2",
        'Say "hi", please.',
        "Übersetze: 日本",
    ]
    assert found.samples["response"].to_list() == ["3", "hi\nthere", "Japan"]
    assert (found.rows, found.rejected.height) == (3, 0)


@pytest.mark.parametrize("write", [as_json, as_jsonl, as_csv])
@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16"])
def test_encodings_by_byte_order_mark(
    tmp_path: Path, write: Callable[[Rows], bytes], encoding: str
) -> None:
    found = read(tmp_path, write(ALPACA).decode().encode(encoding))
    assert found.encoding == encoding
    assert found.samples["instruction"][2] == "Übersetze: 日本"


def test_a_jsonl_file_of_one_row(tmp_path: Path) -> None:
    found = read(tmp_path, as_jsonl(ALPACA[:1]), "one.jsonl")
    assert (found.container, found.rows) == ("jsonl", 1)


@pytest.mark.parametrize("delimiter", [";", "\t"])
def test_other_delimiters(tmp_path: Path, delimiter: str) -> None:
    data = pl.DataFrame(ALPACA).write_csv(separator=delimiter).encode()
    assert read(tmp_path, data).samples["response"].to_list() == ["3", "hi\nthere", "Japan"]


def test_csv_and_parquet_columns_with_conversations(tmp_path: Path) -> None:
    messages = [{"role": "user", "content": "Hi"}, {"role": "assistant", "content": "Hello"}]
    csv_file = read(tmp_path, as_csv([{"id": 1, "messages": json.dumps(messages)}]))
    parquet_file = read(tmp_path, as_parquet([{"id": 1, "messages": messages}]))
    assert csv_file.samples.equals(parquet_file.samples)
    assert csv_file.samples["source_format"].to_list() == ["openai"]


def test_table_with_columns_of_several_shapes(tmp_path: Path) -> None:
    rows = [
        {"instruction": "a", "output": "1", "prompt": None, "completion": None},
        {"instruction": None, "output": None, "prompt": "b", "completion": "2"},
    ]
    for write in (as_csv, as_parquet):
        found = read(tmp_path, write(rows))
        assert found.samples["source_format"].to_list() == ["alpaca", "prompt_completion"]


def test_broken_jsonl_lines_are_named_and_the_rest_is_kept(tmp_path: Path) -> None:
    good = as_jsonl(ALPACA).splitlines(keepends=True)
    data = good[0] + b'{"instruction": "cut\n' + b"\n" + good[1] + b"[1]\n42\n" + good[2]
    for name in ("data.jsonl", "data.json"):
        found = read(tmp_path, data, name)
        assert found.samples["row"].to_list() == [0, 2, 5]
        assert found.rejected.select("row", "line", "reason").rows() == [
            (1, 2, "broken_json"),
            (3, 5, "not_an_object"),
            (4, 6, "not_an_object"),
        ]
        assert found.rejected["detail"][0].startswith("line 2, column 17: Unterminated string")
        assert found.rejected["excerpt"][0] == '{"instruction": "cut'


def test_jsonl_whose_first_line_is_broken(tmp_path: Path) -> None:
    found = read(tmp_path, b"oops\n" + as_jsonl(ALPACA), "data.jsonl")
    assert found.rejected["line"].to_list() == [1]
    assert found.samples.height == 3


def test_unicode_line_separators_do_not_end_a_jsonl_line(tmp_path: Path) -> None:
    rows = [{"instruction": "a\u2028b\x85c", "output": "1"}, {"instruction": "d", "output": "2"}]
    assert read(tmp_path, as_jsonl(rows)).samples["instruction"][0] == "a\u2028b\x85c"


def test_bytes_that_are_no_utf8_cost_their_line_only(tmp_path: Path) -> None:
    bad = '{"instruction": "caf\xe9", "output": "1"}\n'.encode("latin-1")
    found = read(tmp_path, as_jsonl(ALPACA) + bad, "data.jsonl")
    assert found.samples.height == 3
    assert found.rejected.select("row", "line", "reason").rows() == [(3, 4, "bad_encoding")]
    assert found.rejected["detail"].to_list() == ["line 4, byte 21 is not UTF-8"]

    csv_data = b"prompt,completion\na,b\ncaf\xe9,c\nd,e\n"
    found = read(tmp_path, csv_data, "data.csv")
    assert found.samples["instruction"].to_list() == ["a", "d"]
    assert found.rejected.select("row", "line", "reason").rows() == [(1, 3, "bad_encoding")]


def test_half_a_surrogate_pair_is_rejected(tmp_path: Path) -> None:
    data = b'{"prompt": "a", "completion": "\\ud83d"}\n{"prompt": "a", "completion": "b"}\n'
    found = read(tmp_path, data)
    assert found.rejected["reason"].to_list() == ["bad_encoding"]
    assert found.rejected["excerpt"][0].startswith('{"prompt"')


def test_half_a_surrogate_pair_in_a_json_document(tmp_path: Path) -> None:
    data = b'[{"prompt": "\\ud83d", "completion": 1}, {"prompt": "a", "completion": "b"}]'
    assert read(tmp_path, data).rejected["reason"].to_list() == ["bad_encoding"]


def test_csv_lines_are_counted_over_line_breaks_in_fields(tmp_path: Path) -> None:
    data = b'prompt,completion\n"a\n\nb",c\n\nd,\ne,f,surplus\ng,h,\n'
    found = read(tmp_path, data)
    assert found.samples["instruction"].to_list() == ["a\n\nb", "g"]
    assert found.rejected.select("row", "line", "reason").rows() == [
        (1, 6, "no_response"),
        (2, 7, "broken_csv"),
    ]


def test_csv_with_a_quote_that_is_never_closed(tmp_path: Path) -> None:
    found = read(tmp_path, b'prompt,completion\na,b\n"c,d\ne,f\n')
    assert found.rejected.select("line", "reason").rows() == [(3, "broken_csv")]
    assert found.rows == 2


def test_csv_field_over_the_csv_modules_own_limit(tmp_path: Path) -> None:
    found = read(tmp_path, b"prompt,completion\na," + b"x" * 200_000 + b"\n")
    assert len(found.samples["response"][0]) == 200_000


def test_numbers_deeper_or_longer_than_python_reads_cost_their_line_only(tmp_path: Path) -> None:
    deep = b'{"prompt": ' + b"[" * 100_000 + b"\n"
    long = b'{"prompt": ' + b"9" * 5_000 + b"}\n"
    found = read(tmp_path, as_jsonl(ALPACA) + deep + long, "data.jsonl")
    assert found.rejected["reason"].to_list() == ["broken_json", "broken_json"]


@pytest.mark.parametrize("write", [as_json, as_jsonl, as_csv, as_parquet])
def test_limit_reads_the_first_rows(tmp_path: Path, write: Callable[[Rows], bytes]) -> None:
    found = read(tmp_path, write(ALPACA), limit=2)
    assert (found.rows, found.samples["row"].to_list()) == (2, [0, 1])


def test_limit_below_one(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="at least 1"):
        read(tmp_path, as_json(ALPACA), limit=0)


def test_a_json_document_that_was_cut_gives_the_rows_before(tmp_path: Path) -> None:
    for data in (
        as_json(ALPACA)[:-4],
        json.dumps({"v": {"x": [{}]}, "data": ALPACA})[:-4].encode(),
    ):
        found = read(tmp_path, data)
        assert found.samples["row"].to_list() == [0, 1]
        assert found.rejected.select("row", "reason").rows() == [(2, "broken_json")]
        assert "the file breaks here" in found.rejected["detail"][0]


def test_a_sample_with_a_list_of_its_own_is_no_list_of_rows_where_it_was_cut(
    tmp_path: Path,
) -> None:
    turns = [{"role": "user", "content": "Hi"}, {"role": "assistant", "content": "Hello"}]
    with pytest.raises(DatasetError, match="broken JSON at line 1"):
        read(tmp_path, json.dumps({"messages": turns}).encode()[:-2])


def test_a_gzip_that_was_cut_gives_the_rows_before(tmp_path: Path) -> None:
    found = read(tmp_path, gzip.compress(as_jsonl(ALPACA), mtime=0)[:-6])
    assert found.samples["row"].to_list() == [0, 1, 2]
    assert found.rejected.select("row", "line", "reason").rows() == [(-1, None, "cut_file")]
    assert found.rows == 4


def test_a_header_that_names_a_column_twice_is_refused_where_it_is_read(tmp_path: Path) -> None:
    with pytest.raises(DatasetError, match="names 'prompt' more than once"):
        read(tmp_path, b"prompt,Prompt,completion\na,b,c\n")
    assert read(tmp_path, b"id,id,prompt,completion\n1,2,a,b\n").samples.height == 1


@pytest.mark.parametrize(
    ("data", "name", "message"),
    [
        (b"", "a.json", "is empty"),
        (b" \n\n", "a.jsonl", "is empty"),
        (b"\xef\xbb\xbf", "a.json", "is empty"),
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
        (b"\x1f\x8bnot gzip", "a.gz", "gzip data is broken"),
        (b"PK\x03\x04rest", "a.xlsx", "zip archive or a spreadsheet"),
    ],
)
def test_files_that_cannot_be_used(tmp_path: Path, data: bytes, name: str, message: str) -> None:
    with pytest.raises(DatasetError, match=f"(?s){name}: .*{message}"):
        read(tmp_path, data, name)


def test_absent_files_and_folders(tmp_path: Path) -> None:
    with pytest.raises(DatasetError, match=r"absent\.json: can't be read \(No such file"):
        read_dataset(tmp_path / "absent.json")
    with pytest.raises(DatasetError, match=r"can't be read \(Is a directory"):
        read_dataset(tmp_path)

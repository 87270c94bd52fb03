import json
from pathlib import Path

import pytest

from opencs_assets.benchmarks import BenchmarkError, read_benchmark, read_benchmarks


@pytest.fixture
def write(tmp_path: Path):
    def write(*lines, name="own", encoding="utf-8") -> Path:
        folder = tmp_path / "benchmarks"
        folder.mkdir(exist_ok=True)
        path = folder / f"{name}.jsonl"
        text = "\n".join(line if isinstance(line, str) else json.dumps(line) for line in lines)
        path.write_text(text, encoding=encoding)
        return path

    return write


def test_smoke_covers_mt_benchs_categories_in_two_turns(tmp_path):
    questions = read_benchmarks(tmp_path, {"matchups.a_vs_b": "smoke"})
    assert set(questions["benchmark"]) == {"smoke"}
    assert set(questions["turns"].list.len()) == {2}
    assert set(questions["category"]) == {
        "writing", "roleplay", "extraction", "math", "coding", "reasoning", "stem", "humanities",
    }  # fmt: skip
    for row in questions.iter_rows(named=True):
        assert bool(row["references"]) == (row["category"] in {"math", "coding", "reasoning"})


def test_mt_bench_is_read_as_published(shared_data):
    questions = read_benchmark(shared_data / "benchmarks/mt_bench/question.jsonl", "mt_bench")
    assert questions.height == 80
    assert questions["question_id"][0] == "81"
    assert set(questions["turns"].list.len()) == {2}
    # Line 23: a reference for the first turn only.
    assert questions["references"][22].to_list() == ["Thomas may work at a hospital.", ""]


def test_ids_that_a_file_lacks_come_from_the_question(write):
    first = read_benchmark(write({"turns": ["Why?"]}, {"turns": ["How?"]}), "own")
    moved = read_benchmark(write({"turns": ["How?"]}, {"turns": ["Why?"]}), "own")
    assert first["question_id"].n_unique() == 2
    assert first["question_id"].to_list() == moved["question_id"].reverse().to_list()
    assert set(first["category"]) == {"generic"}


def test_null_reference_and_byte_order_mark_and_blank_lines(write):
    path = write({"turns": ["Why?"], "reference": None}, "", {"turns": ["How\u2028?"]},
                 encoding="utf-8-sig")  # fmt: skip
    questions = read_benchmark(path, "own")
    assert questions["references"].to_list() == [[], []]
    assert questions["turns"][1].to_list() == ["How\u2028?"]


@pytest.mark.parametrize(
    ("lines", "says"),
    [
        ([], "has no question"),
        (["{"], "line 1: not valid JSON"),
        (["[]"], "line 1: must be a JSON object"),
        ([{"turns": ["a"]}, {"text": "b"}], "line 2: `turns` must be a list of texts"),
        # The printed form of a list is no list: asked as it stands, it would show brackets.
        ([{"turns": "['a', 'b']"}], "line 1: `turns` must be a list of texts"),
        ([{"turns": [["a"]]}], "line 1: `turns` must be a list of texts"),
        ([{"turns": []}], "line 1: `turns` is empty"),
        ([{"turns": ["a", " \n"]}], "line 1: `turns` is empty at turn 2"),
        ([{"turns": ["a", "b"], "reference": ["x"]}], "1 references for 2 turns"),
        ([{"turns": ["a"], "question_id": 1}, {"turns": ["b"], "question_id": "1"}],
         "line 2: question_id '1' stands in line 1"),
        ([{"turns": ["a"]}, {"turns": ["b"]}, {"turns": ["a"], "question_id": 7}],
         "line 3: the same turns stands in line 1"),
    ],
)  # fmt: skip
def test_a_line_that_is_no_question_is_named(write, lines, says):
    with pytest.raises(BenchmarkError, match=says):
        read_benchmark(write(*lines), "own")


def test_other_encodings_are_named(write):
    with pytest.raises(BenchmarkError, match="not UTF-8"):
        read_benchmark(write('{"turns": ["ü"]}', encoding="latin-1"), "own")


def test_the_homes_benchmarks_join_or_replace_the_packages(write, tmp_path):
    write({"turns": ["Why?"]})
    assert set(read_benchmarks(tmp_path, {})["benchmark"]) == {"smoke", "own"}
    write({"turns": ["Why?"]}, name="smoke")
    assert read_benchmarks(tmp_path, {}).filter(benchmark="smoke").height == 1


def test_a_benchmark_that_is_not_there_says_where_it_belongs(tmp_path):
    with pytest.raises(BenchmarkError, match=r"matchups\.x names the benchmark 'mt_bench'.*smoke"):
        read_benchmarks(tmp_path, {"matchups.x": "mt_bench"})


def test_a_benchmarks_name_is_checked(write, tmp_path):
    write({"turns": ["Why?"]}, name="MT Bench")
    with pytest.raises(BenchmarkError, match="rename the file"):
        read_benchmarks(tmp_path, {})

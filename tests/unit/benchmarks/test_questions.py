"""Benchmarks' files: every published form and the user's own become questions of one form."""

import json
import shutil
from pathlib import Path

import polars as pl
import pytest

from opencs_assets.benchmarks import questions as reading
from opencs_assets.benchmarks.questions import (
    BenchmarkError,
    BenchmarkFiles,
    find_benchmarks,
    read_benchmarks,
)
from opencs_assets.config.benchmarks import DECLARED, sampling_of

# Published: Koala 180, LIMA 300, Self-Instruct 252, Vicuna 80, WizardLM 218; MT-Bench 80.
PUBLISHED = {
    "koala": 180,
    "lima": 300,
    "self_instruct": 252,
    "vicuna": 80,
    "wizardlm": 218,
    "mt_bench": 80,
}


def read_benchmark(path: Path, name: str) -> pl.DataFrame:
    return reading.read_benchmark(BenchmarkFiles(name, path))


@pytest.fixture(scope="module")
def published(shared_data: Path, tmp_path_factory) -> Path:
    """A home with all published files."""
    home = tmp_path_factory.mktemp("published")
    shutil.copytree(shared_data / "benchmarks", home / "benchmarks")
    return home


@pytest.fixture(scope="module")
def questions(published: Path) -> pl.DataFrame:
    return read_benchmarks(published, {})


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


def test_the_published_files_have_their_published_numbers_of_questions(questions):
    counts = dict(questions["benchmark"].value_counts().iter_rows())
    assert counts == {**PUBLISHED, "smoke": 12}
    assert counts == {name: each.questions for name, each in DECLARED.items()}
    assert not questions.select("benchmark", "question_id").is_duplicated().any()
    turns = questions.group_by("benchmark").agg(pl.col("turns").list.len().unique())
    assert {name: list(each) for name, each in turns.iter_rows()} == {
        name: [each.turns] for name, each in DECLARED.items()
    }


def test_ids_are_the_files_own_where_it_has_them_and_else_of_what_is_asked(questions):
    first = {
        name: part["question_id"][0]
        for (name,), part in questions.partition_by("benchmark", as_dict=True).items()
    }
    assert len(first.pop("lima")) == 16
    assert first == {
        "smoke": first["smoke"],
        "koala": "koala_0",
        "self_instruct": "user_oriented_task_0",
        "vicuna": "1",
        "wizardlm": "1",
        "mt_bench": "81",
    }


def test_wizardlms_two_equal_rows_are_two_questions(questions):
    rows = questions.filter(benchmark="wizardlm").filter(pl.col("turns").is_duplicated())
    assert rows["question_id"].to_list() == ["20", "27"]


@pytest.mark.parametrize(
    ("name", "file", "texts"),
    [
        # LIMA's prompt is the text, and not the printed form of its list.
        ("lima", "lima_test.jsonl", lambda row: row["conversations"][:1]),
        (
            "self_instruct",
            "sinstruct_test_set.jsonl",
            lambda row: [row["instruction"].strip(), row["instances"][0]["input"].strip()],
        ),
    ],
)
def test_all_that_a_published_file_asks_is_asked(questions, shared_data, name, file, texts):
    lines = (shared_data / "benchmarks" / file).read_text().splitlines()
    asked = questions.filter(benchmark=name)["turns"].list.first().to_list()
    assert asked == ["\n\n".join(filter(None, texts(json.loads(line)))) for line in lines]


def test_mt_benchs_references_are_gpt_4s_and_not_the_files_hints(questions):
    bench = questions.filter(benchmark="mt_bench")
    with_reference = bench.filter(pl.col("references").list.len() > 0)
    assert with_reference.height == 30
    assert set(with_reference["category"]) == {"math", "reasoning", "coding"}
    assert set(with_reference["references"].list.len()) == {2}
    told = bench.filter(question_id="103")["references"][0].to_list()
    assert told[0].startswith("There could be several reasons for Thomas")


def test_test_sets_are_sampled_alike_whatever_their_categories_are_called():
    """Vicuna's ``coding`` is no category of MT-Bench: the published temperature is 0.7."""
    for name in ("koala", "lima", "self_instruct", "vicuna", "wizardlm"):
        sampling = sampling_of(name)
        assert sampling.max_new_tokens == 512
        assert {sampling.temperature(each) for each in ("coding", "math", "stem", "x")} == {0.7}
    for name in ("mt_bench", "smoke", "my_own"):
        assert sampling_of(name).by_category(["writing", "math", "stem", "generic"]) == {
            "writing": 0.7,
            "math": 0.0,
            "stem": 0.1,
            "generic": 0.7,
        }


def test_a_changed_file_is_not_passed_off_as_the_published_one(published, tmp_path):
    folder = tmp_path / "benchmarks"
    folder.mkdir()
    text = (published / "benchmarks" / "koala_test_set.jsonl").read_text()
    (folder / "koala_test_set.jsonl").write_text("\n".join(text.split("\n")[:20]))
    with pytest.raises(BenchmarkError, match=r"not the published koala.*opencs benchmarks fetch"):
        read_benchmarks(tmp_path, {})
    (folder / "koala_test_set.jsonl").rename(folder / "koala_20.jsonl")
    assert read_benchmarks(tmp_path, {}).filter(benchmark="koala_20").height == 20


def test_mt_bench_without_its_references_is_refused(published, tmp_path):
    (tmp_path / "benchmarks" / "mt_bench").mkdir(parents=True)
    shutil.copy(published / "benchmarks/mt_bench/question.jsonl", tmp_path / "benchmarks/mt_bench")
    with pytest.raises(BenchmarkError, match="has no reference answers"):
        read_benchmarks(tmp_path, {})
    references = tmp_path / "benchmarks" / "mt_bench" / "reference_answer"
    references.mkdir()
    (references / "a.jsonl").write_text("{}")
    with pytest.raises(BenchmarkError, match="not the published mt_bench"):
        read_benchmarks(tmp_path, {})
    (references / "b.jsonl").write_text("{}")
    with pytest.raises(BenchmarkError, match="has 2 files of reference answers"):
        read_benchmarks(tmp_path, {})


def test_a_benchmark_that_is_there_twice_is_refused(published, tmp_path):
    shutil.copytree(published / "benchmarks", tmp_path / "benchmarks")
    folder = tmp_path / "benchmarks"
    shutil.copy(folder / "mt_bench" / "question.jsonl", folder / "mt_bench.jsonl")
    with pytest.raises(BenchmarkError, match="are both the benchmark 'mt_bench'"):
        find_benchmarks(tmp_path)


@pytest.mark.parametrize(
    ("line", "turns"),
    [
        ({"prompt": "Why?"}, ["Why?"]),
        ({"text": "Why?"}, ["Why?"]),
        ({"Instruction": "Why?"}, ["Why?"]),
        ({"instruction": "Add.", "input": "1 2"}, ["Add.\n\n1 2"]),
        ({"instruction": "Add.", "input": ""}, ["Add."]),
        ({"instruction": "Add.", "instances": [{"input": "1 2"}]}, ["Add.\n\n1 2"]),
        # Alpaca's files have the whole template with the answer as ``text``.
        ({"instruction": "Why?", "text": "Below is ... ### Response: So."}, ["Why?"]),
        ({"conversations": ["Why?"]}, ["Why?"]),
        ({"conversations": "Why?"}, ["Why?"]),
        ({"conversations": ["Why?", "So.", "And?"]}, ["Why?", "And?"]),
        (
            {"conversations": [{"from": "human", "value": "Why?"}, {"from": "gpt", "value": "."}]},
            ["Why?"],
        ),
        ({"conversations": [{"role": "user", "content": "Why?"}]}, ["Why?"]),
        ({"turns": ["Why?", "And?"], "prompt": "x"}, ["Why?", "And?"]),
        # These only look like the printed form of a list of texts.
        ({"prompt": "['a', 1]"}, ["['a', 1]"]),
        ({"prompt": "['a' or [b]"}, ["['a' or [b]"]),
    ],
)
def test_every_form_of_the_users_own_is_read(write, line, turns):
    assert read_benchmark(write(line), "own")["turns"][0].to_list() == turns


@pytest.mark.parametrize("field", ["question_id", "id", "idx"])
def test_the_users_own_ids_are_kept(write, field):
    path = write({"prompt": "Why?", field: 7}, {"prompt": "How?", field: "x"})
    assert read_benchmark(path, "own")["question_id"].to_list() == ["7", "x"]


def test_a_folder_of_the_users_own_in_fastchats_layout(tmp_path):
    folder = tmp_path / "benchmarks" / "own" / "reference_answer"
    folder.mkdir(parents=True)
    (folder.parent / "question.jsonl").write_text(
        json.dumps({"question_id": 1, "turns": ["a", "b"]})
        + "\n"
        + json.dumps({"question_id": 2, "turns": ["c"]})
    )
    told = {"question_id": 1, "choices": [{"index": 0, "turns": ["x", "y"]}]}
    (folder / "gpt-4.jsonl").write_text(json.dumps(told))
    own = read_benchmarks(tmp_path, {}).filter(benchmark="own")
    assert own["references"].to_list() == [["x", "y"], []]
    (folder / "gpt-4.jsonl").write_text(json.dumps({**told, "question_id": 3}))
    with pytest.raises(BenchmarkError, match="line 1: there is no question '3'"):
        read_benchmarks(tmp_path, {})


def test_difficulties_are_alpaca_evals_where_a_line_has_one(write):
    path = write({"turns": ["Why?"], "instruction_difficulty": -0.5}, {"turns": ["How?"]})
    assert read_benchmark(path, "own")["difficulty"].to_list() == [-0.5, None]
    wrong = write({"turns": ["Why?"], "instruction_difficulty": "hard"})
    with pytest.raises(BenchmarkError, match="line 1: `instruction_difficulty` must be a number"):
        read_benchmark(wrong, "own")


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
        ([], "is empty"),
        (["prompt", "Why?"], "is neither JSON nor JSONL"),
        (["[]"], "has no question"),
        (["{"], "broken JSON at line 1"),
        ([{"turns": ["a"]}, "{"], "line 2, column 2: Expecting property name"),
        ([{"turns": ["a"]}, "[]"], "line 2: it is a JSON list, not an object"),
        ([{"turns": ["a"]}, {"output": "b"}], "line 2: there is no question: it needs `turns`, "),
        ([{"conversations": "['Why?']"}], "line 1: `conversations` is the printed form of a list"),
        ([{"prompt": '["Why?", "How?"]'}], "line 1: `prompt` is the printed form of a list"),
        ([{"conversations": [{"from": "system", "value": "a"}]}], "no system message"),
        ([{"conversations": []}], "line 1: `conversations` is empty"),
        ([{"prompt": 3}], "line 1: `prompt` must be a text"),
        ([{"prompt": "a", "id": [1]}], "line 1: the question's id must be a text or a number"),
        # The printed form of a list is no list: asked as it stands, it would show brackets.
        ([{"turns": "['a', 'b']"}], "line 1: `turns` must be a list of texts"),
        ([{"turns": [["a"]]}], "line 1: `turns` must be a list of texts"),
        ([{"turns": []}], "line 1: `turns` is empty"),
        ([{"turns": ["a", " \n"]}], "line 1: `turns` is empty at turn 2"),
        ([{"turns": ["a", "b"], "reference": ["x"]}], "1 references for 2 turns"),
        ([{"turns": ["a"], "question_id": 1}, {"turns": ["b"], "question_id": "1"}],
         "line 2: question_id '1' stands in line 1"),
        ([{"turns": ["a"]}, {"turns": ["b"]}, {"turns": ["a"], "question_id": 7}],
         "line 3: the same question stands in line 1"),
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
    with pytest.raises(
        BenchmarkError,
        match=r"matchups\.x names the benchmark 'mt_bench'.*benchmarks fetch mt_bench.*smoke",
    ):
        read_benchmarks(tmp_path, {"matchups.x": "mt_bench"})
    with pytest.raises(BenchmarkError, match=r"put its questions into .*/benchmarks/mine\.jsonl"):
        read_benchmarks(tmp_path, {"matchups.x": "mine"})


def test_a_benchmarks_name_is_checked(write, tmp_path):
    write({"turns": ["Why?"]}, name="MT Bench")
    with pytest.raises(BenchmarkError, match="rename the file"):
        read_benchmarks(tmp_path, {})

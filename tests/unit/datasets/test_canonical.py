import json
import tempfile
from pathlib import Path
from typing import Any

import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from opencs_assets.datasets import canonical
from opencs_assets.datasets.canonical import (
    DatasetRead,
    read_dataset,
)
from opencs_assets.datasets.errors import REASONS, DatasetError, DatasetRowError
from opencs_assets.tables.datasets import RAW_DATASET, REJECTED_ROWS
from resources.provenance import file_hash
from resources.schema import conform

FINE = {"prompt": "fine?", "completion": "yes"}


def read(folder: Path, *rows: Any) -> DatasetRead:
    file = folder / "data.jsonl"
    file.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return read_dataset(file)


def user(text: Any) -> dict[str, Any]:
    return {"role": "user", "content": text}


def assistant(text: Any) -> dict[str, Any]:
    return {"role": "assistant", "content": text}


def test_equal_content_has_one_id_whatever_its_shape(tmp_path: Path) -> None:
    template = "Below is an instruction that describes a task, paired with an input that provides "
    template += "further context. Write a response that appropriately completes the request."
    rows: list[Any] = [
        {"instruction": "Sort.", "input": "b, a", "output": "a, b"},
        {"instruction": "Sort.\r\n\r\nb, a", "response": " a, b\n"},
        {"prompt": "Sort.\n\nb, a", "completion": "a, b"},
        {"prompt": "Sort.\n\nb, a", "response": "a, b"},
        {"messages": [user("Sort.\n\nb, a"), assistant("a, b")]},
        {"messages": [user([{"type": "text", "text": "Sort.\n\nb, a"}]), assistant("a, b")]},
        {
            "conversations": [
                {"from": "human", "value": f"{template} ### Instruction: Sort. ### Input: b, a"},
                {"from": "gpt", "value": "a, b"},
            ]
        },
    ]
    read_ids = {read(tmp_path, row).samples["sample_id"][0] for row in rows}
    assert len(read_ids) == 1
    together = read(tmp_path, *rows)
    assert together.samples["row"].to_list() == [0]
    assert set(together.rejected["reason"]) == {"duplicate"}
    assert set(together.rejected["detail"]) == {"same content as row 0"}


def test_id_is_a_hash_of_the_content_and_stays_so(tmp_path: Path) -> None:
    found = read(tmp_path, {"instruction": "Name a fruit.", "output": "Apple"}).samples
    # Stored tables and paid replies are keyed by this id: a change loses all of them.
    assert found["sample_id"].to_list() == ["238c19ec493270a4da4754c2e126e912"]


def test_columns_of_a_conversation(tmp_path: Path) -> None:
    turns = [user("q1"), assistant("a1"), user("q2"), assistant("a2")]
    row = {"messages": [{"role": "system", "content": "Be kind."}, *turns]}
    found = read(tmp_path, row, FINE)
    assert conform(found.samples, RAW_DATASET).equals(found.samples)
    assert conform(found.rejected, REJECTED_ROWS).equals(found.rejected)
    assert found.rejected.schema == REJECTED_ROWS.schema
    sample = found.samples.row(0, named=True)
    assert len(sample.pop("sample_id")) == 32
    assert sample == {
        "row": 0,
        "system": "Be kind.",
        "messages": turns,
        "instruction": "q1",
        "response": "a1",
        "turns": 2,
        "template": None,
        "source_format": "openai",
    }
    assert found.samples["system"][1] is None


def test_a_system_prompt_from_field_or_turn_is_the_same(tmp_path: Path) -> None:
    system = {"role": "system", "content": "Be kind."}
    in_turn = {"messages": [system, user("q"), assistant("a")]}
    in_field = {"system": "Be kind.", "instruction": "q", "output": "a"}
    assert read(tmp_path, in_turn, in_field).rejected["reason"].to_list() == ["duplicate"]
    without = {"instruction": "q", "output": "a"}
    assert read(tmp_path, in_turn, without).rejected.height == 0


def test_template_is_named_in_any_shape(tmp_path: Path) -> None:
    wrapped = "### Human: q\n### Assistant:"
    found = read(
        tmp_path,
        {"instruction": wrapped, "input": "context", "output": "1"},
        {"messages": [user(wrapped), assistant("2"), user(wrapped), assistant("3")]},
        {"prompt": "q", "completion": "4"},
    ).samples
    assert found["instruction"].to_list() == ["q\n\ncontext", "q", "q"]
    assert found["template"].to_list() == ["human_assistant", "human_assistant", None]
    assert found["messages"][1][2]["content"] == "q"


def test_sharegpt_role_names(tmp_path: Path) -> None:
    for asks, answers in [("human", "gpt"), ("user", "chatgpt"), ("Human", "bard")]:
        turns = [{"from": asks, "value": "q"}, {"from": answers, "value": "a"}]
        assert read(tmp_path, {"conversations": turns}).samples["turns"].to_list() == [1]


def test_numbers_are_text_and_none_is_missing(tmp_path: Path) -> None:
    found = read(
        tmp_path,
        {"instruction": "6 * 7", "input": None, "output": 42},
        {"instruction": "Is 1 < 2?", "output": True},
        {"instruction": "Half?", "output": 0.5},
        {"instruction": "Nothing?", "output": float("nan")},
    )
    assert found.samples["response"].to_list() == ["42", "true", "0.5"]
    assert found.rejected["reason"].to_list() == ["no_response"]


@pytest.mark.parametrize(
    ("row", "reason", "detail"),
    [
        ([1], "not_an_object", "it is a JSON list"),
        (None, "not_an_object", "NoneType"),
        ({"text": "x"}, "unknown_shape", "`text`"),
        ({}, "unknown_shape", "no fields"),
        ({"instruction": "", "output": "x"}, "no_instruction", "blank"),
        ({"instruction": None, "output": "x"}, "no_instruction", "blank"),
        ({"output": "x"}, "no_instruction", "blank"),
        ({"instruction": ["x"], "output": "x"}, "no_instruction", "`instruction` is a list"),
        ({"instruction": " ", "input": "context", "output": "x"}, "no_instruction", "blank"),
        ({"instruction": "x"}, "no_response", "blank"),
        ({"instruction": "x", "output": " \n"}, "no_response", "blank"),
        ({"instruction": "x", "output": {"a": 1}}, "no_response", "is a dict, not text"),
        ({"prompt": "x", "completion": None}, "no_response", "blank"),
        ({"prompt": "### Human:\n### Assistant:", "completion": "a"}, "no_instruction", "blank"),
        ({"messages": []}, "no_instruction", "empty"),
        ({"messages": [user("q")]}, "no_response", "no answer"),
        ({"messages": [user("q"), assistant(None)]}, "no_response", "message 2"),
        (
            {"messages": [user("q"), assistant("a"), user(""), assistant("b")]},
            "no_instruction",
            "3",
        ),
        ({"messages": [user("q"), assistant("a"), user("r")]}, "bad_roles", "message 3, the last"),
        ({"messages": [assistant("a"), user("q"), assistant("b")]}, "bad_roles", "message 1"),
        (
            {"messages": [user("q"), user("r"), assistant("a")]},
            "bad_roles",
            "message 2 is from user",
        ),
        ({"messages": [user("q"), {"role": "tool", "content": "x"}]}, "bad_roles", "'tool'"),
        ({"messages": [user("q"), {"content": "x"}]}, "bad_roles", "None"),
        (
            {"messages": [user("q"), {"role": "system", "content": "x"}, assistant("a")]},
            "bad_roles",
            "message 2 is from system",
        ),
        (
            {"system": "x", "messages": [{"role": "system", "content": "y"}, user("q")]},
            "bad_roles",
            "different system prompts",
        ),
        ({"messages": ["q", "a"]}, "unknown_shape", "turn 1 is a str"),
        ({"messages": {"q": "a"}}, "unknown_shape", "`messages` is a dict"),
        ({"messages": "[oops"}, "broken_json", "`messages` holds text that is not JSON"),
        (
            {"messages": [user([{"type": "image_url", "image_url": "x"}]), assistant("a")]},
            "unknown_shape",
            "'image_url'",
        ),
        ({"prompt": "x", "completion": "y" * 1_000_001}, "too_long", "1,000,001 characters"),
    ],
)
def test_rows_that_cannot_become_samples(
    tmp_path: Path, row: Any, reason: str, detail: str
) -> None:
    found = read(tmp_path, FINE, row)
    assert found.samples["row"].to_list() == [0]
    rejected = found.rejected.row(0, named=True)
    assert (rejected["row"], rejected["line"], rejected["reason"]) == (1, 2, reason)
    assert detail in rejected["detail"]
    assert len(rejected["excerpt"]) <= 200


def test_the_longest_message_is_kept(tmp_path: Path) -> None:
    row = {"prompt": "x", "completion": "y" * canonical.MAX_CHARS}
    assert read(tmp_path, row).samples.height == 1


def test_reading_again_gives_the_same(tmp_path: Path) -> None:
    first, again = (read(tmp_path, FINE, {"prompt": 1}, FINE) for _ in range(2))
    assert first.samples.equals(again.samples)
    assert first.rejected.equals(again.rejected)
    assert first.sha256 == again.sha256 == file_hash(tmp_path / "data.jsonl")


def test_batches_keep_every_row(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(canonical, "_BATCH", 3)
    for count in (1, 3, 7):
        rows = [{"prompt": n, "completion": n} for n in range(count)]
        assert read(tmp_path, *rows).samples["row"].to_list() == list(range(count))


def test_a_reason_must_be_documented() -> None:
    with pytest.raises(KeyError):
        DatasetRowError("bad_mood", "")


texts = st.none() | st.text(max_size=12) | st.integers() | st.lists(st.integers(), max_size=1)
roles = st.sampled_from(["user", "assistant", "system", "human", "gpt", "tool", None])
turns = st.lists(
    st.fixed_dictionaries({}, optional={"role": roles, "content": texts, "from": roles})
    | st.none(),
    max_size=5,
)
single = st.fixed_dictionaries(
    {},
    optional={
        "instruction": texts,
        "input": texts,
        "output": texts,
        "prompt": texts,
        "response": texts,
        "completion": texts,
        "messages": turns | texts,
        "conversations": turns,
        "system": texts,
    },
)
dialogue = st.lists(st.text(min_size=1, max_size=3), min_size=2, max_size=6).map(
    lambda said: {
        "messages": [(user, assistant)[n % 2](text) for n, text in enumerate(said)],
    }
)


@settings(max_examples=300, deadline=None)
@given(st.lists(single | dialogue | texts, max_size=8), st.booleans())
def test_every_row_is_a_sample_or_rejected_exactly_once(rows: list[Any], jsonl: bool) -> None:
    rows = [FINE, *rows]
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "data"
        if jsonl:
            file.write_text("".join(json.dumps(row) + "\n" for row in rows))
        else:
            file.write_text(json.dumps(rows))
        found = read_dataset(file)
    both = pl.concat([found.samples["row"], found.rejected["row"]])
    assert sorted(both) == list(range(len(rows)))
    assert found.rows == len(rows)
    assert found.samples["sample_id"].is_unique().all()
    assert set(found.rejected["reason"]) <= set(REASONS)
    for sample in found.samples.iter_rows(named=True):
        spoken = [message["role"] for message in sample["messages"]]
        assert spoken == ["user", "assistant"] * sample["turns"]
        assert all(message["content"].strip() for message in sample["messages"])
        assert sample["instruction"] == sample["messages"][0]["content"]
        assert sample["response"] == sample["messages"][1]["content"]


@settings(max_examples=200, deadline=None)
@given(st.binary(max_size=60), st.sampled_from([".json", ".jsonl", ".csv", ".parquet", ".gz", ""]))
def test_any_bytes_are_read_or_refused(data: bytes, suffix: str) -> None:
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / f"data{suffix}"
        file.write_bytes(data)
        with pytest.raises(DatasetError, match="data"):
            read_dataset(file)


@settings(max_examples=200, deadline=None)
@given(st.binary(max_size=60).filter(lambda data: b"\n" not in data and data.strip()))
def test_any_bytes_in_a_jsonl_line_cost_that_line_only(data: bytes) -> None:
    line = json.dumps(FINE).encode() + b"\n"
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "data.jsonl"
        file.write_bytes(line + data + b"\n" + line)
        found = read_dataset(file)
    assert found.samples["row"].to_list() == [0]
    assert found.rows == found.rejected.height + 1

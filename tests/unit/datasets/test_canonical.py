import json
import tempfile
from pathlib import Path

import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from opencs_assets.datasets import canonical
from opencs_assets.datasets.canonical import read_dataset
from opencs_assets.datasets.errors import REASONS, DatasetError, DatasetRowError
from opencs_assets.datasets.shapes import ROLES
from opencs_assets.tables.datasets import RAW_DATASET, REJECTED_ROWS
from resources.provenance import file_hash
from resources.schema import conform

FINE = {"prompt": "fine?", "completion": "yes"}
ALPACA = "Below is an instruction that describes a task. Write a response that appropriately "
ALPACA += "completes the request. ### Instruction: "


def read(folder, *rows):
    file = folder / "data.jsonl"
    file.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return read_dataset(file)


def user(text):
    return {"role": "user", "content": text}


def assistant(text):
    return {"role": "assistant", "content": text}


def system(text):
    return {"role": "system", "content": text}


def test_equal_content_has_one_id_whatever_its_shape(tmp_path):
    template = ALPACA.replace("task.", "task, paired with an input that provides further context.")
    turns = [user("Sort.\n\nb, a"), assistant("a, b")]
    rows = [
        {"instruction": "Sort.", "input": "b, a", "output": "a, b"},
        {"instruction": "Sort.\r\n\r\nb, a", "response": " a, b\n"},
        # A table has every column in every row: what is null or empty decides nothing.
        {"instruction": "Sort.\n\nb, a", "output": None, "response": "a, b"},
        {"instruction": "Sort.", "input": "b, a", "output": "a, b", "messages": []},
        {"instruction": "Sort.", "input": "b, a", "output": "a, b", "messages": ""},
        {"instruction": "Sort.", "input": "b, a", "output": "a, b", "conversations": None},
        {"prompt": "Sort.\n\nb, a", "completion": "a, b"},
        {"prompt": "Sort.\n\nb, a", "completion": None, "response": "a, b"},
        {"messages": turns},
        {"messages": json.dumps(turns)},
        {"messages": [user([{"type": "text", "text": "Sort.\n\nb, a"}]), assistant("a, b")]},
        # The parts of a text are lines, so that no words are glued together.
        {"messages": [user(["Sort.", {"text": ""}, {"text": "b, a"}]), assistant("a, b")]},
        {
            "conversations": [
                {"from": "human", "value": f"{template}Sort. ### Input: b, a"},
                {"from": "gpt", "value": "a, b"},
            ]
        },
    ]
    together = read(tmp_path, *rows)
    assert together.samples["row"].to_list() == [0]
    assert together.samples["sample_id"][0] == canonical.sample_id(None, turns)
    assert together.rejected["row"].to_list() == list(range(1, len(rows)))
    assert set(together.rejected["reason"]) == {"duplicate"}
    assert set(together.rejected["detail"]) == {"same content as row 0"}


def test_id_is_a_hash_of_the_content_and_stays_so(tmp_path):
    samples = read(tmp_path, {"instruction": "Name a fruit.", "output": "Apple"}).samples
    # Stored tables and paid replies are keyed by this id: a change loses all of them.
    assert samples["sample_id"].to_list() == ["238c19ec493270a4da4754c2e126e912"]


def test_columns_of_a_conversation(tmp_path):
    turns = [user("q1"), assistant("a1"), user("q2"), assistant("a2")]
    dataset = read(tmp_path, {"messages": [system("Be kind."), *turns]}, FINE)
    assert conform(dataset.samples, RAW_DATASET).equals(dataset.samples)
    assert dataset.rejected.schema == REJECTED_ROWS.schema
    sample = dataset.samples.drop("sample_id").row(0, named=True)
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
    assert dataset.samples["system"][1] is None


@pytest.mark.parametrize(
    ("row", "prompt"),
    [
        ({"messages": [system(" Be kind.\r\n")]}, "Be kind."),
        ({"system": "Be kind.\n", "messages": []}, "Be kind."),
        ({"system": "Be kind.", "messages": [system("Be kind. ")]}, "Be kind."),
        ({"system": " ", "messages": [system("Be kind.")]}, "Be kind."),
        ({"system": "Be kind.", "messages": [system(None)]}, "Be kind."),
        ({"system": 7, "messages": []}, "7"),
        ({"system": "", "messages": [system(" ")]}, None),
        ({"messages": []}, None),
    ],
)
def test_a_system_prompt_comes_from_field_or_first_turn(tmp_path, row, prompt):
    row["messages"] += [user("q"), assistant("a")]
    samples = read(tmp_path, row).samples
    assert samples["system"].to_list() == [prompt]
    assert samples["sample_id"][0] == canonical.sample_id(prompt, [user("q"), assistant("a")])


def test_the_first_template_is_named_and_all_are_taken_off(tmp_path):
    wrapped = "### Human: q\n### Assistant:"
    turns = [user(wrapped), assistant("2"), user(f"{ALPACA}r"), assistant("3")]
    samples = read(
        tmp_path,
        {"instruction": wrapped, "input": "context", "output": "1"},
        {"messages": turns},
        {"messages": [user("q"), assistant("2"), *turns]},
        {"prompt": "q", "completion": "4"},
    ).samples
    assert samples["instruction"].to_list() == ["q\n\ncontext", "q", "q", "q"]
    assert samples["template"].to_list() == ["human_assistant"] * 3 + [None]
    assert samples["messages"][1][2]["content"] == "r"


def test_every_role_name_is_known_in_any_writing(tmp_path):
    named = {role: [name for name in ROLES if ROLES[name] == role] for role in ROLES.values()}
    rows = [
        {"conversations": [{"from": asks, "value": asks}, {"from": answers, "value": answers}]}
        for asks in (*named["user"], " Human")
        for answers in (*named["assistant"], "GPT")
    ]
    assert read(tmp_path, *rows).samples["source_format"].to_list() == ["sharegpt"] * len(rows)
    assert {"human", "prompter"} < set(named["user"])
    assert {"gpt", "chatgpt", "bard", "bing", "model"} < set(named["assistant"])


def test_numbers_are_text_and_none_is_missing(tmp_path):
    dataset = read(
        tmp_path,
        {"instruction": "6 * 7", "input": None, "output": 42},
        {"instruction": "Is 1 < 2?", "output": True},
        {"instruction": "Half?", "output": 0.5},
        {"instruction": "Nothing?", "output": float("nan")},
    )
    assert dataset.samples["response"].to_list() == ["42", "true", "0.5"]
    assert dataset.rejected["reason"].to_list() == ["no_response"]


@pytest.mark.parametrize(
    ("row", "response"),
    [
        ({"instruction": "x", "output": "first", "response": "second"}, "first"),
        ({"prompt": "x", "completion": "first", "response": "second"}, "first"),
        ({"prompt": "x", "completion": "prompt", "instruction": "x", "output": "alpaca"}, "alpaca"),
        ({"prompt": "x", "completion": "prompt", "output": "alpaca"}, "prompt"),
        (
            {
                "instruction": "x",
                "output": "alpaca",
                "conversations": [user("x"), assistant("conversation")],
            },
            "conversation",
        ),
        (
            {
                "messages": [user("x"), assistant("message")],
                "conversations": [user("x"), assistant("conversation")],
            },
            "message",
        ),
    ],
)
def test_where_a_row_has_several_answers_one_goes_first(tmp_path, row, response):
    assert read(tmp_path, row).samples["response"].to_list() == [response]


LONGEST = "y" * canonical.MAX_CHARS
TURNS = [user("q"), assistant("a")]


@pytest.mark.parametrize(
    ("row", "reason", "detail"),
    [
        ([1], "not_an_object", "it is a JSON list"),
        (None, "not_an_object", "NoneType"),
        ({"text": "x"}, "unknown_shape", "`text`"),
        ({}, "unknown_shape", "no fields"),
        ({"system": [1], **FINE}, "unknown_shape", "`system` is a list, not text"),
        ({"instruction": "", "output": "x"}, "no_instruction", "message 1, a question, is blank"),
        ({"instruction": None, "output": "x"}, "no_instruction", "blank"),
        ({"output": "x"}, "no_instruction", "blank"),
        ({"instruction": ["x"], "output": "x"}, "no_instruction", "`instruction` is a list"),
        ({"instruction": " ", "input": "context", "output": "x"}, "no_instruction", "blank"),
        ({"instruction": "x", "input": ["y"], "output": "x"}, "no_instruction", "`input` is a"),
        ({"instruction": "x"}, "no_response", "message 2, an answer, is blank"),
        ({"instruction": "x", "output": " \n"}, "no_response", "blank"),
        ({"instruction": "x", "output": {"a": 1}}, "no_response", "is a dict, not text"),
        ({"prompt": "x", "completion": None}, "no_response", "blank"),
        ({"prompt": "### Human:\n### Assistant:", "completion": "a"}, "no_instruction", "blank"),
        ({"messages": []}, "no_instruction", "empty"),
        ({"messages": [user("q")]}, "no_response", "no answer"),
        ({"messages": [user("q"), assistant(None)]}, "no_response", "message 2"),
        ({"messages": [user("q"), assistant({})]}, "no_response", "content of turn 2 is a dict"),
        ({"messages": [user({}), assistant("a")]}, "no_instruction", "content of turn 1 is a dict"),
        ({"messages": [*TURNS, user(""), assistant("b")]}, "no_instruction", "message 3"),
        ({"messages": [*TURNS, user("r")]}, "bad_roles", "message 3, the last"),
        ({"messages": TURNS[::-1]}, "bad_roles", "message 1 is from assistant, expected user"),
        ({"messages": [user("q"), *TURNS]}, "bad_roles", "message 2 is from user"),
        ({"messages": [user("q"), {"role": "tool", "content": "x"}]}, "bad_roles", "'tool'"),
        ({"messages": [user("q"), {"content": "x"}]}, "bad_roles", "None"),
        ({"messages": [user("q"), system("x"), assistant("a")]}, "bad_roles", "is from system"),
        ({"system": "x", "messages": [system("y"), *TURNS]}, "bad_roles", "different system"),
        ({"messages": ["q", "a"]}, "unknown_shape", "turn 1 is a str"),
        ({"messages": {"q": "a"}}, "unknown_shape", "`messages` is a dict"),
        ({"messages": "[oops"}, "broken_json", "`messages` holds text that is not JSON"),
        ({"messages": "[" * 100_000}, "broken_json", "`messages` holds text that is not JSON"),
        ({"messages": [user([{"type": "image"}]), assistant("a")]}, "unknown_shape", "'image'"),
        ({"messages": [user([{"text": 1}]), assistant("a")]}, "unknown_shape", "turn 1 has a part"),
        (
            {"messages": [user([{"type": "image", "text": "x"}]), assistant("a")]},
            "unknown_shape",
            "turn 1 has a part 'image' that is not text",
        ),
        ({"messages": [user([7]), assistant("a")]}, "unknown_shape", "has a part 'int'"),
        ({"prompt": "x", "completion": LONGEST + "y"}, "too_long", "message 2 has 1,000,001"),
        ({"system": LONGEST + "y", **FINE}, "too_long", "the system prompt has 1,000,001"),
    ],
)
def test_rows_that_cannot_become_samples(tmp_path, row, reason, detail):
    dataset = read(tmp_path, FINE, row)
    assert dataset.samples["row"].to_list() == [0]
    rejected = dataset.rejected.row(0, named=True)
    assert (rejected["row"], rejected["line"], rejected["reason"]) == (1, 2, reason)
    assert detail in rejected["detail"]
    assert len(rejected["excerpt"]) <= 200


def test_the_longest_message_is_kept(tmp_path):
    rows = [{"prompt": "x", "completion": LONGEST}, {"system": LONGEST, **FINE}]
    assert read(tmp_path, *rows).samples.height == 2


def test_reading_again_gives_the_same(tmp_path):
    first, again = (read(tmp_path, FINE, {"prompt": 1}, FINE) for _ in range(2))
    assert first.samples.equals(again.samples)
    assert first.rejected.equals(again.rejected)
    assert first.sha256 == again.sha256 == file_hash(tmp_path / "data.jsonl")


def test_batches_keep_every_row(tmp_path, monkeypatch):
    monkeypatch.setattr(canonical, "_BATCH", 3)
    for count in (1, 3, 7):
        rows = [{"prompt": n, "completion": n} for n in range(count)]
        assert read(tmp_path, *rows).samples["row"].to_list() == list(range(count))


def test_a_reason_must_be_documented():
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
        **dict.fromkeys(
            ("instruction", "input", "output", "prompt", "response", "completion", "system"), texts
        ),
        "messages": turns | texts,
        "conversations": turns,
    },
)
dialogue = st.lists(st.text(min_size=1, max_size=3), min_size=2, max_size=6).map(
    lambda texts: {"messages": [(user, assistant)[n % 2](text) for n, text in enumerate(texts)]}
)


def read_bytes(data, name="data"):
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / name
        file.write_bytes(data)
        return read_dataset(file)


@settings(max_examples=100)
@given(st.lists(single | dialogue | texts, max_size=8), st.booleans())
def test_every_row_is_a_sample_or_rejected_exactly_once(rows, jsonl):
    rows = [FINE, *rows]
    text = "".join(json.dumps(row) + "\n" for row in rows) if jsonl else json.dumps(rows)
    dataset = read_bytes(text.encode())
    both = pl.concat([dataset.samples["row"], dataset.rejected["row"]])
    assert sorted(both) == list(range(len(rows)))
    assert dataset.rows == len(rows)
    assert dataset.samples["sample_id"].is_unique().all()
    assert set(dataset.rejected["reason"]) <= set(REASONS)
    for sample in dataset.samples.iter_rows(named=True):
        roles = [message["role"] for message in sample["messages"]]
        assert roles == ["user", "assistant"] * sample["turns"]
        assert all(message["content"].strip() for message in sample["messages"])
        assert sample["instruction"] == sample["messages"][0]["content"]
        assert sample["response"] == sample["messages"][1]["content"]


@settings(max_examples=100)
@given(st.binary(max_size=60), st.sampled_from([".json", ".jsonl", ".csv", ".parquet", ".gz", ""]))
def test_any_bytes_are_read_or_refused(data, suffix):
    with pytest.raises(DatasetError, match="data"):
        read_bytes(data, f"data{suffix}")


@settings(max_examples=100)
@given(st.binary(max_size=60).filter(lambda data: b"\n" not in data and data.strip()))
def test_any_bytes_in_a_jsonl_line_cost_that_line_only(data):
    line = json.dumps(FINE).encode() + b"\n"
    dataset = read_bytes(line + data + b"\n" + line, "data.jsonl")
    assert dataset.samples["row"].to_list() == [0]
    assert dataset.rows == dataset.rejected.height + 1

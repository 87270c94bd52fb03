"""Exports are read back by the programs that they are for."""

import json

import polars as pl
import pytest
import yaml

from opencs_assets.selection.export import Card, _size_category, export_subset
from opencs_assets.tables.selection import SELECTED_SUBSET, SUBSET_EXPORTS
from opencs_assets.tables.subset import CONTENT
from resources.schema import conform

TURNS = [
    [("user", "Ask"), ("assistant", "Answer, naïvely: 日本 🙂")],
    [("user", "One"), ("assistant", "1"), ("user", "Two"), ("assistant", "2")],
    [("user", 'Quote "this"\nand that'), ("assistant", "42")],
]
SYSTEMS = [None, "Be brief.", None]


@pytest.fixture(scope="module")
def exported(tmp_path_factory):
    content = pl.DataFrame(
        [
            {
                "sample_id": f"s{number}",
                "system": system,
                "messages": [{"role": role, "content": text} for role, text in turns],
                "instruction": turns[0][1],
                "response": turns[1][1],
            }
            for number, (turns, system) in enumerate(zip(TURNS, SYSTEMS, strict=True))
        ],
        schema_overrides={"system": pl.String},
    ).select(CONTENT)
    subset = pl.DataFrame(
        [
            {"rank": rank, "sample_id": f"s{rank}", "reason": f"place {rank}", "pinned": rank == 0}
            for rank in range(3)
        ],
        schema=SELECTED_SUBSET.schema,
    )
    folder = tmp_path_factory.mktemp("exports") / "data" / "best"
    card = Card("data", "best", "cc-by-4.0", [("Seed", "7"), ("From", "`data`")], ["Mind this."])
    files = export_subset(folder, subset, content, card)
    conform(files, SUBSET_EXPORTS)
    return folder, files


def loaded(folder, config):
    import datasets

    cache = folder.parent / "cache"
    return datasets.load_dataset(str(folder), config, split="train", cache_dir=str(cache))


def test_alpaca_has_the_last_turn_and_those_before_as_history(exported):
    rows = loaded(exported[0], "alpaca").to_list()
    assert rows[0] == {
        "instruction": "Ask",
        "input": "",
        "output": TURNS[0][1][1],
        "system": "",
        "history": [],
    }
    assert rows[1]["instruction"] == "Two"
    assert rows[1]["history"] == [["One", "1"]]
    assert rows[1]["system"] == "Be brief."


def test_sharegpt_and_openai_have_every_turn(exported):
    names = {"user": "human", "assistant": "gpt"}
    sharegpt = loaded(exported[0], "sharegpt").to_list()
    assert [row["system"] for row in sharegpt] == ["", "Be brief.", ""]
    for row, turns in zip(sharegpt, TURNS, strict=True):
        said = [(each["from"], each["value"]) for each in row["conversations"]]
        assert said == [(names[role], text) for role, text in turns]
    for row, turns, system in zip(
        loaded(exported[0], "openai").to_list(), TURNS, SYSTEMS, strict=True
    ):
        said = [(each["role"], each["content"]) for each in row["messages"]]
        assert said == ([("system", system)] if system else []) + turns


def test_parquet_has_the_reason_of_each_choice(exported):
    import datasets

    path = str(exported[0] / "samples.parquet")
    rows = datasets.load_dataset("parquet", data_files=path, split="train", cache_dir=path + ".d")
    assert rows["reason"] == ["place 0", "place 1", "place 2"]
    assert rows["pinned"] == [True, False, False]


def test_dataset_info_names_each_file_that_is_there(exported):
    folder, _ = exported
    info = json.loads((folder / "dataset_info.json").read_text())
    assert set(info) == {"data_best", "data_best_sharegpt", "data_best_openai", "data_best_parquet"}
    assert all((folder / entry["file_name"]).exists() for entry in info.values())
    roles = {f"{role}_tag": role for role in ("role", "content", "user", "assistant", "system")}
    assert info["data_best_openai"]["tags"] == info["data_best_parquet"]["tags"] == roles


def test_files_of_text_are_for_people_too(exported):
    folder, _ = exported
    for name in ("alpaca.json", "sharegpt.json", "openai.jsonl"):
        text = (folder / name).read_text()
        assert "naïvely: 日本 🙂" in text
        assert text.endswith("\n")


def test_the_card_says_how_it_was_chosen(exported):
    card = (exported[0] / "README.md").read_text()
    assert (
        card.split("---")[-1].strip()
        == """\
# data, chosen by best

3 samples, chosen by the OpenCS platform (published as TACOS, arXiv 2507.03673).

## How it was chosen

- Seed: 7
- From: `data`

## What is in it

- Samples: 3; kept by hand: 1
- Clusters: 0
- Characters of a response: mean 8, median 2
- Several turns: 1

The same samples as `alpaca.json`, `sharegpt.json`, `openai.jsonl` and `samples.parquet` (which \
also has the reason of each choice); `dataset_info.json` describes them to LLaMA-Factory.

## To be known

- Mind this."""
    )
    assert yaml.safe_load(card.split("---")[1])["license"] == "cc-by-4.0"
    assert yaml.safe_load(card.split("---")[1])["size_categories"] == ["n<1K"]


def test_the_table_tells_of_each_file(exported):
    import hashlib

    folder, files = exported
    assert set(files["file"]) == {path.name for path in folder.iterdir() if path.is_file()}
    for row in files.to_dicts():
        has_samples = row["file"] not in ("README.md", "dataset_info.json")
        assert row["rows"] == (3 if has_samples else None)
        assert row["bytes"] == (folder / row["file"]).stat().st_size
        assert hashlib.sha256((folder / row["file"]).read_bytes()).hexdigest() == row["sha256"]


@pytest.mark.parametrize(
    ("rows", "category"),
    [
        (999, "n<1K"),
        (1_000, "1K<n<10K"),
        (9_999, "1K<n<10K"),
        (10_000, "10K<n<100K"),
        (99_999, "10K<n<100K"),
        (100_000, "100K<n<1M"),
        (999_999, "100K<n<1M"),
        (1_000_000, "n>1M"),
    ],
)
def test_a_size_has_hugging_faces_name(rows, category):
    assert _size_category(rows) == category

"""Real public data, kept outside the project."""

import json
from pathlib import Path

import polars as pl
import pytest

from opencs_assets.datasets.canonical import DatasetRead, read_dataset
from opencs_assets.datasets.templates import strip_template

PUBLISHED = [
    ("alpaca/filtered_alpaca_1k_opencs.json", {"alpaca": 703, "alpaca_input": 297}),
    ("alpaca/filtered_alpaca_1k_longest.json", {"alpaca": 768, "alpaca_input": 232}),
    ("alpaca/refined_alpaca_1k_opencs.json", {"alpaca": 703, "alpaca_input": 297}),
    ("lima/fastchat_lima_1k.json", {"alpaca": 1000}),
    ("evol_instruct/filtered_evol_instruct_1k_opencs.json", {"alpaca": 1000}),
]


def test_alpaca_52k(shared_data: Path, alpaca: DatasetRead) -> None:
    rows = json.loads((shared_data / "alpaca" / "alpaca_52k.json").read_text())
    assert alpaca.rows == len(rows) == 52_002
    assert alpaca.samples.height + alpaca.rejected.height == 52_002

    blank = [row for row, sample in enumerate(rows) if not sample["output"].strip()]
    assert alpaca.rejected.filter(reason="no_response")["row"].to_list() == blank
    assert len(blank) == 28
    # Alpaca was published without duplicates, so nothing else may be rejected.
    assert len({(sample["instruction"], sample["input"]) for sample in rows}) == 52_002
    assert alpaca.rejected.height == 28
    assert alpaca.samples["template"].null_count() == alpaca.samples.height


def test_alpaca_rows_given_twice_are_rejected(shared_data: Path, tmp_path: Path) -> None:
    rows = json.loads((shared_data / "alpaca" / "alpaca_52k.json").read_text())[:200]
    file = tmp_path / "twice.json"
    file.write_text(json.dumps(rows + rows))
    found = read_dataset(file)
    assert found.rejected["reason"].to_list() == ["duplicate"] * 200
    assert found.rejected["detail"][7] == "same content as row 7"


@pytest.mark.parametrize(("file", "templates"), PUBLISHED)
def test_published_sets(shared_data: Path, file: str, templates: dict[str, int]) -> None:
    found = read_dataset(shared_data / file)
    assert (found.rows, found.samples.height, found.container) == (1000, 1000, "json")
    assert dict(found.samples["template"].value_counts().rows()) == templates
    assert set(found.samples["source_format"]) == {"sharegpt"}
    questions = found.samples["instruction"]
    assert not questions.str.contains("Below is an instruction that describes a task").any()
    assert all(strip_template(question) == (question, None) for question in questions)


def by_words(column: str) -> pl.Expr:
    return pl.col(column).str.replace_all(r"\s+", " ").str.strip_chars()


@pytest.mark.parametrize("name", ["opencs", "longest"])
def test_published_selections_are_alpaca_rows(
    shared_data: Path, alpaca: DatasetRead, name: str
) -> None:
    chosen = read_dataset(shared_data / "alpaca" / f"filtered_alpaca_1k_{name}.json").samples
    keys = ["instruction", "response"]
    words = [by_words(key).alias(key) for key in keys]
    unmatched = chosen.select(words).join(alpaca.samples.select(words), on=keys, how="anti")
    assert unmatched.height == 0

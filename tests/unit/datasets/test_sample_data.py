"""The project's own sample: what the demo and every offline test run on."""

from pathlib import Path
from statistics import mean

import polars as pl

from opencs_assets.datasets.canonical import read_dataset

ROOT = Path(__file__).resolve().parents[3]
SAMPLE = ROOT / "opencs_assets" / "datasets" / "sample_data" / "sample.jsonl"
QUALITY = ROOT / "tests" / "data" / "sample_quality.csv"


def test_every_row_is_usable_in_all_shapes() -> None:
    found = read_dataset(SAMPLE)
    assert (found.rows, found.rejected.height) == (240, 0)
    assert found.samples["instruction"].n_unique() == 240
    assert set(found.samples["source_format"]) == {
        "alpaca",
        "sharegpt",
        "openai",
        "prompt_completion",
    }
    assert set(found.samples["template"]) == {
        None,
        "alpaca",
        "alpaca_input",
        "vicuna_v1.1",
        "human_assistant",
    }
    assert found.samples["turns"].max() == 2
    assert 150 < found.samples["response"].str.len_chars().mean() < 300
    assert found.samples["response"].str.len_chars().max() <= 900


def test_quality_is_known_balanced_and_not_given_away_by_length() -> None:
    quality = pl.read_csv(QUALITY)
    samples = read_dataset(SAMPLE).samples
    assert quality["row"].to_list() == samples["row"].to_list()
    assert quality["quality"].value_counts()["count"].to_list() == [80, 80, 80]
    assert (
        quality.group_by("theme").agg(pl.col("quality").n_unique())["quality"].unique().item() == 3
    )

    rows = samples.join(quality, on="row").with_columns(length=pl.col("response").str.len_chars())
    lengths = {
        level: rows.filter(quality=level)["length"].to_list() for level in ("good", "fair", "bad")
    }
    for better, worse in [("good", "fair"), ("good", "bad"), ("fair", "bad")]:
        longer = mean(a > b for a in lengths[better] for b in lengths[worse])
        assert 0.4 < longer < 0.6

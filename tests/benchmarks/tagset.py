"""Tags of made samples, drawn from a real, heavy-tailed distribution of tags."""

import json
import os
from functools import cache
from pathlib import Path

import numpy as np
import polars as pl

from opencs_assets.tables.open_tags import OPEN_TAGS

SHARED_DATA = Path(
    os.environ.get("OPENCS_SHARED_DATA", Path(__file__).parents[3] / "shared" / "data")
)
VOCABULARY = SHARED_DATA / "tags" / "tag_vocabulary.jsonl"
ALPACA = SHARED_DATA / "alpaca" / "alpaca_52k.json"
# Alpaca's samples with 1, 2, ... 8 tags, as published.
TAGS_A_SAMPLE = (1890, 17443, 26191, 5348, 933, 141, 32, 22)
# Where the vocabulary is not at hand: as many tags, with a like tail.
MADE_TAGS = 12_000
TAIL = 1.3


@cache
def vocabulary() -> tuple[pl.Series, np.ndarray]:
    """The tags and how often each occurs."""
    if VOCABULARY.exists():
        rows = [json.loads(line) for line in VOCABULARY.read_text(encoding="utf-8").splitlines()]
        return pl.Series([row["tag"] for row in rows]), np.array([row["count"] for row in rows])
    names = [f"topic {rank % 700} kind{rank % 31} {rank}" for rank in range(MADE_TAGS)]
    return pl.Series(names), np.ceil(1e6 / np.arange(1, MADE_TAGS + 1) ** TAIL)


def source() -> str:
    """Which distribution it is, for the table."""
    return "published vocabulary" if VOCABULARY.exists() else "made vocabulary"


def raw_tags(samples: int) -> pl.Series:
    """Raw tags of samples (List of String): spelled in several ways, as taggers do."""
    names, counts = vocabulary()
    rng = np.random.default_rng(samples)
    sizes = rng.choice(
        np.arange(1, len(TAGS_A_SAMPLE) + 1),
        samples,
        p=np.array(TAGS_A_SAMPLE) / sum(TAGS_A_SAMPLE),
    )
    spellings = pl.concat(
        [names, names.str.to_titlecase(), names.str.replace_all(" ", "-"), names + "s"]
    )
    drawn = rng.choice(len(names), sizes.sum(), p=counts / counts.sum())
    drawn += len(names) * rng.choice(4, len(drawn), p=[0.7, 0.15, 0.1, 0.05])
    return (
        pl.DataFrame(
            {"sample": np.repeat(np.arange(samples), sizes), "tag": spellings.gather(drawn)}
        )
        .group_by("sample", maintain_order=True)
        .agg("tag")["tag"]
    )


def open_tags(samples: int) -> pl.DataFrame:
    """Rows of ``open_tags``."""
    tags = raw_tags(samples)
    return pl.select(
        sample_id=pl.int_range(samples).cast(pl.String),
        tags=pl.lit(tags).list.eval(
            pl.struct(tag=pl.element(), explanation=pl.lit("", dtype=pl.String))
        ),
        status=pl.lit("ok"),
        detail=pl.lit(None, dtype=pl.String),
        attempts=pl.lit(1, dtype=pl.Int64),
        reply_id=pl.lit("r"),
        model=pl.lit("m"),
        prompt_version=pl.lit("v"),
    ).cast(dict(OPEN_TAGS.schema))

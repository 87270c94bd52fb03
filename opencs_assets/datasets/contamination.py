"""Samples that ask what a benchmark asks, and would teach a model its questions."""

from typing import Any

import numpy as np
import polars as pl

from opencs_assets.datasets.words import shingle_hashes, words
from opencs_assets.tables.datasets import CONTAMINATED_SAMPLES

# Brown et al. 2020 (GPT-3), appendix C, call 13 shared words in a row contamination.
GRAM = 13
# A part of a request with fewer words than this is equal to many others by chance.
LEAST_WORDS_OF_A_PART = 4
TEXT_CHARACTERS = 300
_KEY = ("sample_id", "benchmark", "question_id", "turn")
_CHUNK = 20_000


def find_contaminated(samples: pl.DataFrame, questions: pl.DataFrame) -> pl.DataFrame:
    """Samples in which a user asks what a benchmark asks.

    A message matches a question's turn when both have the same words, or share 13 words in a row
    (Brown et al. 2020). A message's part before its first blank line, where Alpaca's ``input``
    follows the instruction, is compared for equality too, if it has at least four words. The
    assistant's messages are not compared.

    Args:
        samples: ``sample_id`` and ``messages`` of ``raw_dataset``.
        questions: ``benchmark``, ``question_id`` and ``turns`` of ``benchmark_questions``.

    Returns:
        One row a sample and turn that match (schema ``CONTAMINATED_SAMPLES``), by key; where both
        kinds of match hold, the row is about the equal words.
    """
    turns = (
        questions.select("benchmark", "question_id", text="turns")
        .with_columns(turn=pl.int_ranges(pl.col("text").list.len()).cast(pl.List(pl.Int64)))
        .explode("text", "turn")
        .drop_nulls("text")
    )
    turns = turns.with_columns(words=words(turns["text"])).filter(pl.col("words").list.len() > 0)
    parts = [
        _matches(samples[start : start + _CHUNK], turns)
        for start in range(0, samples.height, _CHUNK)
        if turns.height
    ]
    if not parts:
        return CONTAMINATED_SAMPLES.empty()
    key = list(CONTAMINATED_SAMPLES.key)
    return (
        pl.concat(parts)
        .sort([*key, "match", "text"], descending=[False] * len(key) + [True, False])
        .unique(key, keep="first", maintain_order=True)
        .select(list(CONTAMINATED_SAMPLES.columns))
    )


def _matches(samples: pl.DataFrame, turns: pl.DataFrame) -> pl.DataFrame:
    requests = (
        samples.select("sample_id", "messages")
        .explode("messages")
        .drop_nulls("messages")
        .unnest("messages")
        .filter(pl.col("role") == "user")
        .select("sample_id", text="content")
    )
    requests = requests.with_columns(words=words(requests["text"]))
    return pl.concat([_equal(requests, turns), _shared(requests, turns)])


def _equal(requests: pl.DataFrame, turns: pl.DataFrame) -> pl.DataFrame:
    heads = requests.filter(pl.col("text").str.contains("\n\n", literal=True)).with_columns(
        pl.col("text").str.strip_chars().str.split("\n\n").list.first()
    )
    heads = heads.with_columns(words=words(heads["text"])).filter(
        pl.col("words").list.len() >= LEAST_WORDS_OF_A_PART
    )
    joined = pl.col("words").list.join(" ")
    return (
        pl.concat([requests, heads])
        .with_columns(joined=joined)
        .join(turns.drop("text").with_columns(joined=joined), on="joined")
        .select(*_KEY, match=pl.lit("equal"), text=pl.col("text").str.head(TEXT_CHARACTERS))
    )


def _shared(requests: pl.DataFrame, turns: pl.DataFrame) -> pl.DataFrame:
    """Requests that share 13 words in a row with a turn; where hashes are equal, words decide."""
    hashes, message, place = shingle_hashes(requests["words"], GRAM)
    turn_hashes, turn, at = shingle_hashes(turns["words"], GRAM)
    hit = np.isin(hashes, turn_hashes)
    runs = pl.DataFrame({"hash": hashes[hit], "message": message[hit], "place": place[hit]})
    grams = pl.DataFrame({"hash": turn_hashes, "turn_row": turn, "at": at})
    # Runs whose places follow each other without a gap in both texts are joined into one.
    pair = ["message", "turn_row"]
    shared_runs = (
        runs.join(grams, on="hash")
        .with_columns(shift=pl.col("place") - pl.col("at"))
        .sort(*pair, "shift", "place")
        .with_columns(step=pl.col("place") - pl.int_range(pl.len()))
        .group_by(*pair, "shift", "step")
        .agg(start=pl.col("place").min(), length=pl.len().cast(pl.Int64) + GRAM - 1)
        .sort(*pair, "length", "start", "shift", descending=[False, False, True, False, False])
    )
    key = turns.select("benchmark", "question_id", "turn")
    rows: dict[tuple[int, int], dict[str, Any]] = {}
    for number, row, shift, start, length in shared_runs.select(
        *pair, "shift", "start", "length"
    ).iter_rows():
        if (number, row) in rows:
            continue
        run = requests["words"][number][start : start + length].to_list()
        if run == turns["words"][row][start - shift : start - shift + length].to_list():
            rows[number, row] = {
                "sample_id": requests["sample_id"][number],
                **key.row(row, named=True),
                "match": f"{GRAM}-gram",
                "text": " ".join(run)[:TEXT_CHARACTERS],
            }
    schema = {name: CONTAMINATED_SAMPLES.schema[name] for name in (*_KEY, "match", "text")}
    return pl.DataFrame(list(rows.values()), schema=schema)

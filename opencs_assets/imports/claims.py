"""Rows that claim the same judgment: copies count once, contradictions wait for a person.

The identity of a judgment is who judged which answer, or which two in which order, with which
family of prompts. Its claim is winner, scores and status; the reply's text is not compared. A
person may vote more than once on the same two answers, so each vote in a file is a judgment of its
own, and the nth vote in one file is the same judgment as the nth in another.
"""

from collections.abc import Sequence
from typing import Final

import polars as pl

from opencs_assets.imports.choices import Choice

IDENTITY: Final = (
    "kind",
    "benchmark",
    "question_id",
    "turn",
    "model_a",
    "model_b",
    "shown_first",
    "judge",
    "prompt_version",
)
CLAIM: Final = ("winner", "score_a", "score_b", "orders_disagree", "status")
STATES: Final = ("used", "duplicate", "conflict", "overruled")


def with_states(verdicts: pl.DataFrame, choices: Sequence[Choice]) -> pl.DataFrame:
    """The verdicts in their order, each with its ``state``.

    Where all rows of a judgment make the same claim, the first is ``used`` and the others are
    ``duplicate``. Where they do not, all are ``conflict``, unless a person has chosen: then the
    first row with the chosen claim is ``used``, others with that claim are ``duplicate``, and the
    rest are ``overruled``. A choice that fits rows with different claims decides nothing, and later
    choices override earlier ones. ``verdicts`` are rows of ``imported_verdicts`` without ``state``,
    in the order of files and rows.
    """
    frame = _numbered(verdicts.with_row_index("at"), CLAIM, "claim")
    frame = _numbered(_with_votes(frame), (*IDENTITY, "vote"), "judgment")
    frame = _with_ranks(frame, choices)
    is_best = (pl.col("rank") >= 0) & (pl.col("rank") == pl.col("rank").max().over("judgment"))
    frame = frame.with_columns(chosen=pl.when(is_best).then("claim"))
    frame = frame.with_columns(
        first=pl.col("at") == pl.col("at").min().over("judgment", "claim"),
        claims=pl.col("claim").n_unique().over("judgment"),
        chosen=pl.col("chosen").max().over("judgment"),
        decided=pl.col("chosen").drop_nulls().n_unique().over("judgment") == 1,
    )
    once = pl.when("first").then(pl.lit("used")).otherwise(pl.lit("duplicate"))
    state = (
        pl.when(pl.col("claims") == 1)
        .then(once)
        .when(~pl.col("decided"))
        .then(pl.lit("conflict"))
        .when(pl.col("claim") == pl.col("chosen"))
        .then(once)
        .otherwise(pl.lit("overruled"))
    )
    return frame.sort("at").select(*verdicts.columns, state.alias("state"))


def conflicting(verdicts: pl.DataFrame) -> int:
    """How many judgments wait for a person."""
    return verdicts.filter(pl.col("state") == "conflict").select(IDENTITY).n_unique()


def _numbered(frame: pl.DataFrame, columns: Sequence[str], name: str) -> pl.DataFrame:
    """Give each different combination of the columns a number."""
    kinds = frame.select(columns).unique().with_row_index(name)
    return frame.join(kinds, on=list(columns), how="left", nulls_equal=True)


def _with_votes(frame: pl.DataFrame) -> pl.DataFrame:
    """Number the votes of a person on the same two answers within a file; models have one."""
    votes = (
        frame.filter("is_human")
        # They are sorted by what they say, so that a file in another order has the same votes.
        .sort("winner", "at", nulls_last=True)
        .select("at", vote=pl.int_range(pl.len(), dtype=pl.Int64).over("file", *IDENTITY))
    )
    return frame.join(votes, on="at", how="left").with_columns(pl.col("vote").fill_null(0))


def _with_ranks(frame: pl.DataFrame, choices: Sequence[Choice]) -> pl.DataFrame:
    """Give each row the number of the last choice that fits it, -1 where none does."""
    chosen = [(choice.sha256, choice.row, rank) for rank, choice in enumerate(choices)]
    schema = {"file": pl.String, "row": pl.Int64, "rank": pl.Int64}
    ranked = pl.DataFrame(chosen, schema=schema, orient="row")
    last = ranked.group_by("file", "row").agg(pl.col("rank").max())
    of_file = last.filter(pl.col("row").is_null()).select("file", of_file="rank")
    of_row = last.drop_nulls("row").select("file", "row", of_row="rank")
    return (
        frame.join(of_file, on="file", how="left")
        .join(of_row, on=["file", "row"], how="left")
        .with_columns(rank=pl.max_horizontal("of_file", "of_row").fill_null(-1))
    )

"""A set that was chosen elsewhere, taken from its file: LIMA, or a published selection."""

from pathlib import Path

import polars as pl

from opencs_assets.datasets.canonical import read_dataset
from opencs_assets.datasets.errors import DatasetError
from opencs_assets.datasets.words import words
from opencs_assets.selection.choice import Request, SelectionError, SelectorAnswer, first_of
from opencs_assets.tables.datasets import RAW_DATASET


def fixed(request: Request) -> SelectorAnswer:
    """The file's samples in its order; those that the dataset does not have come from the file.

    A sample of the file is one of the dataset's if both have the same id, or else the same words in
    instruction and response.

    Raises:
        SelectionError: No file is named, or it can't be read.
    """
    path = request.options.file
    if path is None:
        raise SelectionError(
            "a selector with method fixed needs the file of the set: "
            "{method: fixed, file: lima.jsonl} in experiments.yaml"
        )
    given = _read(path)
    known = match_samples(given, request.table("raw_dataset"))
    ordered = known.unique("sample_id", keep="first", maintain_order=True)
    open_rows = request.open_rows(ordered)
    named = pl.lit(f"in {path.name}")
    considered = first_of(
        open_rows,
        request.options.k,
        chosen=pl.format("row {} of {}", pl.lit(open_rows["row"]), pl.lit(path.name)),
        passed=pl.format("{}, but k leaves it out", named),
    )
    chosen = considered.filter(pl.col("choice").is_not_null())
    outside = (
        given.join(open_rows.filter("is_outside"), left_on="sample_id", right_on="given_id")
        .join(chosen, on="sample_id", how="semi")
        .select(list(RAW_DATASET.columns))
    )
    notes = [f"{given.height} samples of {path.name}, {outside.height} not in the dataset"]
    if len(ordered) < given.height:
        notes.append(f"{given.height - ordered.height} of them are the dataset's same sample twice")
    others = dict.fromkeys(request.table("raw_dataset")["sample_id"], f"not in {path.name}")
    return SelectorAnswer(considered, outside=outside, notes=tuple(notes), otherwise=others)


def match_samples(given: pl.DataFrame, samples: pl.DataFrame) -> pl.DataFrame:
    """Which sample of the dataset each given one is.

    Args:
        given: Samples of a file (schema ``RAW_DATASET``).
        samples: Rows of ``raw_dataset``.

    Returns:
        One row a given sample, in order: ``given_id``, ``row``, ``sample_id`` (the dataset's, or
        the given one's own where it has none) and ``is_outside``.
    """
    same_words = (
        samples.sort("row")
        .select(by_words="sample_id", text=_text(samples.sort("row")))
        .unique("text", keep="first")
    )
    return (
        given.select("row", given_id="sample_id", text=_text(given))
        .join(
            samples.select(given_id="sample_id", by_id="sample_id"),
            on="given_id",
            how="left",
            maintain_order="left",
        )
        .join(same_words, on="text", how="left", maintain_order="left")
        .with_columns(found=pl.coalesce("by_id", "by_words"))
        .select(
            "given_id",
            "row",
            sample_id=pl.coalesce("found", "given_id"),
            is_outside=pl.col("found").is_null(),
        )
    )


def _text(samples: pl.DataFrame) -> pl.Series:
    """Instruction and response as words with a space between."""
    instruction = words(samples["instruction"]).list.join(" ")
    return instruction + "\n" + words(samples["response"]).list.join(" ")


def _read(path: Path) -> pl.DataFrame:
    try:
        return read_dataset(path).samples
    except DatasetError as error:
        raise SelectionError(f"the set of selector method fixed can't be read: {error}") from None

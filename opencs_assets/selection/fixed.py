"""A set that was chosen elsewhere, taken from its file: LIMA, or a published selection."""

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
    try:
        file_samples = read_dataset(path).samples
    except DatasetError as error:
        raise SelectionError(f"the set of selector method fixed can't be read: {error}") from None
    matches = match_samples(file_samples, request.table("raw_dataset"))
    ordered = matches.unique("sample_id", keep="first", maintain_order=True)
    open_rows = request.open_rows(ordered)
    considered = first_of(
        open_rows,
        request.options.k,
        chosen=pl.format("row {} of {}", pl.lit(open_rows["row"]), pl.lit(path.name)),
        passed=pl.lit(f"in {path.name}, but k leaves it out"),
    )
    chosen = considered.filter(pl.col("choice").is_not_null())
    outside = (
        file_samples.join(open_rows.filter("is_outside"), left_on="sample_id", right_on="file_id")
        .join(chosen, on="sample_id", how="semi")
        .select(list(RAW_DATASET.columns))
    )
    notes = [f"{file_samples.height} samples of {path.name}, {outside.height} not in the dataset"]
    if repeats := file_samples.height - ordered.height:
        notes.append(f"{repeats} of them are the dataset's same sample twice")
    others = dict.fromkeys(request.table("raw_dataset")["sample_id"], f"not in {path.name}")
    return SelectorAnswer(considered, outside=outside, notes=tuple(notes), not_considered=others)


def match_samples(file_samples: pl.DataFrame, samples: pl.DataFrame) -> pl.DataFrame:
    """Which sample of the dataset each sample of the file is; both have the schema ``RAW_DATASET``.

    Returns:
        One row a sample of the file, in order: ``file_id``, ``row``, ``sample_id`` (the dataset's,
        or the file's own where the dataset does not have it) and ``is_outside``.
    """
    ordered = samples.sort("row")
    same_words = ordered.select(by_words="sample_id", text=_text(ordered)).unique(
        "text", keep="first"
    )
    return (
        file_samples.select("row", file_id="sample_id", text=_text(file_samples))
        .join(
            samples.select(file_id="sample_id", by_id="sample_id"),
            on="file_id",
            how="left",
            maintain_order="left",
        )
        .join(same_words, on="text", how="left", maintain_order="left")
        .select(
            "file_id",
            "row",
            sample_id=pl.coalesce("by_id", "by_words", "file_id"),
            is_outside=pl.coalesce("by_id", "by_words").is_null(),
        )
    )


def _text(samples: pl.DataFrame) -> pl.Series:
    """Instruction and response as words with a space between."""
    instruction = words(samples["instruction"]).list.join(" ")
    return instruction + "\n" + words(samples["response"]).list.join(" ")

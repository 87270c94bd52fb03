"""The conversations of a subset, which training and exports both read.

Their text comes from the dataset, from the file of a set that was chosen elsewhere, or from
refinement.
"""

import polars as pl

from opencs_assets.tables.columns import MESSAGES
from opencs_assets.tables.datasets import CONTENT
from opencs_assets.tables.lake import Lake
from resources.errors import MendableError


class SubsetError(MendableError):
    """A subset does not fit its samples; the message says what to materialize again."""


def subset_content(
    subset: pl.DataFrame,
    samples: pl.DataFrame,
    outside: pl.DataFrame,
    refined: pl.DataFrame | None = None,
) -> pl.DataFrame:
    """The subset's conversations (columns ``CONTENT``) in the order of choice.

    ``refined`` is there where the selector refines.

    Raises:
        SubsetError: Samples of the subset are in neither table, or were not refined.
    """
    known = pl.concat([samples.select(CONTENT), outside.select(CONTENT)]).unique(
        "sample_id", keep="first"
    )
    lost = subset.join(known, on="sample_id", how="anti")
    if lost.height:
        raise SubsetError(
            f"{lost.height} of {subset.height} samples of the subset are not in the dataset, "
            f"first {lost['sample_id'][0]}: it was chosen from an older version; materialize "
            "selected_subset again"
        )
    content = (
        subset.select("rank", "sample_id")
        .join(known, on="sample_id", how="left")
        .sort("rank")
        .select(CONTENT)
    )
    return content if refined is None else _refined(content, refined)


def _refined(content: pl.DataFrame, refined: pl.DataFrame) -> pl.DataFrame:
    """The conversations with their first turn replaced by the refined one."""
    lost = content.join(refined, on="sample_id", how="anti")
    if lost.height:
        raise SubsetError(
            f"{lost.height} of {content.height} samples of the subset were not refined, first "
            f"{lost['sample_id'][0]}: materialize refined_samples again"
        )
    better = content.select("sample_id", "system", "messages").join(
        refined.select("sample_id", "instruction", "response"),
        on="sample_id",
        how="left",
        maintain_order="left",
    )
    messages = [
        [
            {"role": "user", "content": instruction},
            {"role": "assistant", "content": response},
            *messages[2:],
        ]
        for messages, instruction, response in better.select(
            "messages", "instruction", "response"
        ).iter_rows()
    ]
    return better.with_columns(messages=pl.Series(messages, dtype=MESSAGES)).select(CONTENT)


def subset_of(
    lake: Lake,
    dataset: str,
    selector: str,
    subset: pl.DataFrame,
    samples: pl.DataFrame,
    *,
    refines: bool,
) -> pl.DataFrame:
    """The subset's conversations as in ``subset_content``, with outside and refined samples read.

    Raises:
        LakeError: The samples have not been refined yet.
        SubsetError: The subset does not fit the samples, see ``subset_content``.
    """
    outside = lake.read("outside_samples", {"dataset": dataset, "selector": selector})
    refined = read_refined(lake, dataset, selector) if refines else None
    return subset_content(subset, samples, outside, refined)


def read_refined(lake: Lake, dataset: str, selector: str) -> pl.DataFrame:
    """The refined samples of a selector that refines.

    Raises:
        LakeError: They have not been materialized.
    """
    return lake.read("refined_samples", {"dataset": dataset, "refined": selector})

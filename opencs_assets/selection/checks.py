"""Whether a subset is what was asked for."""

import dagster as dg
import polars as pl

from opencs_assets.checks import Finding, build_check
from opencs_assets.partitions import Partitions


def sound_subset(subset: pl.DataFrame, samples: pl.DataFrame) -> Finding:
    """The subset is not empty, has each sample once, and each is a sample of the dataset."""
    repeated = subset.height - subset["sample_id"].n_unique()
    foreign = subset.join(samples, on="sample_id", how="anti").height
    gaps = sorted(subset["rank"].to_list()) != list(range(subset.height))
    return Finding(
        subset.height > 0 and not repeated and not foreign and not gaps,
        f"{subset.height} samples, {repeated} repeated, {foreign} not in the dataset"
        + (", ranks have gaps" if gaps else ""),
        {"samples": subset.height, "repeated": repeated, "foreign": foreign},
    )


def build_selection_checks(partitions: Partitions) -> list[dg.AssetChecksDefinition]:
    """The checks on ``selected_subset``; that its size is k is checked where k is known."""
    return [
        build_check(
            "selected_subset",
            "sound_subset",
            sound_subset,
            partitions_def=partitions.dataset_selector,
            inputs={"raw_dataset": dg.AssetIn("raw_dataset")},
        ),
    ]

"""The check that a subset is sound."""

import dagster as dg
import polars as pl

from opencs_assets.wiring.checks import Finding, build_check
from opencs_assets.wiring.partitions import Partitions


def sound_subset(subset: pl.DataFrame, samples: pl.DataFrame, outside: pl.DataFrame) -> Finding:
    """The subset is not empty and has each sample once, of the dataset or of the set's own file."""
    repeated = subset.height - subset["sample_id"].n_unique()
    known = pl.concat([samples["sample_id"], outside["sample_id"]])
    foreign = subset.filter(~pl.col("sample_id").is_in(known.implode())).height
    gaps = sorted(subset["rank"].to_list()) != list(range(subset.height))
    return Finding(
        subset.height > 0 and not repeated and not foreign and not gaps,
        f"{subset.height} samples, {repeated} repeated, {foreign} found nowhere"
        + (", ranks have gaps" if gaps else ""),
        {"samples": subset.height, "repeated": repeated, "foreign": foreign},
    )


def build_selection_checks(partitions: Partitions) -> list[dg.AssetChecksDefinition]:
    """The checks on ``selected_subset``; that its size is k is checked where k is known."""
    return [
        build_check(
            "selected_subset",
            sound_subset,
            partitions.dataset_selector,
            "raw_dataset",
            "outside_samples",
        )
    ]

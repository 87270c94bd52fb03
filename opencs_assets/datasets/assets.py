"""The assets that read a dataset and compare its samples with each other and with benchmarks."""

from collections.abc import Iterator
from functools import partial
from typing import Any

import dagster as dg
import polars as pl

from opencs_assets.benchmarks.questions import read_benchmarks
from opencs_assets.datasets import catalog, plots
from opencs_assets.datasets.canonical import read_dataset
from opencs_assets.datasets.contamination import find_contaminated
from opencs_assets.datasets.duplicates import find_duplicates
from opencs_assets.wiring.automation import free_stage
from opencs_assets.wiring.failures import clear_failures
from opencs_assets.wiring.home import Home
from opencs_assets.wiring.jobs import DATASET
from opencs_assets.wiring.metadata import plot, preview, table_metadata, table_out
from opencs_assets.wiring.partitions import Partitions

GROUP = "datasets"
LARGEST_GROUPS = 10


class RawDatasetConfig(dg.Config):
    """How a dataset is read: only its first ``limit`` rows, or all where there is no limit."""

    limit: int | None = None


def build_dataset_assets(partitions: Partitions) -> list[dg.AssetsDefinition]:
    """The assets that read a dataset's current source file and compare its samples."""
    return [_raw_dataset(partitions), _near_duplicates(partitions), _contaminated(partitions)]


def _comparison(name: str, partitions: Partitions, description: str, **more: Any) -> Any:
    """Declare an asset that compares a dataset's samples as soon as they are read."""
    return dg.asset(
        name=name,
        partitions_def=partitions.dataset,
        io_manager_key="lake",
        description=description,
        kinds={"python", "parquet"},
        owners=["team:data"],
        group_name=GROUP,
        tags=DATASET.tags,
        metadata=table_metadata(name),
        code_version="1",
        automation_condition=free_stage(),
        **more,
    )


def _raw_dataset(partitions: Partitions) -> dg.AssetsDefinition:
    out = partial(
        table_out, group=GROUP, family=DATASET, kinds={"python", "parquet"}, code_version="1"
    )

    @dg.multi_asset(
        name="raw_dataset",
        partitions_def=partitions.dataset,
        outs={
            "raw_dataset": out(
                "raw_dataset",
                "The dataset's samples in one canonical form, whatever shape the file had: "
                "conversation, instruction, response, and the prompt template that was "
                "stripped.",
            ),
            "rejected_rows": out(
                "rejected_rows", "Rows of the file that are not samples, each with the reason."
            ),
        },
    )
    def raw_dataset(
        context: dg.AssetExecutionContext, config: RawDatasetConfig, home: Home
    ) -> Iterator[dg.MaterializeResult]:
        with clear_failures():
            source = catalog.current_source(home.folder, context.partition_key)
            dataset = read_dataset(source.path, limit=config.limit)
        reasons = _counts(dataset.rejected, "reason")
        context.log.info(
            f"{source.original}: {dataset.rows} rows, {dataset.samples.height} samples, "
            f"rejected: {reasons or 'none'}"
        )
        yield dg.MaterializeResult(
            asset_key="raw_dataset",
            value=dataset.samples,
            data_version=dg.DataVersion(f"{dataset.sha256[:16]}-{config.limit or 'all'}"),
            metadata={
                "source": source.original,
                "source_sha256": dataset.sha256,
                "container": dataset.container,
                "encoding": dataset.encoding,
                "rows_read": dataset.rows,
                "rejected": dataset.rejected.height,
                "formats": _counts(dataset.samples, "source_format"),
                "templates_stripped": _counts(dataset.samples, "template"),
                "lengths": plot(plots.lengths(dataset.samples)),
            },
        )
        yield dg.MaterializeResult(
            asset_key="rejected_rows", value=dataset.rejected, metadata={"reasons": reasons}
        )

    return raw_dataset


def _near_duplicates(partitions: Partitions) -> dg.AssetsDefinition:
    @_comparison(
        "near_duplicates",
        partitions,
        "Samples that say the same as an earlier one, word for word or nearly so. Reported only: "
        "none is left out for it.",
    )
    def near_duplicates(raw_dataset: pl.DataFrame, home: Home) -> dg.MaterializeResult:
        with clear_failures():
            method = home.settings().method
            duplicates = find_duplicates(
                raw_dataset, similarity=method.duplicate_similarity, seed=method.seed
            )
        kinds = _counts(duplicates, "kind")
        return dg.MaterializeResult(
            value=duplicates,
            metadata={
                "groups": kinds.get("first", 0),
                "exact": kinds.get("exact", 0),
                "near": kinds.get("near", 0),
                "similarity": method.duplicate_similarity,
                "largest_groups": preview(_largest_groups(duplicates, raw_dataset), LARGEST_GROUPS),
            },
        )

    return near_duplicates


def _contaminated(partitions: Partitions) -> dg.AssetsDefinition:
    @_comparison(
        "contaminated_samples",
        partitions,
        "Samples that ask what a benchmark asks: the same words, or 13 words in a row. Selectors "
        "leave them out, unless method.exclude_contaminated is off or a pin keeps them.",
        # The asset reads the questions from their files, so a new dataset need not wait for them.
        deps=["benchmark_questions"],
    )
    def contaminated_samples(raw_dataset: pl.DataFrame, home: Home) -> dg.MaterializeResult:
        with clear_failures():
            questions = read_benchmarks(home.folder, {})
            matches = find_contaminated(raw_dataset, questions)
        return dg.MaterializeResult(
            value=matches,
            metadata={
                "samples": matches["sample_id"].n_unique(),
                "compared_with": _counts(questions, "benchmark"),
                "by_benchmark": _counts(matches.unique(["benchmark", "sample_id"]), "benchmark"),
            },
        )

    return contaminated_samples


def _counts(frame: pl.DataFrame, column: str) -> dict[str, int]:
    """How many rows have each value of a column, by value."""
    return dict(frame[column].drop_nulls().value_counts().sort(column).iter_rows())


def _largest_groups(duplicates: pl.DataFrame, samples: pl.DataFrame) -> pl.DataFrame:
    return (
        duplicates.group_by("group")
        .agg(samples=pl.len(), sample_id=pl.col("duplicate_of").first())
        .sort(["samples", "group"], descending=[True, False])
        .head(LARGEST_GROUPS)
        .join(samples.select("sample_id", "instruction"), on="sample_id", maintain_order="left")
        .select("samples", "sample_id", "instruction")
    )

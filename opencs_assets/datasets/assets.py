"""The assets that read a dataset and compare its samples with each other and with benchmarks.

``raw_dataset`` and ``rejected_rows`` of one computation; ``near_duplicates``;
``contaminated_samples``.
"""

from collections.abc import Iterator

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
    """How a dataset is read.

    Attributes:
        limit: Take only the file's first rows; unset: all.
    """

    limit: int | None = None


def build_dataset_assets(partitions: Partitions) -> list[dg.AssetsDefinition]:
    """The assets that read a dataset's current source file."""

    @dg.multi_asset(
        name="raw_dataset",
        partitions_def=partitions.dataset,
        outs={
            "raw_dataset": table_out(
                "raw_dataset",
                "The dataset's samples in one canonical form, whatever shape the file had: "
                "conversation, instruction, response, and the prompt template that was "
                "stripped.",
                group=GROUP,
                family=DATASET,
                kinds={"python", "parquet"},
                code_version="1",
            ),
            "rejected_rows": table_out(
                "rejected_rows",
                "Rows of the file that are not samples, each with the reason.",
                group=GROUP,
                family=DATASET,
                kinds={"python", "parquet"},
                code_version="1",
            ),
        },
    )
    def raw_dataset(
        context: dg.AssetExecutionContext,
        config: RawDatasetConfig,
        home: Home,
    ) -> Iterator[dg.MaterializeResult]:
        with clear_failures():
            source = catalog.current_source(home.folder, context.partition_key)
            read = read_dataset(source.path, limit=config.limit)
        reasons = dict(read.rejected["reason"].value_counts().sort("reason").iter_rows())
        context.log.info(
            f"{source.original}: {read.rows} rows, {read.samples.height} samples, "
            f"rejected: {reasons or 'none'}"
        )
        formats = dict(
            read.samples["source_format"].value_counts().sort("source_format").iter_rows()
        )
        templates = read.samples["template"].drop_nulls().value_counts().sort("template")
        yield dg.MaterializeResult(
            asset_key="raw_dataset",
            value=read.samples,
            data_version=dg.DataVersion(f"{read.sha256[:16]}-{config.limit or 'all'}"),
            metadata={
                "source": source.original,
                "source_sha256": read.sha256,
                "container": read.container,
                "encoding": read.encoding,
                "rows_read": read.rows,
                "rejected": read.rejected.height,
                "formats": formats,
                "templates_stripped": dict(templates.iter_rows()),
                "lengths": plot(plots.lengths(read.samples)),
            },
        )
        yield dg.MaterializeResult(
            asset_key="rejected_rows",
            value=read.rejected,
            metadata={"reasons": reasons},
        )

    @dg.asset(
        partitions_def=partitions.dataset,
        io_manager_key="lake",
        description=(
            "Samples that say the same as an earlier one, word for word or nearly so. Reported "
            "only: none is left out for it."
        ),
        kinds={"python", "parquet"},
        owners=["team:data"],
        group_name=GROUP,
        tags=DATASET.tags,
        metadata=table_metadata("near_duplicates"),
        code_version="1",
        automation_condition=free_stage(),
    )
    def near_duplicates(raw_dataset: pl.DataFrame, home: Home) -> dg.MaterializeResult:
        with clear_failures():
            method = home.settings().method
            found = find_duplicates(
                raw_dataset, similarity=method.duplicate_similarity, seed=method.seed
            )
        kinds = dict(found["kind"].value_counts().sort("kind").iter_rows())
        return dg.MaterializeResult(
            value=found,
            metadata={
                "groups": kinds.get("first", 0),
                "exact": kinds.get("exact", 0),
                "near": kinds.get("near", 0),
                "similarity": method.duplicate_similarity,
                "largest_groups": preview(_largest_groups(found, raw_dataset), LARGEST_GROUPS),
            },
        )

    @dg.asset(
        partitions_def=partitions.dataset,
        io_manager_key="lake",
        # The questions come from the files, so that a new dataset need not wait for the table.
        deps=["benchmark_questions"],
        description=(
            "Samples that ask what a benchmark asks: the same words, or 13 words in a row. "
            "Selectors leave them out, unless method.exclude_contaminated is off or a pin keeps "
            "them."
        ),
        kinds={"python", "parquet"},
        owners=["team:data"],
        group_name=GROUP,
        tags=DATASET.tags,
        metadata=table_metadata("contaminated_samples"),
        code_version="1",
        automation_condition=free_stage(),
    )
    def contaminated_samples(raw_dataset: pl.DataFrame, home: Home) -> dg.MaterializeResult:
        with clear_failures():
            questions = read_benchmarks(home.folder, {})
            found = find_contaminated(raw_dataset, questions)
        by_benchmark = found.group_by("benchmark").agg(pl.col("sample_id").n_unique())
        return dg.MaterializeResult(
            value=found,
            metadata={
                "samples": found["sample_id"].n_unique(),
                "compared_with": dict(
                    questions["benchmark"].value_counts().sort("benchmark").iter_rows()
                ),
                "by_benchmark": dict(by_benchmark.sort("benchmark").iter_rows()),
            },
        )

    return [raw_dataset, near_duplicates, contaminated_samples]


def _largest_groups(found: pl.DataFrame, samples: pl.DataFrame) -> pl.DataFrame:
    return (
        found.group_by("group")
        .agg(samples=pl.len(), sample_id=pl.col("duplicate_of").first())
        .sort(["samples", "group"], descending=[True, False])
        .head(LARGEST_GROUPS)
        .join(samples.select("sample_id", "instruction"), on="sample_id", maintain_order="left")
        .select("samples", "sample_id", "instruction")
    )

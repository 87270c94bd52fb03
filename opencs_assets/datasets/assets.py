"""The assets ``raw_dataset`` and ``rejected_rows``."""

from collections.abc import Iterator

import dagster as dg

from opencs_assets.datasets import catalog, plots
from opencs_assets.datasets.canonical import read_dataset
from opencs_assets.failures import clear_failures
from opencs_assets.metadata import plot, table_metadata
from opencs_assets.partitions import Partitions
from resources.home import Home

GROUP = "datasets"


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
            "raw_dataset": dg.AssetOut(
                io_manager_key="lake",
                description=(
                    "The dataset's samples in one canonical form, whatever shape the file had: "
                    "conversation, instruction, response, and the prompt template that was "
                    "stripped."
                ),
                kinds={"python", "parquet"},
                owners=["team:data"],
                group_name=GROUP,
                metadata=table_metadata("raw_dataset"),
                code_version="1",
            ),
            "rejected_rows": dg.AssetOut(
                io_manager_key="lake",
                description="Rows of the file that are not samples, each with the reason.",
                kinds={"python", "parquet"},
                owners=["team:data"],
                group_name=GROUP,
                metadata=table_metadata("rejected_rows"),
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

    return [raw_dataset]

"""The asset ``cost_estimate``."""

import dagster as dg

from opencs_assets.planning.estimate import estimate_dataset, estimate_table
from opencs_assets.tables.lake import Lake
from opencs_assets.wiring.failures import clear_failures
from opencs_assets.wiring.home import Home
from opencs_assets.wiring.jobs import DATASET
from opencs_assets.wiring.partitions import Partitions
from resources.llm.resource import LLMResource


def build_estimate_assets(partitions: Partitions) -> list[dg.AssetsDefinition]:
    """The asset ``cost_estimate``: materializing it makes no call."""

    @dg.asset(
        partitions_def=partitions.dataset,
        deps=["raw_dataset"],
        description=(
            "What tagging and scoring the dataset would take: calls, tokens, dollars, time. "
            "Makes no call."
        ),
        kinds={"python"},
        owners=["team:data"],
        group_name="datasets",
        tags=DATASET.tags,
        code_version="1",
    )
    def cost_estimate(
        context: dg.AssetExecutionContext, home: Home, llm: LLMResource
    ) -> dg.MaterializeResult:
        settings = home.settings()
        dataset = context.partition_key
        with clear_failures():
            costs = estimate_dataset(
                Lake(settings.lake).read("raw_dataset", {"dataset": dataset}),
                settings,
                llm.planned(dataset),
                dataset,
            )
        return dg.MaterializeResult(
            metadata={
                "estimate": dg.MetadataValue.md(estimate_table(costs)),
                "calls": sum(each.estimate.calls for each in costs),
                "stored": sum(each.estimate.stored for each in costs),
            }
        )

    return [cost_estimate]

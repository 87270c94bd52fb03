"""The assets ``cost_estimate``, ``stability_samples`` and ``stability_runs``; none asks a model."""

from collections.abc import Iterator
from functools import partial

import dagster as dg
import polars as pl

from opencs_assets.config.profiles import resolve_constants
from opencs_assets.planning import plots, stability
from opencs_assets.planning.estimate import estimate_dataset, estimate_table
from opencs_assets.planning.rerun import KeptScores, Reruns
from opencs_assets.tables.lake import Lake
from opencs_assets.wiring.automation import free_stage
from opencs_assets.wiring.failures import clear_failures
from opencs_assets.wiring.home import Home
from opencs_assets.wiring.jobs import DATASET
from opencs_assets.wiring.metadata import plot, table_out
from opencs_assets.wiring.partitions import Partitions
from resources.embedder import EmbedderResource
from resources.llm.resource import LLMResource


def build_planning_assets(partitions: Partitions) -> list[dg.AssetsDefinition]:
    """The assets that say what a dataset would take, and how much its subset owes to settings."""
    return [_estimate(partitions), _stability(partitions)]


def _estimate(partitions: Partitions) -> dg.AssetsDefinition:
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
                "calls": sum(cost.estimate.calls for cost in costs),
                "stored": sum(cost.estimate.stored for cost in costs),
            }
        )

    return cost_estimate


def _stability(partitions: Partitions) -> dg.AssetsDefinition:
    stability_table = partial(
        table_out,
        group="selection",
        kinds={"polars", "parquet"},
        code_version="2",
        automation_condition=free_stage(),
        family=DATASET,
    )

    @dg.multi_asset(
        name="selection_stability",
        partitions_def=partitions.dataset,
        deps=["contaminated_samples"],
        outs={
            "stability_samples": stability_table(
                "stability_samples",
                "How often other seeds, K, α and quotas choose each sample: the selection run "
                "again from kept comparisons, without a call.",
            ),
            "stability_runs": stability_table(
                "stability_runs",
                "The runs behind `stability_samples`: what each varied, and how much of the subset "
                "it kept.",
            ),
        },
    )
    def selection_stability(
        context: dg.AssetExecutionContext,
        raw_dataset: pl.DataFrame,
        open_tags: pl.DataFrame,
        score_comparisons: pl.DataFrame,
        embedder: EmbedderResource,
        home: Home,
    ) -> Iterator[dg.MaterializeResult]:
        settings = home.settings()
        constants = resolve_constants(settings.profile, settings.method, raw_dataset.height)
        with clear_failures():
            reruns = Reruns(
                KeptScores.of(
                    settings,
                    context.partition_key,
                    raw_dataset,
                    open_tags,
                    score_comparisons,
                    embedder.embed,
                )
            )
            measured = stability.measure(
                reruns.run(constants).chosen,
                list(stability.variants(constants)),
                reruns.run,
                constants.seed,
            )
        mean, low, high = measured.jaccard
        yield dg.MaterializeResult(
            asset_key="stability_samples",
            value=measured.samples,
            metadata={
                "jaccard_between_runs": round(mean, 3),
                "jaccard_interval": f"{low:.3f} to {high:.3f}",
                "chosen_by_all": measured.samples.filter(pl.col("inclusion") == 1).height,
                "inclusion": plot(plots.inclusion(measured.samples)),
            },
        )
        yield dg.MaterializeResult(
            asset_key="stability_runs",
            value=measured.runs,
            metadata={
                "failed": measured.runs["failed"].count(),
                "unscored_share": int(measured.runs["unscored"].sum())
                / max(int(measured.runs["candidates"].sum()), 1),
                "by_factor": plot(plots.jaccard_by_factor(measured.runs)),
            },
        )

    return selection_stability

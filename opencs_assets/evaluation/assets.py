"""The warehouse's assets: what is declared, the kept replies, and the dbt models.

The models are built and published together.
"""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import dagster as dg
import polars as pl
from dagster_dbt import DagsterDbtTranslator, dbt_assets

from opencs_assets.config.experiments import Experiments
from opencs_assets.evaluation import declared, plots
from opencs_assets.protocols.registry import protocol_facts
from opencs_assets.tables.evaluation import JUDGE_PROTOCOLS
from opencs_assets.wiring import automation
from opencs_assets.wiring.jobs import WAREHOUSE
from opencs_assets.wiring.metadata import PREVIEW_ROWS, plot, preview, table_metadata
from resources.dbt_project import (
    DbtError,
    NodeResult,
    dbt_build,
    dbt_manifest,
    refuse_broken,
)
from resources.lake import LakeError
from resources.llm.resource import LLMResource
from resources.llm.store import LOST
from resources.provenance import SHORT, content_hash
from resources.settings import Settings
from resources.warehouse import Warehouse, WarehouseError

GROUP = "evaluation"
OWNERS = ["team:evaluation"]
_IN_LAKE: Mapping[str, Any] = {
    "io_manager_key": "lake",
    "group_name": GROUP,
    "tags": WAREHOUSE.tags,
    "owners": OWNERS,
}
_UNIQUE_ID = "dagster_dbt/unique_id"
_PLOTS = {
    "win_rates": plots.win_tie_lose,
    "win_rates_all": plots.win_tie_lose,
    "answer_scores": plots.score_table,
    "answer_scores_all": plots.score_table,
    "answer_scores_by_category": plots.category_radar,
    "position_bias": plots.position_bias,
    "leaderboard": plots.leaderboard,
}


class LakeTranslator(DagsterDbtTranslator):  # type: ignore[misc]
    """dbt's sources are the lake's assets; its marts are the warehouse's."""

    def get_asset_key(self, dbt_resource_props: Mapping[str, Any]) -> dg.AssetKey:
        """A table has one name everywhere."""
        return dg.AssetKey(dbt_resource_props["name"])

    def get_description(self, dbt_resource_props: Mapping[str, Any]) -> str:
        """The model's description; its SQL is in the repository."""
        return str(dbt_resource_props["description"])

    def get_group_name(self, dbt_resource_props: Mapping[str, Any]) -> str | None:
        """All marts stand in one group."""
        return GROUP

    def get_owners(self, dbt_resource_props: Mapping[str, Any]) -> Sequence[str]:
        """All marts have one owner."""
        return OWNERS

    def get_tags(self, dbt_resource_props: Mapping[str, Any]) -> Mapping[str, str]:
        """All marts are of the warehouse's family."""
        return WAREHOUSE.tags

    def get_automation_condition(
        self, dbt_resource_props: Mapping[str, Any]
    ) -> dg.AutomationCondition[Any] | None:
        """Built again when anything below changed."""
        return automation.warehouse()


def build_evaluation_assets(
    settings: Settings, experiments: Experiments
) -> list[dg.AssetsDefinition]:
    """The assets of the warehouse: ``llm_replies``, what is declared, and the dbt models.

    Raises:
        DbtError: The dbt project can't be parsed.
    """
    return [
        _replies_asset(),
        _declared_asset(
            "declared_models",
            declared.declared_models(experiments),
            "The experiments of experiments.yaml, with their budgets, and the outside models.",
        ),
        _declared_asset(
            "declared_matchups",
            declared.declared_matchups(experiments),
            "The matchups of experiments.yaml, and the budget in which their sides are equal.",
        ),
        _declared_asset(
            JUDGE_PROTOCOLS.name,
            protocol_facts(),
            "The ways to ask a judge: by turn or not, scale, and the rule that merges two orders.",
        ),
        _mart_assets(settings),
    ]


def _replies_asset() -> dg.AssetsDefinition:
    @dg.asset(
        **_IN_LAKE,
        kinds={"polars", "parquet"},
        deps=[
            "open_tags",
            "contrastive_scores",
            "whole_set_scores",
            "single_scores",
            "refined_samples",
            "single_verdicts",
            "pairwise_verdicts",
        ],
        metadata=table_metadata("llm_replies"),
        automation_condition=automation.warehouse(),
    )
    def llm_replies(llm: LLMResource) -> dg.MaterializeResult[pl.DataFrame]:
        """Every reply of a language model that is kept: who asked, which model, tokens and cost.

        Calls that were in flight when their process was killed have rows of their own.
        """
        calls = llm.replies()
        lost = pl.col("status") == LOST
        return dg.MaterializeResult(
            value=calls,
            metadata={
                "cost_usd": _dollars(calls.filter(~lost)),
                "lost_usd": _dollars(calls.filter(lost)),
            },
        )

    return llm_replies


def _declared_asset(name: str, rows: pl.DataFrame, description: str) -> dg.AssetsDefinition:
    @dg.asset(
        name=name,
        **_IN_LAKE,
        kinds={"parquet"},
        description=description,
        metadata=table_metadata(name),
        # Declarations change with the file or the code, and with nothing upstream.
        code_version=content_hash(rows.rows())[:SHORT],
        automation_condition=automation.declared(),
    )
    def table() -> pl.DataFrame:
        return rows

    return table


def _mart_assets(settings: Settings) -> dg.AssetsDefinition:
    home, lake = settings.home, settings.lake
    warehouse = Warehouse(settings.warehouse)

    @dbt_assets(
        manifest=dbt_manifest(home),
        dagster_dbt_translator=LakeTranslator(),
        name="warehouse",
        pool="warehouse",
    )
    def marts(context: dg.AssetExecutionContext) -> Iterator[Any]:
        results: list[NodeResult] = []
        try:
            declared.prepare_lake(lake)
            with warehouse.building() as database:
                results = dbt_build(home, lake, database)
                refuse_broken(results, home)
        except (DbtError, LakeError, WarehouseError) as error:
            yield from _check_results(context, results)
            raise dg.Failure(str(error), allow_retries=False) from error
        context.log.info(f"published {warehouse.path}: {len(results)} models and tests")
        yield from _materializations(context, results, warehouse)
        yield from _check_results(context, results)

    return marts


def _materializations(
    context: dg.AssetExecutionContext, results: Sequence[NodeResult], warehouse: Warehouse
) -> Iterator[dg.MaterializeResult[Any]]:
    # In the order in which dbt built them, since Dagster wants a mart after those that it reads.
    keys = {spec.metadata[_UNIQUE_ID]: spec.key for spec in context.assets_def.specs}
    for result in results:
        key = keys.get(result.unique_id)
        if key is None or key not in context.selected_asset_keys:
            continue
        yield dg.MaterializeResult(
            asset_key=key,
            metadata={**_mart_metadata(result.table, warehouse), "seconds": result.seconds},
        )


def _mart_metadata(table: str, warehouse: Warehouse) -> dict[str, Any]:
    def ask(what: str) -> pl.DataFrame:
        return warehouse.query(f"select {what} from {table}")  # noqa: S608

    notes = {}
    if "note" in warehouse.query(f"describe {table}")["column_name"]:
        told = ask("distinct note")["note"].drop_nulls().sort()
        notes = {"note": "; ".join(told)} if told.len() else {}
    return {
        "dagster/row_count": ask("count(*)").item(),
        "preview": preview(warehouse.query(f"from {table} limit {PREVIEW_ROWS}")),
        "query": f'opencs sql "from {table}"',
        **notes,
        **({"plot": plot(_PLOTS[table](ask("*")))} if table in _PLOTS else {}),
    }


def _dollars(calls: pl.DataFrame) -> float | str:
    """What calls cost; unknown where one's price is."""
    return "unknown" if calls["cost_usd"].null_count() else float(calls["cost_usd"].sum())


def _check_results(
    context: dg.AssetExecutionContext, results: Sequence[NodeResult]
) -> Iterator[dg.AssetCheckResult]:
    by_id = {result.unique_id: result for result in results}
    selected = context.selected_asset_check_keys
    for spec in context.assets_def.check_specs:
        result = by_id.get(spec.metadata[_UNIQUE_ID])
        if spec.key not in selected or result is None or result.status == "skipped":
            continue
        yield dg.AssetCheckResult(
            asset_key=spec.asset_key,
            check_name=spec.name,
            passed=result.ok,
            severity=(dg.AssetCheckSeverity.ERROR if result.broken else dg.AssetCheckSeverity.WARN),
            description=result.message or None,
            metadata={"failing_rows": result.failures, "seconds": result.seconds},
        )

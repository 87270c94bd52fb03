"""The asset ``selected_subset``."""

from collections.abc import Iterator

import dagster as dg
import polars as pl

from opencs_assets.automation import free_stage
from opencs_assets.experiments import Experiments
from opencs_assets.failures import clear_failures
from opencs_assets.metadata import bullets, plot, table_metadata
from opencs_assets.partitions import Partitions
from opencs_assets.profiles import resolve_constants
from opencs_assets.selection import plots
from opencs_assets.selection.pins import read_pins
from opencs_assets.selection.registry import METHODS, select
from resources.home import Home
from resources.lake import Lake

PINS = "pins.csv"
OTHER_TABLES = sorted({name for method in METHODS.values() for name in method.needs})


def build_selection_assets(
    experiments: Experiments, partitions: Partitions
) -> list[dg.AssetsDefinition]:
    """The asset that chooses a subset by each declared selector."""

    @dg.asset(
        partitions_def=partitions.dataset_selector,
        io_manager_key="lake",
        # A selector reads only the tables that it needs, so the others need not exist.
        deps=[
            name
            for name in [*OTHER_TABLES, "sample_clusters", "contaminated_samples"]
            if name != "raw_dataset"
        ],
        description=(
            "The chosen samples in the order of choice, each with the reason. `pins.csv` in the "
            "home keeps or bans samples."
        ),
        kinds={"polars", "parquet"},
        owners=["team:data"],
        group_name="selection",
        metadata=table_metadata("selected_subset"),
        code_version="1",
        automation_condition=free_stage(),
        check_specs=[
            dg.AssetCheckSpec(
                "size",
                asset="selected_subset",
                description="The subset has exactly the number of samples that was asked for.",
            ),
            dg.AssetCheckSpec(
                "not_contaminated",
                asset="selected_subset",
                description="No chosen sample asks what a benchmark asks.",
            ),
        ],
    )
    def selected_subset(
        context: dg.AssetExecutionContext, raw_dataset: pl.DataFrame, home: Home
    ) -> Iterator[dg.MaterializeResult]:
        keys = partitions.dataset_selector.get_partition_key_from_str(
            context.partition_key
        ).keys_by_dimension
        declared = experiments.selectors[keys["selector"]]
        settings = home.settings()
        constants = resolve_constants(settings.profile, settings.method, raw_dataset.height)
        lake = Lake(settings.lake)

        def table(name: str) -> pl.DataFrame:
            return lake.read(name, {"dataset": keys["dataset"]})

        with clear_failures():
            contaminated = frozenset(table("contaminated_samples")["sample_id"])
            subset = select(
                declared.method,
                table,
                read_pins(home.folder / PINS, raw_dataset["sample_id"].to_list()),
                k=declared.k or constants.k.value,
                quota=declared.quota or constants.quota.value,
                refill=constants.refill,
                seed=constants.seed if declared.seed is None else declared.seed,
                contaminated=contaminated if settings.method.exclude_contaminated else frozenset(),
            )
        for note in subset.notes:
            context.log.info(note)
        primary = _primary_clusters(lake, keys["dataset"])
        matching = subset.rows.filter(pl.col("sample_id").is_in(list(contaminated)))
        exact = subset.rows.height == subset.wanted
        yield dg.MaterializeResult(
            value=subset.rows,
            metadata={
                "k": subset.wanted,
                "method": declared.method,
                "profile": constants.profile,
                **({"notes": bullets(subset.notes)} if subset.notes else {}),
                "against_all": plot(plots.against_all(subset.rows, raw_dataset, primary)),
            },
            check_results=[
                dg.AssetCheckResult(
                    check_name="size",
                    passed=exact,
                    severity=dg.AssetCheckSeverity.WARN,
                    description=f"{subset.rows.height} of {subset.wanted} samples"
                    + ("" if exact else f": {'; '.join(subset.notes)}"),
                ),
                dg.AssetCheckResult(
                    check_name="not_contaminated",
                    passed=not matching.height,
                    severity=dg.AssetCheckSeverity.WARN,
                    description=f"{matching.height} of {subset.rows.height} chosen samples match "
                    f"a benchmark question, {matching['pinned'].sum()} of them kept by pins.csv; "
                    f"{len(contaminated)} of the dataset's do",
                    metadata={"samples": ", ".join(matching["sample_id"].head(20))},
                ),
            ],
        )

    return [selected_subset]


def _primary_clusters(lake: Lake, dataset: str) -> pl.DataFrame:
    if not lake.exists("sample_clusters", {"dataset": dataset}):
        return pl.DataFrame(schema={"sample_id": pl.String, "cluster": pl.Int64})
    return (
        lake.read("sample_clusters", {"dataset": dataset})
        .filter("is_primary")
        .select("sample_id", "cluster")
    )

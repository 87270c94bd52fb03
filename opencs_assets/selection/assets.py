"""The assets that choose subsets, refine them and write them as files.

Of one computation ``selected_subset``, ``unselected_samples`` and ``outside_samples``; then
``refined_samples`` and ``subset_exports``.
"""

from collections.abc import Callable, Iterator
from dataclasses import replace
from functools import partial

import dagster as dg
import polars as pl

from opencs_assets.config.experiments import Experiments, Selector
from opencs_assets.config.profiles import Constants, resolve_constants
from opencs_assets.selection import card, plots, refinement
from opencs_assets.selection.choice import WHOLE, SelectorOptions
from opencs_assets.selection.export import export_subset
from opencs_assets.selection.pins import PINS, read_pins
from opencs_assets.selection.registry import METHODS, Subset, select
from opencs_assets.tables.lake import Lake
from opencs_assets.tables.subset import read_refined, subset_content
from opencs_assets.wiring.automation import free_stage
from opencs_assets.wiring.failures import clear_failures
from opencs_assets.wiring.home import Home
from opencs_assets.wiring.jobs import EXPORT, REFINED, SELECTOR
from opencs_assets.wiring.metadata import bullets, plot, table_metadata, table_out
from opencs_assets.wiring.partitions import Partitions
from opencs_assets.wiring.usage import usage_metadata
from resources.llm.resource import LLMResource

GROUP = "selection"
OWNERS = ["team:data"]
EXPORTS = "exports"
WHY = "select * from selected_samples where sample_id like '0123abcd%'"
OTHER_TABLES = sorted(
    {name for method in METHODS.values() for name in method.needs}
    | {"sample_clusters", "contaminated_samples"}
)


def build_selection_assets(
    experiments: Experiments, partitions: Partitions
) -> list[dg.AssetsDefinition]:
    """The assets that choose a subset by each declared selector, refine and export it."""
    selection_table = partial(
        table_out,
        group=GROUP,
        kinds={"polars", "parquet"},
        code_version="2",
        automation_condition=free_stage(),
    )

    @dg.multi_asset(
        name="selected_subset",
        partitions_def=partitions.dataset_selector,
        # A selector reads only the tables that it needs, so the others need not exist.
        deps=[name for name in OTHER_TABLES if name != "raw_dataset"],
        outs={
            "selected_subset": selection_table(
                "selected_subset",
                "The chosen samples in the order of choice, each with the reason. `pins.csv` in "
                "the home keeps or bans samples.",
                family=SELECTOR,
            ),
            "unselected_samples": selection_table(
                "unselected_samples",
                "The dataset's other samples, each with why it is not chosen.",
                family=SELECTOR,
            ),
            "outside_samples": selection_table(
                "outside_samples",
                "Of a set chosen elsewhere, the samples that the dataset does not have.",
                family=SELECTOR,
            ),
        },
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
    ) -> Iterator[dg.MaterializeResult | dg.AssetCheckResult]:
        keys = _keys(partitions.dataset_selector, context)
        declared = experiments.selectors[keys["selector"]]
        settings = home.settings()
        constants = resolve_constants(
            declared.profile or settings.profile, settings.method, raw_dataset.height
        )
        lake = Lake(settings.lake)
        table = _tables(lake, keys["dataset"])
        with clear_failures():
            contaminated = frozenset(table("contaminated_samples")["sample_id"])
            subset = select(
                declared.method,
                table,
                read_pins(home.folder / PINS, raw_dataset["sample_id"].to_list()),
                options_of(declared, constants, home),
                contaminated if settings.method.exclude_contaminated else frozenset(),
            )
        for note in subset.notes:
            context.log.info(note)
        clusters = _primary_clusters(lake, keys["dataset"])
        yield _subset_result(subset, declared, constants, raw_dataset, clusters)
        yield dg.MaterializeResult(
            asset_key="unselected_samples",
            value=subset.unselected,
            metadata={"ranked": subset.unselected["place"].count()},
        )
        yield dg.MaterializeResult(asset_key="outside_samples", value=subset.outside)
        yield from _subset_checks(subset, contaminated)

    @dg.asset(
        partitions_def=partitions.dataset_refined,
        ins={"selected_subset": dg.AssetIn(partition_mapping=partitions.selector_to_refined)},
        deps=[dg.AssetDep("outside_samples", partition_mapping=partitions.selector_to_refined)],
        io_manager_key="lake",
        description=(
            "A subset's samples with a better response and then a better instruction, beside what "
            "they were. What could not be refined is as it was, with the reason."
        ),
        kinds={"openai", "parquet"},
        owners=OWNERS,
        group_name=GROUP,
        tags=REFINED.tags,
        metadata=table_metadata("refined_samples"),
        code_version=refinement.prompt_versions(),
        pool="llm_api",
    )
    def refined_samples(
        context: dg.AssetExecutionContext,
        selected_subset: pl.DataFrame,
        raw_dataset: pl.DataFrame,
        home: Home,
        llm: LLMResource,
    ) -> dg.MaterializeResult:
        keys = _keys(partitions.dataset_refined, context)
        lake = Lake(home.settings().lake)
        where = {"dataset": keys["dataset"], "selector": keys["refined"]}
        with (
            clear_failures(),
            llm.client(
                "refiner",
                stage="refined_samples",
                dataset=keys["dataset"],
                log=context.log.info,
            ) as client,
        ):
            content = subset_content(
                selected_subset, raw_dataset, lake.read("outside_samples", where)
            )
            table = refinement.refine(
                content, client.complete_parsed, client.model_label, client.role.max_tokens
            )
        return dg.MaterializeResult(
            value=table,
            metadata={
                "responses_refined": table.filter(pl.col("response_status") == "ok").height,
                "instructions_refined": table.filter(pl.col("instruction_status") == "ok").height,
                "left_as_they_were": refinement.left(table),
                **usage_metadata(client),
                "lengths": plot(plots.before_and_after(table)),
            },
        )

    @dg.asset(
        partitions_def=partitions.dataset_selector,
        deps=[
            "outside_samples",
            dg.AssetDep("refined_samples", partition_mapping=partitions.refined_to_selector),
        ],
        io_manager_key="lake",
        description=(
            "The subset as Alpaca, ShareGPT and OpenAI JSON and as Parquet, with a card, in "
            "`exports/` of the home; `datasets` and LLaMA-Factory load the folder as it is."
        ),
        kinds={"json", "parquet", "huggingface"},
        owners=OWNERS,
        group_name=GROUP,
        tags=EXPORT.tags,
        metadata=table_metadata("subset_exports"),
        code_version="1",
        automation_condition=free_stage(),
    )
    def subset_exports(
        context: dg.AssetExecutionContext,
        selected_subset: pl.DataFrame,
        raw_dataset: pl.DataFrame,
        home: Home,
    ) -> dg.MaterializeResult:
        keys = _keys(partitions.dataset_selector, context)
        name = keys["selector"]
        declared = experiments.selectors[name]
        settings = home.settings()
        lake = Lake(settings.lake)
        constants = resolve_constants(
            declared.profile or settings.profile, settings.method, raw_dataset.height
        )
        folder = home.folder / EXPORTS / keys["dataset"] / (declared.export or name)
        with clear_failures():
            refined = read_refined(lake, keys["dataset"], name) if declared.refine else None
            content = subset_content(
                selected_subset, raw_dataset, lake.read("outside_samples", keys), refined
            )
            files = export_subset(
                folder,
                selected_subset,
                content,
                card.describe(
                    keys["dataset"],
                    name,
                    declared,
                    options_of(declared, constants, home),
                    constants,
                    raw_dataset,
                    _tables_there(lake, keys["dataset"]),
                    refined,
                    settings.licenses.get(keys["dataset"], card.UNKNOWN_LICENSE),
                ),
            )
        return dg.MaterializeResult(
            value=files,
            metadata={
                "folder": dg.MetadataValue.path(str(folder)),
                "card": dg.MetadataValue.md((folder / "README.md").read_text().split("---\n")[-1]),
            },
        )

    return [selected_subset, refined_samples, subset_exports]


def options_of(declared: Selector, constants: Constants, home: Home) -> SelectorOptions:
    """What is set of a selector: its own, else the dataset's."""
    method = METHODS.get(declared.method)
    whole = method is not None and method.whole
    own = SelectorOptions.of(constants)
    return replace(
        own,
        # What takes a whole set takes it all unless its own k says otherwise.
        k=declared.k or (WHOLE if whole else own.k),
        quota=declared.quota or own.quota,
        seed=own.seed if declared.seed is None else declared.seed,
        criterion=declared.criterion,
        length=declared.length,
        file=None if declared.file is None else home.folder / declared.file.expanduser(),
    )


def _keys(
    definition: dg.MultiPartitionsDefinition, context: dg.AssetExecutionContext
) -> dict[str, str]:
    return dict(definition.get_partition_key_from_str(context.partition_key).keys_by_dimension)


def _tables(lake: Lake, dataset: str) -> Callable[[str], pl.DataFrame]:
    return lambda name: lake.read(name, {"dataset": dataset})


def _tables_there(lake: Lake, dataset: str) -> Callable[[str], pl.DataFrame | None]:
    return lambda name: lake.find(name, {"dataset": dataset})


def _subset_result(
    subset: Subset,
    declared: Selector,
    constants: Constants,
    samples: pl.DataFrame,
    clusters: pl.DataFrame,
) -> dg.MaterializeResult:
    return dg.MaterializeResult(
        asset_key="selected_subset",
        value=subset.rows,
        metadata={
            "k": subset.wanted,
            "method": declared.method,
            "profile": constants.profile,
            **({"notes": bullets(subset.notes)} if subset.notes else {}),
            "why_each": dg.MetadataValue.md(
                "Any sample of the dataset, its tags, comparisons, score and cut: "
                f'`opencs sql "{WHY}"`, and `rejected_samples` for those that it does not have'
            ),
            "chosen": dg.MetadataValue.asset(dg.AssetKey("selected_samples")),
            "not_chosen": dg.MetadataValue.asset(dg.AssetKey("rejected_samples")),
            "against_all": plot(plots.against_all(subset.rows, samples, clusters)),
        },
    )


def _subset_checks(subset: Subset, contaminated: frozenset[str]) -> Iterator[dg.AssetCheckResult]:
    exact = subset.rows.height == subset.wanted
    yield dg.AssetCheckResult(
        asset_key="selected_subset",
        check_name="size",
        passed=exact,
        severity=dg.AssetCheckSeverity.WARN,
        description=f"{subset.rows.height} of {subset.wanted} samples"
        + ("" if exact else f": {'; '.join(subset.notes)}"),
    )
    matching = subset.rows.filter(pl.col("sample_id").is_in(list(contaminated)))
    yield dg.AssetCheckResult(
        asset_key="selected_subset",
        check_name="not_contaminated",
        passed=not matching.height,
        severity=dg.AssetCheckSeverity.WARN,
        description=f"{matching.height} of {subset.rows.height} chosen samples match a benchmark "
        f"question, {matching['pinned'].sum()} of them kept by pins.csv; "
        f"{len(contaminated)} of the dataset's do",
        metadata={"samples": ", ".join(matching["sample_id"].head(20))},
    )


def _primary_clusters(lake: Lake, dataset: str) -> pl.DataFrame:
    clusters = lake.find("sample_clusters", {"dataset": dataset})
    if clusters is None:
        return pl.DataFrame(schema={"sample_id": pl.String, "cluster": pl.Int64})
    return clusters.filter("is_primary").select("sample_id", "cluster")

"""The assets that choose subsets, refine them and write them as files.

One computation makes ``selected_subset``, ``unselected_samples`` and ``outside_samples``;
``refined_samples`` and ``subset_exports`` are made from them.
"""

from collections.abc import Iterator
from dataclasses import replace

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
from resources.settings import Settings

GROUP = "selection"
OWNERS = ["team:data"]
EXPORTS = "exports"
WHY = "select * from selected_samples where sample_id like '0123abcd%'"
OTHER_TABLES = sorted(
    {name for method in METHODS.values() for name in method.needs}
    | {"sample_clusters", "contaminated_samples"}
)
SUBSET_TABLES = {
    "selected_subset": (
        "The chosen samples in the order of choice, each with the reason. `pins.csv` in the home "
        "keeps or bans samples."
    ),
    "unselected_samples": "The dataset's other samples, each with why it is not chosen.",
    "outside_samples": "The samples of a set chosen elsewhere that the dataset does not have.",
}
SUBSET_CHECKS = {
    "size": "The subset has exactly the number of samples that was asked for.",
    "not_contaminated": "No chosen sample asks what a benchmark asks.",
}


def build_selection_assets(
    experiments: Experiments, partitions: Partitions
) -> list[dg.AssetsDefinition]:
    """The assets that choose a subset by each declared selector, refine and export it."""
    return [
        _choice(experiments, partitions),
        _refinement(partitions),
        _export(experiments, partitions),
    ]


def _choice(experiments: Experiments, partitions: Partitions) -> dg.AssetsDefinition:
    @dg.multi_asset(
        name="selected_subset",
        partitions_def=partitions.dataset_selector,
        # A selector reads only the tables that it needs, so the others need not exist.
        deps=[name for name in OTHER_TABLES if name != "raw_dataset"],
        outs={
            name: table_out(
                name,
                description,
                family=SELECTOR,
                group=GROUP,
                kinds={"polars", "parquet"},
                code_version="2",
                automation_condition=free_stage(),
            )
            for name, description in SUBSET_TABLES.items()
        },
        check_specs=[
            dg.AssetCheckSpec(name, asset="selected_subset", description=description)
            for name, description in SUBSET_CHECKS.items()
        ],
    )
    def selected_subset(
        context: dg.AssetExecutionContext, raw_dataset: pl.DataFrame, home: Home
    ) -> Iterator[dg.MaterializeResult | dg.AssetCheckResult]:
        keys = _keys(partitions.dataset_selector, context)
        declared = experiments.selectors[keys["selector"]]
        settings = home.settings()
        constants = _constants(declared, settings, raw_dataset)
        lake = Lake(settings.lake)
        dataset = {"dataset": keys["dataset"]}
        with clear_failures():
            contaminated = frozenset(lake.read("contaminated_samples", dataset)["sample_id"])
            subset = select(
                declared.method,
                lambda name: lake.read(name, dataset),
                read_pins(home.folder / PINS, raw_dataset["sample_id"].to_list()),
                options_of(declared, constants, home),
                contaminated if settings.method.exclude_contaminated else frozenset(),
            )
        for note in subset.notes:
            context.log.info(note)
        clusters = _primary_clusters(lake.find("sample_clusters", dataset))
        yield _subset_result(subset, declared, constants, raw_dataset, clusters)
        yield dg.MaterializeResult(
            asset_key="unselected_samples",
            value=subset.unselected,
            metadata={"ranked": subset.unselected["place"].count()},
        )
        yield dg.MaterializeResult(asset_key="outside_samples", value=subset.outside)
        yield from _subset_checks(subset, contaminated)

    return selected_subset


def _refinement(partitions: Partitions) -> dg.AssetsDefinition:
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
        subset_keys = {"dataset": keys["dataset"], "selector": keys["refined"]}
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
                selected_subset, raw_dataset, lake.read("outside_samples", subset_keys)
            )
            table = refinement.refine(
                content, client.complete_parsed, client.model_label, client.role.max_tokens
            )
        return dg.MaterializeResult(
            value=table,
            metadata={
                "responses_refined": table.filter(pl.col("response_status") == "ok").height,
                "instructions_refined": table.filter(pl.col("instruction_status") == "ok").height,
                "left_as_they_were": refinement.unrefined_parts(table),
                **usage_metadata(client),
                "lengths": plot(plots.before_and_after(table)),
            },
        )

    return refined_samples


def _export(experiments: Experiments, partitions: Partitions) -> dg.AssetsDefinition:
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
        dataset, selector = keys["dataset"], keys["selector"]
        declared = experiments.selectors[selector]
        settings = home.settings()
        lake = Lake(settings.lake)
        constants = _constants(declared, settings, raw_dataset)
        folder = home.folder / EXPORTS / dataset / (declared.export or selector)
        with clear_failures():
            refined = read_refined(lake, dataset, selector) if declared.refine else None
            content = subset_content(
                selected_subset, raw_dataset, lake.read("outside_samples", keys), refined
            )
            described = card.describe(
                dataset,
                selector,
                declared,
                options_of(declared, constants, home),
                constants,
                raw_dataset.height,
                lambda name: lake.find(name, {"dataset": dataset}),
                refined,
                settings.licenses.get(dataset, card.UNKNOWN_LICENSE),
            )
            files = export_subset(folder, selected_subset, content, described)
        return dg.MaterializeResult(
            value=files,
            metadata={
                "folder": dg.MetadataValue.path(str(folder)),
                "card": dg.MetadataValue.md((folder / "README.md").read_text().split("---\n")[-1]),
            },
        )

    return subset_exports


def _constants(declared: Selector, settings: Settings, samples: pl.DataFrame) -> Constants:
    return resolve_constants(declared.profile or settings.profile, settings.method, samples.height)


def options_of(declared: Selector, constants: Constants, home: Home) -> SelectorOptions:
    """A selector's options: what it declares itself, and else the dataset's constants."""
    method = METHODS.get(declared.method)
    takes_all = method is not None and method.takes_all
    defaults = SelectorOptions.of(constants)
    return replace(
        defaults,
        k=declared.k or (WHOLE if takes_all else defaults.k),
        quota=declared.quota or defaults.quota,
        seed=defaults.seed if declared.seed is None else declared.seed,
        criterion=declared.criterion,
        length=declared.length,
        file=None if declared.file is None else home.folder / declared.file.expanduser(),
    )


def _keys(
    definition: dg.MultiPartitionsDefinition, context: dg.AssetExecutionContext
) -> dict[str, str]:
    return dict(definition.get_partition_key_from_str(context.partition_key).keys_by_dimension)


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
            "k": subset.requested_size,
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
    exact = subset.rows.height == subset.requested_size
    yield dg.AssetCheckResult(
        asset_key="selected_subset",
        check_name="size",
        passed=exact,
        severity=dg.AssetCheckSeverity.WARN,
        description=f"{subset.rows.height} of {subset.requested_size} samples"
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


def _primary_clusters(clusters: pl.DataFrame | None) -> pl.DataFrame:
    if clusters is None:
        return pl.DataFrame(schema={"sample_id": pl.String, "cluster": pl.Int64})
    return clusters.filter("is_primary").select("sample_id", "cluster")

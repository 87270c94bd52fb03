"""The assets that tag samples and normalize the tags, with the replies and steps behind them."""

from collections.abc import Iterator

import dagster as dg
import polars as pl

from opencs_assets.config.profiles import resolve_constants
from opencs_assets.open_tags import plots, tagging
from opencs_assets.open_tags.normalize import normalize
from opencs_assets.wiring.automation import free_stage
from opencs_assets.wiring.failures import clear_failures
from opencs_assets.wiring.home import Home
from opencs_assets.wiring.jobs import DATASET
from opencs_assets.wiring.metadata import plot, table_out
from opencs_assets.wiring.partitions import Partitions
from opencs_assets.wiring.usage import usage_metadata
from resources.embedder import EmbedderResource
from resources.llm.resource import LLMResource

GROUP = "open_tags"
TAGGED = {
    "open_tags": (
        "What the tagger calls each sample, in its own words. A sample whose replies "
        "could not be read keeps a row that says why."
    ),
    "unparsable_tags": (
        "Every reply of the tagger that could not be used, with the reason; it was "
        "asked again at most twice."
    ),
}
NORMALIZED = {
    "normalized_tags": "Each sample's tags after merging equal ones and dropping rare ones.",
    "tag_lineage": (
        "What each step of normalization made of each raw tag, so that it can be "
        "asked why two tags are one."
    ),
}


def build_tag_assets(partitions: Partitions) -> list[dg.AssetsDefinition]:
    """The assets that tag a dataset and normalize its tags."""
    return [_open_tags(partitions), _normalized_tags(partitions)]


def _open_tags(partitions: Partitions) -> dg.AssetsDefinition:
    prompts = f"{tagging.prompt_version('compact')}+{tagging.prompt_version('explained')}"

    @dg.multi_asset(
        name="open_tags",
        partitions_def=partitions.dataset,
        outs={
            name: table_out(
                name,
                description,
                group=GROUP,
                family=DATASET,
                kinds={"openai", "parquet"},
                code_version=prompts,
            )
            for name, description in TAGGED.items()
        },
        pool="llm_api",
    )
    def open_tags(
        context: dg.AssetExecutionContext, raw_dataset: pl.DataFrame, llm: LLMResource
    ) -> Iterator[dg.MaterializeResult]:
        queries = tagging.queries(raw_dataset)
        with (
            clear_failures(),
            llm.client(
                "tagger",
                stage="open_tags",
                dataset=context.partition_key,
                log=context.log.info,
            ) as client,
        ):
            form = tagging.form_of(client.structured)
            outcomes = client.complete_parsed(
                queries,
                lambda query, attempt, reason: tagging.build_call(query, attempt, reason, form),
                tagging.parse_tags,
                label="tags",
                max_attempts=tagging.MAX_ATTEMPTS,
            )
            table = tagging.tags_table(queries, outcomes, model=client.model_label, form=form)
            unparsable = tagging.unparsable_table(
                queries, outcomes, model=client.model_label, form=form
            )
        names = table["tags"].explode().drop_nulls().struct.field("tag")
        yield dg.MaterializeResult(
            asset_key="open_tags",
            value=table,
            metadata={
                "unique_tags": names.n_unique(),
                "tags": len(names),
                "not_tagged": table.filter(pl.col("status") != "ok").height,
                **usage_metadata(client),
                "tag_cloud": plot(plots.tag_cloud(names, "Open tags")),
            },
        )
        yield dg.MaterializeResult(
            asset_key="unparsable_tags",
            value=unparsable,
            metadata={
                "samples": unparsable["sample_id"].n_unique(),
                "reasons": dict(unparsable["reason"].value_counts(sort=True).head(10).iter_rows()),
            },
        )

    return open_tags


def _normalized_tags(partitions: Partitions) -> dg.AssetsDefinition:
    @dg.multi_asset(
        name="normalized_tags",
        partitions_def=partitions.dataset,
        outs={
            name: table_out(
                name,
                description,
                group=GROUP,
                family=DATASET,
                kinds={"polars", "parquet"},
                code_version="2",
                automation_condition=free_stage(),
            )
            for name, description in NORMALIZED.items()
        },
    )
    def normalized_tags(
        context: dg.AssetExecutionContext,
        open_tags: pl.DataFrame,
        embedder: EmbedderResource,
        home: Home,
    ) -> Iterator[dg.MaterializeResult]:
        with clear_failures():
            settings = home.settings()
            constants = resolve_constants(settings.profile, settings.method, open_tags.height)
            normalized = normalize(open_tags, constants, embedder.embed)
        context.log.info(constants.table())
        tags, lineage, steps = normalized.tags, normalized.lineage, normalized.steps
        yield dg.MaterializeResult(
            asset_key="normalized_tags",
            value=tags,
            metadata={
                "raw_unique_tags": steps[0].tags,
                "normalized_unique_tags": steps[-1].left,
                "samples_without_tag": tags["reason"].count(),
                "profile": settings.profile,
                "steps": dg.MetadataValue.md(normalized.table()),
                "constants": dg.MetadataValue.md(constants.table()),
                "tag_cloud": plot(
                    plots.tag_cloud(tags["tags"].explode().drop_nulls(), "Normalized tags")
                ),
                "tags_a_sample": plot(plots.tags_a_sample(open_tags, tags)),
            },
        )
        yield dg.MaterializeResult(
            asset_key="tag_lineage",
            value=lineage,
            metadata={
                **{f"merged_by_{step.name}": step.merged for step in steps},
                **{f"dropped_by_{step.name}": step.dropped for step in steps},
                "heaviest_merges": plot(plots.heaviest_merges(lineage)),
            },
        )

    return normalized_tags

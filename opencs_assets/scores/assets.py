"""The assets ``score_comparisons``, ``contrastive_scores`` and ``single_scores``."""

from collections.abc import Iterator
from typing import get_args

import dagster as dg
import polars as pl

from opencs_assets.failures import clear_failures
from opencs_assets.metadata import plot, table_metadata, table_out
from opencs_assets.partitions import Partitions
from opencs_assets.profiles import resolve_constants
from opencs_assets.scores import contrast, plots, single
from opencs_assets.scores.pairing import comparisons
from opencs_assets.usage import usage_metadata
from resources.home import Home
from resources.llm.resource import LLMResource
from resources.settings import Reading

GROUP = "scores"


def build_score_assets(partitions: Partitions) -> list[dg.AssetsDefinition]:
    """The assets that score a dataset's samples."""
    contrast_version = "+".join(map(contrast.prompt_version, get_args(Reading)))
    single_version = "+".join(map(single.prompt_version, get_args(Reading)))

    @dg.multi_asset(
        name="contrastive_scores",
        partitions_def=partitions.dataset,
        pool="llm_api",
        outs={
            "score_comparisons": table_out(
                "score_comparisons",
                "Every question to the scorer: two samples, their order, two scores.",
                group=GROUP,
                kinds={"openai", "parquet"},
                code_version=contrast_version,
            ),
            "contrastive_scores": table_out(
                "contrastive_scores",
                "Each candidate's mean score among the samples of its cluster. It ranks within "
                "a cluster only.",
                group=GROUP,
                kinds={"openai", "parquet"},
                code_version=contrast_version,
            ),
        },
    )
    def contrastive_scores(
        context: dg.AssetExecutionContext,
        raw_dataset: pl.DataFrame,
        sample_clusters: pl.DataFrame,
        home: Home,
        llm: LLMResource,
    ) -> Iterator[dg.MaterializeResult]:
        settings = home.settings()
        constants = resolve_constants(settings.profile, settings.method, raw_dataset.height)
        asked = comparisons(sample_clusters, raw_dataset, constants)
        texts = {
            sample: (instruction, response)
            for sample, instruction, response in raw_dataset.select(
                "sample_id", "instruction", "response"
            ).iter_rows()
        }
        with (
            clear_failures(),
            llm.client(
                "scorer",
                stage="contrastive_scores",
                dataset=context.partition_key,
                log=context.log.info,
            ) as client,
        ):
            reading = client.reading
            outcomes = client.complete_parsed(
                asked,
                lambda item, attempt, reason: contrast.build_call(
                    item, texts, reading, attempt, reason
                ),
                lambda reply: contrast.parse_scores(reply, reading),
                label="comparisons",
                max_attempts=contrast.MAX_ATTEMPTS,
            )
            table = contrast.comparison_table(
                asked, outcomes, model=client.model_label, reading=reading
            )
        scored_in = sample_clusters.filter("is_candidate")
        if constants.one_cluster_each:
            scored_in = scored_in.filter("is_primary")
        scores = contrast.contrastive_scores(table, scored_in)
        yield dg.MaterializeResult(
            asset_key="score_comparisons",
            value=table,
            metadata={
                "pairs": table.select("cluster", "sample_a", "sample_b").n_unique(),
                "reading": reading,
                **usage_metadata(client),
            },
        )
        yield dg.MaterializeResult(
            asset_key="contrastive_scores",
            value=scores,
            metadata={
                "unscored": scores["score"].null_count(),
                "reading": reading,
                "model": client.model_label,
                "scores": plot(plots.score_distribution(scores, contrast.LOW, contrast.HIGH)),
                "position": plot(plots.order_gap(scores)),
            },
        )

    @dg.asset(
        partitions_def=partitions.dataset,
        io_manager_key="lake",
        description="Each sample scored alone, 0 to 5, for the AlpaGasus baseline.",
        kinds={"openai", "parquet"},
        owners=["team:data"],
        group_name=GROUP,
        metadata=table_metadata("single_scores"),
        code_version=single_version,
        pool="llm_api",
    )
    def single_scores(
        context: dg.AssetExecutionContext, raw_dataset: pl.DataFrame, llm: LLMResource
    ) -> dg.MaterializeResult:
        items = list(raw_dataset.select("instruction", "response").iter_rows())
        with (
            clear_failures(),
            llm.client(
                "scorer",
                stage="single_scores",
                dataset=context.partition_key,
                log=context.log.info,
            ) as client,
        ):
            reading = client.reading
            outcomes = client.complete_parsed(
                items,
                lambda item, attempt, reason: single.build_call(
                    item[0], item[1], reading, attempt, reason
                ),
                lambda reply: single.parse_rating(reply, reading),
                label="single scores",
                max_attempts=single.MAX_ATTEMPTS,
            )
            table = single.score_table(
                raw_dataset["sample_id"].to_list(),
                outcomes,
                model=client.model_label,
                reading=reading,
            )
        return dg.MaterializeResult(
            value=table,
            metadata={
                "unscored": table["score"].null_count(),
                "reading": reading,
                **usage_metadata(client),
                "scores": plot(plots.score_distribution(table, single.LOW, single.HIGH)),
            },
        )

    return [contrastive_scores, single_scores]

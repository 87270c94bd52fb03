"""The assets that score samples in pairs, within clusters and over the whole set, and alone."""

from collections.abc import Callable, Iterator, Sequence
from functools import partial
from typing import get_args

import dagster as dg
import polars as pl

from opencs_assets.config.profiles import Constants, resolve_constants
from opencs_assets.scores import contrast, pairing, plots, single
from opencs_assets.scores.aggregate import contrastive_scores
from opencs_assets.scores.pairing import Comparison
from opencs_assets.scores.rounds import ComparisonBudget, compare_in_rounds
from opencs_assets.wiring.failures import clear_failures
from opencs_assets.wiring.home import Home
from opencs_assets.wiring.jobs import DATASET, WHOLE_SET
from opencs_assets.wiring.metadata import plot, table_metadata, table_out
from opencs_assets.wiring.partitions import Partitions
from opencs_assets.wiring.usage import usage_metadata
from resources.llm.client import LLMClient
from resources.llm.resource import LLMResource
from resources.settings import Criterion, Reading

GROUP = "scores"


def build_score_assets(partitions: Partitions) -> list[dg.AssetsDefinition]:
    """The assets that score a dataset's samples."""
    return [*_contrastive_assets(partitions), _single_scores(partitions)]


def _contrastive_assets(partitions: Partitions) -> list[dg.AssetsDefinition]:
    compared_table = partial(
        table_out,
        group=GROUP,
        kinds={"openai", "parquet"},
        code_version="2+" + "+".join(map(contrast.prompt_version, get_args(Reading))),
    )

    @dg.multi_asset(
        name="contrastive_scores",
        partitions_def=partitions.dataset,
        pool="llm_api",
        outs={
            "score_comparisons": compared_table(
                "score_comparisons",
                "Every question to the scorer: two samples, their order, two scores.",
                family=DATASET,
            ),
            "contrastive_scores": compared_table(
                "contrastive_scores",
                "Each candidate's score among the samples of its cluster, with its interval. It "
                "ranks within a cluster only.",
                family=DATASET,
            ),
        },
    )
    def clustered_scores(
        context: dg.AssetExecutionContext,
        raw_dataset: pl.DataFrame,
        sample_clusters: pl.DataFrame,
        home: Home,
        llm: LLMResource,
    ) -> Iterator[dg.MaterializeResult]:
        constants = _constants(home, raw_dataset)
        scored = pairing.candidates(sample_clusters, constants)
        names = ("score_comparisons", "contrastive_scores")
        cut = constants.quota.value
        yield from _contrast(context, llm, names, raw_dataset, scored, cut, constants)

    @dg.multi_asset(
        name="whole_set_scores",
        partitions_def=partitions.dataset,
        pool="llm_api",
        outs={
            "whole_set_comparisons": compared_table(
                "whole_set_comparisons",
                "For the ablation without clusters: pairs of the whole set that were compared.",
                family=WHOLE_SET,
            ),
            "whole_set_scores": compared_table(
                "whole_set_scores",
                "For the ablation without clusters: each sample's score among all.",
                family=WHOLE_SET,
            ),
        },
    )
    def whole_set_scores(
        context: dg.AssetExecutionContext, raw_dataset: pl.DataFrame, home: Home, llm: LLMResource
    ) -> Iterator[dg.MaterializeResult]:
        constants = _constants(home, raw_dataset)
        scored = pairing.whole_set(raw_dataset)
        names = ("whole_set_comparisons", "whole_set_scores")
        yield from _contrast(context, llm, names, raw_dataset, scored, constants.k.value, constants)

    return [clustered_scores, whole_set_scores]


def _constants(home: Home, samples: pl.DataFrame) -> Constants:
    settings = home.settings()
    return resolve_constants(settings.profile, settings.method, samples.height)


def _single_scores(partitions: Partitions) -> dg.AssetsDefinition:
    versions = (
        single.prompt_version(criterion, reading)
        for criterion in single.SCALES
        for reading in get_args(Reading)
    )

    @dg.asset(
        partitions_def=partitions.dataset,
        io_manager_key="lake",
        description=(
            "Each sample scored alone, by each criterion of `method.single_criteria`; for the "
            "AlpaGasus baseline and the ablation without comparisons."
        ),
        kinds={"openai", "parquet"},
        owners=["team:data"],
        group_name=GROUP,
        tags=DATASET.tags,
        metadata=table_metadata("single_scores"),
        code_version=f"2+{'+'.join(versions)}",
        pool="llm_api",
    )
    def single_scores(
        context: dg.AssetExecutionContext, raw_dataset: pl.DataFrame, home: Home, llm: LLMResource
    ) -> dg.MaterializeResult:
        criteria = home.settings().method.single_criteria
        with (
            clear_failures(),
            llm.client(
                "scorer",
                stage="single_scores",
                dataset=context.partition_key,
                log=context.log.info,
            ) as client,
        ):
            table = pl.concat(
                _scored_alone(client, raw_dataset, criterion) for criterion in criteria
            )
        return dg.MaterializeResult(
            value=table,
            metadata={
                "samples_without_score": table["score"].null_count(),
                "reading": client.reading,
                **usage_metadata(client),
                **{
                    criterion: plot(
                        plots.score_distribution(
                            table.filter(pl.col("criterion") == criterion),
                            single.LOW,
                            single.SCALES[criterion].high,
                        )
                    )
                    for criterion in criteria
                },
            },
        )

    return single_scores


def _scored_alone(client: LLMClient, samples: pl.DataFrame, criterion: Criterion) -> pl.DataFrame:
    """Each sample scored by one criterion, as rows of ``single_scores``."""
    reading = client.reading
    outcomes = client.complete_parsed(
        list(samples.select("instruction", "response").iter_rows()),
        lambda item, attempt, reason: single.build_call(
            item[0], item[1], criterion, reading, attempt, reason
        ),
        lambda reply: single.parse_rating(reply, reading, criterion),
        label=f"single scores ({criterion})",
        max_attempts=single.MAX_ATTEMPTS,
    )
    return single.score_table(
        samples["sample_id"].to_list(),
        criterion,
        outcomes,
        model=client.model_label,
        reading=reading,
    )


def _contrast(
    context: dg.AssetExecutionContext,
    llm: LLMResource,
    names: tuple[str, str],
    samples: pl.DataFrame,
    scored: pl.DataFrame,
    cut: int,
    constants: Constants,
) -> Iterator[dg.MaterializeResult]:
    """Have the candidates compared, and yield the tables of comparisons and of scores."""
    comparisons_name, scores_name = names
    budget = ComparisonBudget(constants.comparisons, constants.comparisons_usd)
    with (
        clear_failures(),
        llm.client(
            "scorer", stage=scores_name, dataset=context.partition_key, log=context.log.info
        ) as client,
    ):
        ask = _asker(client, samples, budget)
        if budget.limited:
            table = compare_in_rounds(scored, cut, ask, budget)
        else:
            table = ask(pairing.comparisons(scored, samples, constants))
    scores = contrastive_scores(table, scored, constants.aggregate)
    yield dg.MaterializeResult(
        asset_key=comparisons_name,
        value=table,
        metadata={
            "pairs": table.select("cluster", "sample_a", "sample_b").n_unique(),
            "rounds": table["round"].n_unique(),
            "reading": client.reading,
            **usage_metadata(client),
        },
    )
    position = {}
    if scores.position is not None:
        position["points_gained_by_being_shown_first"] = round(scores.position, 2)
    yield dg.MaterializeResult(
        asset_key=scores_name,
        value=scores.table,
        metadata={
            "samples_without_score": scores.table["score"].null_count(),
            "scores_made_by": constants.aggregate,
            "reading": client.reading,
            "model": client.model_label,
            **position,
            "scores": plot(plots.score_distribution(scores.table, contrast.LOW, contrast.HIGH)),
            "intervals": plot(plots.interval_widths(scores.table)),
            "position": plot(plots.order_gap(scores.table)),
        },
    )


def _asker(
    client: LLMClient, samples: pl.DataFrame, budget: ComparisonBudget
) -> Callable[[Sequence[Comparison]], pl.DataFrame]:
    """Make the function that has comparisons made and gives rows of ``score_comparisons``."""
    texts, reading = contrast.texts_of(samples), client.reading

    def ask(comparisons: Sequence[Comparison]) -> pl.DataFrame:
        round_number = f", round {comparisons[0].round + 1}" if budget.limited else ""
        outcomes = client.complete_parsed(
            comparisons,
            lambda item, attempt, reason: contrast.build_call(
                item, texts, reading, attempt, reason
            ),
            lambda reply: contrast.parse_scores(reply, reading),
            label=f"comparisons{round_number}",
            max_attempts=contrast.MAX_ATTEMPTS,
        )
        # The last of several unusable replies is the outcome's reply too.
        replies = [
            {
                reply.reply_id: reply.cost_usd
                for reply in (*(unusable.reply for unusable in outcome.unusable), outcome.reply)
            }
            for outcome in outcomes
        ]
        budget.note(len(comparisons), [cost for costs in replies for cost in costs.values()])
        return contrast.comparison_table(
            comparisons, outcomes, model=client.model_label, reading=reading
        )

    return ask

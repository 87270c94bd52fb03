"""The assets ``single_verdicts`` and ``pairwise_verdicts``."""

from typing import Any

import dagster as dg
import polars as pl

from opencs_assets.config.experiments import Experiments
from opencs_assets.protocols.registry import choose_pair, choose_single, pair_protocols
from opencs_assets.protocols.single import SINGLE
from opencs_assets.protocols.stopping import EarlyStop, Look
from opencs_assets.protocols.tasks import (
    STOPPED,
    by_benchmark,
    most_turns,
    pair_tasks,
    single_tasks,
)
from opencs_assets.tables.lake import Lake
from opencs_assets.tables.verdicts import SINGLE_VERDICTS
from opencs_assets.verdicts import judging, plots
from opencs_assets.wiring.failures import clear_failures
from opencs_assets.wiring.home import Home
from opencs_assets.wiring.jobs import EXPERIMENT, MATCHUP
from opencs_assets.wiring.metadata import plot, table_metadata
from opencs_assets.wiring.partitions import Partitions
from opencs_assets.wiring.usage import usage_metadata
from resources.llm.resource import LLMResource
from resources.settings import Settings

GROUP = "verdicts"
OWNERS = ["team:evaluation"]


def build_verdict_assets(
    experiments: Experiments, partitions: Partitions
) -> list[dg.AssetsDefinition]:
    """The assets that judge answers."""
    single_verdicts = _single_verdicts(experiments, partitions)
    if not experiments.matchups:
        return [single_verdicts]
    return [single_verdicts, _pairwise_verdicts(experiments, partitions)]


def _single_verdicts(experiments: Experiments, partitions: Partitions) -> dg.AssetsDefinition:
    @dg.asset(
        partitions_def=partitions.dataset_experiment,
        io_manager_key="lake",
        description=(
            "Each answer judged alone, 1 to 10, turn by turn, with references where there are any, "
            "in the way of MT-Bench."
        ),
        kinds={"openai", "parquet"},
        owners=OWNERS,
        group_name=GROUP,
        tags=EXPERIMENT.tags,
        metadata=table_metadata("single_verdicts"),
        code_version="+".join(protocol.version for protocol in SINGLE.values()),
        pool="llm_api",
    )
    def single_verdicts(
        context: dg.AssetExecutionContext,
        model_answers: pl.DataFrame,
        benchmark_questions: pl.DataFrame,
        llm: LLMResource,
        home: Home,
    ) -> dg.MaterializeResult:
        judged = filter(experiments.judges_alone, set(model_answers["benchmark"]))
        answers = model_answers.filter(pl.col("benchmark").is_in(list(judged)))
        expected = by_benchmark(single_tasks(benchmark_questions, answers))
        tables = [SINGLE_VERDICTS.empty()]
        with (
            clear_failures(),
            llm.client(
                "judge", stage="single_verdicts", dataset=_dataset(context), log=context.log.info
            ) as client,
        ):
            settings = home.settings()
            for tasks in expected:
                turns = most_turns(benchmark_questions, tasks[0].question.benchmark)
                protocol = choose_single(settings, client.reading, turns)
                tables.append(judging.judge_single(client, tasks, protocol))
        table = pl.concat(tables)
        return dg.MaterializeResult(
            value=table,
            metadata={
                **_counts(table),
                **_means(table),
                "scores": plot(plots.scores(table)),
                **usage_metadata(client),
            },
        )

    return single_verdicts


def _pairwise_verdicts(experiments: Experiments, partitions: Partitions) -> dg.AssetsDefinition:
    @dg.asset(
        partitions_def=partitions.dataset_matchup,
        io_manager_key="lake",
        description=(
            "Two models' answers to each question compared, in both orders: two experiments, or an "
            "experiment and an outside model."
        ),
        ins={
            "model_answers": dg.AssetIn(
                "model_answers", partition_mapping=partitions.experiment_to_matchup
            ),
        },
        # Read from the lake: only the matchup's own, and none where both sides are experiments.
        deps=[dg.AssetDep("outside_answers", partition_mapping=dg.AllPartitionMapping())],
        kinds={"openai", "parquet"},
        owners=OWNERS,
        group_name=GROUP,
        tags=MATCHUP.tags,
        metadata=table_metadata("pairwise_verdicts"),
        code_version="+".join(protocol.version for protocol in pair_protocols().values()),
        pool="llm_api",
    )
    def pairwise_verdicts(
        context: dg.AssetExecutionContext,
        model_answers: pl.DataFrame,
        benchmark_questions: pl.DataFrame,
        llm: LLMResource,
        home: Home,
    ) -> dg.MaterializeResult:
        matchup = experiments.matchups[context.partition_key.keys_by_dimension["matchup"]]
        with clear_failures():
            settings = home.settings()
            lake = Lake(settings.lake)
            answers_a, answers_b = (
                lake.read("outside_answers", {"outside_model": model})
                if model in experiments.outside_models
                else model_answers.filter(pl.col("experiment") == model)
                for model in (matchup.model_a, matchup.model_b)
            )
        with (
            clear_failures(),
            llm.client(
                "judge", stage="pairwise_verdicts", dataset=_dataset(context), log=context.log.info
            ) as client,
        ):
            turns = most_turns(benchmark_questions, matchup.benchmark)
            protocol = choose_pair(settings, client.reading, turns)
            tasks = pair_tasks(
                benchmark_questions,
                answers_a,
                answers_b,
                matchup.benchmark,
                by_turn=protocol.by_turn,
            )
            table, last = judging.judge_pairs(
                client,
                tasks,
                protocol,
                model_a=matchup.model_a,
                model_b=matchup.model_b,
                early=_early(settings),
            )
        return dg.MaterializeResult(
            value=table,
            metadata={
                **_counts(table),
                **_outcomes(table),
                **(_stopping(last) if last else {}),
                "win_tie_lose": plot(plots.win_tie_lose(table)),
                **usage_metadata(client),
            },
        )

    return pairwise_verdicts


def _early(settings: Settings) -> EarlyStop | None:
    own = settings.judging
    if not own.stop_early:
        return None
    return EarlyStop(own.stop_level, own.batch, settings.method.seed)


def _dataset(context: dg.AssetExecutionContext) -> str:
    return context.partition_key.keys_by_dimension["dataset"]


def _means(table: pl.DataFrame) -> dict[str, Any]:
    """Mean scores by turn and of all, those that could be read; by turn, as turns differ."""
    means = dict(table.group_by("turn").agg(pl.col("score").mean()).sort("turn").iter_rows())
    mean_scores = {f"mean_score_turn_{turn}": mean for turn, mean in means.items()}
    mean_scores["mean_score"] = table["score"].mean()
    return {name: mean for name, mean in mean_scores.items() if mean is not None}


def _outcomes(table: pl.DataFrame) -> dict[str, Any]:
    merged = plots.outcomes(table)
    outcomes: dict[str, Any] = dict.fromkeys(("win", "tie", "lose", "unparsable"), 0)
    outcomes |= dict(merged["outcome"].value_counts().iter_rows())
    if table.height:
        outcomes["rule"] = pair_protocols()[table["protocol"][0]].default_rule
    disagree = merged["orders_disagree"].drop_nulls()
    if disagree.len():
        outcomes["orders_disagree_pct"] = round(100 * int(disagree.sum()) / disagree.len(), 2)
    return outcomes


def _stopping(last: Look) -> dict[str, int | float | bool]:
    """Where sequential stopping stands: the interval of the mean (win 1, tie 0.5, lose 0)."""
    return {
        "result_is_clear": last.is_clear,
        "questions_judged": last.questions,
        "questions_without_outcome": last.unread,
        "win_or_half_tie": last.mean,
        "win_or_half_tie_low": last.low,
        "win_or_half_tie_high": last.high,
    }


def _counts(table: pl.DataFrame) -> dict[str, Any]:
    by_status = dict(table["status"].value_counts().sort("status").iter_rows())
    read = by_status.get("ok", 0)
    counts = {
        name: ", ".join(table[name].unique().sort()) or "nothing to judge"
        for name in ("protocol", "reading", "prompt_version", "sampling")
    }
    return {
        "expected": table.height,
        "read": read,
        "unread": table.height - read - by_status.get(STOPPED, 0),
        "by_status": by_status,
        **counts,
    }

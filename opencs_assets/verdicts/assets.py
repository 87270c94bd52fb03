"""The assets ``single_verdicts`` and ``pairwise_verdicts``."""

import dagster as dg
import polars as pl

from opencs_assets.experiments import Experiments
from opencs_assets.failures import clear_failures
from opencs_assets.metadata import plot, table_metadata
from opencs_assets.partitions import Partitions
from opencs_assets.usage import usage_metadata
from opencs_assets.verdicts import judging, plots
from resources.home import Home
from resources.lake import Lake
from resources.llm.resource import LLMResource
from resources.settings import load_settings

GROUP = "verdicts"
OWNERS = ["team:evaluation"]


def build_verdict_assets(
    experiments: Experiments, partitions: Partitions
) -> list[dg.AssetsDefinition]:
    """The assets that judge answers.

    Args:
        experiments: The declared experiments and matchups.
        partitions: The partition families.
    """

    @dg.asset(
        partitions_def=partitions.dataset_experiment,
        io_manager_key="lake",
        description="Each answer judged alone, 1 to 10, both turns, in the way of MT-Bench.",
        kinds={"openai", "parquet"},
        owners=OWNERS,
        group_name=GROUP,
        metadata=table_metadata("single_verdicts"),
        code_version=_version("single"),
        pool="llm_api",
    )
    def single_verdicts(
        context: dg.AssetExecutionContext,
        model_answers: pl.DataFrame,
        benchmark_questions: pl.DataFrame,
        llm: LLMResource,
    ) -> dg.MaterializeResult:
        tasks = judging.single_tasks(benchmark_questions, model_answers)
        asked = [task for task in tasks if task.answered]
        with (
            clear_failures(),
            llm.client(
                "judge", stage="single_verdicts", dataset=_dataset(context), log=context.log.info
            ) as client,
        ):
            reading = client.reading
            outcomes = client.complete_parsed(
                asked,
                lambda task, attempt, reason: judging.single_call(task, attempt, reason, reading),
                lambda reply: judging.read_single(reply, reading),
                label="answers judged",
                max_attempts=judging.MAX_ATTEMPTS,
            )
            table = judging.single_table(
                tasks,
                dict(zip(asked, outcomes, strict=True)),
                judge=client.model_label,
                reading=reading,
            )
        return dg.MaterializeResult(
            value=table,
            metadata={
                **_counts(table),
                **_mean(table["score"]),
                "scores": plot(plots.scores(table)),
                **usage_metadata(client),
            },
        )

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
        metadata=table_metadata("pairwise_verdicts"),
        code_version=_version("pair"),
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
            lake = Lake(load_settings(home.folder).lake)
            answers_a, answers_b = (
                lake.read("outside_answers", {"outside_model": model})
                if model in experiments.outside_models
                else model_answers.filter(pl.col("experiment") == model)
                for model in (matchup.model_a, matchup.model_b)
            )
        tasks = judging.pair_tasks(benchmark_questions, answers_a, answers_b, matchup.benchmark)
        asked = [task for task in tasks if task.answered]
        with (
            clear_failures(),
            llm.client(
                "judge", stage="pairwise_verdicts", dataset=_dataset(context), log=context.log.info
            ) as client,
        ):
            reading = client.reading
            outcomes = client.complete_parsed(
                asked,
                lambda task, attempt, reason: judging.pair_call(task, attempt, reason, reading),
                lambda reply: judging.read_pair(reply, reading),
                label="pairs judged",
                max_attempts=judging.MAX_ATTEMPTS,
            )
            table = judging.pair_table(
                tasks,
                dict(zip(asked, outcomes, strict=True)),
                model_a=matchup.model_a,
                model_b=matchup.model_b,
                judge=client.model_label,
                reading=reading,
            )
        merged = plots.outcomes(table)["outcome"].value_counts()
        return dg.MaterializeResult(
            value=table,
            metadata={
                **_counts(table),
                **dict.fromkeys(("win", "tie", "lose", "unparsable"), 0),
                **dict(merged.iter_rows()),
                "win_tie_lose": plot(plots.win_tie_lose(table)),
                **usage_metadata(client),
            },
        )

    return [single_verdicts, *([pairwise_verdicts] if experiments.matchups else [])]


def _version(protocol: str) -> str:
    return "+".join(
        judging.prompt_version(protocol, reading) for reading in ("generated", "logprobs")
    )


def _mean(scores: pl.Series) -> dict[str, float]:
    read = scores.drop_nulls().to_numpy()
    return {"mean_score": float(read.mean())} if read.size else {}


def _dataset(context: dg.AssetExecutionContext) -> str:
    return context.partition_key.keys_by_dimension["dataset"]


def _counts(table: pl.DataFrame) -> dict[str, int | str]:
    read = table.filter(pl.col("status") == "ok").height
    return {
        "expected": table.height,
        "read": read,
        "unread": table.height - read,
        "reading": table["reading"][0] if table.height else "nothing to judge",
        "prompt_version": table["prompt_version"][0] if table.height else "",
    }

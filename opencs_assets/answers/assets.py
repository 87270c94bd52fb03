"""The assets ``model_answers`` and ``outside_answers``."""

from collections.abc import Mapping
from typing import Any

import dagster as dg
import polars as pl

from opencs_assets.answers import outside, plots
from opencs_assets.answers.provenance import CODE_VERSION, answer_fields
from opencs_assets.answers.store import read_answers, split_by_benchmark
from opencs_assets.config.benchmarks import sampling_of
from opencs_assets.config.experiments import DeclaredEndpoint, Experiments
from opencs_assets.wiring.failures import clear_failures
from opencs_assets.wiring.home import Home
from opencs_assets.wiring.jobs import EXPERIMENT, FORCE_TAG, OUTSIDE
from opencs_assets.wiring.metadata import plot, table_metadata
from opencs_assets.wiring.partitions import Partitions
from opencs_assets.wiring.usage import usage_metadata
from resources.launcher.resource import TrainingLauncher
from resources.launcher.work import Work
from resources.llm.resource import LLMResource
from resources.provenance import SHORT, content_hash

GENERATOR = "opencs_assets.answers.generate"
GROUP = "answers"


class AnswersConfig(dg.Config):
    """How to materialize the answers; ``force`` makes answers again that could be reused."""

    force: bool = False


def build_answer_assets(
    experiments: Experiments, partitions: Partitions
) -> list[dg.AssetsDefinition]:
    """The asset that answers the benchmarks from each checkpoint."""

    @dg.asset(
        partitions_def=partitions.dataset_experiment,
        io_manager_key="lake",
        description=(
            "The checkpoint's answers to every question, turn by turn, of all benchmarks or those "
            "that `benchmarks` of experiments.yaml names. Generated from its files, or by the "
            "endpoint that serves it. Reused where checkpoint, questions and sampling are the "
            "same; a killed run goes on where it stopped."
        ),
        kinds={"python", "torch", "huggingface"},
        owners=["team:evaluation"],
        group_name=GROUP,
        tags=EXPERIMENT.tags,
        metadata=table_metadata("model_answers"),
        code_version=CODE_VERSION,
        pool="gpu",
    )
    def model_answers(
        context: dg.AssetExecutionContext,
        config: AnswersConfig,
        checkpoint: pl.DataFrame,
        benchmark_questions: pl.DataFrame,
        launcher: TrainingLauncher,
        home: Home,
    ) -> dg.MaterializeResult[pl.DataFrame]:
        keys = partitions.dataset_experiment.get_partition_key_from_str(
            context.partition_key
        ).keys_by_dimension
        recipe = experiments.recipes[experiments.experiments[keys["experiment"]].recipe]
        force = config.force or context.run.tags.get(FORCE_TAG) == "true"
        trained = checkpoint.row(0, named=True)
        questions = outside.questions_of(benchmark_questions, experiments.benchmarks)
        by_benchmark = split_by_benchmark(questions)
        scratch = home.settings().training.scratch
        served = _served(experiments.endpoints.get(keys["experiment"]), keys)
        fields = {
            name: answer_fields(
                trained["provenance"],
                part,
                sampling_of(name),
                max_new_tokens=recipe.max_new_tokens,
                seed=recipe.seed,
                served_as=served["model"] if served else None,
            )
            for name, part in by_benchmark.items()
        }
        hashes = {name: content_hash(determinants) for name, determinants in fields.items()}
        folder = home.folder / "answers" / keys["dataset"] / keys["experiment"]
        files = {name: folder / f"{name}-{made[:SHORT]}.parquet" for name, made in hashes.items()}

        def stored() -> dict[str, pl.DataFrame]:
            return {
                name: table
                for name, part in by_benchmark.items()
                if (table := read_answers(files[name], part, hashes[name])) is not None
            }

        tables = stored()
        counts = {"generated": 0, "kept": sum(table.height for table in tables.values())}
        if force or len(tables) < len(by_benchmark):
            counts = launcher.run(
                context,
                Work(
                    GENERATOR,
                    {
                        "checkpoint": trained["path"],
                        "scratch": str(scratch) if scratch else None,
                        "provenance": trained["provenance"],
                        "outputs": {name: str(path) for name, path in files.items()},
                        "fields": fields,
                        "batch_size": recipe.generation_batch_size,
                        "endpoint": served,
                        "force": force,
                    },
                    {"questions": questions},
                    asset="model_answers",
                    partition=context.partition_key,
                    provenance=content_hash(hashes),
                    places=(trained["path"], str(folder)),
                ),
            )
            tables = stored()
        if missing := [name for name in by_benchmark if name not in tables]:
            raise dg.Failure(f"answers to {', '.join(missing)} are not whole in {folder}")
        answers = pl.concat(tables.values())
        return dg.MaterializeResult(
            value=answers,
            metadata={
                "reused": counts["generated"] == 0,
                "generated": counts["generated"],
                "kept": counts["kept"],
                "checkpoint": dg.MetadataValue.path(trained["path"]),
                "endpoint": served["base_url"] if served else "none, generated from its files",
                "provenance": hashes,
                **_of_answers(answers),
            },
        )

    return [model_answers]


def build_outside_assets(
    experiments: Experiments, partitions: Partitions
) -> list[dg.AssetsDefinition]:
    """The asset that has outside models answer the benchmarks."""

    @dg.asset(
        partitions_def=partitions.outside_model,
        io_manager_key="lake",
        description=(
            "An outside model's answers to the benchmarks of its matchups, turn by turn, with each "
            "benchmark's sampling. Replies are kept, so that none is paid for twice."
        ),
        kinds={"openai", "parquet"},
        owners=["team:evaluation"],
        group_name=GROUP,
        tags=OUTSIDE.tags,
        metadata=table_metadata("outside_answers"),
        code_version=outside.PROMPT_VERSION,
        pool="llm_api",
    )
    def outside_answers(
        context: dg.AssetExecutionContext, benchmark_questions: pl.DataFrame, llm: LLMResource
    ) -> dg.MaterializeResult[pl.DataFrame]:
        name = context.partition_key
        questions = outside.questions_of(benchmark_questions, experiments.asked_of(name))
        with (
            clear_failures(),
            llm.client(
                f"outside_models.{name}",
                stage="outside_answers",
                settings=experiments.outside_models[name],
                log=context.log.info,
            ) as client,
        ):
            answers = outside.answer(questions, client)
        return dg.MaterializeResult(
            value=answers,
            metadata={
                "benchmarks": sorted(set(answers["benchmark"])),
                **_of_answers(answers),
                **usage_metadata(client),
            },
        )

    return [outside_answers]


def _of_answers(answers: pl.DataFrame) -> dict[str, Any]:
    """The metadata that every table of answers has."""
    reasons = answers.group_by("finish_reason").len().sort("finish_reason")
    return {
        "finish_reasons": dict(reasons.iter_rows()),
        "answer_tokens": int(answers["answer_tokens"].sum()),
        "lengths": plot(plots.answer_lengths(answers)),
    }


def _served(endpoint: DeclaredEndpoint | None, keys: Mapping[str, str]) -> dict[str, Any] | None:
    """The endpoint of the partition's checkpoint in the job's form; ``None`` without one."""
    if endpoint is None:
        return None
    model = endpoint.model.replace("{dataset}", keys["dataset"])
    return {
        **endpoint.model_dump(mode="json"),
        "model": model.replace("{experiment}", keys["experiment"]),
    }

"""The assets ``benchmark_questions``, ``model_answers`` and ``outside_answers``."""

import dagster as dg
import polars as pl

from opencs_assets.answers import plots
from opencs_assets.answers.provenance import CODE_VERSION, answer_fields
from opencs_assets.answers.store import read_answers
from opencs_assets.benchmarks.questions import read_benchmarks
from opencs_assets.experiments import Experiments
from opencs_assets.failures import clear_failures
from opencs_assets.metadata import plot, table_metadata
from opencs_assets.partitions import Partitions
from opencs_assets.provenance import SHORT, content_hash
from resources.home import Home
from resources.launcher import LocalLauncher

FORCE_TAG = "opencs/force"
GENERATOR = "opencs_assets.answers.generate"
GROUP = "answers"


class AnswersConfig(dg.Config):
    """How to materialize the answers.

    Attributes:
        force: Answer again where whole answers of the same provenance are there.
    """

    force: bool = False


def build_answer_assets(
    experiments: Experiments, partitions: Partitions
) -> list[dg.AssetsDefinition]:
    """The assets that read the benchmarks and answer them from each checkpoint."""

    @dg.asset(
        io_manager_key="lake",
        description=(
            "The questions of all benchmarks: the package's, and `benchmarks/*.jsonl` of the home."
        ),
        kinds={"json", "parquet"},
        owners=["team:evaluation"],
        # Datasets are compared with the questions, so in the graph they stand before them.
        group_name="benchmarks",
        metadata=table_metadata("benchmark_questions"),
        code_version="1",
    )
    def benchmark_questions(home: Home) -> dg.MaterializeResult[pl.DataFrame]:
        wanted = {f"matchups.{name}": each.benchmark for name, each in experiments.matchups.items()}
        with clear_failures():
            questions = read_benchmarks(home.folder, wanted)
        sizes = questions.group_by("benchmark", maintain_order=True).len()
        return dg.MaterializeResult(
            value=questions,
            metadata={
                "questions": dict(sizes.iter_rows()),
                "turns": int(questions["turns"].list.len().sum()),
                "with_reference": questions.filter(pl.col("references").list.len() > 0).height,
            },
        )

    @dg.asset(
        partitions_def=partitions.dataset_experiment,
        io_manager_key="lake",
        description=(
            "The checkpoint's answers to every question, turn by turn. Reused where checkpoint, "
            "questions and sampling are the same; a killed run goes on where it stopped."
        ),
        kinds={"python", "torch", "huggingface"},
        owners=["team:evaluation"],
        group_name=GROUP,
        metadata=table_metadata("model_answers"),
        code_version=CODE_VERSION,
        pool="gpu",
    )
    def model_answers(
        context: dg.AssetExecutionContext,
        config: AnswersConfig,
        checkpoint: pl.DataFrame,
        benchmark_questions: pl.DataFrame,
        launcher: LocalLauncher,
        home: Home,
    ) -> dg.MaterializeResult[pl.DataFrame]:
        keys = partitions.dataset_experiment.get_partition_key_from_str(
            context.partition_key
        ).keys_by_dimension
        recipe = experiments.recipes[experiments.experiments[keys["experiment"]].recipe]
        force = config.force or context.run.tags.get(FORCE_TAG) == "true"
        trained = checkpoint.row(0, named=True)
        asked = {
            part["benchmark"][0]: part
            for part in benchmark_questions.partition_by("benchmark", maintain_order=True)
        }
        fields = {
            name: answer_fields(trained["provenance"], part, recipe.max_new_tokens, recipe.seed)
            for name, part in asked.items()
        }
        hashes = {name: content_hash(each) for name, each in fields.items()}
        folder = home.folder / "answers" / keys["dataset"] / keys["experiment"]
        files = {name: folder / f"{name}-{made[:SHORT]}.parquet" for name, made in hashes.items()}

        def stored() -> dict[str, pl.DataFrame | None]:
            return {name: read_answers(files[name], asked[name], hashes[name]) for name in asked}

        tables = stored()
        open_ = [name for name, table in tables.items() if force or table is None]
        counts = {
            "generated": 0,
            "kept": sum(table.height for table in tables.values() if table is not None),
        }
        if open_:
            counts = launcher.run(
                context,
                GENERATOR,
                {
                    "checkpoint": trained["path"],
                    "provenance": trained["provenance"],
                    "outputs": {name: str(path) for name, path in files.items()},
                    "fields": fields,
                    "max_new_tokens": recipe.max_new_tokens,
                    "batch_size": recipe.generation_batch_size,
                    "seed": recipe.seed,
                    "force": force,
                },
                {"questions": benchmark_questions},
            )
            tables = stored()
        missing = [name for name, table in tables.items() if table is None]
        if missing:
            raise dg.Failure(f"answers to {', '.join(missing)} are not whole in {folder}")
        answers = pl.concat([table for table in tables.values() if table is not None])
        reasons = answers.group_by("finish_reason").len().sort("finish_reason")
        return dg.MaterializeResult(
            value=answers,
            metadata={
                "reused": counts["generated"] == 0,
                "generated": counts["generated"],
                "kept": counts["kept"],
                "finish_reasons": dict(reasons.iter_rows()),
                "answer_tokens": int(answers["answer_tokens"].sum()),
                "checkpoint": dg.MetadataValue.path(trained["path"]),
                "provenance": hashes,
                "lengths": plot(plots.answer_lengths(answers)),
            },
        )

    return [benchmark_questions, model_answers]

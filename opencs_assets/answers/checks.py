"""Whether benchmarks and answers are whole."""

import dagster as dg
import polars as pl

from opencs_assets.answers.outside import asked
from opencs_assets.answers.store import KEY, expected_keys
from opencs_assets.config.experiments import Experiments
from opencs_assets.tables.answers import UNANSWERED
from opencs_assets.wiring.checks import Finding, build_check
from opencs_assets.wiring.partitions import Partitions

MOST_EMPTY = 0.5


def one_answer_each(answers: pl.DataFrame, questions: pl.DataFrame) -> Finding:
    """Every turn of every question has exactly one answer, or a row that says why not."""
    expected = expected_keys(questions)
    found = answers.select(KEY).rows()
    missing = sorted(set(expected) - set(found))
    unknown = sorted(set(found) - set(expected))
    repeated = len(found) - len(set(found))
    first = f", first missing {missing[0]}" if missing else ""
    return Finding(
        not missing and not unknown and not repeated,
        f"{len(found)} answers to {len(expected)} turns: {len(missing)} missing, "
        f"{len(unknown)} to no question, {repeated} repeated{first}",
        {"missing": len(missing), "unknown": len(unknown), "repeated": repeated},
    )


def of_one_checkpoint(answers: pl.DataFrame, checkpoint: pl.DataFrame) -> Finding:
    """All answers come from the checkpoint of this experiment."""
    trained = checkpoint["provenance"][0]
    others = answers.filter(pl.col("checkpoint") != trained).height
    return Finding(
        not others,
        f"{others} of {answers.height} answers come from another checkpoint than {trained[:16]}",
        {"others": others},
    )


def few_empty(answers: pl.DataFrame) -> Finding:
    """The model says something to most questions."""
    asked = answers.filter(pl.col("finish_reason") != "too_long")
    empty = asked.filter(pl.col("answer").str.strip_chars() == "").height
    share = empty / asked.height if asked.height else 1.0
    return Finding(
        share <= MOST_EMPTY,
        f"{empty} of {asked.height} answers are empty, "
        f"{answers.height - asked.height} turns did not fit the context",
        {"empty": empty, "too_long": answers.height - asked.height},
    )


def few_failed(answers: pl.DataFrame) -> Finding:
    """Every turn was answered; what failed is asked again when it is materialized again."""
    failed = answers.filter(pl.col("finish_reason").is_in(UNANSWERED))
    first = f"; the first: {failed['detail'][0]}" if failed.height else ""
    return Finding(
        not failed.height,
        f"{failed.height} of {answers.height} turns have no answer{first}",
        {
            "by_reason": dict(
                failed["finish_reason"].value_counts().sort("finish_reason").iter_rows()
            )
        },
    )


def build_answer_checks(
    experiments: Experiments, partitions: Partitions
) -> list[dg.AssetChecksDefinition]:
    """The checks on ``model_answers``.

    Args:
        experiments: What is declared, among it the benchmarks that models answer.
        partitions: The partition families.
    """

    def one_answer_each_asked(answers: pl.DataFrame, questions: pl.DataFrame) -> Finding:
        """Every turn of every question asked has exactly one answer, or a row that says why not."""
        return one_answer_each(answers, asked(questions, experiments.benchmarks))

    return [
        build_check(
            "model_answers",
            "one_answer_each",
            one_answer_each_asked,
            partitions_def=partitions.dataset_experiment,
            inputs={"benchmark_questions": dg.AssetIn("benchmark_questions")},
        ),
        build_check(
            "model_answers",
            "of_one_checkpoint",
            of_one_checkpoint,
            partitions_def=partitions.dataset_experiment,
            inputs={"checkpoint": dg.AssetIn("checkpoint")},
        ),
        build_check(
            "model_answers",
            "few_empty",
            few_empty,
            partitions_def=partitions.dataset_experiment,
            # A model that says nothing is a result to be seen, not broken data.
            blocking=False,
        ),
    ]


def build_outside_checks(
    experiments: Experiments, partitions: Partitions
) -> list[dg.AssetChecksDefinition]:
    """The checks on ``outside_answers``.

    Args:
        experiments: What is declared.
        partitions: The partition families.
    """

    def one_answer_each_outside(answers: pl.DataFrame, questions: pl.DataFrame) -> Finding:
        """Every turn of every question asked has exactly one answer, or a row that says why not."""
        names = answers["outside_model"].unique().to_list()
        wanted = experiments.asked_of(names[0]) if names else experiments.benchmarks
        return one_answer_each(answers, asked(questions, wanted))

    return [
        build_check(
            "outside_answers",
            "one_answer_each",
            one_answer_each_outside,
            partitions_def=partitions.outside_model,
            inputs={"benchmark_questions": dg.AssetIn("benchmark_questions")},
        ),
        build_check(
            "outside_answers",
            "few_failed",
            few_failed,
            partitions_def=partitions.outside_model,
            blocking=False,
        ),
    ]

"""Whether benchmarks and answers are whole."""

import dagster as dg
import polars as pl

from opencs_assets.answers.store import KEY, expected_keys
from opencs_assets.checks import Finding, build_check
from opencs_assets.partitions import Partitions

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


def build_answer_checks(partitions: Partitions) -> list[dg.AssetChecksDefinition]:
    """The checks on ``model_answers``."""
    return [
        build_check(
            "model_answers",
            "one_answer_each",
            one_answer_each,
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

"""Whether benchmarks and answers are whole."""

import dagster as dg
import polars as pl

from opencs_assets.answers.asking import TOO_LONG
from opencs_assets.answers.outside import questions_of
from opencs_assets.config.experiments import Experiments
from opencs_assets.tables.answers import UNANSWERED
from opencs_assets.tables.benchmarks import turn_keys
from opencs_assets.wiring.checks import Finding, build_check, missing_and_unknown
from opencs_assets.wiring.partitions import Partitions

MOST_EMPTY = 0.5


def one_answer_each(answers: pl.DataFrame, questions: pl.DataFrame) -> Finding:
    """Every turn of every question has exactly one answer, or a row that says why not."""
    expected = turn_keys(questions)
    missing, unknown = missing_and_unknown(expected, answers.unique(expected.columns))
    repeated = answers.height - answers.select(expected.columns).n_unique()
    first = f", first missing {min(missing.rows())}" if missing.height else ""
    return Finding(
        not missing.height and not unknown.height and not repeated,
        f"{answers.height} answers to {expected.height} turns: {missing.height} missing, "
        f"{unknown.height} to no question, {repeated} repeated{first}",
        {"missing": missing.height, "unknown": unknown.height, "repeated": repeated},
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
    made = answers.filter(pl.col("finish_reason") != TOO_LONG)
    empty = made.filter(pl.col("answer").str.strip_chars() == "").height
    share = empty / made.height if made.height else 1.0
    too_long = answers.height - made.height
    return Finding(
        share <= MOST_EMPTY,
        f"{empty} of {made.height} answers are empty, {too_long} turns did not fit the context",
        {"empty": empty, "too_long": too_long},
    )


def few_failed(answers: pl.DataFrame) -> Finding:
    """Every turn was answered; what failed is asked again when it is materialized again."""
    failed = answers.filter(pl.col("finish_reason").is_in(UNANSWERED))
    first = f"; the first: {failed['detail'][0]}" if failed.height else ""
    reasons = failed["finish_reason"].value_counts().sort("finish_reason")
    return Finding(
        not failed.height,
        f"{failed.height} of {answers.height} turns have no answer{first}",
        {"by_reason": dict(reasons.iter_rows())},
    )


def build_answer_checks(
    experiments: Experiments, partitions: Partitions
) -> list[dg.AssetChecksDefinition]:
    """The checks on ``model_answers``."""

    def one_answer_each_asked(answers: pl.DataFrame, questions: pl.DataFrame) -> Finding:
        """Every turn of every question asked has exactly one answer, or a row that says why not."""
        return one_answer_each(answers, questions_of(questions, experiments.benchmarks))

    return [
        build_check(
            "model_answers",
            one_answer_each_asked,
            partitions.dataset_experiment,
            "benchmark_questions",
            name="one_answer_each",
        ),
        build_check(
            "model_answers", of_one_checkpoint, partitions.dataset_experiment, "checkpoint"
        ),
        # A model that says nothing is a result to be seen, not broken data.
        build_check("model_answers", few_empty, partitions.dataset_experiment, blocking=False),
    ]


def build_outside_checks(
    experiments: Experiments, partitions: Partitions
) -> list[dg.AssetChecksDefinition]:
    """The checks on ``outside_answers``."""

    def one_answer_each_outside(answers: pl.DataFrame, questions: pl.DataFrame) -> Finding:
        """Every turn of every question asked has exactly one answer, or a row that says why not."""
        names = answers["outside_model"].unique().to_list()
        benchmarks = experiments.asked_of(names[0]) if names else experiments.benchmarks
        return one_answer_each(answers, questions_of(questions, benchmarks))

    return [
        build_check(
            "outside_answers",
            one_answer_each_outside,
            partitions.outside_model,
            "benchmark_questions",
            name="one_answer_each",
        ),
        build_check("outside_answers", few_failed, partitions.outside_model, blocking=False),
    ]

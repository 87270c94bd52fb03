"""Whether every verdict that the benchmark asks for is there, and could be read."""

import dagster as dg
import polars as pl

from opencs_assets.config.experiments import Experiments
from opencs_assets.protocols.registry import pair_protocols
from opencs_assets.protocols.tasks import STOPPED, WHOLE
from opencs_assets.tables.benchmarks import turn_keys
from opencs_assets.wiring.checks import Finding, build_check, few_not_ok, missing_and_unknown
from opencs_assets.wiring.partitions import Partitions

MOST_UNREAD = 0.1


def every_turn(verdicts: pl.DataFrame, questions: pl.DataFrame) -> Finding:
    """Every turn of every question of the judged benchmarks has one verdict."""
    return _expected_are_there(turn_keys(_judged(questions, verdicts)), verdicts)


def both_orders(verdicts: pl.DataFrame, questions: pl.DataFrame) -> Finding:
    """Every question of the matchup's benchmark, and turn if by turn, has a verdict each order."""
    judged, known = _judged(questions, verdicts), pair_protocols()
    if any(name in known and known[name].by_turn for name in set(verdicts["protocol"])):
        asked = turn_keys(judged)
    else:
        asked = judged.select("benchmark", "question_id", turn=pl.lit(WHOLE, pl.Int64))
    orders = pl.DataFrame({"shown_first": ["a", "b"]})
    return _expected_are_there(asked.join(orders, how="cross"), verdicts)


def few_unread(verdicts: pl.DataFrame) -> Finding:
    """At most 10 % of the expected verdicts that were not stopped before have no value."""
    judged = verdicts.filter(pl.col("status") != STOPPED)
    return few_not_ok(judged, MOST_UNREAD, "verdicts", "have no value")


def build_verdict_checks(
    experiments: Experiments, partitions: Partitions
) -> list[dg.AssetChecksDefinition]:
    """The checks on single and pairwise verdicts.

    A share of unread verdicts makes a result unfit to publish, not its rows broken: it is shown,
    and the marts count it.
    """
    checks = [
        build_check(
            "single_verdicts", every_turn, partitions.dataset_experiment, "benchmark_questions"
        ),
        build_check("single_verdicts", few_unread, partitions.dataset_experiment, blocking=False),
    ]
    if experiments.matchups:
        checks += [
            build_check(
                "pairwise_verdicts", both_orders, partitions.dataset_matchup, "benchmark_questions"
            ),
            build_check(
                "pairwise_verdicts", few_unread, partitions.dataset_matchup, blocking=False
            ),
        ]
    return checks


def _judged(questions: pl.DataFrame, verdicts: pl.DataFrame) -> pl.DataFrame:
    """The questions of the benchmarks that there are verdicts of."""
    return questions.join(verdicts.select("benchmark").unique(), on="benchmark", how="semi")


def _expected_are_there(expected: pl.DataFrame, verdicts: pl.DataFrame) -> Finding:
    missing, unknown = missing_and_unknown(expected, verdicts)
    twice = verdicts.select(expected.columns).is_duplicated().sum()
    wrong = missing.height + unknown.height + twice
    return Finding(
        bool(expected.height) and not wrong,
        f"{expected.height} verdicts expected, {missing.height} missing, {unknown.height} of "
        f"unknown questions, {twice} that stand more than once",
        {
            "expected": expected.height,
            "missing": missing.height,
            "unknown": unknown.height,
            "duplicated": int(twice),
        },
    )

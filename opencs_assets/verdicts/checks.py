"""Whether every verdict that the benchmark asks for is there, and could be read."""

import dagster as dg
import polars as pl

from opencs_assets.config.experiments import Experiments
from opencs_assets.protocols.registry import pair_protocols
from opencs_assets.protocols.tasks import STOPPED, WHOLE
from opencs_assets.wiring.checks import Finding, build_check
from opencs_assets.wiring.partitions import Partitions

MOST_UNREAD = 0.1


def every_turn(verdicts: pl.DataFrame, questions: pl.DataFrame) -> Finding:
    """Every turn of every question of the judged benchmarks has one verdict."""
    expected = (
        questions.join(verdicts.select("benchmark").unique(), on="benchmark", how="semi")
        .select("benchmark", "question_id", turn=pl.int_ranges(1, pl.col("turns").list.len() + 1))
        .explode("turn")
    )
    return _expected_are_there(expected, verdicts, ["benchmark", "question_id", "turn"])


def both_orders(verdicts: pl.DataFrame, questions: pl.DataFrame) -> Finding:
    """Every question of the matchup's benchmark, and turn if by turn, has a verdict each order."""
    by_turn = any(pair_protocols()[name].by_turn for name in set(verdicts["protocol"]))
    first = 1 if by_turn else WHOLE
    last = pl.col("turns").list.len() if first else pl.lit(WHOLE)
    expected = (
        questions.join(verdicts.select("benchmark").unique(), on="benchmark", how="semi")
        .select("benchmark", "question_id", turn=pl.int_ranges(first, last + 1))
        .explode("turn")
        .join(pl.DataFrame({"shown_first": ["a", "b"]}), how="cross")
    )
    key = ["benchmark", "question_id", "turn", "shown_first"]
    return _expected_are_there(expected, verdicts, key)


def few_unread(verdicts: pl.DataFrame) -> Finding:
    """At most 10 % of the expected verdicts that were not stopped before have no value."""
    wanted = verdicts.filter(pl.col("status") != STOPPED)
    unread = wanted.filter(pl.col("status") != "ok")
    share = unread.height / wanted.height if wanted.height else 0.0
    return Finding(
        share <= MOST_UNREAD,
        f"{unread.height} of {wanted.height} verdicts ({share:.1%}) have no value",
        {
            "by_status": dict(unread["status"].value_counts().sort("status").iter_rows()),
            "limit": MOST_UNREAD,
        },
    )


def build_verdict_checks(
    experiments: Experiments, partitions: Partitions
) -> list[dg.AssetChecksDefinition]:
    """The checks on single and pairwise verdicts.

    A share of unread verdicts makes a result unfit to publish, not its rows broken: it is shown,
    and the marts count it.
    """
    checks = [
        build_check(
            "single_verdicts",
            "every_turn",
            every_turn,
            partitions_def=partitions.dataset_experiment,
            inputs={"benchmark_questions": dg.AssetIn("benchmark_questions")},
        ),
        build_check(
            "single_verdicts",
            "few_unread",
            few_unread,
            partitions_def=partitions.dataset_experiment,
            blocking=False,
        ),
    ]
    if experiments.matchups:
        checks += [
            build_check(
                "pairwise_verdicts",
                "both_orders",
                both_orders,
                partitions_def=partitions.dataset_matchup,
                inputs={"benchmark_questions": dg.AssetIn("benchmark_questions")},
            ),
            build_check(
                "pairwise_verdicts",
                "few_unread",
                few_unread,
                partitions_def=partitions.dataset_matchup,
                blocking=False,
            ),
        ]
    return checks


def _expected_are_there(expected: pl.DataFrame, found: pl.DataFrame, key: list[str]) -> Finding:
    missing = expected.join(found, on=key, how="anti")
    unknown = found.join(expected, on=key, how="anti")
    twice = found.select(key).is_duplicated().sum()
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

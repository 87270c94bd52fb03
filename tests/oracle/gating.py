"""The publication gate once more: whether each result keeps each rule, and badges."""

from dataclasses import dataclass

import polars as pl

from tests.oracle import origins
from tests.oracle.recount import (
    ANSWERED,
    RESULT,
    Tables,
    counted_calls,
    declared,
    identified,
    imported_verdicts,
    trained,
)

# Rules in the order in which they are told, those of pairs only, and those of a result that is
# not whole.
GATE = (
    "every_judgment", "few_unparsable", "both_orders", "equal_mix", "same_judge",
    "answers_complete", "parity", "chat_template", "no_contamination", "no_conflicts",
)  # fmt: skip
OF_PAIRS = frozenset({"both_orders", "parity"})
OF_WHOLE = frozenset(
    {"every_judgment", "few_unparsable", "both_orders", "equal_mix", "answers_complete"}
)


@dataclass(frozen=True)
class Limits:
    """Where the publication gate draws its lines.

    Attributes:
        unparsable: Largest share of a result's judgments that may be unparsable.
        parity: Largest share by which epochs or tokens of two trainings may differ.
    """

    unparsable: float
    parity: float


def gate(
    results: pl.DataFrame,
    singles: pl.DataFrame,
    pairs: pl.DataFrame,
    tables: Tables,
    limits: Limits,
) -> pl.DataFrame:
    """Whether each result keeps each rule of the publication gate.

    Returns:
        ``result_id``, ``rule`` and ``passed``; null where it can't be told.
    """
    calls = counted_calls(singles, pairs)
    wanted = pl.col("calls") - pl.col("stopped")
    # Whether judging stopped early is told by a column of the same name as how many were stopped.
    totals = results.drop("stopped").join(
        calls.group_by("result_id").agg(
            pl.col("calls", "judged", "stopped", "unparsable", "in_one_order").sum(),
            pl.col("decided", "orders_known").sum(),
            shares=(pl.col("judged") / wanted).filter(wanted > 0).drop_nulls().n_unique(),
            same_in_orders=(pl.col("judged_a") == pl.col("judged_b")).all(),
        ),
        on="result_id",
    )
    unknown = pl.lit(None, pl.Boolean)
    told = {
        "every_judgment": pl.col("calls") - pl.col("judged") - pl.col("stopped") == 0,
        "few_unparsable": pl.when(pl.col("judged") > 0).then(
            pl.col("unparsable") <= limits.unparsable * pl.col("judged")
        ),
        "both_orders": pl.when(pl.col("orders") == "both")
        .then(pl.col("in_one_order") == 0)
        .when((pl.col("orders") == "merged") & (pl.col("orders_known") == pl.col("decided")))
        .then(pl.lit(True))
        .otherwise(unknown),
        "equal_mix": (pl.col("shares") <= 1) & pl.col("same_in_orders"),
    }
    frames = [
        totals.filter((pl.col("kind") == "pair") | pl.lit(rule not in OF_PAIRS)).select(
            "result_id", rule=pl.lit(rule), passed=passed
        )
        for rule, passed in told.items()
    ]
    others = {
        "same_judge": _same_judge(results, calls, singles, pairs),
        "answers_complete": origins.answers_complete(results, tables),
        "parity": _parity(results, tables, limits),
        "chat_template": origins.chat_template(results, tables),
        "no_contamination": origins.no_contamination(results, tables),
        "no_conflicts": _no_conflicts(results, tables.imported),
    }
    frames += [
        frame.select("result_id", "passed", rule=pl.lit(rule)).select("result_id", "rule", "passed")
        for rule, frame in others.items()
    ]
    return pl.concat(frames)


def expected_rules(results: pl.DataFrame) -> pl.DataFrame:
    """The rules that each result must have a row of."""
    rules = pl.DataFrame({"rule": GATE, "of_pairs": [rule in OF_PAIRS for rule in GATE]})
    return (
        results.join(rules, how="cross")
        .filter(~pl.col("of_pairs") | (pl.col("kind") == "pair"))
        .select("result_id", "kind", "source", "dataset", "subject", "benchmark", "judge", "rule")
    )


def badges(gate_rows: pl.DataFrame) -> pl.DataFrame:
    """Whether each result may be published, why not, and which rules can't be told of it."""
    failed = pl.col("passed").eq(False).fill_null(False)
    place = pl.col("rule").replace_strict({rule: at for at, rule in enumerate(GATE)}, default=99)
    return (
        gate_rows.with_columns(place=place)
        .sort("result_id", "place")
        .group_by("result_id", maintain_order=True)
        .agg(
            badge=pl.when(~failed.any())
            .then(pl.lit("ok"))
            .when((failed & pl.col("rule").is_in(list(OF_WHOLE))).any())
            .then(pl.lit("incomplete"))
            .otherwise(pl.lit("unfair")),
            reason=pl.col("reason").filter(failed).drop_nulls().str.join("; "),
            unchecked=pl.col("rule").filter(pl.col("passed").is_null()),
        )
        .with_columns(reason=pl.when(pl.col("reason") != "").then("reason"))
    )


def conflicting_verdicts(imported: pl.DataFrame) -> pl.DataFrame:
    """The rows of ``conflicting_verdicts``."""
    waiting = imported.filter((pl.col("state") == "conflict") & ~pl.col("is_human"))
    of_kinds = [
        identified(kind, imported_verdicts(waiting, kind).with_columns(subject=subject))
        for kind, subject in (
            ("single", pl.col("model_a")),
            ("pair", pl.format("{} vs {}", "model_a", "model_b")),
        )
    ]
    return pl.concat(of_kinds).select(
        "result_id", "kind", *RESULT, "question_id", "turn", "shown_first", "winner", "score_a",
        "score_b", "status", "file_name", "file", "row",
    )  # fmt: skip


def _same_judge(
    results: pl.DataFrame, calls: pl.DataFrame, singles: pl.DataFrame, pairs: pl.DataFrame
) -> pl.DataFrame:
    """No judgment that a result lacks was made for another result of the same answers."""
    lacking = (
        calls.group_by("result_id")
        .agg(missing=(pl.col("calls") - pl.col("judged") - pl.col("stopped")).sum())
        .filter(pl.col("missing") > 0)["result_id"]
    )
    call = ["source", "dataset", "subject", "benchmark", "question_id", "turn"]
    sides = [(pairs, pl.lit(side), pl.col(f"status_{side}").is_in(ANSWERED)) for side in "ab"] + [
        (singles, pl.lit("alone"), pl.col("status").is_in(["ok", "unparsable"]))
    ]
    made = pl.concat(
        frame.select("result_id", *call, side=side, judged=judged) for frame, side, judged in sides
    )
    elsewhere = made.filter(
        ~pl.col("judged")
        & pl.col("judged").any().over(*call, "side")
        & pl.col("result_id").is_in(lacking.to_list())
    )
    return results.select(
        "result_id", passed=~pl.col("result_id").is_in(elsewhere["result_id"].unique().to_list())
    )


def _no_conflicts(results: pl.DataFrame, imported: pl.DataFrame) -> pl.DataFrame:
    named = conflicting_verdicts(imported)["result_id"].unique().to_list()
    return results.select("result_id", passed=~pl.col("result_id").is_in(named))


def _parity(results: pl.DataFrame, tables: Tables, limits: Limits) -> pl.DataFrame:
    sides = (
        results.filter(pl.col("kind") == "pair")
        .join(trained(tables, "a"), on=["dataset", "model_a"], how="left")
        .join(trained(tables, "b"), on=["dataset", "model_b"], how="left")
        .join(declared(tables), on=["source", "subject"], how="left")
    )
    amount = {
        side: pl.coalesce(
            pl.when(pl.col("parity") == unit).then(pl.col(f"{unit}_{side}").cast(pl.Float64))
            for unit in ("epochs", "steps", "tokens")
        )
        for side in "ab"
    }
    apart = (amount["a"] - amount["b"]).abs()
    return sides.select(
        "result_id",
        passed=pl.when(pl.col("parity").is_null())
        .then(pl.lit(None, pl.Boolean))
        .when(pl.col("parity") == "declared")
        .then(pl.lit(True))
        .when(pl.col("parity") == "steps")
        .then(apart == 0)
        .otherwise(apart <= limits.parity * pl.max_horizontal(amount["a"], amount["b"])),
    )

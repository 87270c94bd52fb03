"""The rows that the marts must have, from the lake's tables, and what differs in a warehouse."""

from pathlib import Path

import polars as pl
import yaml

from opencs_assets.tables.catalog import TABLES
from opencs_assets.tables.lake import Lake
from opencs_assets.verification.comparing import differences
from opencs_assets.verification.findings import Findings
from opencs_assets.verification.tables import read_table
from resources.dbt_project import PROJECT, mart_keys
from resources.warehouse import Warehouse
from tests.oracle import gating, judges, published, recount, tracing
from tests.oracle.gating import Limits
from tests.oracle.recount import IMPORTED_POOL, OUTSIDE_POOL, Tables

_GATE = "publication_gate"
_RULE = ["result_id", "rule"]


def faults(warehouse: Warehouse) -> list[str]:
    """What is other in a warehouse that was built beside its lake than what is counted here."""
    home = warehouse.path.parent
    findings, keys = Findings(), mart_keys()
    tables = _tables(Lake(str(home / "lake")), findings)
    for name, expected in expected_rows(tables, warehouse.query(f"from {_GATE}"), limits()).items():
        columns = ", ".join(f'"{column}"' for column in expected.columns)
        found = warehouse.query(f'select {columns} from "{name}"')
        findings.add(name, differences(found, expected, keys[name], layer="marts", table=name))
    return [fault.line() for fault in findings.faults]


def expected_rows(tables: Tables, gate: pl.DataFrame, lines: Limits) -> dict[str, pl.DataFrame]:
    """The rows that the marts must have, by mart."""
    singles, pairs = recount.single_outcomes(tables), recount.pair_outcomes(tables)
    results = recount.results_of(singles, pairs)
    rules = gating.expected_rules(results)
    told = rules.join(gating.gate(results, singles, pairs, tables, lines), on=_RULE, how="left")
    reasons = gate.unique(_RULE).select(*_RULE, "reason")
    found = gating.badges(told.join(reasons, on=_RULE, how="left"))
    intervals = published.intervals_of(singles, pairs, results)
    means = published.mean_scores(singles, results, found, intervals)
    rates = published.win_rates(pairs, results, found, intervals, tables)
    scores = means.filter(pl.col("badge") == "ok")
    shown = rates.filter(pl.col("badge") == "ok").drop("badge", "reason")
    sides = {f"winner_{side}": f"winner_{side}_first" for side in "ab"}
    return {
        "single_outcomes": singles.select(
            "result_id", "question_id", "turn", "category", "score", "status"
        ),
        "pair_outcomes": pairs.rename(sides).select(
            "result_id", "question_id", "turn", "category", "status", "win_or_tie", "both_agree",
            "sum_of_scores", "orders_agree", *sides.values(),
        ),
        _GATE: told,
        "answer_scores_all": means,
        "answer_scores": scores.drop("badge", "reason"),
        "answer_scores_by_category": published.scores_by_category(singles, scores),
        "win_rates_all": rates,
        "win_rates": shown,
        "position_bias": judges.position_bias(pairs),
        "length_bias": judges.length_bias(pairs, results, shown, tables),
        "judge_agreement": judges.agreement(pairs, tables),
        "leaderboard": published.leaderboards(pairs, results, found),
        "llm_usage": tracing.llm_usage(tables.replies),
        "conflicting_verdicts": gating.conflicting_verdicts(tables.imported),
        "verdict_trace": tracing.verdict_trace(singles, pairs, tables),
    }  # fmt: skip


def limits(project: Path = PROJECT) -> Limits:
    """The lines that the dbt project draws."""
    declared = yaml.safe_load((project / "dbt_project.yml").read_text(encoding="utf-8"))["vars"]
    return Limits(declared["unparsable_limit"], declared["parity_tolerance"])


def _tables(lake: Lake, findings: Findings) -> Tables:
    reason, checkpoint = pl.col("finish_reason"), pl.col("checkpoint")
    none = pl.lit(None, pl.String)
    pools = {
        "model_answers": (pl.col("dataset"), pl.col("experiment"), reason, checkpoint),
        "outside_answers": (pl.lit(OUTSIDE_POOL), pl.col("outside_model"), reason, none),
        "imported_answers": (pl.lit(IMPORTED_POOL), pl.col("model"), pl.lit("stop"), none),
    }
    answers = pl.concat(
        [
            _whole(lake, name, findings).select(
                "benchmark", "question_id", "turn", "answer",
                pool=pool, model=model, finish_reason=ended, checkpoint=made_by,
            )
            for name, (pool, model, ended, made_by) in pools.items()
        ]
    )  # fmt: skip
    return Tables(
        questions=_whole(lake, "benchmark_questions", findings),
        singles=_whole(lake, "single_verdicts", findings),
        pairs=_whole(lake, "pairwise_verdicts", findings),
        imported=_whole(lake, "imported_verdicts", findings),
        checkpoints=_whole(lake, "checkpoint", findings),
        matchups=_whole(lake, "declared_matchups", findings),
        answers=answers,
        models=_whole(lake, "declared_models", findings),
        subsets=_whole(lake, "selected_subset", findings).select(
            "dataset", "selector", "sample_id"
        ),
        matches=_whole(lake, "contaminated_samples", findings),
        looked_at=[each["dataset"] for each in lake.partitions("contaminated_samples")],
        replies=_whole(lake, "llm_replies", findings),
    )


def _whole(lake: Lake, name: str, findings: Findings) -> pl.DataFrame:
    """All partitions of a table in one frame; none is no rows."""
    table = TABLES[name]
    dimensions = dict.fromkeys(table.dimensions, pl.String)
    parts = [pl.DataFrame(schema={**table.schema, **dimensions})]
    for partition in lake.partitions(name):
        frame = read_table(lake, name, partition, "marts", findings)
        if frame is not None:
            parts.append(
                frame.with_columns(
                    pl.lit(value, pl.String).alias(key) for key, value in partition.items()
                )
            )
    return pl.concat(parts)

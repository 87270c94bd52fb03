"""The marts against a count of their own: every published row and column."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import polars as pl
import yaml

from opencs_assets.evaluation.dbt_project import PROJECT
from opencs_assets.schemas import TABLES
from opencs_assets.verification import recount
from opencs_assets.verification.comparing import differences
from opencs_assets.verification.findings import Fault, Findings
from opencs_assets.verification.recount import Limits, Tables
from opencs_assets.verification.tables import read_table
from resources.lake import Lake
from resources.warehouse import query

# Of a mart that is counted, the columns that tell its rows apart.
KEYS: Mapping[str, Sequence[str]] = {
    "single_outcomes": ("result_id", "question_id", "turn"),
    "pair_outcomes": ("result_id", "question_id", "turn"),
    "publication_gate": ("result_id", "rule"),
    "mt_bench_scores_all": ("result_id",),
    "mt_bench_scores": ("result_id",),
    "mt_bench_by_category": ("result_id", "category"),
    "win_rates_all": ("result_id", "rule"),
    "win_rates": ("result_id", "rule"),
    "position_bias": (
        "source", "dataset", "benchmark", "judge", "protocol", "prompt_version", "category",
    ),
    "leaderboard": (
        "source", "dataset", "benchmark", "judge", "protocol", "reading", "prompt_version",
        "sampling", "model",
    ),
}  # fmt: skip
_NAMES = ("model", "matchup", "subject", "benchmark", "judge", "dataset")
_GATE = "publication_gate"


def check_marts(lake: Lake, warehouse: Path, findings: Findings) -> None:
    """Compare each mart with what the lake's tables give.

    Args:
        lake: The lake.
        warehouse: The published DuckDB file.
        findings: Takes what is found.

    Raises:
        WarehouseError: There is no warehouse, or it can't be read.
    """
    there = set(query(warehouse, "select table_name from duckdb_tables()")["table_name"])
    tables = _tables(lake, findings)
    rows = {name: query(warehouse, f'from "{name}"') for name in KEYS if name in there}
    for name in KEYS:
        if name not in there:
            fault = Fault("marts", "missing", name, "", "", "no such table", "a table")
            findings.add(name, [fault])
    if tables is None or _GATE not in rows:
        return
    for name, expected in expected_rows(tables, rows[_GATE], limits()).items():
        if name not in rows:
            continue
        found = rows[name]
        findings.count("marts", name, max(found.height, expected.height))
        lacking = [column for column in expected.columns if column not in found.columns]
        if lacking:
            fault = Fault("marts", "missing", name, "", "", f"no columns {lacking}", "all of them")
            findings.add(name, [fault])
            continue
        for fault in differences(
            found, expected, KEYS[name], layer="marts", table=name, named=_named(KEYS[name])
        ):
            findings.add(name, [fault])


def expected_rows(tables: Tables, gate: pl.DataFrame, lines: Limits) -> dict[str, pl.DataFrame]:
    """The rows that the marts must have, by mart.

    Args:
        tables: The lake's tables.
        gate: Rows of ``publication_gate``: what is not counted anew is taken from it, such as
            whether a subset is contaminated; a rule that has no row counts as failed.
        lines: Where the gate draws its lines.
    """
    singles, pairs = recount.single_outcomes(tables), recount.pair_outcomes(tables)
    results = recount.results_of(singles, pairs)
    told = recount.gate(results, recount.counted_calls(singles, pairs), tables, lines)
    rules = recount.expected_rules(results)
    key = list(KEYS[_GATE])
    full = (
        rules.join(gate.unique(key).select(*key, "passed", "reason"), on=key, how="left")
        .with_columns(there=pl.col("rule").is_in(told["rule"].unique().to_list()))
        .join(told.rename({"passed": "counted"}), on=key, how="left")
        .with_columns(passed=pl.when("there").then("counted").otherwise("passed"))
    )
    found = recount.badges(full.select(*key, "passed", "reason"))
    intervals = recount.intervals_of(singles, pairs, results)
    means = recount.mean_scores(singles, results, found, intervals)
    rates = recount.win_rates(pairs, results, found, intervals, tables)
    published = means.filter(pl.col("badge") == "ok")
    sides = {f"winner_{side}": f"winner_{side}_first" for side in "ab"}
    return {
        "single_outcomes": singles.select(
            "result_id", "question_id", "turn", "category", "score", "status"
        ),
        "pair_outcomes": pairs.rename(sides).select(
            "result_id", "question_id", "turn", "category", "status", "win_or_tie", "both_agree",
            "sum_of_scores", "orders_agree", *sides.values(),
        ),
        _GATE: full.select(*rules.columns, "passed"),
        "mt_bench_scores_all": means,
        "mt_bench_scores": published.drop("badge", "reason"),
        "mt_bench_by_category": recount.scores_by_category(singles, published),
        "win_rates_all": rates,
        "win_rates": rates.filter(pl.col("badge") == "ok").drop("badge", "reason"),
        "position_bias": recount.position_bias(pairs),
        "leaderboard": recount.leaderboards(pairs, results, found),
    }  # fmt: skip


def limits(project: Path = PROJECT) -> Limits:
    """The lines that the dbt project draws.

    Args:
        project: The dbt project.
    """
    declared = yaml.safe_load((project / "dbt_project.yml").read_text(encoding="utf-8"))["vars"]
    return Limits(declared["unparsable_limit"], declared["parity_tolerance"])


def _tables(lake: Lake, findings: Findings) -> Tables | None:
    frames = [
        _whole(lake, name, findings)
        for name in (
            "benchmark_questions", "single_verdicts", "pairwise_verdicts", "imported_verdicts",
            "checkpoint", "declared_matchups",
        )
    ]  # fmt: skip
    return Tables(*frames)


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


def _named(key: Sequence[str]) -> Any:
    def say(row: Mapping[str, Any]) -> str:
        names = [*key, *(name for name in _NAMES if name in row and name not in key)]
        return ", ".join(f"{name} {row[name]}" for name in names)

    return say

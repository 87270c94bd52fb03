"""The marts against a count of their own: every published row and column."""

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import polars as pl
import yaml

from opencs_assets.evaluation.dbt_project import PROJECT
from opencs_assets.evaluation.lake_files import FOLLOWED
from opencs_assets.tables.catalog import TABLES
from opencs_assets.tables.lake import Lake
from opencs_assets.verification import gating, judges, published, recount, tracing
from opencs_assets.verification.comparing import differences
from opencs_assets.verification.findings import Findings, VerificationFault, shown
from opencs_assets.verification.gating import Limits
from opencs_assets.verification.recount import IMPORTED_POOL, OUTSIDE_POOL, Tables
from opencs_assets.verification.tables import read_table
from resources.warehouse import HOW_TO_BUILD, WarehouseError, query

# The columns that tell the rows of a mart apart, for each mart that is counted.
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
    "length_bias": ("result_id",),
    "judge_agreement": ("benchmark", "judge_a", "judge_b", "turn", "with_ties"),
    "leaderboard": (
        "source", "dataset", "benchmark", "judge", "protocol", "reading", "prompt_version",
        "sampling", "model",
    ),
    "llm_usage": ("stage", "role", "model", "dataset"),
    "conflicting_verdicts": ("file_name", "file", "row", "shown_first", "turn"),
    "verdict_trace": ("result_id", "question_id", "turn", "shown_first"),
}  # fmt: skip
_NAMES = ("model", "matchup", "subject", "benchmark", "judge", "dataset")
_GATE = "publication_gate"
_TRACE = "verdict_trace"
# Rows of the trace that are compared at once: each holds whole answers.
_PIECE = 20_000
_THERE = """
select table_name as name from duckdb_tables() union all select view_name from duckdb_views()
"""
_RESULTS_TRACED = f"""
select coalesce(result_id, '') as result_id, count(*) as len from {_TRACE} group by 1
"""  # noqa: S608
# What the build has read of the lake, and what it reads whole: by when that was written.
_FOLLOWED = "lake_files"
_BY_TIME = (
    "benchmark_questions", "checkpoint", "declared_matchups", "declared_models", "llm_replies",
    "selected_subset",
)  # fmt: skip


def check_marts(lake: Lake, warehouse: Path, findings: Findings) -> None:
    """Compare each mart with what the lake's tables give.

    Args:
        lake: The lake.
        warehouse: The published DuckDB file.
        findings: Takes what is found.

    Raises:
        WarehouseError: There is no warehouse, or it can't be read.
    """
    there = set(query(warehouse, _THERE)["name"])
    if _FOLLOWED in there:
        _note_changes(lake, warehouse, findings)
    tables = _tables(lake, findings)
    for name in KEYS:
        if name not in there:
            fault = VerificationFault("marts", "missing", name, "", "", "no such table", "a table")
            findings.add(name, [fault])
    if _GATE not in there:
        return
    gate = query(warehouse, f'from "{_GATE}"')
    for name, expected in expected_rows(tables, gate, limits()).items():
        if name not in there:
            continue
        try:
            _compare(warehouse, name, expected, findings)
        except WarehouseError as error:
            # A view over a table that is gone is such a case.
            fault = VerificationFault(
                "marts", "unreadable", name, "", "", shown(str(error)), "its rows"
            )
            findings.add(name, [fault])


def expected_rows(tables: Tables, gate: pl.DataFrame, lines: Limits) -> dict[str, pl.DataFrame]:
    """The rows that the marts must have, by mart.

    Args:
        tables: The lake's tables.
        gate: Rows of ``publication_gate``, which the reasons are taken from: whether a result
            keeps a rule is counted anew.
        lines: Where the gate draws its lines.
    """
    singles, pairs = recount.single_outcomes(tables), recount.pair_outcomes(tables)
    results = recount.results_of(singles, pairs)
    rules = gating.expected_rules(results)
    key = list(KEYS[_GATE])
    told = rules.join(gating.gate(results, singles, pairs, tables, lines), on=key, how="left")
    reasons = gate.unique(key).select(*key, "reason")
    found = gating.badges(told.join(reasons, on=key, how="left"))
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
        "mt_bench_scores_all": means,
        "mt_bench_scores": scores.drop("badge", "reason"),
        "mt_bench_by_category": published.scores_by_category(singles, scores),
        "win_rates_all": rates,
        "win_rates": shown,
        "position_bias": judges.position_bias(pairs),
        "length_bias": judges.length_bias(pairs, results, shown, tables),
        "judge_agreement": judges.agreement(pairs, tables),
        "leaderboard": published.leaderboards(pairs, results, found),
        "llm_usage": tracing.llm_usage(tables.replies),
        "conflicting_verdicts": gating.conflicting_verdicts(tables.imported),
        _TRACE: tracing.verdict_trace(singles, pairs, tables),
    }  # fmt: skip


def _compare(warehouse: Path, name: str, expected: pl.DataFrame, findings: Findings) -> None:
    """One mart with the rows that it must have."""
    held = query(warehouse, f'from "{name}" limit 0').columns
    lacking = [column for column in expected.columns if column not in held]
    if lacking:
        fault = VerificationFault(
            "marts", "missing", name, "", "", f"no columns {lacking}", "all of them"
        )
        findings.add(name, [fault])
        return
    key = KEYS[name]
    columns = ", ".join(f'"{column}"' for column in expected.columns)
    for where, part in _pieces(warehouse, name, expected):
        found = query(warehouse, f'select {columns} from "{name}" {where}')  # noqa: S608
        findings.count("marts", name, max(found.height, part.height))
        for fault in differences(found, part, key, layer="marts", table=name, named=_named(key)):
            findings.add(name, [fault])


def _pieces(
    warehouse: Path, name: str, expected: pl.DataFrame
) -> Iterator[tuple[str, pl.DataFrame]]:
    """Which rows of a mart are compared at once (a WHERE clause), and those expected of them."""
    if name != _TRACE:
        yield "", expected
        return
    found = query(warehouse, _RESULTS_TRACED)
    sizes = (
        pl.concat([found, expected.group_by("result_id").len()], how="vertical_relaxed")
        .group_by("result_id")
        .agg(pl.col("len").max())
        .sort("result_id")
        .with_columns(piece=pl.col("len").cum_sum() // _PIECE)
    )
    for piece in sizes.partition_by("piece"):
        ids = piece["result_id"].to_list()
        listed = ", ".join("'{}'".format(each.replace("'", "''")) for each in ids)
        part = expected.filter(pl.col("result_id").is_in(ids))
        yield f"where coalesce(result_id, '') in ({listed})", part


def limits(project: Path = PROJECT) -> Limits:
    """The lines that the dbt project draws.

    Args:
        project: The dbt project.
    """
    declared = yaml.safe_load((project / "dbt_project.yml").read_text(encoding="utf-8"))["vars"]
    return Limits(declared["unparsable_limit"], declared["parity_tolerance"])


def _note_changes(lake: Lake, warehouse: Path, findings: Findings) -> None:
    """Say so where the lake is newer than the warehouse, as no faults are to be looked for then."""
    read = query(warehouse, f"select lake_table, stamp from interim.{_FOLLOWED}")  # noqa: S608
    built = dict(read.group_by("lake_table").agg("stamp").iter_rows())
    changed = [
        name
        for name in FOLLOWED
        if sorted(each.stamp for each in lake.files(name)) != sorted(built.get(name, []))
    ]
    if changed:
        findings.note(
            f"changed since the warehouse was built: {', '.join(changed)}; "
            f"build it anew ({HOW_TO_BUILD}) before looking for faults in marts"
        )
    published = warehouse.stat().st_mtime
    written = [name for name in _BY_TIME if lake.written(name) > published]
    if written:
        findings.note(
            f"written since the warehouse was built: {', '.join(written)}; "
            f"where marts do not follow from them, build it anew ({HOW_TO_BUILD})"
        )


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


def _named(key: Sequence[str]) -> Any:
    def say(row: Mapping[str, Any]) -> str:
        names = [*key, *(name for name in _NAMES if name in row and name not in key)]
        return ", ".join(f"{name} {row[name]}" for name in names)

    return say

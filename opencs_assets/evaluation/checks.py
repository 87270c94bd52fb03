"""The publication gate's rules as checks of the marts that it keeps results out of."""

from collections.abc import Iterator, Mapping

import dagster as dg
import polars as pl

from opencs_assets.wiring.checks import Finding
from resources.settings import Settings
from resources.warehouse import Warehouse

# What results a mart publishes.
MARTS: Mapping[str, str] = {"win_rates": "pair", "answer_scores": "single"}
BOTH, PAIR = ("single", "pair"), ("pair",)
RULES: Mapping[str, tuple[str, tuple[str, ...]]] = {
    "every_judgment": ("Every expected judgment is there.", BOTH),
    "few_unparsable": ("Few judgments could not be read.", BOTH),
    "both_orders": ("Both orders of each question were judged.", PAIR),
    "equal_mix": ("Equal shares of all turns and categories were judged, in both orders.", BOTH),
    "same_judge": ("One judge, prompt version and sampling judged all of a result.", BOTH),
    "answers_complete": ("The models answered every question.", BOTH),
    "parity": ("Both sides had the same budget, in the matchup's unit.", PAIR),
    "chat_template": ("Answers are from the current checkpoints, with one chat template.", BOTH),
    "no_contamination": ("No sample of the subsets asks what the benchmark asks.", BOTH),
    "no_conflicts": ("No imported files contradict each other.", BOTH),
}
SHOWN = 20


def gate_finding(gate: pl.DataFrame, kind: str, rule: str) -> Finding:
    """What a rule keeps out of the mart of a kind of results, from rows of ``publication_gate``."""
    rows = gate.filter((pl.col("kind") == kind) & (pl.col("rule") == rule))
    failed = rows.filter(~pl.col("passed"))
    unknown = rows["passed"].null_count()
    listed = [
        f"{row['subject']} on {row['benchmark']} ({row['dataset']}): {row['reason']}"
        for row in failed.head(SHOWN).iter_rows(named=True)
    ]
    if failed.height > SHOWN:
        listed.append(f"and {failed.height - SHOWN} more, see publication_gate")
    if not failed.height:
        description = f"{rows.height - unknown} results hold it"
    else:
        description = (
            f"{failed.height} of {rows.height} results are not published for it: "
            + "; ".join(listed[:3])
        )
    if unknown:
        description += f"; of {unknown} it can't be told"
    return Finding(
        not failed.height,
        description,
        {
            "results": rows.height,
            "failed": failed.height,
            "unknown": unknown,
            "reasons": listed,
            "query": f"opencs sql \"from publication_gate where rule = '{rule}'\"",
        },
    )


def build_evaluation_checks(settings: Settings) -> list[dg.AssetChecksDefinition]:
    """One check a mart and rule; none of them blocks, since what they find is in the tables."""
    warehouse = Warehouse(settings.warehouse)
    specs = [
        dg.AssetCheckSpec(f"gate_{rule}", asset=mart, description=description)
        for mart, kind in MARTS.items()
        for rule, (description, kinds) in RULES.items()
        if kind in kinds
    ]

    @dg.multi_asset_check(name="publication_gate_checks", specs=specs, can_subset=True)
    def gate(context: dg.AssetCheckExecutionContext) -> Iterator[dg.AssetCheckResult]:
        rows = warehouse.query("from publication_gate")
        selected = context.selected_asset_check_keys
        for spec in specs:
            if spec.key not in selected:
                continue
            kind = MARTS[spec.asset_key.path[-1]]
            finding = gate_finding(rows, kind, spec.name.removeprefix("gate_"))
            yield dg.AssetCheckResult(
                asset_key=spec.asset_key,
                check_name=spec.name,
                passed=finding.passed,
                severity=dg.AssetCheckSeverity.WARN,
                description=finding.description,
                metadata=dict(finding.metadata),
            )

    return [gate]

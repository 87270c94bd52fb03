"""The check that imported files do not contradict each other."""

import dagster as dg
import polars as pl

from opencs_assets.imports.claims import conflicting
from opencs_assets.wiring.checks import Finding, build_check


def no_conflicts(verdicts: pl.DataFrame) -> Finding:
    """No two imported rows claim the same judgment with different scores."""
    judgments = conflicting(verdicts)
    files = verdicts.filter(pl.col("state") == "conflict")["file_name"].unique().sort()
    text = f"{judgments} judgments in conflict"
    if judgments:
        text += f" between rows of {', '.join(files)}; choose with `opencs prefer-verdicts FILE`"
    return Finding(
        not judgments,
        text,
        {"judgments": judgments, "files": files.to_list()},
    )


def build_import_checks() -> list[dg.AssetChecksDefinition]:
    """The check on ``imported_verdicts``.

    A conflict makes results unfit to publish but does not break the table, so the check does not
    block, and the marts leave the judgment out.
    """
    return [build_check("imported_verdicts", no_conflicts, None, blocking=False)]

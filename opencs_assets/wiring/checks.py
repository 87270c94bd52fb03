"""One factory that turns a stage's pure check functions into Dagster asset checks."""

import inspect
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import dagster as dg
import polars as pl


class Finding(NamedTuple):
    """Whether a check passed, one sentence for a person, and the numbers behind it."""

    passed: bool
    description: str
    metadata: Mapping[str, Any] = {}


def few_not_ok(
    rows: pl.DataFrame, most: float, what: str, is_wrong: str, *, share_of_none: float = 0.0
) -> Finding:
    """Whether at most a share of the rows has another ``status`` than ok."""
    wrong = rows.filter(pl.col("status") != "ok")
    share = wrong.height / rows.height if rows.height else share_of_none
    return Finding(
        share <= most,
        f"{wrong.height} of {rows.height} {what} ({share:.1%}) {is_wrong}",
        {
            "by_status": dict(wrong["status"].value_counts().sort("status").iter_rows()),
            "limit": most,
        },
    )


def missing_and_unknown(
    expected: pl.DataFrame, rows: pl.DataFrame
) -> tuple[pl.DataFrame, pl.DataFrame]:
    """The expected keys that no row has, and the rows whose key is not among the expected ones."""
    key = expected.columns
    return expected.join(rows, on=key, how="anti"), rows.join(expected, on=key, how="anti")


def build_check(
    asset: str,
    find: Callable[..., Finding | tuple[bool, str, Mapping[str, Any]]],
    partitions_def: dg.PartitionsDefinition[str] | None,
    *inputs: str,
    name: str | None = None,
    blocking: bool = True,
) -> dg.AssetChecksDefinition:
    """Make an asset check from a function over the asset's table.

    Args:
        asset: The asset that is checked; its table is the first argument of ``find``.
        find: Pure function of the tables; further arguments are ``inputs`` in order.
        partitions_def: The asset's partitions.
        inputs: Further tables that the check compares with.
        name: Name of the check; by default that of ``find``.
        blocking: Whether a failure stops the stages after the asset; for broken data only.
    """
    names = [asset, *inputs]

    def check(**tables: pl.DataFrame) -> dg.AssetCheckResult:
        finding = Finding(*find(*[tables[table] for table in names]))
        return dg.AssetCheckResult(
            passed=finding.passed,
            description=finding.description,
            metadata=dict(finding.metadata),
            severity=dg.AssetCheckSeverity.ERROR if blocking else dg.AssetCheckSeverity.WARN,
        )

    # Dagster reads the names of a check's inputs from its function's signature.
    kind = inspect.Parameter.POSITIONAL_OR_KEYWORD
    check.__signature__ = inspect.Signature(  # type: ignore[attr-defined]
        [inspect.Parameter(table, kind, annotation=pl.DataFrame) for table in names]
    )
    return dg.asset_check(
        asset=asset,
        name=name or find.__name__,
        description=(find.__doc__ or "").strip().split("\n")[0],
        blocking=blocking,
        partitions_def=partitions_def,
        additional_ins={table: dg.AssetIn(table) for table in inputs},
    )(check)

"""One factory that turns a stage's pure check functions into Dagster asset checks."""

import inspect
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import dagster as dg
import polars as pl


class Finding(NamedTuple):
    """What a check found.

    Attributes:
        passed: Whether the data is sound.
        description: One sentence with the numbers, for a person.
        metadata: The numbers behind it.
    """

    passed: bool
    description: str
    metadata: Mapping[str, Any] = {}


def build_check(
    asset: str,
    name: str,
    find: Callable[..., Finding | tuple[bool, str, Mapping[str, Any]]],
    *,
    partitions_def: dg.PartitionsDefinition[str] | None,
    inputs: Mapping[str, dg.AssetIn] | None = None,
    blocking: bool = True,
) -> dg.AssetChecksDefinition:
    """Make an asset check from a function over the asset's table.

    Args:
        asset: The asset that is checked; its table is the first argument of ``find``.
        name: Name of the check.
        find: Pure function of the tables; further arguments are ``inputs`` in order.
        partitions_def: The asset's partitions.
        inputs: Further tables that the check compares with.
        blocking: Whether a failure stops what comes after; for broken data only.
    """
    names = [asset, *(inputs or {})]

    def check(**tables: pl.DataFrame) -> dg.AssetCheckResult:
        finding = Finding(*find(*[tables[each] for each in names]))
        return dg.AssetCheckResult(
            passed=finding.passed,
            description=finding.description,
            metadata=dict(finding.metadata),
            severity=dg.AssetCheckSeverity.ERROR if blocking else dg.AssetCheckSeverity.WARN,
        )

    # Dagster takes the names of the inputs from the signature, and here they are known only now.
    kind = inspect.Parameter.POSITIONAL_OR_KEYWORD
    check.__signature__ = inspect.Signature(  # type: ignore[attr-defined]
        [inspect.Parameter(each, kind, annotation=pl.DataFrame) for each in names]
    )
    return dg.asset_check(
        asset=asset,
        name=name,
        description=(find.__doc__ or "").strip().split("\n")[0],
        blocking=blocking,
        partitions_def=partitions_def,
        additional_ins=dict(inputs or {}),
    )(check)

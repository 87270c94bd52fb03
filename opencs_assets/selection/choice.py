"""What a selector is given and what it gives back."""

import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

import polars as pl

from opencs_assets.config.profiles import Constants
from resources.errors import MendableError
from resources.settings import ClusterSize, Criterion, LengthUnit


class SelectionError(MendableError):
    """No subset can be chosen; the message says why."""


# What a selector says of the samples that it considered: one row a sample, in the order in which
# it would choose them. ``choice`` is the 0-based place in the subset, null where it was not chosen.
CONSIDERED = pl.Schema(
    {
        "sample_id": pl.String,
        "choice": pl.Int64,
        "cluster": pl.Int64,
        "score": pl.Float64,
        "place": pl.Int64,
        "places": pl.Int64,
        "cut": pl.Float64,
        "reason": pl.String,
    }
)


# As k: all that there is.
WHOLE = sys.maxsize


@dataclass(frozen=True)
class SelectorOptions:
    """What can be set of a selector.

    Attributes:
        k: Samples to choose.
        quota: Samples from one cluster in its turn.
        refill: Whether a short cluster is made up for by the others.
        seed: Seed of all that is random, ties among it.
        one_cluster_each: Whether a sample competes in its primary cluster only.
        cluster_size: What makes a cluster small: its candidates, or its members.
        criterion: Which single score is read.
        length: What a response's length is counted in.
        file: The set that was chosen elsewhere, for ``fixed``.
    """

    k: int
    quota: int = 1
    refill: bool = True
    seed: int = 0
    one_cluster_each: bool = True
    cluster_size: ClusterSize = "candidates"
    criterion: Criterion = "helpfulness"
    length: LengthUnit = "characters"
    file: Path | None = None

    @classmethod
    def of(cls, constants: Constants) -> "SelectorOptions":
        """What the dataset's constants say of every selector."""
        return cls(
            k=constants.k.value,
            quota=constants.quota.value,
            refill=constants.refill,
            seed=constants.seed,
            one_cluster_each=constants.one_cluster_each,
            cluster_size=constants.cluster_size,
        )


@dataclass(frozen=True)
class Request:
    """What a selector is asked for.

    Attributes:
        table: Gives the rows of one of the selector's tables.
        options: What is set; ``k`` without the samples that pins keep.
        taken: Samples chosen already, by pins.
        banned: Samples that may not be chosen, by pins or since they match a benchmark.
    """

    table: Callable[[str], pl.DataFrame]
    options: SelectorOptions
    taken: frozenset[str] = frozenset()
    banned: frozenset[str] = frozenset()

    def open_rows(self, rows: pl.DataFrame) -> pl.DataFrame:
        """The rows of samples that may still be chosen, in their order."""
        excluded = pl.Series(sorted(self.taken | self.banned), dtype=pl.String)
        return rows.filter(~pl.col("sample_id").is_in(excluded.implode()))


@dataclass(frozen=True)
class SelectorAnswer:
    """What a selector chose.

    Attributes:
        considered: One row a sample that it considered (schema ``CONSIDERED``).
        outside: Chosen samples that the dataset does not have (schema ``RAW_DATASET``), if any.
        notes: What is to be said of it, for a person.
        otherwise: Why a sample was not considered, by sample id, where the selector knows.
    """

    considered: pl.DataFrame
    outside: pl.DataFrame | None = None
    notes: tuple[str, ...] = ()
    otherwise: Mapping[str, str] = field(default_factory=dict)


def first_of(rows: pl.DataFrame, k: int, *, chosen: pl.Expr, passed: pl.Expr) -> pl.DataFrame:
    """The first k of samples in order, as ``CONSIDERED``.

    Args:
        rows: ``sample_id``, and ``score`` where there is one, the best first.
        k: How many are chosen.
        chosen: Reason of a chosen one; may name all of ``CONSIDERED``.
        passed: Reason of one that was not.
    """
    if "score" not in rows.columns:
        rows = rows.with_columns(score=pl.lit(None, dtype=pl.Float64))
    place = pl.int_range(1, pl.len() + 1, dtype=pl.Int64)
    return (
        rows.select("sample_id", pl.col("score").cast(pl.Float64))
        .with_columns(
            choice=pl.when(place <= k).then(place - 1),
            cluster=pl.lit(None, dtype=pl.Int64),
            place=place,
            places=pl.len().cast(pl.Int64),
            cut=pl.col("score").get(max(min(k, rows.height), 1) - 1, null_on_oob=True),
        )
        .with_columns(reason=pl.when(pl.col("choice").is_not_null()).then(chosen).otherwise(passed))
        .select(list(CONSIDERED))
    )


def in_words(value: pl.Expr, decimals: int) -> pl.Expr:
    """A number as text with so many decimals and no more."""
    return value.round(decimals).cast(pl.String)

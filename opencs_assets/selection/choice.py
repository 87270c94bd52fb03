"""The options, the request and the answer of a selector."""

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


# One row a sample that a selector considered, in the order in which it would choose them.
# ``choice`` is the 0-based place in the subset, null where the sample was not chosen.
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

# This k means every sample that there is.
WHOLE = sys.maxsize


@dataclass(frozen=True)
class SelectorOptions:
    """The options of a selector.

    Attributes:
        k: Samples to choose.
        quota: Samples from one cluster in its turn.
        refill: Whether other clusters make up for one that has fewer samples than the quota.
        seed: Seed of every random choice, ties included.
        one_cluster_each: Whether a sample competes in its primary cluster only.
        cluster_size: Whether a cluster's size is the number of its candidates or of its members.
        criterion: The criterion of the single scores that are read.
        length: The unit in which a response's length is counted.
        file: The file of the set that was chosen elsewhere, for ``fixed``.
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
        """The options of a selector that declares none of its own."""
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
    """The tables and options that a selector chooses by.

    Attributes:
        table: Gives the rows of one of the selector's tables.
        options: The selector's options; their ``k`` does not count the samples that pins keep.
        pinned: Samples that pins have already put into the subset.
        banned: Samples that may not be chosen, because of pins or because they match a benchmark.
    """

    table: Callable[[str], pl.DataFrame]
    options: SelectorOptions
    pinned: frozenset[str] = frozenset()
    banned: frozenset[str] = frozenset()

    @property
    def excluded(self) -> frozenset[str]:
        """The samples that the selector may not choose."""
        return self.pinned | self.banned

    def open_rows(self, rows: pl.DataFrame) -> pl.DataFrame:
        """The rows of samples that may still be chosen, in their order."""
        excluded = pl.Series(sorted(self.excluded), dtype=pl.String)
        return rows.filter(~pl.col("sample_id").is_in(excluded.implode()))


@dataclass(frozen=True)
class SelectorAnswer:
    """The samples that a selector considered and chose.

    Attributes:
        considered: One row a sample that it considered (schema ``CONSIDERED``).
        outside: Chosen samples that the dataset does not have (schema ``RAW_DATASET``), if any.
        notes: Sentences about the choice for a person.
        not_considered: Why a sample was not considered, by sample id, where the selector knows.
    """

    considered: pl.DataFrame
    outside: pl.DataFrame | None = None
    notes: tuple[str, ...] = ()
    not_considered: Mapping[str, str] = field(default_factory=dict)


def first_of(rows: pl.DataFrame, k: int, *, chosen: pl.Expr, passed: pl.Expr) -> pl.DataFrame:
    """The first k of samples in order, as ``CONSIDERED``.

    Args:
        rows: ``sample_id``, and ``score`` where there is one, the best first.
        k: How many are chosen.
        chosen: The reason of a chosen sample; the expression may use all of ``CONSIDERED``.
        passed: The reason of a sample that was not chosen.
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
    """A number as text, rounded to so many decimals."""
    return value.round(decimals).cast(pl.String)

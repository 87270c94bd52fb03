"""What a selector is given and what it gives back."""

from collections.abc import Callable
from dataclasses import dataclass

import polars as pl


@dataclass(frozen=True)
class Choice:
    """One chosen sample.

    Attributes:
        sample_id: The sample.
        reason: Why it was chosen, for a person.
        cluster: Cluster that it was chosen for, if any.
        score: Value that it was ranked by, if any.
        pinned: Kept by ``pins.csv``.
    """

    sample_id: str
    reason: str
    cluster: int | None = None
    score: float | None = None
    pinned: bool = False


@dataclass(frozen=True)
class Request:
    """What a selector is asked for.

    Attributes:
        table: Gives the rows of one of the selector's tables.
        k: Samples to choose.
        quota: Samples from one cluster in its turn.
        refill: Whether a short cluster is made up for by the others.
        seed: Seed of all that is random.
        taken: Samples chosen already, by pins.
        banned: Samples that may not be chosen, by pins.
    """

    table: Callable[[str], pl.DataFrame]
    k: int
    quota: int
    refill: bool
    seed: int
    taken: frozenset[str]
    banned: frozenset[str]

    def open_samples(self, sample_ids: pl.Series) -> pl.Series:
        """The samples that may still be chosen, in the given order."""
        excluded = list(self.taken | self.banned)
        return sample_ids.filter(~sample_ids.is_in(excluded))

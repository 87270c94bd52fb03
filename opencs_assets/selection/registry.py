"""Every way to choose a subset, one entry each, and the choosing around it that all share."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import polars as pl

from opencs_assets.schemas import SELECTED_SUBSET
from opencs_assets.selection import baselines
from opencs_assets.selection.choice import Choice, Request
from opencs_assets.selection.pins import Pins
from opencs_assets.selection.quota import choose_by_quota


class SelectionError(ValueError):
    """No subset can be chosen; the message says why."""


@dataclass(frozen=True)
class SelectorMethod:
    """One way to choose.

    Attributes:
        needs: Tables that it reads.
        choose: Gives at most ``k`` choices in order.
    """

    needs: tuple[str, ...]
    choose: Callable[[Request], list[Choice]]


def _opencs(request: Request) -> list[Choice]:
    return choose_by_quota(
        request.table("contrastive_scores"),
        request.table("clusters"),
        k=request.k,
        quota=request.quota,
        refill=request.refill,
        taken=request.taken,
        banned=request.banned,
    )


METHODS: Mapping[str, SelectorMethod] = {
    "opencs": SelectorMethod(("contrastive_scores", "clusters"), _opencs),
    "longest": SelectorMethod(("raw_dataset",), baselines.longest),
    "random": SelectorMethod(("raw_dataset",), baselines.random),
    "alpagasus": SelectorMethod(("single_scores",), baselines.alpagasus),
    "k_center": SelectorMethod(("sample_embeddings",), baselines.k_center),
}


@dataclass(frozen=True)
class Subset:
    """A chosen subset.

    Attributes:
        rows: One row a chosen sample (schema ``SELECTED_SUBSET``).
        wanted: Samples asked for.
        notes: Why it has fewer, and what the pins did, for a person.
    """

    rows: pl.DataFrame
    wanted: int
    notes: tuple[str, ...]


def select(
    method: str,
    table: Callable[[str], pl.DataFrame],
    pins: Pins,
    *,
    k: int,
    quota: int,
    refill: bool,
    seed: int,
    contaminated: frozenset[str] = frozenset(),
) -> Subset:
    """Choose a subset: the kept pins first, then the selector's choices up to k.

    Args:
        method: Name in ``METHODS``.
        table: Gives the rows of a table that the method needs.
        pins: The dataset's pins.
        k: Samples to choose.
        quota: Samples from one cluster in its turn.
        refill: Whether a short cluster is made up for by the others.
        seed: Seed of all that is random.
        contaminated: Samples that match a benchmark question and are left out, unless a pin
            keeps them.

    Raises:
        SelectionError: The method is unknown, more is kept than k, or nothing could be chosen.
    """
    if method not in METHODS:
        raise SelectionError(f"there is no selector {method!r}; known: {', '.join(METHODS)}")
    if len(pins.keep) > k:
        raise SelectionError(
            f"pins.csv keeps {len(pins.keep)} samples, but the subset has {k}; raise k or keep less"
        )
    kept = [
        Choice(sample, f"kept by pins.csv: {reason}", pinned=True)
        for sample, reason in pins.keep.items()
    ]
    request = Request(
        table=table,
        k=k - len(kept),
        quota=quota,
        refill=refill,
        seed=seed,
        taken=frozenset(pins.keep),
        banned=(contaminated - frozenset(pins.keep)) | frozenset(pins.ban),
    )
    choices = kept + METHODS[method].choose(request)
    if not choices:
        raise SelectionError(
            f"selector {method!r} has nothing to choose from: {', '.join(METHODS[method].needs)} "
            "left no sample that is not banned"
        )
    notes = []
    if len(choices) < k:
        notes.append(
            f"{len(choices)} of {k} samples: no more candidates"
            + ("" if refill or method != "opencs" else " within the quota (profile faithful)")
        )
    if contaminated:
        notes.append(
            f"{len(contaminated)} samples that match a benchmark question are left out"
            + (
                f", but for {len(contaminated & set(pins.keep))} that pins.csv keeps"
                if contaminated & set(pins.keep)
                else ""
            )
        )
    if pins.keep or pins.ban:
        notes.append(f"pins.csv kept {len(pins.keep)} and banned {len(pins.ban)} samples")
    rows = pl.DataFrame(
        [
            {
                "rank": rank,
                "sample_id": choice.sample_id,
                "cluster": choice.cluster,
                "score": choice.score,
                "reason": choice.reason,
                "pinned": choice.pinned,
            }
            for rank, choice in enumerate(choices)
        ],
        schema=SELECTED_SUBSET.schema,
    )
    return Subset(rows, k, tuple(notes))

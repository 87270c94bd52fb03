"""The registry of selectors, and what every choice does around the selector: pins and reasons."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace

import polars as pl

from opencs_assets.selection import baselines
from opencs_assets.selection.choice import (
    WHOLE,
    Request,
    SelectionError,
    SelectorAnswer,
    SelectorOptions,
)
from opencs_assets.selection.fixed import fixed
from opencs_assets.selection.pins import Pins
from opencs_assets.selection.quota import choose_by_quota
from opencs_assets.tables.selection import OUTSIDE_SAMPLES, SELECTED_SUBSET, UNSELECTED_SAMPLES

NOT_CONSIDERED = "not considered by this selector"


@dataclass(frozen=True)
class SelectorMethod:
    """One way to choose.

    Attributes:
        needs: Tables that it reads.
        choose: Considers samples and chooses up to k of them.
        scores: Table whose scores rank its samples, where a model gave them.
        takes_all: Whether it chooses every sample that it has where the selector declares no k.
    """

    needs: tuple[str, ...]
    choose: Callable[[Request], SelectorAnswer]
    scores: str | None = None
    takes_all: bool = False


def _opencs(request: Request) -> SelectorAnswer:
    return _by_cluster(request, request.table("contrastive_scores"))


def _no_contrast(request: Request) -> SelectorAnswer:
    """The ablation without comparisons: the same clusters and candidates, each scored alone."""
    places = request.table("sample_clusters").filter("is_candidate")
    if request.options.one_cluster_each:
        places = places.filter("is_primary")
    scores = baselines.single_scores(request).select("sample_id", "score")
    places = places.select("cluster", "sample_id")
    return _by_cluster(request, places.join(scores, on="sample_id", how="left"))


def _by_cluster(request: Request, scores: pl.DataFrame) -> SelectorAnswer:
    considered = choose_by_quota(
        scores, request.table("clusters"), request.options, request.excluded
    )
    not_considered = dict.fromkeys(
        request.table("sample_clusters")["sample_id"].unique(),
        "no candidate: samples with longer responses stand for its clusters",
    )
    unclustered = request.table("unclustered_samples").select("sample_id", "reason")
    not_considered |= {
        sample: f"in no cluster: {reason}" for sample, reason in unclustered.iter_rows()
    }
    return SelectorAnswer(considered, not_considered=not_considered)


_CLUSTERED = ("clusters", "sample_clusters", "unclustered_samples")
METHODS: Mapping[str, SelectorMethod] = {
    "opencs": SelectorMethod(("contrastive_scores", *_CLUSTERED), _opencs, "contrastive_scores"),
    "no_contrast": SelectorMethod(("single_scores", *_CLUSTERED), _no_contrast, "single_scores"),
    "no_clusters": SelectorMethod(("whole_set_scores",), baselines.no_clusters, "whole_set_scores"),
    "longest": SelectorMethod(("raw_dataset",), baselines.longest),
    "random": SelectorMethod(("raw_dataset",), baselines.random),
    "alpagasus": SelectorMethod(("single_scores",), baselines.alpagasus, "single_scores"),
    "k_center": SelectorMethod(("sample_embeddings",), baselines.k_center),
    "full": SelectorMethod(("raw_dataset",), baselines.full, takes_all=True),
    "fixed": SelectorMethod(("raw_dataset",), fixed, takes_all=True),
}


@dataclass(frozen=True)
class Subset:
    """A chosen subset.

    Attributes:
        rows: One row a chosen sample (schema ``SELECTED_SUBSET``).
        unselected: One row a sample of the dataset that was not chosen (schema
            ``UNSELECTED_SAMPLES``).
        outside: Chosen samples that the dataset does not have (schema ``OUTSIDE_SAMPLES``).
        requested_size: How many samples the subset should have.
        notes: Sentences for a person: why the subset has fewer samples, and what the pins did.
    """

    rows: pl.DataFrame
    unselected: pl.DataFrame
    outside: pl.DataFrame
    requested_size: int
    notes: tuple[str, ...]


def select(
    method: str,
    table: Callable[[str], pl.DataFrame],
    pins: Pins,
    options: SelectorOptions,
    contaminated: frozenset[str] = frozenset(),
) -> Subset:
    """Choose a subset: the kept pins first, then the selector's choices up to k.

    Args:
        method: Name in ``METHODS``.
        table: Gives the rows of a table by its name, ``raw_dataset`` and what the method needs.
        pins: The dataset's pins.
        options: The selector's options.
        contaminated: Samples that match a benchmark question and are left out, unless a pin
            keeps them.

    Raises:
        SelectionError: The method is unknown, pins keep more than k, or nothing could be chosen.
    """
    if method not in METHODS:
        raise SelectionError(f"there is no selector {method!r}; known: {', '.join(METHODS)}")
    if len(pins.keep) > options.k:
        raise SelectionError(
            f"pins.csv keeps {len(pins.keep)} samples, but the subset has {options.k}; raise k or "
            "keep less"
        )
    request = Request(
        table=table,
        options=replace(options, k=options.k - len(pins.keep)),
        pinned=frozenset(pins.keep),
        banned=contaminated.difference(pins.keep).union(pins.ban),
    )
    answer = METHODS[method].choose(request)
    rows = _chosen(answer.considered, pins, METHODS[method].scores)
    if not rows.height:
        raise SelectionError(
            f"selector {method!r} has nothing to choose from: {', '.join(METHODS[method].needs)} "
            "left no sample that is not banned"
        )
    requested_size = rows.height if options.k == WHOLE else options.k
    notes = list(answer.notes)
    if rows.height < requested_size:
        by_quota = not options.refill and method in ("opencs", "no_contrast")
        notes.append(
            f"{rows.height} of {requested_size} samples: no more candidates"
            + (" within the quota (profile faithful)" if by_quota else "")
        )
    if contaminated:
        pinned = len(contaminated.intersection(pins.keep))
        notes.append(
            f"{len(contaminated)} samples that match a benchmark question are left out"
            + (f", but for {pinned} that pins.csv keeps" if pinned else "")
        )
    if pins.keep or pins.ban:
        notes.append(f"pins.csv kept {len(pins.keep)} and banned {len(pins.ban)} samples")
    outside = answer.outside if answer.outside is not None else OUTSIDE_SAMPLES.empty()
    return Subset(
        rows,
        _unselected(table("raw_dataset"), rows, answer, pins, contaminated),
        outside.select(list(OUTSIDE_SAMPLES.columns)),
        requested_size,
        tuple(notes),
    )


def _chosen(considered: pl.DataFrame, pins: Pins, scores: str | None) -> pl.DataFrame:
    pinned = pl.DataFrame(
        {
            "sample_id": list(pins.keep),
            "reason": [f"kept by pins.csv: {reason}" for reason in pins.keep.values()],
        },
        schema={"sample_id": pl.String, "reason": pl.String},
    ).with_columns(pinned=pl.lit(True))
    chosen = considered.filter(pl.col("choice").is_not_null()).sort("choice")
    chosen = chosen.with_columns(pinned=pl.lit(False))
    return (
        pl.concat([SELECTED_SUBSET.empty(), pinned, chosen], how="diagonal")
        .with_columns(
            rank=pl.int_range(pl.len(), dtype=pl.Int64),
            scored_by=pl.when(pl.col("score").is_not_null()).then(pl.lit(scores, dtype=pl.String)),
        )
        .select(list(SELECTED_SUBSET.columns))
    )


def _unselected(
    samples: pl.DataFrame,
    rows: pl.DataFrame,
    answer: SelectorAnswer,
    pins: Pins,
    contaminated: frozenset[str],
) -> pl.DataFrame:
    """Why each other sample of the dataset is not in the subset, the first reason that holds."""
    excluded = dict.fromkeys(contaminated, "asks what a benchmark asks") | {
        sample: f"banned by pins.csv: {reason}" for sample, reason in pins.ban.items()
    }
    return (
        samples.join(rows, on="sample_id", how="anti")
        .sort("row")
        .select("sample_id")
        .join(answer.considered, on="sample_id", how="left", maintain_order="left")
        .with_columns(
            reason=pl.coalesce(
                _reason_of(excluded),
                "reason",
                _reason_of(answer.not_considered),
                pl.lit(NOT_CONSIDERED),
            )
        )
        .select(list(UNSELECTED_SAMPLES.columns))
    )


def _reason_of(reasons: Mapping[str, str]) -> pl.Expr:
    """The reason of each ``sample_id``, null where there is none."""
    return pl.col("sample_id").replace_strict(
        list(reasons), list(reasons.values()), default=None, return_dtype=pl.String
    )

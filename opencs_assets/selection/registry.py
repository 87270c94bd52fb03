"""Every way to choose a subset, one entry each, and the choosing around it that all share."""

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
        choose: Gives what it considered, up to k of it chosen.
        scores: Table whose scores rank its samples, where a model gave them.
        whole: Whether it chooses all that it has where no k is set.
    """

    needs: tuple[str, ...]
    choose: Callable[[Request], SelectorAnswer]
    scores: str | None = None
    whole: bool = False


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
        scores, request.table("clusters"), request.options, request.taken | request.banned
    )
    unclustered = request.table("unclustered_samples")
    candidates = request.table("sample_clusters")
    otherwise = dict.fromkeys(
        candidates["sample_id"].unique(),
        "no candidate: samples with longer responses stand for its clusters",
    )
    otherwise |= {
        sample: f"in no cluster: {reason}"
        for sample, reason in unclustered.select("sample_id", "reason").iter_rows()
    }
    return SelectorAnswer(considered, otherwise=otherwise)


_CLUSTERED = ("clusters", "sample_clusters", "unclustered_samples")
METHODS: Mapping[str, SelectorMethod] = {
    "opencs": SelectorMethod(("contrastive_scores", *_CLUSTERED), _opencs, "contrastive_scores"),
    "no_contrast": SelectorMethod(("single_scores", *_CLUSTERED), _no_contrast, "single_scores"),
    "no_clusters": SelectorMethod(("whole_set_scores",), baselines.no_clusters, "whole_set_scores"),
    "longest": SelectorMethod(("raw_dataset",), baselines.longest),
    "random": SelectorMethod(("raw_dataset",), baselines.random),
    "alpagasus": SelectorMethod(("single_scores",), baselines.alpagasus, "single_scores"),
    "k_center": SelectorMethod(("sample_embeddings",), baselines.k_center),
    "full": SelectorMethod(("raw_dataset",), baselines.full, whole=True),
    "fixed": SelectorMethod(("raw_dataset",), fixed, whole=True),
}


@dataclass(frozen=True)
class Subset:
    """A chosen subset.

    Attributes:
        rows: One row a chosen sample (schema ``SELECTED_SUBSET``).
        unselected: One row a sample of the dataset that was not chosen (schema
            ``UNSELECTED_SAMPLES``).
        outside: Chosen samples that the dataset does not have (schema ``OUTSIDE_SAMPLES``).
        wanted: Samples asked for.
        notes: Why it has fewer, and what the pins did, for a person.
    """

    rows: pl.DataFrame
    unselected: pl.DataFrame
    outside: pl.DataFrame
    wanted: int
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
        table: Gives the rows of a table: of those that the method needs, and ``raw_dataset``.
        pins: The dataset's pins.
        options: What is set of the selector.
        contaminated: Samples that match a benchmark question and are left out, unless a pin
            keeps them.

    Raises:
        SelectionError: The method is unknown, more is kept than k, or nothing could be chosen.
    """
    if method not in METHODS:
        raise SelectionError(f"there is no selector {method!r}; known: {', '.join(METHODS)}")
    if len(pins.keep) > options.k:
        raise SelectionError(
            f"pins.csv keeps {len(pins.keep)} samples, but the subset has {options.k}; raise k or "
            "keep less"
        )
    banned = (contaminated - frozenset(pins.keep)) | frozenset(pins.ban)
    request = Request(
        table=table,
        options=replace(options, k=options.k - len(pins.keep)),
        taken=frozenset(pins.keep),
        banned=banned,
    )
    answer = METHODS[method].choose(request)
    rows = _chosen(answer.considered, pins, METHODS[method].scores)
    if not rows.height:
        raise SelectionError(
            f"selector {method!r} has nothing to choose from: {', '.join(METHODS[method].needs)} "
            "left no sample that is not banned"
        )
    wanted = rows.height if options.k == WHOLE else options.k
    notes = list(answer.notes)
    if rows.height < wanted:
        notes.append(
            f"{rows.height} of {wanted} samples: no more candidates"
            + (
                ""
                if options.refill or method not in ("opencs", "no_contrast")
                else " within the quota (profile faithful)"
            )
        )
    if contaminated:
        kept = len(contaminated & set(pins.keep))
        notes.append(
            f"{len(contaminated)} samples that match a benchmark question are left out"
            + (f", but for {kept} that pins.csv keeps" if kept else "")
        )
    if pins.keep or pins.ban:
        notes.append(f"pins.csv kept {len(pins.keep)} and banned {len(pins.ban)} samples")
    outside = answer.outside if answer.outside is not None else OUTSIDE_SAMPLES.empty()
    return Subset(
        rows,
        _unselected(table("raw_dataset"), rows, answer, pins, contaminated),
        outside.select(list(OUTSIDE_SAMPLES.columns)),
        wanted,
        tuple(notes),
    )


def _chosen(considered: pl.DataFrame, pins: Pins, scores: str | None) -> pl.DataFrame:
    kept = pl.DataFrame(
        {
            "sample_id": list(pins.keep),
            "reason": [f"kept by pins.csv: {reason}" for reason in pins.keep.values()],
        },
        schema={"sample_id": pl.String, "reason": pl.String},
    ).with_columns(pinned=pl.lit(True))
    chosen = considered.filter(pl.col("choice").is_not_null()).sort("choice")
    rows = pl.concat([kept, chosen.with_columns(pinned=pl.lit(False))], how="diagonal")
    rows = rows.with_columns(
        rank=pl.int_range(pl.len(), dtype=pl.Int64),
        scored_by=pl.when(pl.col("score").is_not_null()).then(pl.lit(scores, dtype=pl.String)),
    )
    missing = [name for name in SELECTED_SUBSET.columns if name not in rows.columns]
    return rows.with_columns(
        pl.lit(None, dtype=SELECTED_SUBSET.columns[name].dtype).alias(name) for name in missing
    ).select(list(SELECTED_SUBSET.columns))


def _unselected(
    samples: pl.DataFrame,
    rows: pl.DataFrame,
    answer: SelectorAnswer,
    pins: Pins,
    contaminated: frozenset[str],
) -> pl.DataFrame:
    """Why each other sample of the dataset is not in the subset, the first reason that holds."""
    said = {sample: f"banned by pins.csv: {reason}" for sample, reason in pins.ban.items()}
    said = dict.fromkeys(contaminated, "asks what a benchmark asks") | said
    reasons = pl.DataFrame(
        {
            "sample_id": [*said, *answer.otherwise],
            "said": [*said.values(), *[None] * len(answer.otherwise)],
            "otherwise": [*[None] * len(said), *answer.otherwise.values()],
        },
        schema={"sample_id": pl.String, "said": pl.String, "otherwise": pl.String},
    )
    reasons = reasons.group_by("sample_id").agg(pl.all().drop_nulls().first())
    return (
        samples.join(rows, on="sample_id", how="anti")
        .sort("row")
        .select("sample_id")
        .join(answer.considered, on="sample_id", how="left", maintain_order="left")
        .join(reasons, on="sample_id", how="left", maintain_order="left")
        .with_columns(
            reason=pl.coalesce("said", "reason", "otherwise", pl.lit(NOT_CONSIDERED)),
        )
        .select(list(UNSELECTED_SAMPLES.columns))
    )

"""OpenCS's choice: clusters in ascending order of size, the best of each up to a quota."""

import numpy as np
import polars as pl

from opencs_assets.selection.choice import CONSIDERED, SelectorOptions, in_words


def choose_by_quota(
    scores: pl.DataFrame, clusters: pl.DataFrame, options: SelectorOptions, excluded: frozenset[str]
) -> pl.DataFrame:
    """Choose from each cluster, the smallest first, the best of each up to the quota.

    A score ranks within its cluster only: scores of different clusters are not on one scale. Where
    scores are equal or missing, a draw with the seed decides (missing ones come last). With
    ``refill``, when every cluster has had its turn and k is not reached, it goes round again with
    the same quota until nothing is left.

    Args:
        scores: ``cluster``, ``sample_id`` and ``score``.
        clusters: Rows of ``clusters``.
        options: Of these, k, quota, refill, seed and ``cluster_size`` count.
        excluded: Samples that may not be chosen; they keep their place in the ranking.

    Returns:
        One row a scored sample (schema ``CONSIDERED``), the chosen ones first.
    """
    ranked = _ranked(scores, clusters, options)
    if not ranked.height:
        return pl.DataFrame(schema=CONSIDERED)
    choice, turn = _take_turns(ranked, options, excluded)
    return _with_reasons(
        ranked.with_columns(choice=pl.Series(choice).replace(-1, None), turn=pl.Series(turn))
    )


def _ranked(scores: pl.DataFrame, clusters: pl.DataFrame, options: SelectorOptions) -> pl.DataFrame:
    """Every score with its place in its cluster; clusters in the order of their turns."""
    drawn = scores.select("cluster", "sample_id", "score").sort("cluster", "sample_id")
    draw = np.random.default_rng(options.seed).permutation(drawn.height)
    column = {"candidates": "places", "members": "members"}[options.cluster_size]
    return (
        drawn.with_columns(draw=pl.Series(draw), places=pl.len().over("cluster").cast(pl.Int64))
        .join(clusters.select("cluster", "name", "members"), on="cluster", how="left")
        .with_columns(pl.col("name").fill_null(pl.col("cluster").cast(pl.String)))
        .sort(
            [column, "cluster", "score", "draw"],
            descending=[False, False, True, False],
            nulls_last=True,
        )
        .with_columns(place=pl.int_range(1, pl.len() + 1, dtype=pl.Int64).over("cluster"))
    )


def _take_turns(
    ranked: pl.DataFrame, options: SelectorOptions, excluded: frozenset[str]
) -> tuple[np.ndarray, np.ndarray]:
    """Place in the subset and turn of each row, int64 (r,); -1 where it is not chosen."""
    names = ranked["sample_id"].unique(maintain_order=True)
    number = ranked["sample_id"].cast(pl.Enum(names)).to_physical().to_numpy()
    unavailable = (
        names.is_in(pl.Series(sorted(excluded), dtype=pl.String).implode()).to_numpy().copy()
    )
    starts = np.flatnonzero(ranked["place"].to_numpy() == 1)
    queues = [
        rows[~unavailable[number[rows]]] for rows in np.split(np.arange(ranked.height), starts[1:])
    ]
    choice, turn = np.full(ranked.height, -1), np.full(ranked.height, -1)
    chosen, turns = 0, 0
    while chosen < options.k and any(len(queue) for queue in queues):
        if turns and not options.refill:
            break
        for place, queue in enumerate(queues):
            # Another cluster may have taken a sample since this queue was made.
            queue = queue[~unavailable[number[queue]]]
            taken = queue[: min(options.quota, options.k - chosen)]
            choice[taken] = chosen + np.arange(len(taken))
            turn[taken] = turns
            unavailable[number[taken]] = True
            chosen += len(taken)
            queues[place] = queue[len(taken) :]
        turns += 1
    return choice, turn


def _with_reasons(ranked: pl.DataFrame) -> pl.DataFrame:
    """One row a sample, with the reason of its choice in words."""
    chosen = pl.col("choice").is_not_null()
    cut = pl.col("score").filter(chosen).min().over("cluster")
    ranked = ranked.with_columns(cut=cut).with_columns(
        standing=pl.format(
            "place {} of {} in cluster {} ({}), {}",
            "place",
            "places",
            "cluster",
            "name",
            pl.when(pl.col("score").is_null())
            .then(pl.lit("not scored"))
            .otherwise(pl.format("score {}", in_words(pl.col("score"), 1))),
        )
    )
    reason = (
        pl.when(chosen & (pl.col("turn") > 0))
        .then(pl.format("{}, refill round {}", "standing", "turn"))
        .when(chosen)
        .then("standing")
        .when(pl.col("cut").is_null())
        .then(pl.format("{}; none of the cluster was chosen: the subset was full", "standing"))
        .otherwise(
            pl.format("{}; the last one chosen has {}", "standing", in_words(pl.col("cut"), 1))
        )
    )
    return (
        ranked.with_columns(reason=reason)
        # A sample of several clusters has the row of the cluster where it was chosen, or else of
        # the one where its place is best.
        .sort(["choice", "place", "cluster"], nulls_last=True)
        .unique("sample_id", keep="first", maintain_order=True)
        .select(list(CONSIDERED))
    )

"""OpenCS's choice: clusters in ascending order of size, the best of each up to a quota."""

from dataclasses import dataclass

import polars as pl

from opencs_assets.selection.choice import Choice


@dataclass(frozen=True)
class _Ranked:
    cluster: int
    name: str
    place: int
    size: int
    sample_id: str
    score: float | None


def choose_by_quota(
    scores: pl.DataFrame,
    clusters: pl.DataFrame,
    *,
    k: int,
    quota: int,
    refill: bool,
    taken: frozenset[str],
    banned: frozenset[str],
) -> list[Choice]:
    """Choose from each cluster, the smallest first.

    A score ranks within its cluster only: scores of different clusters are not on one scale.
    Where scores are equal or missing, the sample id decides (missing ones come last).

    Args:
        scores: Rows of ``contrastive_scores``.
        clusters: Rows of ``clusters``; size is the number of scored samples.
        k: Samples to choose.
        quota: Samples from a cluster in its turn.
        refill: When every cluster has had its turn and k is not reached, go round again with the
            same quota until nothing is left.
        taken: Samples chosen already; they count towards nothing here and are passed over.
        banned: Samples that may not be chosen.

    Returns:
        At most k choices in order.
    """
    names = dict(clusters.select("cluster", "name").iter_rows())
    queues = _queues(scores, names, banned | taken)
    chosen: list[Choice] = []
    seen: set[str] = set()
    turn = 0
    while len(chosen) < k and any(queues) and (turn == 0 or refill):
        for queue in queues:
            room = min(quota, k - len(chosen))
            while room and queue:
                ranked = queue.pop(0)
                if ranked.sample_id in seen:
                    continue
                seen.add(ranked.sample_id)
                room -= 1
                chosen.append(_choice(ranked, turn))
        turn += 1
    return chosen


def _queues(
    scores: pl.DataFrame, names: dict[int, str], excluded: frozenset[str]
) -> list[list[_Ranked]]:
    queues = []
    ordered = scores.sort(
        ["cluster", "score", "sample_id"], descending=[False, True, False], nulls_last=True
    )
    for (cluster,), group in ordered.group_by("cluster", maintain_order=True):
        number = int(str(cluster))
        queues.append(
            [
                _Ranked(number, names.get(number, str(number)), place, group.height, sample, score)
                for place, (sample, score) in enumerate(
                    group.select("sample_id", "score").iter_rows(), start=1
                )
                if sample not in excluded
            ]
        )
    return sorted(
        (queue for queue in queues if queue), key=lambda queue: (queue[0].size, queue[0].cluster)
    )


def _choice(ranked: _Ranked, turn: int) -> Choice:
    scored = "not scored" if ranked.score is None else f"score {ranked.score:.1f}"
    again = f", refill round {turn}" if turn else ""
    return Choice(
        sample_id=ranked.sample_id,
        reason=(
            f"place {ranked.place} of {ranked.size} in cluster {ranked.cluster} "
            f"({ranked.name}), {scored}{again}"
        ),
        cluster=ranked.cluster,
        score=ranked.score,
    )

"""The baselines that OpenCS is compared with: longest, random, AlpaGasus, k-center greedy."""

import numpy as np
import numpy.typing as npt
import polars as pl

from opencs_assets.embeddings import to_matrix
from opencs_assets.selection.choice import Choice, Request

# Centres whose distances are computed together.
AHEAD = 32


def longest(request: Request) -> list[Choice]:
    """The longest responses, in characters; of equal ones the earlier row."""
    samples = (
        request.table("raw_dataset")
        .select("sample_id", "row", length=pl.col("response").str.len_chars())
        .sort(["length", "row"], descending=[True, False])
    )
    lengths = dict(samples.select("sample_id", "length").iter_rows())
    return [
        Choice(sample, f"response of {lengths[sample]:,} characters", score=float(lengths[sample]))
        for sample in request.open_samples(samples["sample_id"]).head(request.k)
    ]


def random(request: Request) -> list[Choice]:
    """A seeded sample without replacement; the same whatever the order of the input."""
    samples = request.open_samples(request.table("raw_dataset")["sample_id"].sort())
    picked = np.random.default_rng(request.seed).permutation(len(samples))[: request.k]
    return [Choice(samples[int(place)], f"drawn with seed {request.seed}") for place in picked]


def alpagasus(request: Request) -> list[Choice]:
    """The best single scores; of equal ones a seeded draw decides, unscored ones are left out."""
    scores = request.table("single_scores").drop_nulls("score").sort("sample_id")
    scores = (
        scores.with_columns(
            draw=pl.Series(np.random.default_rng(request.seed).permutation(scores.height))
        )
        .sort(["score", "draw"], descending=[True, False])
        .select("sample_id", "score")
    )
    values = dict(scores.iter_rows())
    return [
        Choice(sample, f"single score {values[sample]:.2f} of 5", score=values[sample])
        for sample in request.open_samples(scores["sample_id"]).head(request.k)
    ]


def k_center(request: Request) -> list[Choice]:
    """k-center greedy over instruction embeddings: each next one is farthest from those chosen."""
    embeddings = request.table("sample_embeddings").sort("sample_id")
    allowed = request.open_samples(embeddings["sample_id"])
    embeddings = embeddings.filter(pl.col("sample_id").is_in(allowed.to_list()))
    if not embeddings.height:
        return []
    points = to_matrix(embeddings["embedding"])
    first = int(np.random.default_rng(request.seed).integers(len(points)))
    picks, distances = k_center_greedy(points, min(request.k, len(points)), first)
    reasons = ["first centre, drawn with the seed"] + [
        f"distance {distance:.3f} from those chosen before" for distance in distances[1:]
    ]
    return [
        Choice(embeddings["sample_id"][int(pick)], reason)
        for pick, reason in zip(picks, reasons, strict=True)
    ]


def k_center_greedy(
    points: npt.NDArray[np.float32], k: int, first: int
) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.float32]]:
    """Greedy k-center: repeatedly take the point farthest from the centres taken so far.

    Args:
        points: float32 (n, d).
        k: Centres to take, at most n.
        first: Index of the first centre.

    Returns:
        The centres, int64 (k,), in order; and each one's Euclidean distance to the centres before
        it, float32 (k,), the first's 0. No centre is taken twice, of equal ones the lowest index.
    """
    norms = np.einsum("ij,ij->i", points, points)
    nearest = np.full(len(points), np.inf, np.float32)
    picks, distances = [first], [0.0]
    ahead: dict[int, npt.NDArray[np.float32]] = {}
    for _ in range(k - 1):
        last = picks[-1]
        if last not in ahead:
            ahead = _inner_products(points, last, nearest)
        squared = norms + norms[last] - 2 * ahead.pop(last)
        np.minimum(nearest, np.maximum(squared, 0), out=nearest)
        nearest[picks] = -1
        picks.append(int(nearest.argmax()))
        distances.append(float(np.sqrt(max(nearest[picks[-1]], 0.0))))
    return np.array(picks, np.int64), np.array(distances, np.float32)


def _inner_products(
    points: npt.NDArray[np.float32], last: int, nearest: npt.NDArray[np.float32]
) -> dict[int, npt.NDArray[np.float32]]:
    """Inner products of all points with the last centre and those that may well come next.

    One product of matrices reads the points once for many centres; one centre at a time, reading
    them is what takes the time. The farthest points now are mostly the next centres.
    """
    likely = np.argpartition(nearest, -min(AHEAD, len(nearest)))[-AHEAD:]
    centres = list(dict.fromkeys([last, *likely.tolist()]))
    products = points[centres] @ points.T
    return dict(zip(centres, products, strict=True))

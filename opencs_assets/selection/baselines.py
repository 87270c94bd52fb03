"""The baselines that OpenCS is compared with; each chooses from the whole dataset by one rule."""

import numpy as np
import numpy.typing as npt
import polars as pl

from opencs_assets.selection.choice import (
    CONSIDERED,
    Request,
    SelectionError,
    SelectorAnswer,
    first_of,
    in_words,
)
from opencs_assets.tables.embeddings import to_matrix
from resources.llm.tokens import TokenCounter
from resources.settings import LengthUnit

# How many likely next centres have their distances computed together.
AHEAD = 32
# Lengths in tokens are counted in the tokens of this model.
TOKENS_OF = "gpt-4"


def longest(request: Request) -> SelectorAnswer:
    """The longest responses; of equally long ones, the earlier row comes first."""
    unit = request.options.length
    samples = request.open_rows(
        request.table("raw_dataset")
        .select("sample_id", "row", score=response_lengths(request.table("raw_dataset"), unit))
        .sort(["score", "row"], descending=[True, False])
    )
    length = pl.col("score").cast(pl.Int64)
    return SelectorAnswer(
        first_of(
            samples,
            request.options.k,
            chosen=pl.format(f"response of {{}} {unit}", length),
            passed=pl.format(
                f"response of {{}} {unit}, place {{}} of {{}}; the last one chosen has {{}}",
                length,
                "place",
                "places",
                pl.col("cut").cast(pl.Int64),
            ),
        )
    )


def response_lengths(samples: pl.DataFrame, unit: LengthUnit) -> pl.Series:
    """Length of each response of ``raw_dataset`` rows in the same order, Int64.

    Words are what white space separates; tokens are those of GPT-4.
    """
    responses = samples["response"]
    if unit == "characters":
        lengths = responses.str.len_chars()
    elif unit == "words":
        lengths = responses.str.count_matches(r"\S+")
    else:
        counter = TokenCounter(TOKENS_OF)
        frame = counter.count([""])
        lengths = pl.Series([counter.count([text]) - frame for text in responses])
    return lengths.cast(pl.Int64)


def random(request: Request) -> SelectorAnswer:
    """A seeded sample without replacement; the same whatever the order of the input."""
    samples = request.open_rows(request.table("raw_dataset").select("sample_id").sort("sample_id"))
    order = np.random.default_rng(request.options.seed).permutation(samples.height)
    drawn = pl.lit(f"drawn with seed {request.options.seed}")
    return SelectorAnswer(
        first_of(
            samples[order],
            request.options.k,
            chosen=drawn,
            passed=pl.lit(f"not drawn with seed {request.options.seed}"),
        )
    )


def alpagasus(request: Request) -> SelectorAnswer:
    """The best single scores; a seeded draw orders equal ones, unscored samples are left out."""
    criterion = request.options.criterion
    scores = single_scores(request).select("sample_id", "score").drop_nulls()
    return best_scores(request, scores, f"{criterion} score", decimals=2)


def no_clusters(request: Request) -> SelectorAnswer:
    """The ablation without clusters: the best contrastive scores over the whole set."""
    scores = request.table("whole_set_scores").select("sample_id", "score").drop_nulls()
    return best_scores(request, scores, "contrastive score over the whole set", decimals=1)


def best_scores(request: Request, scores: pl.DataFrame, name: str, decimals: int) -> SelectorAnswer:
    """The highest of ``scores`` (``sample_id``, ``score``); a seeded draw orders equal ones.

    Reasons call the score by ``name`` and give it with so many decimals.
    """
    drawn = scores.sort("sample_id")
    draw = np.random.default_rng(request.options.seed).permutation(drawn.height)
    ordered = drawn.with_columns(draw=pl.Series(draw)).sort(
        ["score", "draw"], descending=[True, False]
    )
    value = in_words(pl.col("score"), decimals)
    scored = set(scores["sample_id"])
    return SelectorAnswer(
        first_of(
            request.open_rows(ordered),
            request.options.k,
            chosen=pl.format(f"{name} {{}}, place {{}} of {{}}", value, "place", "places"),
            passed=pl.format(
                f"{name} {{}}, place {{}} of {{}}; the last one chosen has {{}}",
                value,
                "place",
                "places",
                in_words(pl.col("cut"), decimals),
            ),
        ),
        not_considered={
            sample: f"no {name} could be read"
            for sample in request.table("raw_dataset")["sample_id"]
            if sample not in scored
        },
    )


def single_scores(request: Request) -> pl.DataFrame:
    """The single scores by the criterion of the options.

    Raises:
        SelectionError: No sample has a score by it.
    """
    criterion = request.options.criterion
    table = request.table("single_scores")
    scores = table.filter(pl.col("criterion") == criterion)
    if table.height and not scores.height:
        known = ", ".join(table["criterion"].unique().sort())
        raise SelectionError(
            f"no sample has a single score by {criterion!r}, only by {known}; add it to "
            "method.single_criteria and materialize single_scores"
        )
    return scores


def full(request: Request) -> SelectorAnswer:
    """Every sample, or where a k is set the first k, in the file's order."""
    samples = request.open_rows(request.table("raw_dataset").sort("row").select("sample_id"))
    k = request.options.k
    return SelectorAnswer(
        first_of(
            samples,
            k,
            chosen=pl.lit("the whole dataset" if k >= samples.height else f"among the first {k}"),
            passed=pl.lit(f"not among the first {k}"),
        )
    )


def k_center(request: Request) -> SelectorAnswer:
    """k-center greedy over instruction embeddings; each choice is farthest from those before."""
    embeddings = request.open_rows(request.table("sample_embeddings").sort("sample_id"))
    if not embeddings.height:
        return SelectorAnswer(pl.DataFrame(schema=CONSIDERED))
    points = to_matrix(embeddings["embedding"])
    first = int(np.random.default_rng(request.options.seed).integers(len(points)))
    picks, distances = k_center_greedy(points, min(request.options.k, len(points)), first)
    rest = np.setdiff1d(np.arange(len(points)), picks)
    ordered = pl.DataFrame(
        {
            "sample_id": embeddings["sample_id"].gather(np.concatenate([picks, rest])),
            # No centre comes before the first, so it has no distance.
            "score": [None, *distances[1:].tolist(), *[None] * len(rest)],
        },
        schema_overrides={"score": pl.Float64},
    )
    return SelectorAnswer(
        first_of(
            ordered,
            len(picks),
            chosen=pl.when(pl.col("score").is_null())
            .then(pl.lit("first centre, drawn with the seed"))
            .otherwise(
                pl.format("distance {} from those chosen before", in_words(pl.col("score"), 3))
            ),
            passed=pl.format(
                "no centre: the last centre was {} from those before it, this is nearer",
                in_words(pl.col("cut"), 3),
            ),
        )
    )


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
        it, float32 (k,), 0 for the first. No centre is taken twice; of equally far points, the one
        with the lowest index is taken.
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
    """Inner products of all points with the last centre and with likely next centres.

    Reading the points takes most of the time, and one product of matrices reads them once for many
    centres. The points that are farthest now are mostly the next centres.
    """
    likely = np.argpartition(nearest, -min(AHEAD, len(nearest)))[-AHEAD:]
    centres = list(dict.fromkeys([last, *likely.tolist()]))
    products = points[centres] @ points.T
    return dict(zip(centres, products, strict=True))

"""The semantic step: tags that say the same in other words become one."""

import unicodedata
from collections.abc import Callable, Sequence
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
import polars as pl

from opencs_assets.open_tags.pairs import Ints, Pairs
from opencs_assets.statistics.density import dbscan

# Unit vectors this near are taken for one vector, whose rounding differs between batches.
SAME_VECTOR = 1e-5

Embed = Callable[[Sequence[str]], npt.NDArray[np.float32]]


class Meanings(NamedTuple):
    """What each tag becomes (String, (t,)), and how many the embedding model can't tell apart."""

    became: pl.Series
    unreadable: int


def semantic(pairs: Pairs, embed: Embed, *, distance: float, neighbours: int) -> Meanings:
    """Merge tags in one DBSCAN cluster of their embeddings into the commonest (InsTag: 0.05).

    A tag that DBSCAN calls noise stays itself. A model gives one vector to all texts in a script
    that it does not know; those tags are left alone too, since they may differ in meaning.

    Args:
        pairs: Samples and their tags.
        embed: Gives texts their float32 embeddings, (n, d), of unit length.
        distance: Largest cosine **distance** of neighbours (0.05 is a similarity of 0.95).
        neighbours: Fewest tags within the distance, itself among them, that make a cluster grow;
            with 2, clusters are chains of pairs.
    """
    points = embed(pairs.names.to_list())
    labels = dbscan(points, distance=distance, neighbours=neighbours)
    unreadable = _indistinct(points, labels, pairs.names)
    if len(unreadable):
        # Unreadable tags may have connected others, whose clusters are therefore made again.
        touched = np.flatnonzero(np.isin(labels, labels[unreadable]))
        readable = np.setdiff1d(touched, unreadable)
        new_labels = dbscan(points[readable], distance=distance, neighbours=neighbours)
        labels[unreadable] = -1
        labels[readable] = np.where(new_labels >= 0, new_labels + labels.max(initial=0) + 1, -1)
    return Meanings(pairs.names.gather(_commonest(labels, pairs.counts)), len(unreadable))


def _commonest(labels: Ints, counts: Ints) -> Ints:
    """The commonest tag of each tag's cluster, int64 (t,); among equals, the first by name."""
    place = np.arange(len(labels))
    order = np.lexsort((-place, counts, labels))
    # The last of each cluster in this order overwrites the others.
    largest = np.zeros(labels.max(initial=-1) + 1, np.int64)
    clustered = order[labels[order] >= 0]
    largest[labels[clustered]] = clustered
    return np.where(labels >= 0, largest[labels] if len(largest) else place, place)


def _indistinct(points: npt.NDArray[np.float32], labels: Ints, names: pl.Series) -> Ints:
    """Clustered tags that share a vector with a tag that is not another spelling of them, int64."""
    clustered = np.flatnonzero(labels >= 0)
    same = dbscan(points[clustered], distance=SAME_VECTOR, neighbours=2)
    spelled = [_letters(name) for name in names.gather(clustered)]
    spellings = pl.DataFrame(
        {"tag": clustered, "vector": same, "spelling": pl.Series(spelled, dtype=pl.String)}
    ).filter(pl.col("vector") >= 0)
    return spellings.filter(pl.col("spelling").n_unique().over("vector") > 1)["tag"].to_numpy()


def _letters(text: str) -> str:
    """The text without case, accents and spaces, which embedding models ignore too."""
    decomposed = unicodedata.normalize("NFKD", text.casefold())
    return "".join(c for c in decomposed if not unicodedata.combining(c) and not c.isspace())

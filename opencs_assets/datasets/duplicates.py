"""Samples that say the same: word for word, or nearly so."""

import numpy as np
import polars as pl

from opencs_assets.datasets.words import Hashes, Ints, shingle_hashes, words
from opencs_assets.schemas import NEAR_DUPLICATES

SHINGLE = 5
PERMUTATIONS = 120
# Chance that a pair just at the limit shares no band.
MOST_MISSED = 1e-3
# A template filled in a thousand ways makes each like a thousand others; so many are compared.
MOST_COMPARED = 100
_CHUNK = 20_000


def find_duplicates(
    samples: pl.DataFrame, *, similarity: float = 0.8, seed: int = 0
) -> pl.DataFrame:
    """Groups of samples whose conversations are equal or nearly equal.

    Near are two with a Jaccard similarity of their sets of 5 words in a row of at least
    ``similarity``. Candidates come from MinHash with locality-sensitive hashing (Broder 1997; the
    bands are chosen so that a pair at the limit is missed with a chance under 0.1 %), and each is
    verified on the sets themselves, so that no pair is wrongly near. A group is what is connected
    by pairs; a sample at its end may be less like its first.

    Args:
        samples: ``sample_id``, ``row`` and ``messages`` of ``raw_dataset``.
        similarity: Least Jaccard similarity, in (0, 1].
        seed: Seed of the permutations.

    Returns:
        One row a sample that is in a group (schema ``NEAR_DUPLICATES``), by group and row.
    """
    ordered = samples.select("sample_id", "row", "messages").sort("row", "sample_id")
    if not ordered.height:
        return NEAR_DUPLICATES.empty()
    text, shingles, offsets = _shingle_sets(ordered["messages"])
    # Equal texts are one for the search: they need no comparing, however many they are.
    _, first, unique = np.unique(text, return_index=True, return_inverse=True)
    in_order = np.argsort(first)
    first, unique = first[in_order], np.argsort(in_order)[unique]
    sets = [shingles[offsets[at] : offsets[at + 1]] for at in first]
    roots = _connect(sets, similarity, seed)[unique]
    # The first of a group: unique texts are numbered by first row, and roots are the smallest.
    heads = first[roots]
    jaccards = {
        int(at): jaccard(sets[at], sets[root])
        for at, root in {(int(u), int(r)) for u, r in zip(unique, roots, strict=True)}
        if at != root
    }
    table = pl.DataFrame(
        {
            "sample_id": ordered["sample_id"],
            "at": np.arange(ordered.height),
            "head": heads,
            "duplicate_of": ordered["sample_id"].gather(heads),
            "similarity": [jaccards.get(int(at), 1.0) for at in unique],
            "equal": unique == roots,
        }
    )
    groups = table.filter(pl.len().over("head") > 1)
    return (
        groups.with_columns(
            group=pl.col("head").rank("dense").cast(pl.Int64) - 1,
            kind=pl.when(pl.col("at") == pl.col("head"))
            .then(pl.lit("first"))
            .when("equal")
            .then(pl.lit("exact"))
            .otherwise(pl.lit("near")),
        )
        .sort("group", "at")
        .select(list(NEAR_DUPLICATES.columns))
    )


def jaccard(first: Hashes, second: Hashes) -> float:
    """Jaccard similarity of two sets, each sorted and unique; two empty ones are equal."""
    both = len(np.intersect1d(first, second, assume_unique=True))
    either = len(first) + len(second) - both
    return both / either if either else 1.0


def bands_for(similarity: float) -> int:
    """The fewest bands of MinHash that miss a pair at the limit with a chance under 0.1 %."""
    for rows in range(PERMUTATIONS, 0, -1):
        bands, rest = divmod(PERMUTATIONS, rows)
        if not rest and (1 - similarity**rows) ** bands < MOST_MISSED:
            return bands
    return PERMUTATIONS


def _shingle_sets(messages: pl.Series) -> tuple[Ints, Hashes, Ints]:
    """Number of each conversation's text; and the sets, one after another, with their offsets."""
    numbers: dict[str, int] = {}
    texts = np.empty(len(messages), np.int64)
    parts, sizes = [], []
    for start in range(0, len(messages), _CHUNK):
        said = messages[start : start + _CHUNK].list.eval(pl.element().struct["content"])
        plain = said.list.join("\n").str.strip_chars()
        found = words(plain)
        # A text without a word is its characters.
        found = pl.select(
            pl.when(found.list.len() > 0).then(found).otherwise(pl.concat_list(plain))
        ).to_series()
        for at, key in enumerate(found.list.join(" ")):
            texts[start + at] = numbers.setdefault(key, len(numbers))
        hashes, owners, _ = shingle_hashes(found, SHINGLE)
        short = np.flatnonzero(found.list.len().to_numpy() < SHINGLE)
        whole = found.gather(short).list.join(" ").hash(0).to_numpy()
        hashes, owners = np.concatenate([hashes, whole]), np.concatenate([owners, short])
        order = np.lexsort((hashes, owners))
        hashes, owners = hashes[order], owners[order]
        kept = np.ones(len(hashes), bool)
        kept[1:] = (hashes[1:] != hashes[:-1]) | (owners[1:] != owners[:-1])
        parts.append(hashes[kept])
        sizes.append(np.bincount(owners[kept], minlength=len(found)))
    offsets = np.concatenate([[0], np.cumsum(np.concatenate(sizes))])
    return texts, np.concatenate(parts), offsets


def _connect(sets: list[Hashes], similarity: float, seed: int) -> Ints:
    """The smallest number of each set's group, int64 (n,)."""
    from rensa import RMinHash, RMinHashLSH

    parent = np.arange(len(sets))

    def root(at: int) -> int:
        while parent[at] != at:
            parent[at] = parent[parent[at]]
            at = int(parent[at])
        return at

    index = RMinHashLSH(similarity, PERMUTATIONS, bands_for(similarity))
    matrices = [
        RMinHash.digest_matrix_from_token_byte_sets(
            [_tokens(each) for each in sets[start : start + _CHUNK]], PERMUTATIONS, seed
        )
        for start in range(0, len(sets), _CHUNK)
    ]
    for number, matrix in enumerate(matrices):
        index.insert_matrix(matrix, number * _CHUNK)
    for at in range(len(sets)):
        minhash = RMinHash.from_token_sets([_tokens(sets[at])], PERMUTATIONS, seed)[0]
        compared = 0
        for other in sorted(index.query(minhash)):
            if other >= at or compared == MOST_COMPARED:
                break
            mine, its = root(at), root(other)
            if mine == its or not _sizes_allow(sets[at], sets[other], similarity):
                continue
            compared += 1
            if jaccard(sets[at], sets[other]) >= similarity:
                parent[max(mine, its)] = min(mine, its)
    return np.array([root(at) for at in range(len(sets))], np.int64)


def _sizes_allow(first: Hashes, second: Hashes, similarity: float) -> bool:
    """Whether two sets of these sizes can be so similar at all."""
    smaller, larger = sorted((len(first), len(second)))
    return smaller >= similarity * larger


def _tokens(hashes: Hashes) -> list[bytes]:
    raw = hashes.tobytes()
    return [raw[at : at + 8] for at in range(0, len(raw), 8)]

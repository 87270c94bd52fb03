"""Finding samples that are equal word for word, or nearly so."""

import numpy as np
import numpy.typing as npt
import polars as pl

from opencs_assets.datasets.words import Hashes, Ints, shingle_hashes, words
from opencs_assets.tables.datasets import NEAR_DUPLICATES

SHINGLE = 5
PERMUTATIONS = 120
# The chance that a pair just at the limit shares no band.
MOST_MISSED = 1e-3
# A template that is filled in a thousand ways makes each sample a candidate for a thousand others
# that are not near. A sample's search ends after this many candidates that were not near.
MOST_COMPARED = 100
_CHUNK = 20_000
_SIGNED = 5_000


def find_duplicates(
    samples: pl.DataFrame, *, similarity: float = 0.8, seed: int = 0
) -> pl.DataFrame:
    """Groups of samples whose conversations are equal or nearly equal.

    Two samples are near where their sets of 5 words in a row have a Jaccard similarity of at least
    ``similarity``. Candidates come from MinHash with locality-sensitive hashing (Broder 1997): with
    b bands of r rows, a pair of similarity s shares one with the chance 1 - (1 - s^r)^b. The bands
    are chosen so that a pair at the limit is missed with a chance under 0.1 %; at 0.8, 24 bands of
    5 miss 0.007 %. Candidates are verified on the sets themselves, the likeliest first, so that no
    pair is wrongly near. Pairs connect samples to groups, whose last sample may be less like their
    first than ``similarity``.

    Args:
        samples: ``sample_id``, ``row`` and ``messages`` of ``raw_dataset``.
        similarity: Least Jaccard similarity, in (0, 1].
        seed: Seed of the permutations.

    Returns:
        One row a sample that is in a group (schema ``NEAR_DUPLICATES``), by group and row.

    Raises:
        ValueError: ``similarity`` is not in (0, 1].
    """
    if not 0 < similarity <= 1:
        raise ValueError(f"similarity must be above 0 and at most 1, is {similarity}")
    ordered = samples.select("sample_id", "row", "messages").sort("row", "sample_id")
    if not ordered.height:
        return NEAR_DUPLICATES.empty()
    text, shingles, offsets = _shingle_sets(ordered["messages"])
    # Equal texts are searched for once, however many samples have them.
    _, first, unique = np.unique(text, return_index=True, return_inverse=True)
    in_order = np.argsort(first)
    first, unique = first[in_order], np.argsort(in_order)[unique]
    sets = [shingles[offsets[at] : offsets[at + 1]] for at in first]
    roots = _connect(sets, similarity, seed)[unique]
    # Texts are numbered by their first row, so the smallest number is a group's first sample.
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
    """Jaccard similarity of two sets, each sorted and unique; two empty sets are equal."""
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
    """Number of each conversation's text, and all sets one after another with their offsets."""
    numbers: dict[str, int] = {}
    texts = np.empty(len(messages), np.int64)
    parts, sizes = [], []
    for start in range(0, len(messages), _CHUNK):
        contents = messages[start : start + _CHUNK].list.eval(pl.element().struct["content"])
        plain = contents.list.join("\n").str.strip_chars()
        text_words = words(plain)
        # A text without a word counts as one word.
        text_words = pl.select(
            pl.when(text_words.list.len() > 0).then(text_words).otherwise(pl.concat_list(plain))
        ).to_series()
        for at, key in enumerate(text_words.list.join(" ")):
            texts[start + at] = numbers.setdefault(key, len(numbers))
        hashes, owners, _ = shingle_hashes(text_words, SHINGLE)
        # A text that is too short for a shingle is hashed as a whole.
        short = np.flatnonzero(text_words.list.len().to_numpy() < SHINGLE)
        whole = text_words.gather(short).list.join(" ").hash(0).to_numpy()
        hashes, owners = np.concatenate([hashes, whole]), np.concatenate([owners, short])
        order = np.lexsort((hashes, owners))
        hashes, owners = hashes[order], owners[order]
        is_new = np.ones(len(hashes), bool)
        is_new[1:] = (hashes[1:] != hashes[:-1]) | (owners[1:] != owners[:-1])
        parts.append(hashes[is_new])
        sizes.append(np.bincount(owners[is_new], minlength=len(text_words)))
    offsets = np.concatenate([[0], np.cumsum(np.concatenate(sizes))])
    return texts, np.concatenate(parts), offsets


def _connect(sets: list[Hashes], similarity: float, seed: int) -> Ints:
    """The smallest number of each set's group, int64 (n,)."""
    signatures = _signatures(sets, seed)
    orders, begins, places = _buckets(signatures, bands_for(similarity))
    sizes = np.array([len(shingles) for shingles in sets])
    labels = np.arange(len(sets))
    members: dict[int, list[int]] = {}
    # Whether all samples so far in the bucket that begins here are in one group.
    whole = np.ones(orders.shape, bool)
    bands = np.arange(len(orders))

    def compare(at: int, others: Ints, most: int) -> int:
        """Join a set with the others near it, the likeliest first, until ``most`` were not near."""
        ratios = np.minimum(sizes[others], sizes[at]) / np.maximum(sizes[others], sizes[at])
        others = others[ratios >= similarity]
        agreeing = (signatures[others] == signatures[at]).sum(axis=1)
        failed = 0
        for other in others[np.lexsort((others, -agreeing))].tolist():
            if failed == most:
                break
            if labels[other] == labels[at]:
                continue
            if jaccard(sets[at], sets[other]) >= similarity:
                _join(labels, members, at, other)
            else:
                failed += 1
        return failed

    for at in np.flatnonzero((places > begins).any(axis=0)).tolist():
        shared = bands[places[:, at] > begins[:, at]]
        firsts = orders[shared, begins[shared, at]]
        # Where many samples are alike, comparing with the first of a bucket puts the sample in
        # their group, and the rest of the bucket need not be compared.
        tried = np.unique(firsts)
        failed = compare(at, tried, MOST_COMPARED)
        known = whole[shared, begins[shared, at]] & (labels[firsts] == labels[at])
        open_bands = shared[~known]
        if len(open_bands):
            others = np.concatenate(
                [orders[band, begins[band, at] : places[band, at]] for band in open_bands]
            )
            others = np.setdiff1d(others[labels[others] != labels[at]], tried)
            compare(at, others, MOST_COMPARED - failed)
        whole[shared, begins[shared, at]] &= labels[firsts] == labels[at]
    smallest = np.full(len(sets), len(sets))
    np.minimum.at(smallest, labels, np.arange(len(sets)))
    return smallest[labels]


def _signatures(sets: list[Hashes], seed: int) -> npt.NDArray[np.uint32]:
    """MinHash signature of each set, uint32 (n, PERMUTATIONS)."""
    from rensa import RMinHash

    signatures = np.empty((len(sets), PERMUTATIONS), np.uint32)
    # rensa returns rows of Python numbers, which need much memory: few sets are signed at a time.
    for start in range(0, len(sets), _SIGNED):
        some = sets[start : start + _SIGNED]
        offsets = np.cumsum([0, *map(len, some)]).astype(np.uint64)
        matrix = RMinHash.digest_matrix_from_flat_token_hashes(
            np.concatenate(some), offsets, PERMUTATIONS, seed
        )
        signatures[start : start + len(some)] = matrix.to_rows()
    return signatures


def _buckets(signatures: npt.NDArray[np.uint32], bands: int) -> tuple[Ints, Ints, Ints]:
    """The sets' numbers bucket by bucket, where each set's bucket begins there, and its own place.

    All three are int64 (bands, n); numbers ascend within a bucket. ``bands`` divides PERMUTATIONS.
    """
    count = len(signatures)
    orders, begins, places = (np.empty((bands, count), np.int64) for _ in range(3))
    for band, rows in enumerate(np.split(signatures, bands, axis=1)):
        order = np.lexsort(rows.T)
        ordered = rows[order]
        fresh = np.ones(count, bool)
        fresh[1:] = (ordered[1:] != ordered[:-1]).any(axis=1)
        orders[band] = order
        begins[band, order] = np.maximum.accumulate(np.where(fresh, np.arange(count), 0))
        places[band, order] = np.arange(count)
    return orders, begins, places


def _join(labels: Ints, members: dict[int, list[int]], first: int, second: int) -> None:
    """Make one group of two by relabelling the smaller, so that a set is relabelled rarely."""
    groups = [members.pop(int(labels[at]), [int(labels[at])]) for at in (first, second)]
    smaller, larger = sorted(groups, key=len)
    label = int(labels[larger[0]])
    labels[smaller] = label
    larger.extend(smaller)
    members[label] = larger

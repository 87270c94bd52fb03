"""The tags of samples as numbers, so that a step of normalization costs array operations."""

from dataclasses import dataclass
from functools import cached_property

import numpy as np
import numpy.typing as npt
import polars as pl
import pyarrow as pa

Ints = npt.NDArray[np.int64]


@dataclass(frozen=True)
class Pairs:
    """Which sample carries which tag; each pair once.

    Attributes:
        samples: Number of the sample (its row), int64 (p,), ascending.
        tags: Number of the tag in ``names``, int64 (p,), ascending within a sample.
        names: The tags (String, (t,)), unique and sorted, so that their numbers do not depend on
            the order of the samples; each is carried by at least one sample.
    """

    samples: Ints
    tags: Ints
    names: pl.Series

    @cached_property
    def counts(self) -> Ints:
        """Samples that carry each tag, int64 (t,)."""
        return np.bincount(self.tags, minlength=len(self.names)).astype(np.int64)


def pair_up(tags: pl.Series) -> Pairs:
    """The pairs of samples and their tags (List of String, (n,)), without nulls and repeats."""
    flat = tags.explode(empty_as_null=False, keep_nulls=False)
    samples = np.repeat(np.arange(len(tags)), tags.list.len().fill_null(0).to_numpy())
    if flat.null_count():
        samples = samples[flat.is_not_null().to_numpy()]
        flat = flat.drop_nulls()
    names = flat.unique().sort()
    return _distinct(samples, _numbers(flat, names), names)


def rename(pairs: Pairs, became: pl.Series) -> tuple[Pairs, Ints]:
    """Give tags other names; equal names become one tag, which a sample then carries once.

    Args:
        pairs: Samples and their tags.
        became: New name of each tag (String, (t,)), null where the tag is dropped.

    Returns:
        The new pairs, and the new number of each old tag, int64 (t,), -1 where it was dropped.
    """
    names = became.drop_nulls().unique().sort()
    numbers = _numbers(became, names)
    tags = numbers[pairs.tags]
    left = tags >= 0
    samples, tags = (pairs.samples, tags) if left.all() else (pairs.samples[left], tags[left])
    if (np.diff(numbers[numbers >= 0]) > 0).all():
        # Where nothing was merged and tags keep their order, the pairs are distinct and in order.
        return Pairs(samples, tags, names), numbers
    return _distinct(samples, tags, names), numbers


def tag_lists(pairs: Pairs, samples: int) -> pl.Series:
    """The pairs as one sorted list of tags a sample (List of String, (samples,))."""
    offsets = np.concatenate([[0], np.cumsum(np.bincount(pairs.samples, minlength=samples))])
    values = pairs.names.gather(pairs.tags).to_arrow().cast(pa.large_string())
    lists = pa.LargeListArray.from_arrays(pa.array(offsets, pa.int64()), values)
    return pl.Series("tags", lists, dtype=pl.List(pl.String))


def _distinct(samples: Ints, tags: Ints, names: pl.Series) -> Pairs:
    """The pairs in order, each once."""
    # Each pair is one number. Sorting finds equal numbers several times faster than np.unique,
    # which hashes them.
    width = max(len(names), 1)
    keys = np.sort(samples * width + tags)
    keys = keys[np.diff(keys, prepend=-1) != 0]
    samples = keys // width
    return Pairs(samples, keys - samples * width, names)


def _numbers(names: pl.Series, unique: pl.Series) -> Ints:
    coded = names.cast(pl.Enum(unique)).to_physical().cast(pl.Int64)
    return coded.fill_null(-1).to_numpy()

"""The frequency step: tags that few samples carry are dropped."""

import polars as pl

from opencs_assets.config.profiles import MethodError
from opencs_assets.open_tags.pairs import Pairs

_WORD = r"[\p{L}\p{N}]"


def frequency(pairs: Pairs, *, alpha: int, reason: str) -> pl.Series:
    """Drop tags that fewer than α samples carry (InsTag; OpenCS: α = 20).

    Returns:
        What each tag becomes (String, (t,)): itself, or null.

    Raises:
        MethodError: There are tags, and none is left; the message says with ``reason`` why α has
            its value, and names the largest α that leaves a tag.
    """
    is_frequent = pl.Series(pairs.counts >= alpha)
    named = pairs.names.str.contains(_WORD)
    if named.any() and not (is_frequent & named).any():
        largest = int(pairs.counts[named.to_numpy()].max())
        raise MethodError(
            f"no tag is in α = {alpha} samples or more ({reason}), so nothing is left to cluster; "
            f"the largest α that leaves something is {largest}. Set method.alpha, or "
            'profile = "corrected", which scales it with the data.'
        )
    # Series.set() would keep a name where the mask is null.
    return pl.select(pl.when(is_frequent).then(pairs.names).otherwise(None)).to_series()

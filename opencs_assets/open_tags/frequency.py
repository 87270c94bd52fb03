"""The frequency step: tags that few samples carry are dropped."""

import polars as pl

from opencs_assets.config.profiles import MethodError
from opencs_assets.open_tags.pairs import Pairs

_WORD = r"[\p{L}\p{N}]"


def frequency(pairs: Pairs, *, alpha: int, reason: str) -> pl.Series:
    """Drop tags that fewer than α samples carry (InsTag; OpenCS: α = 20).

    Args:
        pairs: Samples and their tags.
        alpha: Fewest samples that a tag is kept for.
        reason: Why α has its value, for the message.

    Returns:
        What each tag becomes (String, (t,)): itself, or null.

    Raises:
        MethodError: There are tags, and none is left; the message names the largest α that leaves
            one.
    """
    kept = pl.Series(pairs.counts >= alpha)
    named = pairs.names.str.contains(_WORD)
    if named.any() and not (kept & named).any():
        largest = int(pairs.counts[named.to_numpy()].max())
        raise MethodError(
            f"no tag is in α = {alpha} samples or more ({reason}), so nothing is left to cluster; "
            f"the largest α that leaves something is {largest}. Set method.alpha, or "
            'profile = "corrected", which scales it with the data.'
        )
    # Not set(): a null in a mask of a literal would keep the name.
    return pl.select(pl.when(kept).then(pairs.names).otherwise(None)).to_series()

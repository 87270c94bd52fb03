"""Texts as words, so that case, punctuation and spacing do not tell two texts apart."""

import numpy as np
import numpy.typing as npt
import polars as pl

# These scripts put no space between words, so each character counts as a word.
_UNSPACED = r"[\p{Han}\p{Hiragana}\p{Katakana}\p{Hangul}]"
_WORDS = rf"{_UNSPACED}|[[\p{{L}}\p{{M}}\p{{N}}]--{_UNSPACED}]+"
_HASH_SEED = 20
# The base is odd, so that multiplying by its powers loses no bit.
_BASE = np.uint64(0x9E3779B97F4A7C15)

Hashes = npt.NDArray[np.uint64]
Ints = npt.NDArray[np.int64]


def words(texts: pl.Series) -> pl.Series:
    """The words of texts (List of String, aligned): NFKC, lower-case, letters and digits only."""
    return texts.str.normalize("NFKC").str.to_lowercase().str.extract_all(_WORDS)


def shingle_hashes(lists: pl.Series, size: int) -> tuple[Hashes, Ints, Ints]:
    """A 64-bit hash of every run of ``size`` words in texts (List of String, (n,)).

    Returns:
        Hash of each run, uint64 (r,); number of its text, int64 (r,), ascending; and the place of
        its first word in the text, int64 (r,). A text with fewer words has no run.
    """
    lengths = lists.list.len().to_numpy().astype(np.int64)
    flat = lists.explode(empty_as_null=False)
    hashes = flat.hash(_HASH_SEED).to_numpy()
    if len(hashes) < size:
        return np.zeros(0, np.uint64), np.zeros(0, np.int64), np.zeros(0, np.int64)
    runs = np.zeros(len(hashes) - size + 1, np.uint64)
    for place in range(size):
        runs = runs * _BASE + hashes[place : place + len(runs)]
    text = np.repeat(np.arange(len(lists)), lengths)
    starts = np.cumsum(lengths) - lengths
    place = np.arange(len(hashes)) - starts[text]
    # A run that continues into the next text is left out.
    whole = text[: len(runs)] == text[size - 1 :]
    return runs[whole], text[: len(runs)][whole], place[: len(runs)][whole]

"""The rule step: spellings of one tag become one."""

import polars as pl
import Stemmer

from opencs_assets.open_tags.pairs import Pairs

# The characters + and # are kept, since they tell C from C++ and C#.
_NOT_IN_WORDS = r"[^\p{L}\p{M}\p{N}+#]+"
_NOT_IN_WORDS_PUBLISHED = r"\W+"


def rule(
    pairs: Pairs, *, stem_words: bool, keep_symbols: bool = True, readable: bool = True
) -> pl.Series:
    """Lower-case, turn what is not part of a word into spaces, and stem (Porter; InsTag).

    Args:
        pairs: Samples and their tags.
        stem_words: Whether every word is stemmed; otherwise the phrase is stemmed as if it were
            one word, as the research code does, which changes only its end.
        keep_symbols: Whether ``+`` and ``#`` are kept, so that C, C++ and C# stay three tags, and
            compatible forms of characters are written alike (NFKC), unlike in the published rule.
        readable: Whether tags with one stem are called by their commonest form or by the stem.

    Returns:
        What each tag becomes (String, (t,)); null where no word of it is left.
    """
    cleaned = clean(pairs.names, keep_symbols=keep_symbols)
    stems = stem(cleaned, every_word=stem_words)
    blank = stems == ""
    became = stems
    if readable:
        forms = pl.DataFrame({"stem": stems, "form": cleaned, "count": pairs.counts})
        commonest = (
            forms.group_by("stem", "form")
            .agg(pl.col("count").sum())
            .sort(["count", "form"], descending=[True, False])
            .unique("stem", keep="first", maintain_order=True)
        )
        became = forms.join(commonest, on="stem", how="left", maintain_order="left")["form_right"]
    return pl.select(pl.when(~blank).then(became).otherwise(None)).to_series()


def clean(tags: pl.Series, *, keep_symbols: bool) -> pl.Series:
    """Lower-case tags with one space in place of all that separates words (String, aligned)."""
    if not keep_symbols:
        return (
            tags.str.to_lowercase().str.replace_all(_NOT_IN_WORDS_PUBLISHED, " ").str.strip_chars()
        )
    # Lower-casing can undo composition, as it does in "İ".
    composed = tags.str.normalize("NFKC").str.to_lowercase().str.normalize("NFKC")
    return composed.str.replace_all(_NOT_IN_WORDS, " ").str.strip_chars()


def stem(tags: pl.Series, *, every_word: bool) -> pl.Series:
    """Porter stems of cleaned tags (String, aligned)."""
    stemmer = Stemmer.Stemmer("porter")
    texts = tags.to_list()
    if every_word:
        texts = [" ".join(stemmer.stemWords(text.split())) for text in texts]
    else:
        texts = stemmer.stemWords(texts)
    return pl.Series(texts, dtype=pl.String)

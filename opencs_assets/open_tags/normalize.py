"""Normalization: from the tagger's own words to tags that can be compared.

Two steps, each over unique raw tags with their counts, so that the work does not grow with the
occurrences: *rule* (lower-case, non-word characters to a space, Porter stem; InsTag) and
*frequency* (tags in fewer than α samples are dropped). ``corrected`` merges first and filters on
merged counts.
"""

from dataclasses import dataclass

import polars as pl
import Stemmer

from opencs_assets.profiles import Constants, MethodError
from opencs_assets.schemas import NORMALIZED_TAGS, TAG_LINEAGE


@dataclass(frozen=True)
class Normalization:
    """What normalization made of a dataset's tags.

    Attributes:
        tags: One row a sample (schema ``NORMALIZED_TAGS``).
        lineage: One row a raw tag (schema ``TAG_LINEAGE``).
    """

    tags: pl.DataFrame
    lineage: pl.DataFrame


def normalize(open_tags: pl.DataFrame, constants: Constants) -> Normalization:
    """Normalize the tags of a dataset.

    Args:
        open_tags: Rows of ``open_tags``; samples without tags keep a row that says why.
        constants: α and the choices of the profile.

    Raises:
        MethodError: There are tags, but none is in α samples; the message names the largest α
            that leaves something.
    """
    pairs = (
        open_tags.select("sample_id", raw_tag=pl.col("tags").list.eval(pl.element().struct["tag"]))
        .explode("raw_tag")
        .drop_nulls("raw_tag")
        .unique(maintain_order=True)
    )
    lineage = _lineage(pairs, constants)
    kept = (
        pairs.join(
            lineage.select("raw_tag", "normalized_tag").drop_nulls(),
            on="raw_tag",
            maintain_order="left",
        )
        .group_by("sample_id")
        .agg(tags=pl.col("normalized_tag").unique().sort())
    )
    if lineage.height and not kept.height:
        raise MethodError(_nothing_left(pairs, lineage, constants))
    not_blank = (
        pairs.join(lineage.filter(pl.col("rule_tag") != ""), on="raw_tag", how="semi")
        .select("sample_id")
        .unique()
        .with_columns(has_word=True)
    )
    raw_counts = pairs.group_by("sample_id").agg(raw_tags=pl.len().cast(pl.Int64))
    tags = (
        open_tags.select("sample_id")
        .join(kept, on="sample_id", how="left", maintain_order="left")
        .join(raw_counts, on="sample_id", how="left", maintain_order="left")
        .join(not_blank, on="sample_id", how="left", maintain_order="left")
        .with_columns(
            pl.col("tags").fill_null([]),
            pl.col("raw_tags").fill_null(0),
        )
        .with_columns(
            reason=pl.when(pl.col("tags").list.len() > 0)
            .then(None)
            .when(pl.col("raw_tags") == 0)
            .then(pl.lit("not_tagged"))
            .when(pl.col("has_word").is_null())
            .then(pl.lit("all_blank"))
            .otherwise(pl.lit("all_infrequent"))
        )
        .select(list(NORMALIZED_TAGS.columns))
    )
    return Normalization(tags=tags, lineage=lineage)


def rule(tags: pl.Series, *, stem_words: bool) -> pl.Series:
    """Lower-case, turn what is not a letter, mark or digit into spaces, and stem (Porter).

    Args:
        tags: Raw tags (String), any script.
        stem_words: Stem every word; otherwise the phrase as if it were one word, as the research
            code does, which changes only its end.

    Returns:
        Stemmed tags (String), aligned with the input; empty where no word is left.
    """
    words = (
        tags.str.to_lowercase()
        .str.replace_all(r"[^\p{L}\p{M}\p{N}+#]+", " ")
        .str.strip_chars()
        .to_list()
    )
    stemmer = Stemmer.Stemmer("porter")
    if stem_words:
        return pl.Series(
            [" ".join(stemmer.stemWords(tag.split())) for tag in words], dtype=pl.String
        )
    return pl.Series(stemmer.stemWords(words), dtype=pl.String)


def _lineage(pairs: pl.DataFrame, constants: Constants) -> pl.DataFrame:
    alpha = constants.alpha.value
    raw = (
        pairs.group_by("raw_tag")
        .agg(count=pl.len().cast(pl.Int64))
        .sort(["count", "raw_tag"], descending=[True, False])
    )
    raw = raw.with_columns(rule_tag=rule(raw["raw_tag"], stem_words=constants.stem_words))
    if constants.merge_first:
        # Samples, not occurrences: one sample with "Math" and "math" counts once.
        merged = (
            pairs.join(raw, on="raw_tag")
            .group_by("rule_tag")
            .agg(merged_count=pl.col("sample_id").n_unique().cast(pl.Int64))
        )
        raw = raw.join(merged, on="rule_tag", how="left", maintain_order="left")
    else:
        raw = raw.with_columns(merged_count=pl.col("count"))
    name = pl.col("rule_tag")
    if constants.readable_tags:
        # Rows are sorted by count: the first of a group is its commonest form.
        name = (
            pl.col("raw_tag")
            .str.to_lowercase()
            .str.replace_all(r"[^\p{L}\p{M}\p{N}+#]+", " ")
            .str.strip_chars()
            .first()
            .over("rule_tag")
        )
    blank = pl.col("rule_tag") == ""
    infrequent = pl.col("merged_count") < alpha
    return raw.with_columns(
        normalized_tag=pl.when(blank | infrequent).then(None).otherwise(name),
        dropped_by=pl.when(blank)
        .then(pl.lit("blank"))
        .when(infrequent)
        .then(pl.lit("frequency"))
        .otherwise(None),
    ).select(list(TAG_LINEAGE.columns))


def _nothing_left(pairs: pl.DataFrame, lineage: pl.DataFrame, constants: Constants) -> str:
    named = lineage.filter(pl.col("rule_tag") != "")
    if not named.height:
        return "no tag has a letter or a digit, so none can be normalized; look at open_tags"
    by = "rule_tag" if constants.merge_first else "raw_tag"
    per_tag = pairs.join(named, on="raw_tag").group_by(by).agg(pl.col("sample_id").n_unique())
    largest = max(per_tag["sample_id"].to_list())
    return (
        f"no tag is in α = {constants.alpha.value} samples or more ({constants.alpha.reason}), so "
        f"nothing is left to cluster; the largest α that leaves something is {largest}. Set "
        'method.alpha, or profile = "corrected", which scales it with the data.'
    )

"""Normalization: from the tagger's own words to tags that can be compared.

There are four steps, each a pure function over pairs of samples and tags: *rule*, *semantic*,
*association* and *frequency*. ``method.normalization`` says which are taken, in which order. A step
works on unique tags and their counts and says what each tag becomes, so its cost does not grow with
the occurrences of a tag, except in counting them.
"""

from dataclasses import dataclass

import numpy as np
import polars as pl

from opencs_assets.config.profiles import Constants, MethodError
from opencs_assets.open_tags.association import association
from opencs_assets.open_tags.frequency import frequency
from opencs_assets.open_tags.pairs import Pairs, pair_up, rename, tag_lists
from opencs_assets.open_tags.rule import rule
from opencs_assets.open_tags.semantic import Embed, semantic
from opencs_assets.tables.open_tags import TAG_LINEAGE

NO_STEP = "none"


@dataclass(frozen=True)
class NormalizationStep:
    """How many unique tags one step started from, and how many of them it merged or dropped.

    ``note`` says more to a person and may be empty.
    """

    name: str
    tags: int
    merged: int
    dropped: int
    note: str

    @property
    def left(self) -> int:
        """Unique tags that the step left."""
        return self.tags - self.merged - self.dropped


@dataclass(frozen=True)
class Normalization:
    """The normalized tags of a dataset (schema ``NORMALIZED_TAGS``), and the steps behind them.

    The lineage has one row for each raw tag and step that it reached (schema ``TAG_LINEAGE``).
    """

    tags: pl.DataFrame
    lineage: pl.DataFrame
    steps: tuple[NormalizationStep, ...]

    def table(self) -> str:
        """The steps as a Markdown table."""
        lines = [
            f"| {step.name} | {step.tags:,} | {step.merged:,} | {step.dropped:,} "
            f"| {step.left:,} | {step.note} |"
            for step in self.steps
        ]
        head = ["| step | tags | merged | dropped | left | |", "|---|--:|--:|--:|--:|---|"]
        return "\n".join(head + lines)


def normalize(open_tags: pl.DataFrame, constants: Constants, embed: Embed) -> Normalization:
    """Normalize the tags of a dataset.

    Args:
        open_tags: Rows of ``open_tags``; samples without tags keep a row that says why.
        constants: The steps in order, and their constants.
        embed: Gives texts their float32 embeddings, (n, d), of unit length.

    Raises:
        MethodError: There are tags, and none is left; the message says which α would leave one.
    """
    raw = pair_up(open_tags["tags"].list.eval(pl.element().struct["tag"]))
    pairs, current = raw, np.arange(len(raw.names))
    steps: list[NormalizationStep] = []
    lineage: list[pl.DataFrame] = []
    for name in constants.steps or (NO_STEP,):
        became, note = _take(name, pairs, constants, embed)
        after, numbers = rename(pairs, became)
        alive = np.flatnonzero(current >= 0)
        before = current[alive]
        lineage.append(
            pl.DataFrame(
                {
                    "raw_tag": raw.names.gather(alive),
                    "count": raw.counts[alive],
                    "place": np.full(len(alive), len(steps), np.int64),
                    "step": pl.repeat(name, len(alive), eager=True),
                    "tag": pairs.names.gather(before),
                    "became": became.gather(before),
                    "became_count": np.append(after.counts, 0)[numbers[before]],
                    "raw_number": alive,
                }
            )
        )
        dropped = became.null_count()
        merged = len(became) - dropped - len(after.names)
        steps.append(NormalizationStep(name, len(became), merged, dropped, note))
        current[alive] = numbers[before]
        pairs = after
    if len(raw.names) and not len(pairs.names):
        raise MethodError(
            "no tag has a letter or a digit, so none can be normalized; look at open_tags"
        )
    return Normalization(
        tags=_by_sample(open_tags, raw, pairs, lineage),
        lineage=_lineage(lineage, pairs, current),
        steps=tuple(steps),
    )


def _take(name: str, pairs: Pairs, constants: Constants, embed: Embed) -> tuple[pl.Series, str]:
    """What each tag becomes in one step, and a note about the step."""
    if not len(pairs.names):
        return pairs.names, ""
    if name == "rule":
        became = rule(
            pairs,
            stem_words=constants.stem_words,
            keep_symbols=constants.keep_symbols,
            readable=constants.readable_tags,
        )
        return became, ""
    if name == "semantic":
        became, unreadable = semantic(
            pairs,
            embed,
            distance=constants.semantic_distance,
            neighbours=constants.semantic_neighbours,
        )
        note = f"{unreadable} left alone: one vector for different texts"
        return became, note if unreadable else ""
    if name == "association":
        became, rounds = association(
            pairs, support=constants.support.value, confidence=constants.confidence
        )
        return became, f"{rounds} round{'s' if rounds > 1 else ''}"
    if name == "frequency":
        alpha = constants.alpha
        return frequency(pairs, alpha=alpha.value, reason=alpha.reason), f"α = {alpha.value}"
    return pairs.names, ""


def _lineage(steps: list[pl.DataFrame], pairs: Pairs, current: np.ndarray) -> pl.DataFrame:
    final = pl.Series([*pairs.names, None], dtype=pl.String).gather(
        np.where(current >= 0, current, len(pairs.names))
    )
    rows = pl.concat(steps)
    return (
        rows.with_columns(
            normalized_tag=final.gather(rows["raw_number"]),
            became_count=pl.when(pl.col("became").is_not_null()).then("became_count"),
        )
        .sort(["count", "raw_tag", "place"], descending=[True, False, False])
        .select(list(TAG_LINEAGE.columns))
    )


def _by_sample(
    open_tags: pl.DataFrame, raw: Pairs, pairs: Pairs, steps: list[pl.DataFrame]
) -> pl.DataFrame:
    samples = open_tags.height
    blank = np.zeros(len(raw.names), bool)
    for step in steps:
        gone = step.filter((pl.col("step") == "rule") & pl.col("became").is_null())
        blank[gone["raw_number"].to_numpy()] = True
    raw_tags = np.bincount(raw.samples, minlength=samples)
    blank_tags = np.bincount(raw.samples, weights=blank[raw.tags], minlength=samples)
    left = np.bincount(pairs.samples, minlength=samples)
    reason = (
        pl.when(pl.col("left") > 0)
        .then(None)
        .when(pl.col("raw_tags") == 0)
        .then(pl.lit("not_tagged"))
        .when(pl.col("raw_tags") == pl.col("blank"))
        .then(pl.lit("all_blank"))
        .otherwise(pl.lit("all_infrequent"))
    )
    return pl.DataFrame(
        {
            "sample_id": open_tags["sample_id"],
            "tags": tag_lists(pairs, samples),
            "raw_tags": raw_tags.astype(np.int64),
            "blank": blank_tags,
            "left": left,
        }
    ).select("sample_id", "tags", "raw_tags", reason=reason)

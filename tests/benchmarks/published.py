"""Published subsets of Alpaca beside what the platform's selectors choose from it."""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import polars as pl

from tests.benchmarks import tagset

FOLDER = tagset.ALPACA.parent
LONGEST = FOLDER / "filtered_alpaca_1k_longest.json"
OPENCS = FOLDER / "filtered_alpaca_1k_opencs.json"
# Words with their hyphens, marks, and the ends of contractions, each one: nearly what NLTK's
# word_tokenize counts.
WORDS_AND_MARKS = r"(?:n't|'\w+)|\w+(?:[-.,:/@]\w+)*|[^\w\s]"


@dataclass(frozen=True)
class Row:
    """A published subset beside one of ours.

    Attributes:
        published: The published subset.
        ours: How ours was chosen.
        shared: Samples that both have.
        size: Samples of each.
        told: What the difference is, for a person.
    """

    published: str
    ours: str
    shared: int
    size: int
    told: str


def all_rows() -> Iterator[Row]:
    """Each definition of length beside the published Longest 1k; then the published OpenCS 1k."""
    from opencs_assets.datasets.canonical import read_dataset
    from opencs_assets.selection.baselines import response_lengths

    samples = read_dataset(tagset.ALPACA).samples
    theirs = _chosen(LONGEST, samples)
    counted = {unit: response_lengths(samples, unit) for unit in ("characters", "words", "tokens")}
    counted["words and marks"] = samples["response"].str.count_matches(WORDS_AND_MARKS)
    for unit, lengths in counted.items():
        ordered = samples.select("sample_id", "row", length=lengths).sort(
            ["length", "row"], descending=[True, False]
        )
        ours = ordered.head(len(theirs))
        missed = ordered.filter(pl.col("sample_id").is_in(theirs)).join(
            ours, on="sample_id", how="anti"
        )["length"]
        yield Row(
            "Longest 1k",
            f"longest responses in {unit}",
            len(theirs & set(ours["sample_id"])),
            len(theirs),
            f"ours end at {ours['length'][-1]}; theirs that we lack have {missed.min()} to "
            f"{missed.max()}, half of them {missed.quantile(0.5, 'nearest'):.0f} or more",
        )
    published = _chosen(OPENCS, samples)
    means = {
        name: samples.filter(pl.col("sample_id").is_in(ids))["response"].str.len_chars().mean()
        for name, ids in (("theirs", published), ("Longest 1k", theirs))
    }
    yield Row(
        "OpenCS 1k",
        "published Longest 1k",
        len(published & theirs),
        len(published),
        f"mean response {means['theirs']:.0f} characters; of the Longest 1k "
        f"{means['Longest 1k']:.0f}, of all {samples['response'].str.len_chars().mean():.0f}",
    )


def _chosen(path: Path, samples: pl.DataFrame) -> set[str]:
    """The dataset's samples that a published set has, found as selector method ``fixed`` does."""
    from opencs_assets.datasets.canonical import read_dataset
    from opencs_assets.selection.fixed import match_samples

    matched = match_samples(read_dataset(path).samples, samples)
    return set(matched.filter(~pl.col("is_outside"))["sample_id"])

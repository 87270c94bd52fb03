"""Plots of tags."""

import polars as pl
from matplotlib.figure import Figure

from opencs_assets.wiring.plots import BLUE, ORANGE, figure, label, nothing_to_plot

CLOUD_TAGS = 120
MOST_MERGES = 20
MERGED_FROM = 3
LABEL_CHARACTERS = 24


def tag_cloud(tags: pl.Series, title: str) -> Figure:
    """The most frequent tags, larger where more samples carry them."""
    counts = dict(tags.value_counts(sort=True).head(CLOUD_TAGS).iter_rows())
    if not counts:
        return nothing_to_plot(title)
    from wordcloud import WordCloud

    cloud = WordCloud(width=900, height=400, background_color="white", random_state=0)
    drawn, (axes,) = figure(title)
    axes.imshow(cloud.generate_from_frequencies(counts).to_array(), interpolation="bilinear")
    axes.axis("off")
    return drawn


def tags_a_sample(open_tags: pl.DataFrame, normalized: pl.DataFrame) -> Figure:
    """How many samples have 0, 1, 2, ... tags, before and after normalization."""
    drawn, axes = figure("Tags a sample", axes=2)
    for part, table, colour, name in (
        (axes[0], open_tags, BLUE, "before normalization"),
        (axes[1], normalized, ORANGE, "after normalization"),
    ):
        counts = table.select(tags=pl.col("tags").list.len())["tags"].value_counts().sort("tags")
        bars = part.bar(counts["tags"].to_list(), counts["count"].to_list(), color=colour)
        part.bar_label(bars, fontsize=7)
        part.set_xticks(counts["tags"].to_list())
        part.set_title(name, fontsize=9)
        part.set_xlabel("tags")
    axes[0].set_ylabel("samples")
    return drawn


def heaviest_merges(lineage: pl.DataFrame) -> Figure:
    """The tags into which those of the most samples were merged, with the commonest of these."""
    title = "Heaviest merges"
    raw = lineage.unique(["raw_tag"], keep="first").filter(
        pl.col("normalized_tag").is_not_null() & (pl.col("normalized_tag") != pl.col("raw_tag"))
    )
    merges = (
        raw.sort(["count", "raw_tag"], descending=[True, False])
        .group_by("normalized_tag", maintain_order=True)
        .agg(samples=pl.col("count").sum(), tags=pl.len(), some=pl.col("raw_tag").head(MERGED_FROM))
        .sort(["samples", "normalized_tag"], descending=[True, False])
        .head(MOST_MERGES)
        .reverse()
    )
    if not merges.height:
        return nothing_to_plot(title)
    drawn, (axes,) = figure(title, size=(8.0, 1.0 + 0.24 * merges.height))
    names = [label(name, LABEL_CHARACTERS) for name in merges["normalized_tag"]]
    places = list(range(merges.height))
    bars = axes.barh(places, merges["samples"].to_list(), color=BLUE)
    axes.set_yticks(places, names)
    axes.bar_label(
        bars,
        [
            f" {tags:,}: {', '.join(label(tag, LABEL_CHARACTERS) for tag in some)}"
            + (", …" if tags > len(some) else "")
            for tags, some in merges.select("tags", "some").iter_rows()
        ],
        fontsize=7,
    )
    axes.set_xlim(right=1.9 * max(merges["samples"].to_list()))
    axes.set_xlabel("samples that carry a merged tag; beside it how many tags, and the commonest")
    return drawn

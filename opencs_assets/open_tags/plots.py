"""Plots of tags."""

import polars as pl
from matplotlib.figure import Figure

from opencs_assets.plots import BLUE, ORANGE, figure, nothing_to_plot

CLOUD_TAGS = 120


def tag_cloud(tags: pl.Series) -> Figure:
    """The most frequent tags, larger where more samples carry them."""
    title = "Open tags"
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
    for each, table, colour, name in (
        (axes[0], open_tags, BLUE, "before normalization"),
        (axes[1], normalized, ORANGE, "after normalization"),
    ):
        counts = table.select(tags=pl.col("tags").list.len())["tags"].value_counts().sort("tags")
        bars = each.bar(counts["tags"].to_list(), counts["count"].to_list(), color=colour)
        each.bar_label(bars, fontsize=7)
        each.set_title(name, fontsize=9)
        each.set_xlabel("tags")
    axes[0].set_ylabel("samples")
    return drawn

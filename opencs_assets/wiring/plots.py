"""The look that all plots share; a stage's own plots are in its ``plots.py``."""

from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

BLUE, ORANGE, GREY, GREEN, RED = "#3b6fb6", "#e07b39", "#9aa0a6", "#4f9d69", "#c0504d"
SIZE = (7.0, 3.4)


def figure(
    title: str, *, axes: int = 1, size: tuple[float, float] = SIZE
) -> tuple[Figure, list[Axes]]:
    """An empty figure that needs no display, and its axes from left to right."""
    drawn = Figure(figsize=size, layout="constrained")
    FigureCanvasAgg(drawn)
    drawn.suptitle(title, fontsize=11)
    subplots = [drawn.add_subplot(1, axes, place + 1) for place in range(axes)]
    for subplot in subplots:
        subplot.spines[["top", "right"]].set_visible(False)
        subplot.tick_params(labelsize=8)
    return drawn, subplots


def label(text: str, characters: int) -> str:
    """A text as a label of at most so many characters."""
    short = text if len(text) <= characters else text[: characters - 1] + "…"
    # Matplotlib reads a dollar sign as the start of a formula.
    return short.replace("$", r"\$")


def nothing_to_plot(title: str) -> Figure:
    """A figure that says that there is nothing to show."""
    drawn, (only,) = figure(title, size=(5.0, 1.2))
    only.axis("off")
    only.text(0.5, 0.5, "no rows", ha="center", va="center", color=GREY)
    return drawn

"""GPU hours of a grid's trainings and answers, as measured in the home or as assumed."""

from collections.abc import Sequence

import polars as pl

from opencs_assets.checkpoints.metering import PEAK_TFLOPS
from opencs_assets.config.benchmarks import DECLARED, sampling_of
from opencs_assets.config.experiments import Selector
from opencs_assets.config.profiles import CANDIDATES_PER_CHOICE, resolve_constants
from opencs_assets.planning import gpu_hours
from opencs_assets.planning.cost import GpuHours
from opencs_assets.planning.reproduce import Grid, ReproductionError
from opencs_assets.tables.lake import Lake
from resources.settings import Settings

TOKENS_A_CHARACTER = 0.27
# Tokens of the chat template and of the end of the conversation.
TEMPLATE_TOKENS = 40
# Mean characters of a sample of LIMA's training set.
LIMA_CHARACTERS = 2_911


def check_device(device: str) -> None:
    """Accept a GPU whose speed is known.

    Raises:
        ReproductionError: The speed is unknown; the message names the known GPUs.
    """
    if device not in gpu_hours.DEVICES:
        raise ReproductionError(
            f"nothing is known of the device {device!r}; known: {', '.join(gpu_hours.DEVICES)}"
        )


def subset_size(settings: Settings, selector: Selector, samples: int) -> int:
    """How many of so many samples a selector chooses."""
    if selector.k is not None:
        return min(selector.k, samples) if selector.method != "fixed" else selector.k
    if selector.method == "full":
        return samples
    profile = selector.profile or settings.profile
    return min(resolve_constants(profile, settings.method, samples).k.value, samples)


def hours_of(
    grid: Grid, settings: Settings, dataset: str, samples: pl.DataFrame, device: str
) -> tuple[list[GpuHours], list[str]]:
    """GPU hours by base model of missing checkpoints and answers, and their assumptions."""
    lake = Lake(settings.lake)
    tflops = settings.training.peak_tflops or PEAK_TFLOPS[device]
    lengths, measured = _tokens_a_sample(samples), _measured(lake)

    def unmade(table: str, names: Sequence[str]) -> list[str]:
        partitions = ({"dataset": dataset, "experiment": name} for name in names)
        return [keys["experiment"] for keys in partitions if not lake.exists(table, keys)]

    of_model: dict[str, list[str]] = {}
    for name in grid.names:
        of_model.setdefault(grid.experiments.experiments[name].base_model, []).append(name)
    rows = []
    for base_model, names in of_model.items():
        source = grid.experiments.base_models[base_model].source
        size = gpu_hours.SIZES.get(source)
        new, unanswered = unmade("checkpoint", names), unmade("model_answers", names)
        training: float | None = 0.0
        answering: float | None = 0.0
        basis = "the embedded model trains on CPUs"
        if source != "embedded" and size is None:
            training, answering, basis = None, None, "the model's size is not known"
        elif source != "embedded" and size is not None:
            known = measured.get(base_model)
            basis = "measured here" if known else f"{device}, assumed"
            training = sum(
                _training(grid, settings, name, size, lengths, known, tflops) for name in new
            )
            answering = _answering(grid, unanswered, size, device)
        rows.append(GpuHours(base_model, len(new), training, len(unanswered), answering, basis))
    of_hours = [
        f"{device}: {tflops:g} TFLOP/s, of which trainings use {gpu_hours.UTILIZATION:.0%}; "
        f"{gpu_hours.BANDWIDTH[device]:g} TB/s, of which answering uses "
        f"{gpu_hours.BANDWIDTH_USED:.0%}, every answer as long as it may be. Loading and writing "
        "of models is left out.",
        f"{TOKENS_A_CHARACTER} tokens a character, {TEMPLATE_TOKENS} of the chat template.",
    ]
    of_replies = (
        "Replies are as long as they may be, or as the model's were so far. Repeated attempts are "
        "not counted."
    )
    return rows, [*(of_hours if any(row.total for row in rows) else []), of_replies]


def _answering(grid: Grid, names: Sequence[str], size: gpu_hours.ModelSize, device: str) -> float:
    """GPU hours of experiments' answers to the known benchmarks."""
    declared = grid.experiments
    return sum(
        gpu_hours.answering_hours(
            declared.recipes[declared.experiments[name].recipe],
            size,
            DECLARED[benchmark].questions * DECLARED[benchmark].turns,
            sampling_of(benchmark).max_new_tokens,
            gpu_hours.BANDWIDTH[device],
        )
        for name in names
        for benchmark in grid.benchmarks
        if benchmark in DECLARED
    )


def _training(
    grid: Grid,
    settings: Settings,
    name: str,
    size: gpu_hours.ModelSize,
    lengths: Sequence[float],
    hours_a_token: float | None,
    tflops: float,
) -> float:
    """GPU hours of one experiment's training."""
    experiment = grid.experiments.experiments[name]
    selector = grid.experiments.selectors[experiment.selector]
    recipe = grid.experiments.recipes[experiment.recipe]
    k = subset_size(settings, selector, len(lengths))
    if selector.method == "fixed":
        length = LIMA_CHARACTERS * TOKENS_A_CHARACTER + TEMPLATE_TOKENS
    else:
        # Lengths are in descending order; OpenCS's candidates are the longest of their label sets.
        among = {"longest": k, "opencs": CANDIDATES_PER_CHOICE * k}.get(selector.method)
        candidate_lengths = lengths[:among]
        length = sum(candidate_lengths) / (len(candidate_lengths) or 1)
    tokens = gpu_hours.training_tokens(recipe, k, length)
    if hours_a_token is not None:
        return tokens * hours_a_token
    return gpu_hours.training_hours(recipe, size, tokens, length, tflops)


def _tokens_a_sample(samples: pl.DataFrame) -> list[float]:
    """Tokens of each sample by its characters, those of the longest responses first."""
    ordered = samples.sort(pl.col("response").str.len_chars(), descending=True)
    characters = ordered["instruction"].str.len_chars() + ordered["response"].str.len_chars()
    return (characters * TOKENS_A_CHARACTER + TEMPLATE_TOKENS).to_list()


def _measured(lake: Lake) -> dict[str, float]:
    """GPU hours a token of the trainings that were made here on GPUs, by base model."""
    sums: dict[str, tuple[float, float]] = {}
    for partition in lake.partitions("checkpoint"):
        for row in lake.read("checkpoint", partition).iter_rows(named=True):
            if row["gpu_hours"] and row["tokens"]:
                hours, tokens = sums.get(row["base_model"], (0.0, 0.0))
                sums[row["base_model"]] = hours + row["gpu_hours"], tokens + row["tokens"]
    return {name: hours / tokens for name, (hours, tokens) in sums.items()}

"""GPU hours of trainings and answers before they start, by arithmetic on stated assumptions.

The time of loading a model, writing a checkpoint and waiting for a node is left out.
"""

from collections.abc import Mapping
from dataclasses import dataclass

from opencs_assets.checkpoints.metering import PEAK_TFLOPS, flops_a_token
from opencs_assets.config.recipes import Recipe

# Memory bandwidth in TB/s, from the vendors' data sheets; that of the larger memory where a GPU is
# sold with two.
BANDWIDTH = {
    "A100": 2.0,
    "A10G": 0.6,
    "H100": 3.35,
    "H200": 4.8,
    "B200": 8.0,
    "L40S": 0.86,
    "L4": 0.3,
    "V100": 0.9,
    "T4": 0.32,
}
DEVICES = tuple(sorted(PEAK_TFLOPS.keys() & BANDWIDTH.keys()))
# Without a measurement, training is assumed to use this share of a device's peak (ZeRO-3 with
# offload waits for the CPU's memory), and generation this share of its memory bandwidth.
UTILIZATION = 0.25
BANDWIDTH_USED = 0.3
BYTES_A_WEIGHT = 2


@dataclass(frozen=True)
class ModelSize:
    """The sizes that a model's work depends on; ``parameters`` leave out the input embeddings."""

    parameters: int
    layers: int
    heads: int
    head_size: int


# The numbers are from the models' published configurations.
SIZES: Mapping[str, ModelSize] = {
    "meta-llama/Llama-2-7b-hf": ModelSize(6_607_000_000, 32, 32, 128),
    "meta-llama/Llama-2-13b-hf": ModelSize(12_852_000_000, 40, 40, 128),
    "mistralai/Mistral-7B-v0.1": ModelSize(7_111_000_000, 32, 32, 128),
}


def training_tokens(recipe: Recipe, samples: int, tokens_a_sample: float) -> float:
    """Tokens that a training sees, padding left out."""
    unit, amount = recipe.budget
    if unit == "tokens":
        return amount
    seen = samples * amount if unit == "epochs" else amount * recipe.batch_size
    return seen * min(tokens_a_sample, recipe.max_length)


def training_hours(
    recipe: Recipe, size: ModelSize, tokens: float, tokens_a_sample: float, tflops: float
) -> float:
    """GPU hours of a training that sees so many tokens, whatever the number of GPUs."""
    operations = tokens * flops_a_token(
        size.parameters,
        size.layers,
        size.heads,
        size.head_size,
        min(tokens_a_sample, recipe.max_length),
        trained=recipe.adapter is None,
    )
    return operations / (tflops * 1e12 * UTILIZATION) / 3600


def answering_hours(
    recipe: Recipe, size: ModelSize, turns: int, max_new_tokens: int, bandwidth: float
) -> float:
    """Hours of one GPU for generating answers in batches from a checkpoint's files.

    This is an upper estimate: all weights are read once for each token of a batch, and every batch
    has as many tokens as an answer may have, ``max_new_tokens`` unless the recipe sets another
    limit. The GPU's memory ``bandwidth`` is in TB/s.
    """
    steps = -(-turns // recipe.generation_batch_size) * (recipe.max_new_tokens or max_new_tokens)
    read = size.parameters * BYTES_A_WEIGHT
    return steps * read / (bandwidth * 1e12 * BANDWIDTH_USED) / 3600

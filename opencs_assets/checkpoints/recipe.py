"""What a recipe means for a subset: the settings that reach the trainer, and the steps."""

import math
from typing import Any

from opencs_assets.experiments import Recipe

GENERATION_FIELDS = frozenset({"max_new_tokens", "generation_batch_size"})


def training_fields(recipe: Recipe, rows: int) -> dict[str, Any]:
    """The recipe's settings that determine the weights, resolved for a subset.

    ``epochs`` is left out where ``max_steps`` overrides it, so that a setting that has no effect
    does not make another checkpoint.

    Args:
        recipe: The recipe.
        rows: Samples in the subset.

    Returns:
        Settings by name, with ``steps`` added.
    """
    fields = recipe.model_dump(exclude=set(GENERATION_FIELDS))
    if fields.pop("max_steps") is not None:
        del fields["epochs"]
    return {**fields, "steps": optimizer_steps(recipe, rows)}


def optimizer_steps(recipe: Recipe, rows: int) -> int:
    """Optimizer steps for a subset.

    Depends on nothing but recipe and size: two subsets of one size are trained for the same number
    of steps, even where one of them has samples that must be dropped.

    Args:
        recipe: The recipe.
        rows: Samples in the subset, before any is dropped.
    """
    if recipe.max_steps is not None:
        return recipe.max_steps
    batches = math.ceil(rows / recipe.per_device_batch_size)
    steps_an_epoch = math.ceil(batches / recipe.gradient_accumulation)
    return max(1, math.ceil(recipe.epochs * steps_an_epoch))

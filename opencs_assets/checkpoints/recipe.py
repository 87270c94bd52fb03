"""What of a recipe determines the weights, resolved for a subset."""

from typing import Any

from opencs_assets.config.recipes import Recipe, optimizer_steps

# How answers are made is no part of the weights; neither is what only changes speed and memory.
NOT_OF_THE_WEIGHTS = frozenset({"max_new_tokens", "generation_batch_size"})


def training_fields(recipe: Recipe, rows: int) -> dict[str, Any]:
    """The recipe's settings that determine the weights.

    Of the three budgets only the one that counts is left, so that a setting that has no effect
    does not make another checkpoint.

    Args:
        recipe: The recipe.
        rows: Samples in the subset.

    Returns:
        Settings by name, with ``steps`` where they are known without reading the samples.
    """
    fields = recipe.model_dump(exclude=set(NOT_OF_THE_WEIGHTS))
    for unit in ("epochs", "steps", "tokens"):
        if unit != recipe.budget[0]:
            del fields[unit]
    steps = optimizer_steps(recipe, rows)
    return fields if steps is None else {**fields, "steps": steps}

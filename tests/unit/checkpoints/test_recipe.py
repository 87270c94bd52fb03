import pytest

from opencs_assets.checkpoints.provenance import training_fields
from opencs_assets.config.recipes import Recipe, optimizer_steps


@pytest.mark.parametrize(
    ("rows", "batch", "accumulation", "epochs", "steps"),
    [
        (28, 4, 1, 2, 14),
        (28, 1, 4, 2, 14),
        (29, 4, 1, 2, 16),
        (1000, 16, 16, 15, 60),
        (3, 4, 4, 1, 1),
        (10, 2, 1, 0.5, 3),
    ],
)
def test_steps_follow_from_recipe_and_size(rows, batch, accumulation, epochs, steps):
    recipe = Recipe(epochs=epochs, per_device_batch_size=batch, batch_size=batch * accumulation)
    assert optimizer_steps(recipe, rows) == steps


def test_of_the_budgets_only_the_one_that_counts_is_in_the_hash():
    by_steps = Recipe(steps=7)
    assert optimizer_steps(by_steps, 10_000) == 7
    assert training_fields(by_steps, 10_000)["steps"] == 7
    assert not {"epochs", "tokens"} & training_fields(by_steps, 10_000).keys()
    by_tokens = Recipe(tokens=1000)
    assert optimizer_steps(by_tokens, 10_000) is None
    assert not {"epochs", "steps"} & training_fields(by_tokens, 10_000).keys()


def test_only_a_constant_rate_that_warms_up_says_so_in_the_hash():
    """It did not warm up once, and other recipes keep the hashes that they had."""
    for schedule, warmup_ratio in (("constant", 0.1), ("constant", 0.0), ("cosine", 0.1)):
        fields = training_fields(Recipe(lr_schedule=schedule, warmup_ratio=warmup_ratio), 10)
        assert ("warms_up" in fields) is (schedule == "constant" and warmup_ratio > 0)


def test_settings_of_generation_do_not_reach_the_trainer():
    short, long = Recipe(max_new_tokens=8, generation_batch_size=1), Recipe(max_new_tokens=512)
    assert training_fields(short, 10) == training_fields(long, 10)

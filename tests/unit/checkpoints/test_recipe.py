import pytest

from opencs_assets.checkpoints.recipe import optimizer_steps, training_fields
from opencs_assets.experiments import Recipe


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
    recipe = Recipe(epochs=epochs, per_device_batch_size=batch, gradient_accumulation=accumulation)
    assert optimizer_steps(recipe, rows) == steps


def test_a_given_number_of_steps_wins_over_epochs():
    recipe = Recipe(epochs=3, max_steps=7)
    assert optimizer_steps(recipe, 10_000) == 7
    fields = training_fields(recipe, 10_000)
    assert fields["steps"] == 7
    assert "epochs" not in fields
    assert "max_steps" not in fields


def test_settings_of_generation_do_not_reach_the_trainer():
    short, long = Recipe(max_new_tokens=8, generation_batch_size=1), Recipe(max_new_tokens=512)
    assert training_fields(short, 10) == training_fields(long, 10)

from pathlib import Path

import polars as pl
import pytest

from opencs_assets.checkpoints.checks import (
    files_intact,
    template_of_training,
    whole_subset_same_steps,
)
from opencs_assets.checkpoints.plots import loss_curve
from opencs_assets.config.recipes import Recipe
from resources.provenance import content_hash, write_marker

TEMPLATE = "{{ messages }}"
FIELDS = {"template": content_hash(TEMPLATE)}
SUBSET = pl.DataFrame({"sample_id": [str(number) for number in range(10)]})


@pytest.fixture
def checkpoint(tmp_path: Path) -> pl.DataFrame:
    (tmp_path / "model.safetensors").write_bytes(b"weights")
    (tmp_path / "chat_template.jinja").write_text(TEMPLATE)
    write_marker(tmp_path, content_hash(FIELDS), FIELDS, {})
    return pl.DataFrame(
        {
            "provenance": [content_hash(FIELDS)],
            "path": [str(tmp_path)],
            "recipe": [Recipe(epochs=2, per_device_batch_size=5, batch_size=5).model_dump_json()],
            "template_hash": [content_hash(TEMPLATE)],
            "samples": [9],
            "dropped_samples": [1],
            "held_out_samples": [0],
            "tokens": [100],
            "steps": [4],
        }
    )


def test_a_sound_checkpoint_passes(checkpoint):
    assert files_intact(checkpoint).passed
    assert template_of_training(checkpoint).passed
    assert whole_subset_same_steps(checkpoint, SUBSET).passed


def test_changed_weights_are_found(checkpoint, tmp_path):
    (tmp_path / "model.safetensors").write_bytes(b"weighty")
    assert not files_intact(checkpoint).passed


def test_another_template_at_inference_is_found(checkpoint, tmp_path):
    (tmp_path / "chat_template.jinja").write_text("[INST] {{ messages }}")
    write_marker(tmp_path, content_hash(FIELDS), FIELDS, {})
    found = template_of_training(checkpoint)
    assert not found.passed
    assert "which training used" in found.description
    # A row that was changed along with it does not hide it, nor does a changed row alone pass.
    hidden = checkpoint.with_columns(template_hash=pl.lit(found.metadata["template_hash"]))
    assert not template_of_training(hidden).passed
    (tmp_path / "chat_template.jinja").write_text(TEMPLATE)
    assert not template_of_training(hidden).passed
    assert template_of_training(checkpoint).passed
    (tmp_path / "chat_template.jinja").unlink()
    assert "has no chat template" in template_of_training(checkpoint).description


STEPS = {"epochs": 2}
TOKENS = {"tokens": 1000}


@pytest.mark.parametrize(
    ("recipe", "row", "passed"),
    [
        (STEPS, {}, True),
        # A hidden validation split; a sample that was neither trained on nor dropped.
        (STEPS, {"samples": 8}, False),
        (STEPS, {"samples": 8, "held_out_samples": 1}, False),
        (STEPS, {"dropped_samples": 0}, False),
        (STEPS, {"dropped_samples": 2}, False),
        (STEPS, {"steps": 3}, False),
        (STEPS, {"steps": 5}, False),
        ({**STEPS, "held_out": 0.2}, {"samples": 7, "held_out_samples": 2}, True),
        ({**STEPS, "held_out": 0.2}, {"samples": 8, "held_out_samples": 1}, True),
        ({**STEPS, "held_out": 0.2}, {"samples": 6, "held_out_samples": 3}, False),
        (TOKENS, {"tokens": 900, "steps": 77}, True),
        (TOKENS, {"tokens": 899, "steps": 4}, False),
        (TOKENS, {"tokens": 1000, "samples": 8}, False),
    ],
)
def test_each_sample_is_counted_and_the_budget_is_kept(checkpoint, recipe, row, passed):
    declared = Recipe(per_device_batch_size=5, batch_size=5, **recipe).model_dump_json()
    told = checkpoint.with_columns(
        recipe=pl.lit(declared), **{k: pl.lit(v) for k, v in row.items()}
    )
    found = whole_subset_same_steps(told, SUBSET)
    assert found.passed is passed
    shown = told.row(0, named=True)
    budget = f"{shown['tokens']} of 1000 tokens" if "tokens" in recipe else f"{shown['steps']} of 4"
    assert budget in found.description


def test_loss_curve_is_drawn_of_many_and_of_no_steps():
    log = pl.DataFrame({"step": [1, 2], "loss": [2.0, 1.0], "learning_rate": [1e-4, 0.0]})
    assert loss_curve(log).axes[0].get_ylabel() == "loss on the response"
    assert loss_curve(log.clear()).axes

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


def test_a_hidden_validation_split_is_found(checkpoint):
    split = checkpoint.with_columns(samples=pl.lit(8))
    assert not whole_subset_same_steps(split, SUBSET).passed


def test_another_number_of_steps_is_found(checkpoint):
    fewer = checkpoint.with_columns(steps=pl.lit(3))
    found = whole_subset_same_steps(fewer, SUBSET)
    assert not found.passed
    assert "3 of 4 steps" in found.description


def test_loss_curve_is_drawn_of_many_and_of_no_steps():
    log = pl.DataFrame({"step": [1, 2], "loss": [2.0, 1.0], "learning_rate": [1e-4, 0.0]})
    assert loss_curve(log).axes[0].get_ylabel() == "loss on the response"
    assert loss_curve(log.clear()).axes

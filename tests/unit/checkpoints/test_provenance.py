import json
from pathlib import Path

import polars as pl
import pytest

from opencs_assets.checkpoints.job import training_job
from opencs_assets.checkpoints.provenance import (
    BaseModelError,
    base_model_identity,
)
from opencs_assets.checkpoints.templates import TemplateError, chat_template
from opencs_assets.config.recipes import Recipe
from opencs_assets.tables.columns import MESSAGES
from resources.provenance import (
    MARKER,
    ProvenanceError,
    content_hash,
    read_marker,
    verify,
    write_marker,
)

FIELDS = {"what": "a test"}


@pytest.fixture
def model(tmp_path: Path) -> Path:
    folder = tmp_path / "model"
    folder.mkdir()
    (folder / "config.json").write_text('{"architectures": ["LlamaForCausalLM"]}')
    (folder / "model.safetensors").write_bytes(b"weights")
    (folder / "chat_template.jinja").write_text("{{ messages }}")
    return folder


@pytest.fixture
def samples() -> pl.DataFrame:
    return pl.DataFrame(
        {
            "sample_id": ["a", "b"],
            "system": [None, "Be brief."],
            "messages": [
                [{"role": "user", "content": "1"}, {"role": "assistant", "content": "one"}],
                [{"role": "user", "content": "2"}, {"role": "assistant", "content": "two"}],
            ],
        },
        schema={"sample_id": pl.String, "system": pl.String, "messages": MESSAGES},
    )


def test_whatever_determines_the_weights_is_in_the_hash(model, samples, tmp_path):
    published = Recipe()

    def provenance(samples=samples, recipe=published, model=model):
        return training_job(samples, recipe, model, chat_template(model), str(tmp_path)).provenance

    first = provenance()
    assert provenance() == first
    assert provenance(samples=samples.reverse()) != first
    assert provenance(samples=samples.with_columns(system=pl.lit("Other."))) != first
    assert provenance(recipe=Recipe(seed=1)) != first
    assert provenance(recipe=Recipe(learning_rate=2e-5)) != first
    assert provenance(recipe=Recipe(max_new_tokens=1)) == first
    (model / "model.safetensors").write_bytes(b"others!")
    assert provenance() != first


def test_a_base_model_is_known_by_its_files_not_by_its_name(model, samples, tmp_path):
    renamed = model.rename(tmp_path / "llama-2-chat-mistral")
    twin = tmp_path / "twin"
    twin.mkdir()
    for path in renamed.iterdir():
        (twin / path.name).write_bytes(path.read_bytes())
    assert base_model_identity(renamed) == base_model_identity(twin)
    assert chat_template(renamed) == chat_template(twin)


def test_template_from_the_tokenizer_config(model):
    (model / "chat_template.jinja").unlink()
    with pytest.raises(TemplateError, match="has no chat template"):
        chat_template(model)
    config = model / "tokenizer_config.json"
    config.write_text(json.dumps({"chat_template": "one"}))
    assert chat_template(model) == "one"
    named = [{"name": "tool_use", "template": "t"}, {"name": "default", "template": "two"}]
    config.write_text(json.dumps({"chat_template": named}))
    assert chat_template(model) == "two"


def test_a_base_model_without_weights_is_refused(model, tmp_path):
    (model / "model.safetensors").unlink()
    with pytest.raises(BaseModelError, match="safetensors"):
        base_model_identity(model)
    with pytest.raises(BaseModelError, match="safetensors"):
        base_model_identity(tmp_path / "nowhere")


@pytest.fixture
def whole(model: Path) -> Path:
    write_marker(model, content_hash(FIELDS), FIELDS, {"steps": 3})
    return model


def test_a_whole_folder_is_accepted(whole):
    assert verify(whole, content_hash(FIELDS)).result == {"steps": 3}


def test_a_checkpoint_of_something_else_is_refused(whole):
    with pytest.raises(ProvenanceError, match="is another output"):
        verify(whole, content_hash({"what": "another test"}))


def test_a_folder_without_marker_is_not_complete(whole):
    (whole / MARKER).unlink()
    with pytest.raises(ProvenanceError, match="not complete"):
        read_marker(whole)


@pytest.mark.parametrize(
    ("harm", "says"),
    [
        (lambda folder: (folder / "model.safetensors").unlink(), "is missing"),
        (lambda folder: (folder / "model.safetensors").write_bytes(b"weigh"), "has 5 bytes"),
        (lambda folder: (folder / "model.safetensors").write_bytes(b"WEIGHTS"), "was changed"),
        (lambda folder: (folder / MARKER).write_text("{"), "can't be read"),
    ],
)
def test_harmed_files_are_found(whole, harm, says):
    harm(whole)
    with pytest.raises(ProvenanceError, match=says):
        verify(whole, content_hash(FIELDS))


def test_an_edited_marker_is_found(whole):
    marker = json.loads((whole / MARKER).read_text())
    marker["fields"]["what"] = "a better model"
    (whole / MARKER).write_text(json.dumps(marker))
    with pytest.raises(ProvenanceError, match="was edited"):
        verify(whole, content_hash(FIELDS))

import json
from pathlib import Path

import polars as pl
import pytest

from opencs_assets.checkpoints.job import training_job
from opencs_assets.checkpoints.provenance import (
    IDENTITY_FILES,
    NOT_OF_THE_WEIGHTS,
    BaseModelError,
    base_model_identity,
    checkpoint_fields,
    context_length,
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
    def provenance(samples=samples, template="t", **recipe):
        return training_job(samples, Recipe(**recipe), model, template, str(tmp_path)).provenance

    first = provenance()
    assert provenance() == first
    for other in (
        provenance(samples.reverse()),
        provenance(samples.with_columns(system=pl.lit("Other."))),
        provenance(samples.with_columns(sample_id=pl.Series(["a", "c"]))),
        provenance(samples.with_columns(messages=pl.col("messages").reverse())),
        provenance(template="u"),
        provenance(seed=1),
        provenance(learning_rate=2e-5),
        provenance(epochs=2),
    ):
        assert other != first
    assert provenance(max_new_tokens=1, generation_batch_size=2) == first
    for name in (*IDENTITY_FILES, "model.safetensors", "model.safetensors.index.json"):
        before = provenance()
        content = '{"architectures": ["GPT2LMHeadModel"]}' if name == "config.json" else "others"
        (model / name).write_text(content)
        assert provenance() != before, name
    (model / "README.md").write_text("no part of the model")
    before = provenance()
    (model / "README.md").write_text("other words")
    assert provenance() == before


def test_a_job_says_where_its_checkpoint_goes_and_what_it_is_made_from(model, samples):
    recipe = Recipe(steps=3)
    for folder in ("s3://b/c", "s3://b/c/"):
        job = training_job(samples, recipe, model, "t", folder)
        assert job.output == f"s3://b/c/{job.provenance[:16]}"
    assert job.fields == checkpoint_fields(samples, recipe, base_model_identity(model), "t")
    assert (job.fields["rows"], job.fields["recipe"]["steps"]) == (2, 3)
    assert not NOT_OF_THE_WEIGHTS & job.fields["recipe"].keys()


def test_a_large_file_of_the_hubs_cache_is_known_by_its_name(model, tmp_path):
    (tmp_path / "blobs").mkdir()
    weights = model / "model.safetensors"
    read = base_model_identity(model)["model.safetensors"]
    for name, known in (("a" * 64, True), ("a" * 63, False), ("A" * 64, False)):
        blob = tmp_path / "blobs" / name
        blob.write_bytes(b"weights")
        weights.unlink()
        weights.symlink_to(blob)
        assert base_model_identity(model)["model.safetensors"] == (name if known else read)
    elsewhere = tmp_path / ("b" * 64)
    elsewhere.write_bytes(b"weights")
    weights.unlink()
    weights.symlink_to(elsewhere)
    assert base_model_identity(model)["model.safetensors"] == read


@pytest.mark.parametrize(
    ("config", "says"),
    [
        ('{"architectures": ["LlamaModel", "BertForMaskedLM"]}', "LlamaModel, BertForMaskedLM;"),
        ('{"architectures": []}', "names no architecture"),
        ("{}", "names no architecture"),
        ("{", "is not valid JSON"),
        ("[]", "must hold one JSON object"),
        (None, "has no config.json with"),
    ],
)
def test_a_model_that_can_not_be_fine_tuned_is_refused(model, config, says):
    file = model / "config.json"
    file.unlink() if config is None else file.write_text(config)
    with pytest.raises(BaseModelError, match=says):
        base_model_identity(model)


@pytest.mark.parametrize(
    ("config", "length"),
    [
        ('{"max_position_embeddings": 512}', 512),
        ("{}", None),
        ('{"max_position_embeddings": "x"}', None),
    ],
)
def test_the_context_is_what_the_config_says(model, config, length):
    (model / "config.json").write_text(config)
    assert context_length(model) == length


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
    (model / "chat_template.jinja").write_text("own")
    assert chat_template(model) == "own"
    (model / "chat_template.jinja").unlink()
    named = [{"name": "tool_use", "template": "t"}, {"name": "default", "template": "two"}]
    config.write_text(json.dumps({"chat_template": named}))
    assert chat_template(model) == "two"
    for none in ({"chat_template": named[:1]}, {"chat_template": ""}, {}):
        config.write_text(json.dumps(none))
        with pytest.raises(TemplateError, match="has no chat template"):
            chat_template(model)


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

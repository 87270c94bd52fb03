"""Embeddings as a column of a table, and back."""

import numpy as np
import numpy.typing as npt
import polars as pl


def to_column(vectors: npt.NDArray[np.float32]) -> pl.Series:
    """Vectors, float32 (n, d), as a series of List(Float32), without a Python object a number."""
    if not len(vectors):
        return pl.Series("embedding", [], dtype=pl.List(pl.Float32))
    return pl.Series("embedding", np.ascontiguousarray(vectors, np.float32)).arr.to_list()


def to_matrix(column: pl.Series) -> npt.NDArray[np.float32]:
    """A series of List(Float32) as float32 (n, d).

    Raises:
        ValueError: The vectors are not all of one length; the message names the first that is not.
    """
    if not len(column):
        return np.zeros((0, 0), np.float32)
    lengths = column.list.len()
    differs = (lengths != lengths[0]).fill_null(True)
    if differs.any():
        row = int(differs.arg_true()[0])
        raise ValueError(
            f"embedding {row} has {lengths[row]} numbers, the first has {lengths[0]}; "
            "materialize sample_embeddings again"
        )
    return column.explode().to_numpy().reshape(len(column), -1)

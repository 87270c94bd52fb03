"""What is benchmarked: made data of realistic shape, our way and the plain way."""

import json
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from opencs_assets.datasets.canonical import read_dataset

SAMPLES = 52_000


@dataclass(frozen=True)
class Work:
    """One benchmark.

    Attributes:
        name: What is done.
        size: On how much.
        run: The platform's way.
        plain: The plain way, if there is one.
        same: Whether both results are the same.
    """

    name: str
    size: str
    run: Callable[[], Any]
    plain: Callable[[], Any] | None = None
    same: Callable[[Any, Any], bool] = lambda found, expected: bool(found == expected)


def all_works() -> Iterator[Work]:
    """The benchmarks, each made only when it is its turn."""
    yield _reading()


def _reading() -> Work:
    rng = np.random.default_rng(0)
    folder = Path(tempfile.mkdtemp())
    rows = [
        {"instruction": f"Question {row}", "input": "", "output": "word " * int(count)}
        for row, count in enumerate(rng.integers(5, 120, SAMPLES))
    ]
    path = folder / "data.json"
    path.write_text(json.dumps(rows))
    return Work(
        "read a dataset (Alpaca JSON)",
        f"{SAMPLES:,} rows, {path.stat().st_size / 1e6:.0f} MB",
        lambda: read_dataset(path).samples.height,
    )

"""One side of a comparison in a process of its own, so that its peak memory is its own.

``python -m tests.benchmarks.side MODULE FUNCTION SIZE REPEATS OUT``: ``MODULE.FUNCTION(size)``
makes the data and gives back the work; only the work is timed.
"""

import importlib
import os
import pickle
import resource
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[2]


@dataclass(frozen=True)
class Side:
    """What one side came to.

    Attributes:
        result: What its work gave back.
        seconds: Seconds of the work, without imports and the making of data; the shortest of the
            repeats.
        megabytes: Peak memory of the process, imports and data included.
    """

    result: Any
    seconds: float
    megabytes: float


def measure(module: str, function: str, size: int, repeats: int = 1) -> Side:
    """Run one side in a process of its own; short work is repeated, and the shortest time taken."""
    with tempfile.TemporaryDirectory() as folder:
        out = Path(folder) / "side.pickle"
        subprocess.run(
            [
                sys.executable,
                "-m",
                __spec__.name,
                module,
                function,
                str(size),
                str(repeats),
                str(out),
            ],
            cwd=ROOT,
            env={**os.environ, "TQDM_DISABLE": "1", "HF_HUB_DISABLE_PROGRESS_BARS": "1"},
            check=True,
        )
        return pickle.loads(out.read_bytes())


def main() -> None:
    module, function, size, repeats, out = sys.argv[1:]
    work = getattr(importlib.import_module(module), function)(int(size))
    seconds = float("inf")
    for _ in range(int(repeats)):
        started = time.perf_counter()
        result = work()
        seconds = min(seconds, time.perf_counter() - started)
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    # As the module is called where the parent reads it, not ``__main__``.
    side = importlib.import_module("tests.benchmarks.side").Side(result, seconds, peak)
    Path(out).write_bytes(pickle.dumps(side))


if __name__ == "__main__":
    main()

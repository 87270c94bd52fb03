"""Homes and commands of end-to-end tests: real processes, the real chain, small data."""

import json
import os
import subprocess
import sys
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).resolve().parent.parent.parent
SAMPLE = ROOT / "opencs_assets" / "datasets" / "sample_data" / "sample.jsonl"
ROWS = 18

SETTINGS = """
models_dir = {models}
[method]
k = 6
clusters = 3
[landing]
settle_s = 0
[training]
save_every_steps = 100
"""
EXPERIMENTS = """
recipes:
  demo: {steps: 2, learning_rate: 1.0e-4, max_length: 64, per_device_batch_size: 2,
         batch_size: 2, neftune_alpha: 5, max_new_tokens: 8}
matchups:
  opencs_vs_random@smollm2-135m:
    {model_a: opencs@smollm2-135m, model_b: random@smollm2-135m, benchmark: small, parity: steps}
benchmarks: [small]
"""
# Questions of the benchmark `small`; each has two turns.
QUESTIONS = 4
SMOKE = ROOT / "opencs_assets" / "benchmarks" / "benchmark_data" / "smoke.jsonl"
# Command lines, one after the other in one process: starting one takes seconds.
SEVERAL = """
import contextlib, io, json, os, sys
from opencs_assets.cli.app import main

done = []
for home, words in json.load(sys.stdin):
    os.environ["OPENCS_HOME"] = home
    sys.argv = ["opencs", *words]
    said, told, code = io.StringIO(), io.StringIO(), 0
    with contextlib.redirect_stdout(said), contextlib.redirect_stderr(told):
        try:
            main()
        except SystemExit as exit:
            code = exit.code or 0
    done.append([code, said.getvalue(), told.getvalue()])
json.dump(done, sys.stdout)
"""

Opencs = Callable[..., subprocess.CompletedProcess[str]]


def small_home(folder: Path, models: Path) -> Path:
    """A home with settings that make the chain short."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "settings.toml").write_text(SETTINGS.format(models=json.dumps(str(models))))
    (folder / "experiments.yaml").write_text(EXPERIMENTS)
    (folder / "benchmarks").mkdir(exist_ok=True)
    lines = SMOKE.read_text(encoding="utf-8").splitlines()[:QUESTIONS]
    (folder / "benchmarks" / "small.jsonl").write_text("\n".join(lines), encoding="utf-8")
    return folder


def environment(home: Path) -> dict[str, str]:
    """The environment of a person who set OPENCS_HOME and nothing else of ours."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith("OPENCS_")}
    return {**kept, "OPENCS_HOME": str(home), "COLUMNS": "200"}


def opencs(home: Path, *words: str, timeout: float = 900) -> subprocess.CompletedProcess[str]:
    """Run the command as a person does."""
    return subprocess.run(
        [sys.executable, "-m", "opencs_assets.cli", *words],
        env=environment(home),
        capture_output=True,
        text=True,
        timeout=timeout,
        check=False,
    )


def several(home: Path, lines: Iterable[tuple[str, ...]]) -> list[subprocess.CompletedProcess[str]]:
    """Run command lines in one process; one that raises more than an exit fails them all."""
    return of_homes([(home, words) for words in lines])


def of_homes(
    lines: Sequence[tuple[Path, tuple[str, ...]]],
) -> list[subprocess.CompletedProcess[str]]:
    """Run command lines in one process, each in its home."""
    ran = subprocess.run(
        [sys.executable, "-c", SEVERAL],
        input=json.dumps([(str(home), words) for home, words in lines]),
        env=environment(lines[0][0]),
        capture_output=True,
        text=True,
        timeout=900,
        check=False,
    )
    assert ran.returncode == 0, ran.stderr
    return [
        subprocess.CompletedProcess(words, code, said, told)
        for (_, words), (code, said, told) in zip(lines, json.loads(ran.stdout), strict=True)
    ]


@pytest.fixture(scope="session")
def small_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The sample dataset's first rows, and one row that is no sample."""
    file = tmp_path_factory.mktemp("data") / "small.jsonl"
    lines = SAMPLE.read_text().splitlines()[:ROWS]
    file.write_text("\n".join([*lines, '{"instruction": "no answer", "output": ""}']) + "\n")
    return file


@pytest.fixture(scope="session")
def demo_home(models_dir: Path, small_file: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A home in which the whole chain has been run once by ``opencs demo``."""
    home = small_home(tmp_path_factory.mktemp("home"), models_dir)
    ran = opencs(home, "demo", str(small_file))
    (home / "first.out").write_text(ran.stdout)
    assert ran.returncode == 0, ran.stdout + ran.stderr
    return home


@pytest.fixture(scope="session")
def workshop(models_dir: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Any]:
    """Homes of all stages, and the model that they call."""
    from tests.e2e.killing.model import counting_model
    from tests.e2e.killing.workshop import Workshop

    with counting_model() as model:
        yield Workshop(tmp_path_factory.mktemp("kills"), models_dir, model)

"""An exported subset, loaded by the programs that it is written for.

Run: ``python -m tests.benchmarks.peers.exports FOLDER``. LLaMA-Factory and Hugging Face
``datasets`` are installed in an environment of their own under ``.venv-peers/``; the files are
taken as they are. Exits with 1 if a dataset comes out with other rows or other text.
"""

import argparse
import sys
import tempfile
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

from tests.benchmarks.peers.__main__ import SCRIPTS, Peer, environment, python_of, run_once

# 20,000 samples take about two minutes.
TIMEOUT_S = 3_600
LLAMA_FACTORY = Peer(
    "LLaMA-Factory 0.9.5",
    "llamafactory_loader.py",
    "llamafactory",
    # What its loader imports. All that it asks for would be a user interface, and with torchvision
    # and torchaudio builds that want the libraries of a GPU.
    (
        "accelerate==1.11.0",
        "datasets==4.0.0",
        "numpy==2.4.6",
        "omegaconf==2.4.0",
        # It reads the JSON files; the newest that a whole installation has.
        "pandas==2.3.3",
        "peft==0.18.1",
        "pyarrow==26.0.1",
        "tokenizers==0.22.2",
        "torch==2.13.0",
        "transformers==5.6.0",
        "trl==0.24.0",
    ),
    alone=("llamafactory==0.9.5",),
)


def load(folder: Path) -> dict[str, Any]:
    """What the loaders made of the folder.

    Raises:
        RuntimeError: They could not be installed or run.
    """
    with tempfile.TemporaryDirectory() as state:
        env = environment(Path(state))
        env |= {
            "HF_DATASETS_CACHE": str(Path(state) / "datasets"),
            "HF_DATASETS_OFFLINE": "1",
            "TRANSFORMERS_OFFLINE": "1",
            "CUDA_VISIBLE_DEVICES": "",
        }
        command = [python_of(LLAMA_FACTORY), SCRIPTS / LLAMA_FACTORY.script, folder]
        return run_once(command, env, None, "", TIMEOUT_S)


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m tests.benchmarks.peers.exports")
    parser.add_argument("folder", type=Path, help="a subset's exported files")
    folder = parser.parse_args().folder.resolve()
    console = Console()
    with console.status(LLAMA_FACTORY.name):
        try:
            loaded = load(folder)
        except RuntimeError as error:
            parser.exit(1, f"{error}\n")
    table = Table(title=f"{loaded['samples']:,} exported samples, loaded", title_justify="left")
    table.add_column("loader")
    table.add_column("dataset")
    table.add_column("rows", justify="right")
    table.add_column("equal")
    table.add_column("note")
    for row in loaded["rows"]:
        equal = "yes" if row["equal"] else "NO"
        table.add_row(row["loader"], row["dataset"], f"{row['rows']:,}", equal, row["note"])
    console.print(table)
    console.print("equal: system prompts and turns, converted and tokenized")
    sys.exit(0 if all(row["equal"] for row in loaded["rows"]) else 1)


if __name__ == "__main__":
    main()

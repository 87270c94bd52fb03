"""Answers on disk: rows as they come, and the finished table of a benchmark."""

import json
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import polars as pl

from opencs_assets.tables.answers import MODEL_ANSWERS
from opencs_assets.tables.benchmarks import turn_keys
from resources.files import replacing
from resources.schema import conform

Row = dict[str, Any]
KEY = ("benchmark", "question_id", "turn")
Key = tuple[str, str, int]


def split_by_benchmark(questions: pl.DataFrame) -> dict[str, pl.DataFrame]:
    """The questions of each benchmark, in their order."""
    parts = questions.partition_by("benchmark", maintain_order=True)
    return {part["benchmark"][0]: part for part in parts}


def expected_keys(questions: pl.DataFrame) -> list[Key]:
    """The key of every answer that the questions call for, in their order."""
    return turn_keys(questions).rows()


class PartialAnswers:
    """A JSONL file of rows that are written as they come, so that a killed run can go on."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def read(self) -> dict[Key, Row]:
        """Whole rows by key; a line that was cut by the end of a process is left out."""
        rows: dict[Key, Row] = {}
        if not self.path.exists():
            return rows
        for line in self.path.read_text(encoding="utf-8", errors="replace").split("\n"):
            try:
                row = json.loads(line)
                if set(row) == set(MODEL_ANSWERS.columns):
                    rows[row["benchmark"], row["question_id"], row["turn"]] = row
            except (ValueError, TypeError):
                continue
        return rows

    def append(self, rows: Sequence[Row]) -> None:
        """Write rows through to the disk."""
        self.path.parent.mkdir(parents=True, exist_ok=True)
        with self.path.open("a", encoding="utf-8") as file:
            # The line break comes first, so that half a line of a killed process stays apart.
            file.write("".join(f"\n{json.dumps(row, ensure_ascii=False)}" for row in rows))
            file.flush()
            os.fsync(file.fileno())


def write_answers(path: Path, rows: Sequence[Row]) -> None:
    """Write a benchmark's finished table, whole or not at all; rows are in the questions' order."""
    table = conform(pl.DataFrame(list(rows), schema=MODEL_ANSWERS.schema), MODEL_ANSWERS)
    with replacing(path) as written:
        table.write_parquet(written)


def read_answers(path: Path, questions: pl.DataFrame, provenance: str) -> pl.DataFrame | None:
    """A benchmark's finished table; ``None`` unless it is whole and of this provenance."""
    try:
        table = conform(pl.read_parquet(path), MODEL_ANSWERS)
    except (OSError, ValueError, pl.exceptions.PolarsError):
        return None
    whole = table.select(KEY).rows() == expected_keys(questions)
    return table if whole and set(table["provenance"]) == {provenance} else None

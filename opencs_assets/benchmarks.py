"""Benchmarks: questions in FastChat's form, from the package and from the home.

A benchmark is a file ``<name>.jsonl``, one question a line: ``turns`` (what the user asks, turn by
turn), and where the file has them ``question_id``, ``category`` and ``reference`` (an answer a
turn, an empty text for a turn without one, as MT-Bench has it). The package brings ``smoke``; a
file in ``<home>/benchmarks`` adds one, or replaces the package's of the same name.
"""

import json
import re
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import polars as pl

from opencs_assets.provenance import content_hash
from opencs_assets.schemas import BENCHMARK_QUESTIONS, conform

PACKAGED = Path(__file__).parent / "benchmark_data"
NAME = re.compile(r"[a-z0-9][a-z0-9_-]*")
GENERIC = "generic"
DERIVED_ID = 16


class BenchmarkError(ValueError):
    """A benchmark can't be used; the message names file, line and reason."""


def benchmark_files(home: Path) -> dict[str, Path]:
    """The benchmarks that are there, by name.

    Args:
        home: The home.

    Raises:
        BenchmarkError: A file's name is no name of a benchmark.
    """
    files = {}
    for path in [*sorted(PACKAGED.glob("*.jsonl")), *sorted((home / "benchmarks").glob("*.jsonl"))]:
        if not NAME.fullmatch(path.stem):
            raise BenchmarkError(
                f"{path}: a benchmark's name has lower-case letters, digits, _ and - only; "
                "rename the file"
            )
        files[path.stem] = path
    return files


def read_benchmarks(home: Path, wanted: Mapping[str, str]) -> pl.DataFrame:
    """All questions, in the schema of ``benchmark_questions``.

    Args:
        home: The home.
        wanted: Who asks for which benchmark, such as ``{"matchups.a_vs_b": "smoke"}``.

    Raises:
        BenchmarkError: A benchmark is wanted but not there, or a file is not usable.
    """
    files = benchmark_files(home)
    for who, name in wanted.items():
        if name not in files:
            raise BenchmarkError(
                f"{who} names the benchmark {name!r}, which is not there; put its questions into "
                f"{home / 'benchmarks' / name}.jsonl (known: {', '.join(files)})"
            )
    return pl.concat([read_benchmark(path, name) for name, path in files.items()])


def read_benchmark(path: Path, name: str) -> pl.DataFrame:
    """One benchmark's questions in the file's order, in the schema of ``benchmark_questions``.

    A question without an id gets one from its turns, so that it keeps it when lines move.

    Args:
        path: JSONL file in FastChat's form.
        name: The benchmark's name.

    Raises:
        BenchmarkError: It is empty or not UTF-8, a line is no question, or a question stands
            twice. The message names the line.
    """
    rows: list[dict[str, Any]] = []
    seen: dict[tuple[str, ...], int] = {}
    for number, line in _lines(path):
        row = _question(line, name, f"{path} line {number}")
        question_id = row["question_id"]
        for key, what in (
            (("question_id", question_id), f"question_id {question_id!r}"),
            (("turns", *row["turns"]), "the same turns"),
        ):
            first = seen.setdefault(key, number)
            if first != number:
                raise BenchmarkError(
                    f"{path} line {number}: {what} stands in line {first} already; remove one"
                )
        rows.append(row)
    if not rows:
        raise BenchmarkError(f"{path} has no question; a line is one JSON object with `turns`")
    return conform(pl.DataFrame(rows, schema=BENCHMARK_QUESTIONS.schema), BENCHMARK_QUESTIONS)


def _lines(path: Path) -> Iterable[tuple[int, str]]:
    try:
        text = path.read_text(encoding="utf-8-sig")
    except UnicodeDecodeError as error:
        raise BenchmarkError(f"{path} is not UTF-8 (byte {error.start}); convert it") from None
    # Not splitlines: it also splits at separators that JSON allows inside a string.
    return [(at, line) for at, line in enumerate(text.split("\n"), start=1) if line.strip()]


def _question(line: str, benchmark: str, where: str) -> dict[str, Any]:
    try:
        found = json.loads(line)
    except ValueError as error:
        raise BenchmarkError(f"{where}: not valid JSON: {error}") from None
    if not isinstance(found, dict):
        raise BenchmarkError(f"{where}: must be a JSON object with `turns`")
    turns = _texts(found.get("turns"), "turns", where)
    if not turns:
        raise BenchmarkError(f"{where}: `turns` is empty; it lists what the user asks")
    for at, text in enumerate(turns, start=1):
        if not text.strip():
            raise BenchmarkError(f"{where}: `turns` is empty at turn {at}")
    references = _texts(found.get("reference") or [], "reference", where)
    if references and len(references) != len(turns):
        raise BenchmarkError(
            f"{where}: {len(references)} references for {len(turns)} turns; give one a turn, "
            "or none"
        )
    given = found.get("question_id")
    return {
        "benchmark": benchmark,
        "question_id": content_hash(turns)[:DERIVED_ID] if given is None else str(given),
        "category": str(found.get("category") or GENERIC),
        "turns": turns,
        "references": references if any(text.strip() for text in references) else [],
    }


def _texts(value: Any, name: str, where: str) -> list[str]:
    if not isinstance(value, list) or not all(isinstance(item, str) for item in value):
        raise BenchmarkError(f"{where}: `{name}` must be a list of texts")
    return value

"""Reading benchmarks: any of their files' forms in, questions of one form out.

In ``<home>/benchmarks`` a benchmark is a file ``<name>.jsonl``, or a folder ``<name>`` with
``question.jsonl`` and its reference answers as FastChat lays them out; the known ones have the
names that they were published under, see ``config.benchmarks``. One line is one question, in
FastChat's form (``turns``, and where it has them ``question_id``, ``category``, ``reference``, an
answer a turn, and ``instruction_difficulty``) or in that of a test set: ``conversations``,
``instruction`` with its ``input``, ``Instruction``, ``prompt`` or ``text``. The package brings
``smoke``; a file of the home replaces it.
"""

import ast
import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import polars as pl

from opencs_assets.config.benchmarks import DECLARED, DeclaredBenchmark
from opencs_assets.files.reading import every_row
from opencs_assets.files.rows import AcceptedFiles
from opencs_assets.tables.benchmarks import BENCHMARK_QUESTIONS
from resources.errors import MendableError
from resources.provenance import content_hash, file_hash
from resources.schema import conform

PACKAGED = Path(__file__).parent / "benchmark_data"
FOLDER = "benchmarks"
QUESTIONS = "question.jsonl"
REFERENCES = ("reference_answer*.jsonl", "reference_answer/*.jsonl")
NAME = re.compile(r"[a-z0-9][a-z0-9_-]*")
GENERIC = "generic"
DERIVED_ID = 16
# A row's form is told by the first of these fields that it has: Alpaca's rows also have a ``text``,
# which holds the answer too.
FORMS = ("turns", "conversations", "instruction", "Instruction", "prompt", "text")
# AlpacaEval's name for the difficulty that length-controlled win rates need.
DIFFICULTY = "instruction_difficulty"
IDS = ("question_id", "id", "idx")
USERS = frozenset({"user", "human"})


class BenchmarkError(MendableError):
    """A benchmark can't be used; the message names file, line and reason."""


ACCEPTED = AcceptedFiles(BenchmarkError, markers=(*FORMS, "choices"), tables=False)

Row = dict[str, Any]


@dataclass(frozen=True)
class BenchmarkFiles:
    """The files of a benchmark that is there: its questions, and its references if apart."""

    name: str
    path: Path
    references: Path | None = None

    @property
    def declared(self) -> DeclaredBenchmark | None:
        """The declaration of a known benchmark; ``None`` for one of the user's own."""
        return DECLARED.get(self.name)


def find_benchmarks(home: Path) -> dict[str, BenchmarkFiles]:
    """The benchmarks that are there, by name: the package's, the known ones, the user's own.

    Raises:
        BenchmarkError: A file's name is no name of a benchmark, or two files are one benchmark.
    """
    folder = home / FOLDER
    published_names = {
        name: benchmark.name
        for benchmark in DECLARED.values()
        for name in (*([benchmark.file.name] if benchmark.file else []), *benchmark.other_names)
    }
    there = {
        path.stem: BenchmarkFiles(path.stem, path) for path in sorted(PACKAGED.glob("*.jsonl"))
    }
    own: dict[str, Path] = {}
    for path in [*sorted(folder.glob("*.jsonl")), *sorted(folder.glob(f"*/{QUESTIONS}"))]:
        relative = path.relative_to(folder).as_posix()
        plain_name = path.parent.name if path.name == QUESTIONS and "/" in relative else path.stem
        name = published_names.get(relative, plain_name)
        if not NAME.fullmatch(name):
            raise BenchmarkError(
                f"{path}: a benchmark's name has lower-case letters, digits, _ and - only; "
                "rename the file"
            )
        if name in own:
            raise BenchmarkError(
                f"{own[name]} and {path} are both the benchmark {name!r}; remove or rename one"
            )
        own[name] = path
        there[name] = BenchmarkFiles(name, path, _references_beside(folder, name, path))
    return there


def read_benchmarks(home: Path, required: Mapping[str, str]) -> pl.DataFrame:
    """All questions of a home, in the schema of ``benchmark_questions``.

    ``required`` says who names which benchmark, such as ``{"matchups.a_vs_b": "smoke"}``.

    Raises:
        BenchmarkError: A required benchmark is not there, or a file is not usable.
    """
    there = find_benchmarks(home)
    for who, name in required.items():
        if name not in there:
            raise BenchmarkError(
                f"{who} names the benchmark {name!r}, which is not there; {_remedy(home, name)} "
                f"(there are: {', '.join(there)})"
            )
    return pl.concat(map(read_benchmark, there.values()))


def read_benchmark(files: BenchmarkFiles) -> pl.DataFrame:
    """One benchmark's questions in the file's order, in the schema of ``benchmark_questions``.

    A question without an id gets one from what it asks, so that it keeps it when lines move.

    Raises:
        BenchmarkError: A file is empty, not UTF-8, or not the published one; a line is no
            question, or a question stands twice. The message names the line.
    """
    known = files.declared
    if known:
        _check_published(files, known)
    rows: list[Row] = []
    places: dict[tuple[str, ...], str] = {}
    for place, fields in every_row(files.path, ACCEPTED):
        where = f"{files.path} {place}"
        row = _question(fields, files.name, known, where)
        keys = [(("question_id", row["question_id"]), f"question_id {row['question_id']!r}")]
        if not (known and known.repeats):
            keys.append((("turns", *row["turns"]), "the same question"))
        for key, what in keys:
            first = places.setdefault(key, place)
            if first != place:
                raise BenchmarkError(f"{where}: {what} stands in {first} already; remove one")
        rows.append(row)
    if not rows:
        raise BenchmarkError(
            f"{files.path} has no question; a row is one JSON object with {_forms()}"
        )
    if files.references:
        _add_references(rows, files.references)
    return conform(pl.DataFrame(rows, schema=BENCHMARK_QUESTIONS.schema), BENCHMARK_QUESTIONS)


def as_published(files: BenchmarkFiles) -> bool:
    """Whether a known benchmark's files are the published ones; the user's own always are."""
    known = files.declared
    if not known or not known.file or files.path.parent == PACKAGED:
        return True
    pairs = [(files.path, known.file)]
    if known.references and files.references:
        pairs.append((files.references, known.references))
    return all(file_hash(path) == file.sha256 for path, file in pairs)


def _check_published(files: BenchmarkFiles, known: DeclaredBenchmark) -> None:
    if not as_published(files):
        raise BenchmarkError(
            f"{files.path} is not the published {known.name} (its SHA-256 is another). Remove it "
            f"and run `opencs benchmarks fetch {known.name}`; or, where the change is meant, give "
            "it another name and so make it a benchmark of your own"
        )
    if known.references and not files.references:
        raise BenchmarkError(
            f"{known.name} has no reference answers: {known.references.name} is not in the folder "
            f"of benchmarks; run `opencs benchmarks fetch {known.name}`"
        )


def _references_beside(folder: Path, name: str, path: Path) -> Path | None:
    """The file of reference answers, which stands beside the questions or in ``<name>/``."""
    beside = path.parent if path.name == QUESTIONS else folder / name
    files = sorted({file for pattern in REFERENCES for file in beside.glob(pattern)})
    if len(files) > 1:
        raise BenchmarkError(
            f"{beside} has {len(files)} files of reference answers "
            f"({', '.join(file.name for file in files)}); keep one"
        )
    return files[0] if files else None


def _remedy(home: Path, name: str) -> str:
    known = DECLARED.get(name)
    if known and known.file:
        return (
            f"run `opencs benchmarks fetch {name}`, or put {known.file.name} into {home / FOLDER}"
        )
    return f"put its questions into {home / FOLDER / name}.jsonl"


def _question(fields: Row, benchmark: str, known: DeclaredBenchmark | None, where: str) -> Row:
    form = known.prompt if known else next((name for name in FORMS if name in fields), None)
    if form is None or form not in fields:
        needed = f"`{form}`" if form else _forms()
        raise BenchmarkError(f"{where}: there is no question: it needs {needed}")
    turns = _turns(fields, form, where)
    if not turns:
        raise BenchmarkError(f"{where}: `{form}` is empty; it holds what the user asks")
    for at, text in enumerate(turns, start=1):
        if not text.strip():
            raise BenchmarkError(f"{where}: `{form}` is empty at turn {at}")
    field = known.category if known else "category"
    return {
        "benchmark": benchmark,
        "question_id": _question_id(fields, known, turns, where),
        "category": str(fields.get(field or "") or GENERIC),
        "turns": turns,
        # Where the references have a file of their own, the judge is shown those.
        "references": [] if known and known.references else _references(fields, turns, where),
        "difficulty": _difficulty(fields, where),
    }


def _question_id(
    fields: Row, known: DeclaredBenchmark | None, turns: Sequence[str], where: str
) -> str:
    """The question's id in the file, or a hash of its turns where the file has none."""
    names = ((known.question_id,) if known.question_id else ()) if known else IDS
    own_id = next((fields[name] for name in names if fields.get(name) is not None), None)
    if own_id is None:
        return content_hash(list(turns))[:DERIVED_ID]
    if isinstance(own_id, bool) or not isinstance(own_id, str | int) or not str(own_id).strip():
        raise BenchmarkError(
            f"{where}: the question's id must be a text or a number, not {own_id!r}"
        )
    return str(own_id)


def _turns(fields: Row, form: str, where: str) -> list[str]:
    value = fields[form]
    if form == "turns":
        return _texts(value, form, where)
    if form == "conversations" and not isinstance(value, str):
        return _conversation(value, where)
    text = _text(value, form, where)
    if form in ("instruction", "Instruction") and (more := input_of(fields)) is not None:
        context = _text(more, "input", where).strip()
        text = f"{text.strip()}\n\n{context}" if context else text
    return [text]


def _conversation(value: Any, where: str) -> list[str]:
    """The user's texts of LIMA's alternating texts (the user begins) or of ShareGPT's messages."""
    if not isinstance(value, list):
        raise BenchmarkError(f"{where}: `conversations` must be a list, or one text")
    if all(isinstance(text, str) for text in value):
        return [_text(text, "conversations", where) for text in value[::2]]
    turns = []
    for message in value:
        role = (message.get("from") or message.get("role")) if isinstance(message, dict) else None
        if not isinstance(role, str) or role == "system":
            raise BenchmarkError(
                f"{where}: `conversations` must hold texts, or messages with `from` and `value`; a "
                "benchmark has no system message"
            )
        if role in USERS:
            text = message.get("value", message.get("content"))
            turns.append(_text(text, "conversations", where))
    return turns


def input_of(fields: Mapping[str, Any]) -> Any:
    """The ``input`` of an instruction, which Self-Instruct keeps in its first instance."""
    value, instances = fields.get("input"), fields.get("instances")
    if value is None and isinstance(instances, list) and instances:
        value = instances[0].get("input") if isinstance(instances[0], dict) else None
    return value


def _references(fields: Row, turns: Sequence[str], where: str) -> list[str]:
    references = _texts(fields.get("reference") or [], "reference", where)
    if references and len(references) != len(turns):
        raise BenchmarkError(
            f"{where}: {len(references)} references for {len(turns)} turns; give one a turn, "
            "or none"
        )
    return references if any(text.strip() for text in references) else []


def _difficulty(fields: Row, where: str) -> float | None:
    value = fields.get(DIFFICULTY)
    if value is None:
        return None
    if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
        raise BenchmarkError(f"{where}: `{DIFFICULTY}` must be a number, not {value!r}")
    return float(value)


def _add_references(rows: Sequence[Row], path: Path) -> None:
    """Add the reference answers of FastChat's file to the rows of their questions."""
    by_id = {row["question_id"]: row for row in rows}
    places: dict[str, str] = {}
    for place, fields in every_row(path, ACCEPTED):
        where = f"{path} {place}"
        try:
            turns = fields["choices"][0]["turns"]
        except (KeyError, IndexError, TypeError):
            raise BenchmarkError(f"{where}: there is no `choices[0].turns`") from None
        name = str(fields.get("question_id"))
        row = by_id.get(name)
        if row is None:
            raise BenchmarkError(f"{where}: there is no question {name!r}")
        if places.setdefault(name, place) != place:
            raise BenchmarkError(f"{where}: question {name!r} stands in {places[name]} already")
        row["references"] = _references({"reference": turns}, row["turns"], where)


def _texts(value: Any, name: str, where: str) -> list[str]:
    if not isinstance(value, list) or not all(isinstance(item, str) for item in value):
        raise BenchmarkError(f"{where}: `{name}` must be a list of texts")
    return value


def _text(value: Any, name: str, where: str) -> str:
    if not isinstance(value, str):
        raise BenchmarkError(f"{where}: `{name}` must be a text")
    if _is_printed_list(value):
        raise BenchmarkError(
            f"{where}: `{name}` is the printed form of a list; write the list itself, or its text"
        )
    return value


def _is_printed_list(text: str) -> bool:
    """Whether a text is what Python prints for a list of texts, such as ``['Why?']``."""
    text = text.strip()
    if not (text.startswith(("['", '["')) and text.endswith("]")):
        return False
    try:
        value = ast.literal_eval(text)
    except (ValueError, SyntaxError, MemoryError, RecursionError):
        return False
    return isinstance(value, list) and all(isinstance(item, str) for item in value)


def _forms() -> str:
    return ", ".join(f"`{name}`" for name in FORMS[:-1]) + f" or `{FORMS[-1]}`"

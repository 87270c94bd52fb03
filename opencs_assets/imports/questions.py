"""Finding the benchmark's question that a row is about: by its id, or by what is asked."""

from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import polars as pl

from opencs_assets.config.benchmarks import DECLARED
from opencs_assets.imports.errors import VerdictRowError
from opencs_assets.tables.benchmarks import BENCHMARK_QUESTIONS

# Fields of the test sets' files that hold what is asked, and of those that hold its id.
TEXTS = ("text", "prompt", "instruction", "Instruction", "conversations", "question")
IDS = ("question_id", "id", "idx")


@dataclass(frozen=True)
class KnownQuestion:
    """One question of a benchmark.

    Attributes:
        benchmark: The benchmark.
        question_id: Its id there.
        category: Its category.
        turns: What the user asks, turn by turn.
    """

    benchmark: str
    question_id: str
    category: str
    turns: tuple[str, ...]


class Questions:
    """The questions of a home, to be looked up."""

    def __init__(self, frame: pl.DataFrame) -> None:
        self.by_id: dict[tuple[str, str], KnownQuestion] = {}
        self.by_text: dict[str, list[KnownQuestion]] = {}
        columns = ("benchmark", "question_id", "category", "turns")
        for benchmark, name, category, turns in frame.select(columns).iter_rows():
            question = KnownQuestion(benchmark, name, category, tuple(turns))
            self.by_id[benchmark, name] = question
            self.by_text.setdefault(plain(turns[0]), []).append(question)
        self.benchmarks = frozenset(benchmark for benchmark, _ in self.by_id)

    @classmethod
    def none(cls) -> "Questions":
        """No questions, for looking at a file before it is read."""
        return cls(BENCHMARK_QUESTIONS.empty())

    def of(self, benchmark: str, value: Any) -> KnownQuestion:
        """The question of an id as a file has it.

        Raises:
            VerdictRowError: The benchmark is not here, or has no such question.
        """
        name = _id(value)
        found = self.by_id.get((benchmark, name))
        if found is None and name.endswith(".0"):
            # Written by a table program that takes ids for measured numbers.
            found = self.by_id.get((benchmark, name[:-2]))
        if found is None:
            self.check(benchmark)
            raise VerdictRowError("unknown_question", f"{benchmark} has no question {name!r}")
        return found

    def check(self, benchmark: str) -> None:
        """Accept a benchmark that is here.

        Raises:
            VerdictRowError: It is not; the message says how to get it.
        """
        if benchmark in self.benchmarks:
            return
        known = DECLARED.get(benchmark)
        remedy = (
            f"run `opencs benchmarks fetch {benchmark}` and import again"
            if known and known.file
            else f"there are: {', '.join(sorted(self.benchmarks)) or 'none'}"
        )
        raise VerdictRowError("no_benchmark", f"the benchmark {benchmark!r} is not here; {remedy}")


class ByText:
    """Questions of one file found by what is asked.

    A text that several benchmarks ask is taken for the one that most of the file is from. One that
    a benchmark asks twice is told apart by its id where the row has it, else by how often the file
    asks it again.
    """

    def __init__(
        self, rows: Iterable[Mapping[str, Any]], questions: Questions, benchmark: str | None
    ) -> None:
        self._questions = questions
        self._benchmark = benchmark
        counts = Counter(
            name for row in rows for name in {each.benchmark for each in self._candidates(row)}
        )
        self._order = {name: (-count, name) for name, count in counts.items()}
        self._seen: Counter[str] = Counter()

    def of(self, row: Mapping[str, Any]) -> KnownQuestion:
        """The question of a row; to be asked once a row, in the file's order.

        Raises:
            VerdictRowError: The row says not what was asked, or no benchmark here asks it.
        """
        if self._benchmark:
            self._questions.check(self._benchmark)
        asked = asked_by(row)
        if asked is None:
            raise VerdictRowError(
                "unknown_question", f"no field says what was asked ({', '.join(TEXTS)})"
            )
        found = self._candidates(row)
        if not found:
            where = f"{self._benchmark} does not ask" if self._benchmark else "no benchmark asks"
            raise VerdictRowError(
                "unknown_question",
                f"{where} {asked[:60]!r}; `opencs benchmarks list` says which are here",
            )
        name = min((each.benchmark for each in found), key=lambda name: self._order[name])
        same = [each for each in found if each.benchmark == name]
        if len(same) == 1:
            return same[0]
        ids = {str(row[field]) for field in IDS if row.get(field) is not None}
        by_id = [each for each in same if each.question_id in ids]
        key = plain(asked)
        at = self._seen[key]
        self._seen[key] += 1
        return by_id[0] if by_id else same[min(at, len(same) - 1)]

    def _candidates(self, row: Mapping[str, Any]) -> list[KnownQuestion]:
        asked = asked_by(row)
        found = self._questions.by_text.get(plain(asked), []) if asked is not None else []
        return [each for each in found if self._benchmark in (None, each.benchmark)]


def asked_by(row: Mapping[str, Any]) -> str | None:
    """What a row of a test set asks, its input included; nothing where it does not say."""
    value = next((row[name] for name in TEXTS if row.get(name)), None)
    if isinstance(value, list):
        value = value[0] if value else None
        if isinstance(value, dict):
            value = value.get("value", value.get("content"))
    if not isinstance(value, str):
        return None
    context = row.get("input")
    instances = row.get("instances")
    if context is None and isinstance(instances, list) and instances:
        context = instances[0].get("input") if isinstance(instances[0], dict) else None
    if isinstance(context, str) and context.strip():
        return f"{value}\n\n{context}"
    return value


def plain(text: str) -> str:
    """A text by which equal questions are found: white space counts as one space."""
    return " ".join(text.split())


def same_question(prompt: Any, question: KnownQuestion) -> bool:
    """Whether a judge's prompt asks the benchmark's question, in one of its turns at least.

    Translated benchmarks have the ids of the original.
    """
    if not isinstance(prompt, str) or not prompt:
        return True
    if any(turn.strip() in prompt for turn in question.turns):
        return True
    shown = plain(prompt)
    return any(plain(turn) in shown for turn in question.turns)


def _id(value: Any) -> str:
    if isinstance(value, bool) or not isinstance(value, str | int | float) or value == "":
        raise VerdictRowError(
            "unknown_question", f"the question's id must be a text or number: {value!r}"
        )
    return str(value).strip()

"""Finding the benchmark's question that a row is about: by its id, or by what is asked."""

from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import polars as pl

from opencs_assets.benchmarks.questions import IDS, input_of
from opencs_assets.config.benchmarks import DECLARED
from opencs_assets.imports.errors import VerdictRowError
from opencs_assets.tables.benchmarks import BENCHMARK_QUESTIONS

# The fields in which the test sets' files hold the question.
TEXTS = ("text", "prompt", "instruction", "Instruction", "conversations", "question")


@dataclass(frozen=True)
class KnownQuestion:
    """One question of a benchmark, with what the user asks turn by turn."""

    benchmark: str
    question_id: str
    category: str
    turns: tuple[str, ...]


class Questions:
    """The questions of a home, which are looked up by id and by text."""

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
        """The question whose id a file gives.

        Raises:
            VerdictRowError: The benchmark is not here, or has no such question.
        """
        name = _id(value)
        question = self.by_id.get((benchmark, name))
        if question is None and name.endswith(".0"):
            # A table program took the ids for measured numbers when it wrote the file.
            question = self.by_id.get((benchmark, name[:-2]))
        if question is None:
            self.check(benchmark)
            raise VerdictRowError("unknown_question", f"{benchmark} has no question {name!r}")
        return question

    def check(self, benchmark: str) -> None:
        """Accept a benchmark of this home.

        Raises:
            VerdictRowError: The benchmark is not here; the message says how to get it.
        """
        if benchmark in self.benchmarks:
            return
        remedy = f"there are: {', '.join(sorted(self.benchmarks)) or 'none'}"
        if (known := DECLARED.get(benchmark)) and known.file:
            remedy = f"run `opencs benchmarks fetch {benchmark}` and import again"
        raise VerdictRowError("no_benchmark", f"the benchmark {benchmark!r} is not here; {remedy}")


class ByText:
    """Finds the questions of one file by their text.

    A text that several benchmarks ask is taken to be from the benchmark that asks most of the file.
    Where a benchmark asks a text twice, the row's id decides or, without one, the file's order.
    """

    def __init__(
        self, rows: Iterable[Mapping[str, Any]], questions: Questions, benchmark: str | None
    ) -> None:
        self._questions = questions
        self._benchmark = benchmark
        counts = Counter(
            name
            for row in rows
            for name in {question.benchmark for question in self._candidates(row)}
        )
        self._order = {name: (-count, name) for name, count in counts.items()}
        self._seen: Counter[str] = Counter()

    def of(self, row: Mapping[str, Any]) -> KnownQuestion:
        """The question of a row; this is called once a row, in the file's order.

        Raises:
            VerdictRowError: The row has no question, or no benchmark here asks it.
        """
        if self._benchmark:
            self._questions.check(self._benchmark)
        text = question_text(row)
        if text is None:
            raise VerdictRowError(
                "unknown_question", f"no field says what was asked ({', '.join(TEXTS)})"
            )
        candidates = self._candidates(row)
        if not candidates:
            where = f"{self._benchmark} does not ask" if self._benchmark else "no benchmark asks"
            raise VerdictRowError(
                "unknown_question",
                f"{where} {text[:60]!r}; `opencs benchmarks list` says which are here",
            )
        name = min((question.benchmark for question in candidates), key=self._order.__getitem__)
        same = [question for question in candidates if question.benchmark == name]
        if len(same) == 1:
            return same[0]
        ids = {str(row[field]) for field in IDS if row.get(field) is not None}
        by_id = [question for question in same if question.question_id in ids]
        key = plain(text)
        at = self._seen[key]
        self._seen[key] += 1
        return by_id[0] if by_id else same[min(at, len(same) - 1)]

    def _candidates(self, row: Mapping[str, Any]) -> list[KnownQuestion]:
        text = question_text(row)
        questions = self._questions.by_text.get(plain(text), []) if text is not None else []
        return [question for question in questions if self._benchmark in (None, question.benchmark)]


def question_text(row: Mapping[str, Any]) -> str | None:
    """The question in a row of a test set with its input; ``None`` where the row has none."""
    value = next((row[name] for name in TEXTS if row.get(name)), None)
    if isinstance(value, list):
        value = value[0] if value else None
        if isinstance(value, dict):
            value = value.get("value", value.get("content"))
    if not isinstance(value, str):
        return None
    context = input_of(row)
    if isinstance(context, str) and context.strip():
        return f"{value}\n\n{context}"
    return value


def plain(text: str) -> str:
    """The text with each run of white space as one space, by which questions are compared."""
    return " ".join(text.split())


def same_question(prompt: Any, question: KnownQuestion) -> bool:
    """Whether a judge's prompt, if there is one, asks a turn of the benchmark's question.

    An id does not tell that, because translated benchmarks have the ids of the original.
    """
    if not isinstance(prompt, str) or not prompt:
        return True
    if any(turn.strip() in prompt for turn in question.turns):
        return True
    plain_prompt = plain(prompt)
    return any(plain(turn) in plain_prompt for turn in question.turns)


def _id(value: Any) -> str:
    if isinstance(value, bool) or not isinstance(value, str | int | float) or value == "":
        raise VerdictRowError(
            "unknown_question", f"the question's id must be a text or number: {value!r}"
        )
    return str(value).strip()

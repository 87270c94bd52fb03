"""What a form is: how it is recognized, and how its rows are read."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from opencs_assets.imports.errors import VerdictRowError
from opencs_assets.imports.options import ImportOptions
from opencs_assets.imports.questions import KnownQuestion, Questions
from opencs_assets.imports.rows import ImportedAnswer, ImportedVerdict

Row = Mapping[str, Any]
Read = Callable[[Row], Sequence[ImportedVerdict | ImportedAnswer]]

# Benchmark of files that name questions by FastChat's ids only.
FASTCHAT_BENCHMARK = "mt_bench"


@dataclass(frozen=True)
class Form:
    """One form of files.

    Attributes:
        name: Its name in tables.
        title: What it is, for a person.
        fits: Whether a row is of it.
        uses: Options that mean something to it.
        reader: Makes the function that reads the file's rows, in their order, from all of them,
            the options and the home's questions. It raises ``VerdictFileError`` where an option
            is missing; the function raises ``VerdictRowError``.
    """

    name: str
    title: str
    fits: Callable[[Row], bool]
    uses: frozenset[str]
    reader: Callable[[Sequence[Row], ImportOptions, Questions], Read]


def has(*names: str) -> Callable[[Row], bool]:
    """Whether a row has all of these fields."""
    wanted = frozenset(names)
    return lambda row: wanted <= row.keys()


def answer_to(question: KnownQuestion, model: str, text: Any) -> list[ImportedAnswer]:
    """A model's one answer to a question; none where the file has no text of it."""
    if not isinstance(text, str):
        return []
    return [
        ImportedAnswer(model, question.benchmark, question.question_id, question.category, (text,))
    ]


def question_by_id(row: Row, options: ImportOptions, questions: Questions) -> KnownQuestion:
    """The question that a row names by its id, in MT-Bench unless another benchmark was said.

    Raises:
        VerdictRowError: The benchmark is not here, or has no such question.
    """
    benchmark = options.benchmark or FASTCHAT_BENCHMARK
    try:
        return questions.of(benchmark, row.get("question_id"))
    except VerdictRowError as error:
        if error.reason == "unknown_question" and not options.benchmark:
            raise VerdictRowError(
                error.reason, f"{error.detail}; name the benchmark with --benchmark"
            ) from None
        raise

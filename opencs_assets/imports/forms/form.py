"""The declaration of a form of files, and helpers that several forms share."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from opencs_assets.imports.errors import VerdictRowError
from opencs_assets.imports.options import ImportOptions
from opencs_assets.imports.questions import KnownQuestion, Questions
from opencs_assets.imports.rows import ImportedAnswer, ImportedVerdict

Row = Mapping[str, Any]
Read = Callable[[Row], Sequence[ImportedVerdict | ImportedAnswer]]

# The benchmark of files that name questions only by FastChat's ids.
FASTCHAT_BENCHMARK = "mt_bench"


@dataclass(frozen=True)
class Form:
    """One form of files.

    Attributes:
        name: The form's name in tables.
        title: The form's name for a person, with its fields.
        fits: Says whether a row is of this form.
        uses: The options that mean something to the form.
        reader: Makes the function that reads the file's rows one by one in their order. It is made
            of all rows, the options and the home's questions, and raises ``VerdictFileError`` where
            an option is missing; the function raises ``VerdictRowError``.
    """

    name: str
    title: str
    fits: Callable[[Row], bool]
    uses: frozenset[str]
    reader: Callable[[Sequence[Row], ImportOptions, Questions], Read]


def has(*names: str) -> Callable[[Row], bool]:
    """Make the function that says whether a row has all of these fields."""
    fields = frozenset(names)
    return lambda row: fields <= row.keys()


def answer_to(question: KnownQuestion, model: str, turns: Sequence[str]) -> ImportedAnswer:
    """A model's answers to the turns of a question."""
    return ImportedAnswer(
        model, question.benchmark, question.question_id, question.category, tuple(turns)
    )


def answers_of(
    question: KnownQuestion, models: tuple[str, str], texts: Sequence[Any]
) -> list[ImportedAnswer]:
    """The answers of a pair's models, without those that the file has no text of."""
    return [
        answer_to(question, model, [text])
        for model, text in zip(models, texts, strict=True)
        if isinstance(text, str)
    ]


def question_by_id(row: Row, options: ImportOptions, questions: Questions) -> KnownQuestion:
    """The question that a row names by its id, in MT-Bench unless an option names a benchmark.

    Raises:
        VerdictRowError: The benchmark is not here, or has no such question.
    """
    benchmark = options.benchmark or FASTCHAT_BENCHMARK
    try:
        return questions.of(benchmark, row.get("question_id"))
    except VerdictRowError as error:
        if error.reason == "unknown_question" and not options.benchmark:
            detail = f"{error.detail}; name the benchmark with --benchmark"
            raise VerdictRowError(error.reason, detail) from None
        raise

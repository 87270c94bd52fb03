"""Options of an import: facts about a file that the file does not say itself."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any, Final

import yaml

from opencs_assets.files.contents import opened
from opencs_assets.imports.errors import VerdictFileError

REVERSED: Final = ("as-shown", "swapped-back")
COLUMNS: Final[Mapping[str, str]] = {
    "benchmark": "the benchmark, where it differs by row",
    "question_id": "the question's id in its benchmark",
    "question": "what was asked, where there is no id",
    "turn": "the turn that was judged; 0 for the whole conversation",
    "model": "the model that was judged alone",
    "model_a": "a pair's first model",
    "model_b": "a pair's second model",
    "score": "the score of an answer judged alone",
    "score_a": "the first model's score",
    "score_b": "the second model's score",
    "winner": "who won: model_a, model_b, a, b, tie, or a model's name; empty if unparsable",
    "shown_first": "whose answer the judge saw first: model_a, model_b, a, b, or a model's name",
    "judge": "who judged",
    "prompt": "name of the judge's prompt",
    "reply": "what the judge wrote",
}
"""What a column of a CSV may hold, with its meaning."""


@dataclass(frozen=True)
class ImportOptions:
    """What a person says about a file when it is imported.

    ``model_a`` is the first model, or the only one, where the file names none. ``judge`` says who
    judged, where the file does not or uses another name; where people judged, it is the name under
    which they count as one judge. ``reversed`` is one of ``REVERSED``, and ``columns`` names a
    CSV's columns by what they hold (``COLUMNS``).
    """

    benchmark: str | None = None
    model_a: str | None = None
    model_b: str | None = None
    judge: str | None = None
    human: bool = False
    reversed: str | None = None
    columns: Mapping[str, str] = field(default_factory=dict)

    def values(self) -> dict[str, Any]:
        """The options that have a value, by name."""
        return {name: value for name, value in asdict(self).items() if value}

    def only(self, names: frozenset[str]) -> "ImportOptions":
        """These options without those that mean nothing to a form."""
        return ImportOptions(
            **{name: value for name, value in self.values().items() if name in names}
        )


def read_options(
    options: ImportOptions, mapping: Path | None = None, columns: Sequence[str] = ()
) -> ImportOptions:
    """The options of a call with the columns of a mapping's file and of the call.

    A column of the call (``what=column``) goes before one of the file.

    Raises:
        VerdictFileError: A name is blank, a word is unknown, or the mapping can't be read.
    """
    for name in ("benchmark", "model_a", "model_b", "judge"):
        value = getattr(options, name)
        if value is not None and not value.strip():
            raise VerdictFileError(f"--{name.replace('_', '-')} is blank; give a name")
    if options.model_a is not None and options.model_a == options.model_b:
        raise VerdictFileError(
            f"--model-a and --model-b are both {options.model_a!r}; a pair has two"
        )
    if options.reversed not in (None, *REVERSED):
        raise VerdictFileError(
            f"--reversed must be {' or '.join(REVERSED)}, not {options.reversed}"
        )
    mapped = _mapping(mapping) if mapping else {}
    for assignment in columns:
        what, separator, column = assignment.partition("=")
        if not separator:
            example = "write it as what=column, as score=rating"
            raise VerdictFileError(f"--column {assignment}: {example}")
        mapped[what.strip()] = column.strip()
    for what, name in mapped.items():
        if what not in COLUMNS:
            raise VerdictFileError(
                f"a mapping has no {what!r}; it may have {', '.join(COLUMNS)} (see README)"
            )
        if not isinstance(name, str) or not name:
            raise VerdictFileError(f"the mapping of {what} must be a column's name, not {name!r}")
    return replace(options, columns=mapped)


def _mapping(path: Path) -> dict[str, Any]:
    with opened(path, VerdictFileError) as file:
        try:
            mapping = yaml.safe_load(file.read().decode("utf-8-sig"))
        except (ValueError, yaml.YAMLError) as error:
            raise VerdictFileError(f"{path} is no YAML or JSON: {error}") from None
    if not isinstance(mapping, dict):
        raise VerdictFileError(f"{path} must map what a column holds to its name, as score: rating")
    return mapping

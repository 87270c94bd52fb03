"""AlpacaEval's ``annotations.json``: a preference between two outputs.

A preference of 1 is for ``output_1``, one of 2 for ``output_2``, and a number between them is the
judge's probability; 1.5 is a draw, as is 0 in older files (``alpaca_eval/metrics/helpers.py``), and
null means that the reply could not be parsed. The judge saw the outputs in a random order, which is
not in the file.
"""

import math
from collections.abc import Sequence
from typing import Any, Final

from opencs_assets.imports.errors import VerdictRowError
from opencs_assets.imports.forms.form import Form, Read, Row, answers_of, has
from opencs_assets.imports.options import ImportOptions
from opencs_assets.imports.questions import ByText, Questions
from opencs_assets.imports.rows import (
    ImportedAnswer,
    ImportedVerdict,
    Judge,
    pair,
    read_model,
    text_or_none,
    winner_of,
)

PROMPT_VERSION: Final = "alpaca_eval"
SPAN: Final = 9.0


def _reader(rows: Sequence[Row], options: ImportOptions, questions: Questions) -> Read:
    by_text = ByText(rows, questions, options.benchmark)

    def read(row: Row) -> list[ImportedVerdict | ImportedAnswer]:
        question = by_text.of(row)
        name = options.judge or row.get("annotator")
        if not isinstance(name, str) or not name.strip():
            detail = "the row has no `annotator`; name the judge with --judge"
            raise VerdictRowError("no_judge", detail)
        models = (
            read_model(row.get("generator_1"), "generator_1"),
            read_model(row.get("generator_2"), "generator_2"),
        )
        scores = _scores(row["preference"])
        verdict = pair(
            question,
            1,
            models,
            Judge(name, name, options.human, None, PROMPT_VERSION),
            protocol="preference",
            shown_first="unknown",
            winner=winner_of(scores) if scores else None,
            scores=scores,
            reply=text_or_none(row.get("raw_completion")),
        )
        outputs = (row.get("output_1"), row.get("output_2"))
        return [verdict, *answers_of(question, models, outputs)]

    return read


def _scores(preference: Any) -> tuple[float, float] | None:
    """Scores in [1, 10] of the two outputs: 1 + 9p, where p is the probability of the output."""
    if preference is None:
        return None
    if isinstance(preference, bool) or not isinstance(preference, int | float):
        raise VerdictRowError("bad_score", f"`preference` must be a number, not {preference!r:.40}")
    if math.isnan(preference):
        return None
    value = 1.5 if preference == 0 else float(preference)
    if not 1 <= value <= 2:
        raise VerdictRowError(
            "score_out_of_range", f"`preference` is {preference}, not in [1, 2], or 0"
        )
    return 1 + SPAN * (2 - value), 1 + SPAN * (value - 1)


FORM = Form(
    "alpaca_eval",
    "AlpacaEval annotations (instruction, output_1, output_2, generator_1, generator_2, "
    "annotator, preference)",
    has("instruction", "generator_1", "generator_2", "preference"),
    frozenset({"benchmark", "judge"}),
    _reader,
)

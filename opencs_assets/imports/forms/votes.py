"""Votes as MT-Bench published them: a row is the outcome of a person or of a judge's two orders.

Where a judge's two orders disagree, the outcome is ``tie (inconsistent)``. The order that a person
was shown is not known.
"""

from collections.abc import Sequence
from typing import Any, Final

from opencs_assets.imports.errors import VerdictRowError
from opencs_assets.imports.forms.fastchat import prompt_family
from opencs_assets.imports.forms.form import Form, Read, Row, has, question_by_id
from opencs_assets.imports.options import ImportOptions
from opencs_assets.imports.questions import Questions
from opencs_assets.imports.rows import (
    ImportedVerdict,
    Judge,
    pair,
    person,
    read_model,
    read_turn,
)

INCONSISTENT: Final = "tie (inconsistent)"
TIES: Final = ("tie", "tie (bothbad)", INCONSISTENT)
WINNERS: Final = {"model_a": "a", "model_b": "b", **dict.fromkeys(TIES, "tie"), "error": None}
PEOPLE: Final = "human"
PROMPT_VERSION: Final = "votes"


def judge_named(value: Any, options: ImportOptions) -> Judge:
    """The judge of a vote; people, whom the name or an option tells, are grouped by their kind."""
    names = value if isinstance(value, list) else [value]
    if not names or not isinstance(names[0], str) or not names[0].strip():
        names = [options.judge]
    name, prompt = names[0], names[1] if len(names) > 1 and isinstance(names[1], str) else None
    if name is None:
        raise VerdictRowError("no_judge", "the row has no `judge`; name the judge with --judge")
    group = person(name)
    if group or options.human:
        return Judge(name, group or options.judge or PEOPLE, True, prompt, PROMPT_VERSION)
    name = options.judge or name
    return Judge(name, name, False, prompt, prompt_family(prompt) if prompt else PROMPT_VERSION)


def _reader(rows: Sequence[Row], options: ImportOptions, questions: Questions) -> Read:
    tells_disagreement = any(row.get("winner") == INCONSISTENT for row in rows)

    def read(row: Row) -> list[ImportedVerdict]:
        question = question_by_id(row, options, questions)
        winner = row["winner"]
        if not isinstance(winner, str) or winner not in WINNERS:
            raise VerdictRowError(
                "bad_winner", f"`winner` must be {', '.join(WINNERS)}, not {winner!r:.40}"
            )
        judge = judge_named(row.get("judge"), options)
        merged = not judge.is_human
        return [
            pair(
                question,
                read_turn(row.get("turn"), question),
                (read_model(row["model_a"], "model_a"), read_model(row["model_b"], "model_b")),
                judge,
                protocol="choice",
                shown_first="merged" if merged else "unknown",
                winner=WINNERS[winner],
                orders_disagree=winner == INCONSISTENT if merged and tells_disagreement else None,
            )
        ]

    return read


FORM = Form(
    "votes",
    "MT-Bench votes of people or a judge (question_id, model_a, model_b, winner, judge, turn)",
    has("question_id", "model_a", "model_b", "winner"),
    frozenset({"benchmark", "judge", "human"}),
    _reader,
)

"""FastChat's own files: single judgments, pair judgments and answers.

The fields are those of ``fastchat/llm_judge/common.py``: ``judge`` is the judge's model and the
prompt's name; a rating that could not be parsed is -1, a winner that could not be parsed is
``error``; ``g2_winner`` is from the swapped order, but is already swapped back.
"""

from collections.abc import Sequence
from typing import Any, Final

from opencs_assets.imports.errors import VerdictRowError
from opencs_assets.imports.forms.form import Form, Read, Row, answer_to, has, question_by_id
from opencs_assets.imports.options import ImportOptions
from opencs_assets.imports.questions import KnownQuestion, Questions, same_question
from opencs_assets.imports.rows import (
    ImportedAnswer,
    ImportedVerdict,
    Judge,
    pair,
    read_model,
    read_score,
    read_turn,
    single,
    text_or_none,
    two_scores,
)

MULTI_TURN: Final = "-multi-turn"
# Questions of math, reasoning and coding have a reference, and prompts of their own that show it.
FAMILIES: Final = {
    "single-v1": "fastchat-single-v1",
    "single-math-v1": "fastchat-single-v1",
    "pair-v2": "fastchat-pair-v2",
    "pair-math-v1": "fastchat-pair-v2",
}
WINNERS: Final = {"model_1": "a", "model_2": "b", "tie": "tie", "error": None}


def prompt_family(prompt: str | None) -> str:
    """The family of a prompt: one for all turns and categories, or the prompt's own."""
    if prompt is None:
        return "fastchat-unknown"
    name = prompt.removesuffix(MULTI_TURN)
    return FAMILIES.get(name, f"fastchat-{name}")


def _judge(value: Any) -> Judge:
    parts = value if isinstance(value, list) else [value]
    if not parts or len(parts) > 2 or not all(isinstance(part, str) and part for part in parts):
        raise VerdictRowError("no_judge", f"`judge` must be a model and a prompt, not {value!r}")
    prompt = parts[1] if len(parts) == 2 else None
    return Judge(parts[0], parts[0], False, prompt, prompt_family(prompt))


def _check_prompt(prompt: Any, question: KnownQuestion) -> None:
    if not same_question(prompt, question):
        raise VerdictRowError(
            "other_question",
            f"the judge's prompt asks something else than question {question.question_id} of "
            f"{question.benchmark}; name the benchmark with --benchmark",
        )


def _single_reader(rows: Sequence[Row], options: ImportOptions, questions: Questions) -> Read:
    def read(row: Row) -> list[ImportedVerdict]:
        question = question_by_id(row, options, questions)
        _check_prompt(row.get("user_prompt"), question)
        return [
            single(
                question,
                read_turn(row.get("turn"), question),
                read_model(row["model"], "model"),
                read_score(row["score"], "score"),
                _judge(row["judge"]),
                text_or_none(row.get("judgment")),
            )
        ]

    return read


def _pair_reader(rows: Sequence[Row], options: ImportOptions, questions: Questions) -> Read:
    def read(row: Row) -> list[ImportedVerdict]:
        question = question_by_id(row, options, questions)
        models = (read_model(row["model_1"], "model_1"), read_model(row["model_2"], "model_2"))
        judge = _judge(row["judge"])
        for prompt in ("g1_user_prompt", "g2_user_prompt"):
            _check_prompt(row.get(prompt), question)
        if "m1_score" in row:
            return [_of_two_singles(row, question, models, judge)]
        turn = read_turn(row.get("turn"), question)
        return [
            pair(
                question,
                turn,
                models,
                judge,
                protocol="choice",
                shown_first=first,
                winner=_winner(row[f"{order}_winner"], f"{order}_winner"),
                reply=text_or_none(row.get(f"{order}_judgment")),
            )
            for order, first in (("g1", "a"), ("g2", "b"))
        ]

    return read


def _of_two_singles(
    row: Row, question: KnownQuestion, models: tuple[str, str], judge: Judge
) -> ImportedVerdict:
    """The verdict that FastChat makes of two answers judged alone, which have no order."""
    scores = two_scores(
        read_score(row["m1_score"], "m1_score"), read_score(row.get("m2_score"), "m2_score")
    )
    return pair(
        question,
        read_turn(row.get("turn", 1), question),
        models,
        judge,
        protocol="single",
        shown_first="merged",
        winner=_winner(row["g1_winner"], "g1_winner") if scores else None,
        scores=scores,
    )


def _winner(value: Any, name: str) -> str | None:
    if isinstance(value, str) and value in WINNERS:
        return WINNERS[value]
    raise VerdictRowError("bad_winner", f"`{name}` must be {', '.join(WINNERS)}, not {value!r:.40}")


def _answers_reader(rows: Sequence[Row], options: ImportOptions, questions: Questions) -> Read:
    def read(row: Row) -> list[ImportedAnswer]:
        question = question_by_id(row, options, questions)
        model = read_model(row["model_id"], "model_id")
        try:
            turns = row["choices"][0]["turns"]
        except (IndexError, KeyError, TypeError):
            turns = None
        if not isinstance(turns, list) or not turns or not all(isinstance(t, str) for t in turns):
            raise VerdictRowError("no_answer", "`choices[0].turns` must be a list of texts")
        read_turn(len(turns), question)
        return [answer_to(question, model, turns)]

    return read


SINGLE = Form(
    "fastchat_single",
    "FastChat model_judgment, single (question_id, model, judge, score, turn)",
    has("question_id", "model", "judge", "score"),
    frozenset({"benchmark"}),
    _single_reader,
)
PAIR = Form(
    "fastchat_pair",
    "FastChat model_judgment, pair (question_id, model_1, model_2, g1_winner, g2_winner, judge)",
    has("question_id", "model_1", "model_2", "g1_winner", "g2_winner", "judge"),
    frozenset({"benchmark"}),
    _pair_reader,
)
ANSWERS = Form(
    "fastchat_answers",
    "FastChat model_answer (question_id, model_id, choices)",
    has("question_id", "model_id", "choices"),
    frozenset({"benchmark"}),
    _answers_reader,
)

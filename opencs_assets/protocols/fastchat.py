"""FastChat's own prompts, word for word, from the user's copy of its ``judge_prompts.jsonl``.

The file is FastChat's (``fastchat/llm_judge/data/judge_prompts.jsonl``) and not part of the
platform. What is rendered here is what ``gen_judgment.py`` sends, and replies are read as it does.
"""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from string import Formatter
from typing import Any, Literal

from opencs_assets.files.reading import every_row
from opencs_assets.files.rows import AcceptedFiles
from opencs_assets.protocols.choice import CHOICE
from opencs_assets.protocols.protocol import PairProtocol, SingleProtocol
from opencs_assets.protocols.reading import HIGH, LOW, PairReply, labelled, labels_of, own_words
from opencs_assets.protocols.single import SINGLE
from opencs_assets.protocols.tasks import PairTask, SingleTask
from resources.llm.errors import Unparsable
from resources.llm.types import Message, Reply
from resources.settings import SettingsError

PLACES = (Path("benchmarks") / "mt_bench" / "judge_prompts.jsonl", Path("judge_prompts.jsonl"))
MOST_TURNS = 2
_SAMPLING = {"max_tokens": 2048, "temperature": 0.0}
# FastChat's one_score_pattern and its backup.
_RATINGS = (re.compile(r"\[\[(\d+\.?\d*)\]\]"), re.compile(r"\[(\d+\.?\d*)\]"))

_REMEDY = (
    "take FastChat's own file (fastchat/llm_judge/data/judge_prompts.jsonl), or set "
    "judging.prompts = 'own'"
)

Protocol = Literal["single", "choice"]
# The prompt's name by protocol, without and with a reference.
_NAMES: Mapping[Protocol, tuple[str, str]] = {
    "single": ("single-v1", "single-math-v1"),
    "choice": ("pair-v2", "pair-math-v1"),
}
_SECOND_TURN = "-multi-turn"
_TYPES: Mapping[Protocol, str] = {"single": "single", "choice": "pairwise"}
_FORMATS: Mapping[Protocol, str] = {"single": "[[rating]]", "choice": "[[A]]"}


class JudgePromptsError(SettingsError):
    """The file of judge prompts is not usable; the message names file, line and field."""


ACCEPTED = AcceptedFiles(JudgePromptsError, markers=("prompt_template",), tables=False)


@dataclass(frozen=True)
class JudgePrompt:
    """One of the file's prompts; ``template`` has places for questions and answers."""

    name: str
    system: str
    template: str


@dataclass(frozen=True)
class JudgePrompts:
    """The file's prompts that the platform asks with, by name."""

    path: Path
    prompts: Mapping[str, JudgePrompt]

    def of(self, protocol: Protocol) -> tuple[JudgePrompt, ...]:
        """All that a protocol asks with, whatever turn and category."""
        return tuple(self.prompts[name] for name in _names(protocol))


def find_prompts(home: Path) -> JudgePrompts | None:
    """The user's file; ``None`` where there is none.

    Raises:
        JudgePromptsError: It is not usable.
    """
    path = next((home / place for place in PLACES if (home / place).is_file()), None)
    return None if path is None else read_prompts(path)


def read_prompts(path: Path) -> JudgePrompts:
    """Read a file of judge prompts; prompts of other names are passed over.

    Raises:
        JudgePromptsError: It can't be read, a line is no prompt, or one of the prompts is missing
            or not as it must be.
    """
    protocols = {name: protocol for protocol in _NAMES for name in _names(protocol)}
    prompts: dict[str, JudgePrompt] = {}
    places: dict[str, str] = {}
    for place, row in every_row(path, ACCEPTED):
        name = _text(row, "name", f"{path} {place}")
        if name not in protocols:
            continue
        if name in places:
            raise JudgePromptsError(
                f"{path} {place}, name: {name} stands in {places[name]} already; remove one of them"
            )
        places[name] = place
        prompts[name] = _prompt(row, name, protocols[name], f"{path} {place}")
    missing = [name for name in protocols if name not in prompts]
    if missing:
        raise JudgePromptsError(f"{path} has no prompt named {', '.join(missing)}; {_REMEDY}")
    return JudgePrompts(path, prompts)


def single_with(prompts: JudgePrompts) -> SingleProtocol:
    """``single`` asked with the file's prompts, once: FastChat counts what it can't read."""
    return replace(
        SINGLE["generated"],
        family="fastchat",
        attempts=1,
        sampling=_SAMPLING,
        messages=partial(_single_messages, prompts),
        parse=read_rating,
        parser="fastchat-rating-1..10/no-echo",
        prompts=[vars(prompt) for prompt in prompts.of("single")],
        shows_reference=lambda task: any(map(str.strip, task.references)),
    )


def choice_with(prompts: JudgePrompts) -> PairProtocol:
    """``choice`` asked with the file's prompts, likewise once."""
    return replace(
        CHOICE,
        family="fastchat",
        attempts=1,
        sampling=_SAMPLING,
        messages=partial(_choice_messages, prompts),
        parse=read_first_label,
        parser="fastchat-label/no-echo",
        prompts=[vars(prompt) for prompt in prompts.of("choice")],
    )


def read_rating(reply: Reply, asked: Sequence[Message]) -> float:
    """The first ``[[rating]]``, else the first ``[rating]``, of the reply's own words.

    Raises:
        Unparsable: There is none from 1 to 10.
    """
    own = own_words(reply.text, asked)
    rating = next((match for each in _RATINGS if (match := each.search(own))), None)
    if rating is None:
        raise Unparsable("the reply has no [[rating]]")
    score = float(rating[1])
    if not LOW <= score <= HIGH:
        raise Unparsable(f"the rating is not between {LOW:g} and {HIGH:g}")
    return score


def read_first_label(reply: Reply, asked: Sequence[Message]) -> PairReply:
    """Who is better; of several labels A goes before B before the tie, as in ``run_judge_pair``.

    Raises:
        Unparsable: There is no label.
    """
    return labelled(labels_of(reply, asked)[0])


def _single_messages(prompts: JudgePrompts, task: SingleTask, _: str | None) -> tuple[Message, ...]:
    fields = _fields("answer", task.answers or (), task.turn)
    return _rendered(prompts, "single", task.turn, task.asked, task.references, fields)


def _choice_messages(prompts: JudgePrompts, task: PairTask, _: str | None) -> tuple[Message, ...]:
    first, second = task.shown
    fields = _fields("answer_a", first, task.turn) | _fields("answer_b", second, task.turn)
    return _rendered(prompts, "choice", task.turn, task.asked, task.references, fields)


def _rendered(
    prompts: JudgePrompts,
    protocol: Protocol,
    turn: int,
    questions: tuple[str, ...],
    references: tuple[str, ...],
    answers: dict[str, str],
) -> tuple[Message, ...]:
    prompt = prompts.prompts[_name(protocol, turn, with_reference=bool(references))]
    known = {f"ref_answer_{at}": text for at, text in enumerate(references, 1)}
    content = prompt.template.format_map(_fields("question", questions, turn) | known | answers)
    return (
        {"role": "system", "content": prompt.system},
        {"role": "user", "content": content},
    )


def _fields(name: str, texts: tuple[str, ...], turn: int) -> dict[str, str]:
    """``answer`` of a first turn, ``answer_1`` and ``answer_2`` of a second."""
    if turn == 1:
        return {name: texts[0]}
    return {f"{name}_{at}": text for at, text in enumerate(texts, 1)}


def _name(protocol: Protocol, turn: int, *, with_reference: bool) -> str:
    return _NAMES[protocol][with_reference] + (_SECOND_TURN if turn > 1 else "")


def _names(protocol: Protocol) -> list[str]:
    return [
        _name(protocol, turn, with_reference=known) for known in (False, True) for turn in (1, 2)
    ]


def _needed(name: str, protocol: Protocol) -> set[str]:
    """The places that a template must have."""
    several = name.endswith(_SECOND_TURN)
    parts = ["question", *(("answer",) if protocol == "single" else ("answer_a", "answer_b"))]
    needed = {f"{part}_{turn}" for part in parts for turn in (1, 2)} if several else set(parts)
    if name.removesuffix(_SECOND_TURN) == _NAMES[protocol][True]:
        needed |= {"ref_answer_1", "ref_answer_2"} if several else {"ref_answer_1"}
    return needed


def _prompt(row: Mapping[str, Any], name: str, protocol: Protocol, where: str) -> JudgePrompt:
    for field, expected in (("type", _TYPES[protocol]), ("output_format", _FORMATS[protocol])):
        if _text(row, field, where) != expected:
            raise JudgePromptsError(
                f"{where}, {field}: {name} must have {expected!r}, not {row[field]!r}; {_REMEDY}"
            )
    system, template = (_text(row, field, where) for field in ("system_prompt", "prompt_template"))
    try:
        parts = list(Formatter().parse(template))
    except ValueError as error:
        raise JudgePromptsError(f"{where}, prompt_template: {error}; {_REMEDY}") from None
    has = {
        place + (f"!{conversion}" if conversion else "") + (f":{spec}" if spec else "")
        for _, place, spec, conversion in parts
        if place is not None
    }
    needed = _needed(name, protocol)
    if has != needed:
        wrong = [f"no {{{place}}}" for place in sorted(needed - has)]
        wrong += [f"an unknown {{{place}}}" for place in sorted(has - needed)]
        raise JudgePromptsError(
            f"{where}, prompt_template: {name} has {' and '.join(wrong)}; {_REMEDY}"
        )
    return JudgePrompt(name, system, template)


def _text(row: Mapping[str, Any], field: str, where: str) -> str:
    value = row.get(field)
    if not isinstance(value, str):
        problem = "is missing" if field not in row else f"must be a text, not {value!r}"
        raise JudgePromptsError(f"{where}, {field}: {problem}; {_REMEDY}")
    return value

"""Row shapes: what one raw row means, whatever its file was.

Alpaca, ShareGPT, OpenAI and prompt/completion are recognized row by row, so a file may mix them.
"""

import json
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from opencs_assets.datasets.errors import DatasetRowError

ROLES: Final[Mapping[str, str]] = {
    "user": "user",
    "human": "user",
    "prompter": "user",
    "assistant": "assistant",
    "gpt": "assistant",
    "chatgpt": "assistant",
    "bard": "assistant",
    "bing": "assistant",
    "model": "assistant",
    "system": "system",
}
"""Role names in published conversations, and what they mean here."""

FIELDS: Final[tuple[str, ...]] = (
    "messages",
    "conversations",
    "instruction",
    "input",
    "output",
    "prompt",
    "completion",
    "response",
    "system",
)
"""All fields that are read from a row; others, such as ids and scores, are left alone."""


@dataclass(frozen=True)
class Conversation:
    """What a row says, before templates are taken off and roles are checked.

    Attributes:
        source_format: ``alpaca``, ``sharegpt``, ``openai`` or ``prompt_completion``.
        turns: Role (``system``, ``user`` or ``assistant``) and text, None where it is missing.
        context: Alpaca's ``input``, which belongs to the first question.
        system: The row's own ``system`` field.
    """

    source_format: str
    turns: Sequence[tuple[str, str | None]]
    context: str | None = None
    system: str | None = None


def as_text(value: object, what: str, reason: str) -> str | None:
    """Return a field's text: numbers and booleans as JSON writes them, None and NaN as missing.

    Args:
        value: The field's value.
        what: How a person calls the field.
        reason: The rejection where the value is neither text nor a number.

    Raises:
        DatasetRowError: The value is a list, an object or something else that is not text.
    """
    if value is None or (isinstance(value, float) and math.isnan(value)):
        return None
    if isinstance(value, str):
        return value
    if isinstance(value, (bool, int, float)):
        return json.dumps(value)
    raise DatasetRowError(reason, f"{what} is a {type(value).__name__}, not text")


def _turns(value: object, field: str) -> list[Mapping[str, Any]]:
    if isinstance(value, str):
        try:
            value = json.loads(value)
        except (ValueError, RecursionError) as error:
            raise DatasetRowError(
                "broken_json", f"`{field}` holds text that is not JSON: {error}"
            ) from None
    if not isinstance(value, list):
        raise DatasetRowError("unknown_shape", f"`{field}` is a {type(value).__name__}, not a list")
    for number, turn in enumerate(value, 1):
        if not isinstance(turn, Mapping):
            kind = type(turn).__name__
            raise DatasetRowError(
                "unknown_shape", f"`{field}`: turn {number} is a {kind}, not an object"
            )
    return value


def _role(name: object, number: int) -> str:
    role = ROLES.get(name.strip().lower()) if isinstance(name, str) else None
    if role is None:
        known = ", ".join(sorted(ROLES))
        raise DatasetRowError(
            "bad_roles", f"turn {number} has the role {name!r}; known roles are {known}"
        )
    return role


def _content(value: object, number: int, reason: str) -> str | None:
    """Return a message's text; the text parts of a list are joined by line breaks."""
    if not isinstance(value, list):
        return as_text(value, f"the content of turn {number}", reason)
    texts = []
    for part in value:
        kind = part.get("type", "text") if isinstance(part, Mapping) else type(part).__name__
        text = part.get("text") if isinstance(part, Mapping) and kind == "text" else None
        if isinstance(part, str):
            text = part
        if not isinstance(text, str):
            raise DatasetRowError(
                "unknown_shape", f"turn {number} has a part {kind!r} that is not text"
            )
        texts.append(text)
    return "\n".join(texts)


def _conversation(row: Mapping[str, Any], field: str) -> Conversation:
    """Read a list of turns, either {from, value} or {role, content}, under either field name."""
    turns = _turns(row[field], field)
    sharegpt = bool(turns) and "from" in turns[0]
    name, body = ("from", "value") if sharegpt else ("role", "content")
    read: list[tuple[str, str | None]] = []
    for number, turn in enumerate(turns, 1):
        role = _role(turn.get(name), number)
        reason = "no_response" if role == "assistant" else "no_instruction"
        read.append((role, _content(turn.get(body), number, reason)))
    return Conversation("sharegpt" if sharegpt else "openai", read)


def _first(row: Mapping[str, Any], *fields: str) -> object:
    return next((row[field] for field in fields if row.get(field) is not None), None)


def _single(
    row: Mapping[str, Any], name: str, question: str, answers: tuple[str, ...]
) -> Conversation:
    asked = as_text(row.get(question), f"`{question}`", "no_instruction")
    answered = as_text(_first(row, *answers), f"`{'` or `'.join(answers)}`", "no_response")
    return Conversation(name, [("user", asked), ("assistant", answered)])


def _alpaca(row: Mapping[str, Any]) -> Conversation:
    single = _single(row, "alpaca", "instruction", ("output", "response"))
    context = as_text(row.get("input"), "`input`", "no_instruction")
    return Conversation(single.source_format, single.turns, context=context)


_SHAPES: Final[Mapping[str, Callable[[Mapping[str, Any]], Conversation]]] = {
    "messages": lambda row: _conversation(row, "messages"),
    "conversations": lambda row: _conversation(row, "conversations"),
    "instruction": _alpaca,
    "prompt": lambda row: _single(row, "prompt_completion", "prompt", ("completion", "response")),
    "output": _alpaca,
}
"""The field that gives a shape away, in order of precedence, and how the shape is read."""

MARKERS: Final[tuple[str, ...]] = tuple(_SHAPES)
"""Fields of which a table needs at least one to hold samples."""


def shape_of(row: Mapping[str, Any]) -> str | None:
    """Return the field that gives the row's shape away, or None where the shape is unknown.

    A field with a value wins over one without: a table has every column in every row.
    """
    filled = (field for field in _SHAPES if row.get(field) not in (None, "", []))
    present = (field for field in _SHAPES if field in row)
    return next(filled, None) or next(present, None)


def read_row(row: Mapping[str, Any]) -> Conversation:
    """Recognize a raw row and read it.

    Raises:
        DatasetRowError: ``unknown_shape``, or a field that can't be read.
    """
    marker = shape_of(row)
    if marker is None:
        fields = ", ".join(f"`{str(name)[:40]}`" for name in list(row)[:10]) or "no fields"
        raise DatasetRowError("unknown_shape", f"the row has {fields}, which is no known shape")
    read = _SHAPES[marker](row)
    system = as_text(row.get("system"), "`system`", "unknown_shape")
    return Conversation(read.source_format, read.turns, read.context, system)

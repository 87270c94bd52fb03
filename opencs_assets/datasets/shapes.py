"""Row shapes: reading one raw row as a conversation, whatever its file was.

Alpaca, ShareGPT, OpenAI and prompt/completion are recognized row by row, so a file may mix them.
"""

import json
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Final

from opencs_assets.datasets.errors import DatasetRowError

ROLES: Final[Mapping[str, str]] = {
    **dict.fromkeys(("user", "human", "prompter"), "user"),
    **dict.fromkeys(("assistant", "gpt", "chatgpt", "bard", "bing", "model"), "assistant"),
    "system": "system",
}
"""Role names in published conversations, each with the role that it means here."""

FIELDS: Final[tuple[str, ...]] = (
    *("messages", "conversations", "instruction", "input", "output"),
    *("prompt", "completion", "response", "system"),
)
"""All fields that are read from a row; others, such as ids and scores, are ignored."""


Turn = tuple[str, str | None]
"""A role (``system``, ``user`` or ``assistant``) and its text, None where the text is missing."""


@dataclass(frozen=True)
class Conversation:
    """A row's conversation, before templates are taken off and roles are checked.

    ``context`` is Alpaca's ``input``, which belongs to the first question; ``system`` is the row's
    own field.
    """

    source_format: str
    turns: Sequence[Turn]
    context: str | None = None
    system: str | None = None


def _as_text(value: object, field: str, reason: str) -> str | None:
    """Return a field's text: numbers and booleans as JSON writes them, None and NaN as missing."""
    if value is None or (isinstance(value, float) and math.isnan(value)):
        return None
    if isinstance(value, str):
        return value
    if isinstance(value, (bool, int, float)):
        return json.dumps(value)
    raise DatasetRowError(reason, f"{field} is a {type(value).__name__}, not text")


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
    """Return a message's text; where it is a list, its parts are joined by line breaks."""
    if not isinstance(value, list):
        return _as_text(value, f"the content of turn {number}", reason)
    texts = []
    for part in value:
        is_object = isinstance(part, Mapping)
        kind = part.get("type", "text") if is_object else type(part).__name__
        text = part.get("text") if is_object and kind == "text" else part
        if not isinstance(text, str):
            raise DatasetRowError(
                "unknown_shape", f"turn {number} has a part {kind!r} that is not text"
            )
        texts.append(text)
    return "\n".join(texts)


def _conversation(row: Mapping[str, Any], field: str) -> Conversation:
    """Read a field's list of turns, each either {from, value} or {role, content}."""
    turns = _turns(row[field], field)
    is_sharegpt = bool(turns) and "from" in turns[0]
    name, body = ("from", "value") if is_sharegpt else ("role", "content")
    role_texts: list[Turn] = []
    for number, turn in enumerate(turns, 1):
        role = _role(turn.get(name), number)
        reason = "no_response" if role == "assistant" else "no_instruction"
        role_texts.append((role, _content(turn.get(body), number, reason)))
    return Conversation("sharegpt" if is_sharegpt else "openai", role_texts)


def _single(
    row: Mapping[str, Any], source_format: str, question_field: str, answer_fields: Sequence[str]
) -> Conversation:
    answers = (row[field] for field in answer_fields if row.get(field) is not None)
    question = _as_text(row.get(question_field), f"`{question_field}`", "no_instruction")
    answer = _as_text(next(answers, None), f"`{'` or `'.join(answer_fields)}`", "no_response")
    return Conversation(source_format, [("user", question), ("assistant", answer)])


def _alpaca(row: Mapping[str, Any]) -> Conversation:
    single = _single(row, "alpaca", "instruction", ("output", "response"))
    return replace(single, context=_as_text(row.get("input"), "`input`", "no_instruction"))


_SHAPES: Final[Mapping[str, Callable[[Mapping[str, Any]], Conversation]]] = {
    "messages": lambda row: _conversation(row, "messages"),
    "conversations": lambda row: _conversation(row, "conversations"),
    "instruction": _alpaca,
    "prompt": lambda row: _single(row, "prompt_completion", "prompt", ("completion", "response")),
    "output": _alpaca,
}
"""The field by which a shape is recognized, in order of precedence, and how the shape is read."""

MARKERS: Final[tuple[str, ...]] = tuple(_SHAPES)
"""Fields of which a table needs at least one to hold samples."""


def shape_of(row: Mapping[str, Any]) -> str | None:
    """Return the field by which the row's shape is recognized, or None where it is unknown.

    A field with a value goes before one without, because a table has every column in every row.
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
    conversation = _SHAPES[marker](row)
    return replace(conversation, system=_as_text(row.get("system"), "`system`", "unknown_shape"))

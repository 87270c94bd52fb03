"""Decides what a failed request means: try again, give up on the call, or stop the stage."""

import re
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from resources.errors import PassingError
from resources.llm.rate import requested_wait
from resources.llm.types import Message, Status

_LONGEST_MESSAGE = 300
_QUOTED_CHARACTERS = 24
_KEY = re.compile(r"\b(?:sk|pk|key)-[\w*.-]{4,}|Bearer\s+\S+", re.IGNORECASE)
_TOO_LONG = re.compile(
    r"context.?(?:length|size|window)|maximum context|prompt is too long|too many tokens",
    re.IGNORECASE,
)
_FILTERED = re.compile(r"content.?filter|content management policy|content policy", re.IGNORECASE)
_UNKNOWN_FIELD = re.compile(
    r"unsupported|not support|unknown|unrecognized|unexpected|not permitted|extra inputs|"
    r"not allowed|not available|not enabled|invalid",
    re.IGNORECASE,
)
# The features that an endpoint may lack, and the fields of a request that ask for each.
FIELDS: Mapping[str, tuple[str, ...]] = {
    "json_schema": ("response_format", "json_schema"),
    "tool": ("tools", "tool_choice"),
    "grammar": ("grammar",),
    "logprobs": ("top_logprobs", "logprobs"),
    "seed": ("seed",),
    "max_completion_tokens": ("max_completion_tokens",),
    "max_tokens": ("max_tokens",),
    "temperature": ("temperature",),
    "top_p": ("top_p",),
}


class NoConnection(PassingError, OSError):  # noqa: N818 (what happened, not a fault of the program)
    """No connection could be made; the message is for a person."""


class ConnectionLost(PassingError, OSError):  # noqa: N818
    """A connection ended before the answer was whole; the message is for a person."""


@dataclass(frozen=True, slots=True)
class HttpAnswer:
    """What an endpoint answered; its headers may be looked up in any case."""

    status: int
    headers: Mapping[str, str]
    body: bytes


@dataclass(frozen=True, slots=True)
class Fault:
    """One request's fault.

    Attributes:
        then: ``retry`` it, ``wait`` (a limit was reached) and retry it, give up on this ``call``
            alone, or ``stop`` the stage because every call would end so.
        status: Status of the call's reply if it is given up.
        detail: Explains the fault to a person, in the provider's own words where it has some.
        reason: Names the kind of fault in a word or two, for counting.
        wait_s: Seconds that the provider asked to wait.
        unreachable: Whether no connection could be made.
        overload: Whether the endpoint has more requests than it can serve.
        lacks: The feature (of ``FIELDS``) that the endpoint does not have; ask again without it.
    """

    then: Literal["retry", "wait", "call", "stop"]
    status: Status
    detail: str
    reason: str
    wait_s: float | None = None
    unreachable: bool = False
    overload: bool = False
    lacks: str | None = None


def fault_of_error(error: Exception, timeout_s: float) -> Fault:
    """The fault that a transport's error or a missed deadline is."""
    if isinstance(error, TimeoutError):
        detail = f"no reply within {timeout_s:g} s"
        return Fault("retry", "failed", detail, "deadline", overload=True)
    if isinstance(error, NoConnection):
        return Fault(
            "retry", "failed", f"no connection: {error}", "no connection", unreachable=True
        )
    return Fault("retry", "failed", f"connection lost: {error}", "connection lost", overload=True)


def fault_of_answer(
    answer: HttpAnswer,
    body: Any,
    *,
    key: str,
    messages: Sequence[Message],
    sent: Collection[str],
) -> Fault:
    """The fault that an answer other than a success is.

    ``body`` is the answer's body decoded, or ``None`` where it is no JSON; ``sent`` holds the
    request's fields. Neither the API key nor the prompt's messages get into the fault's detail.
    """
    status = answer.status
    error = body.get("error") if isinstance(body, dict) else None
    if isinstance(error, str):
        error = {"message": error}
    if not isinstance(error, dict):
        error = body if isinstance(body, dict) else {}
    code = str(error.get("code") or error.get("type") or "")
    message = error.get("message")
    detail = f"HTTP {status}{shown_message(message, key, messages)}"
    reason = f"HTTP {status}"
    if status == 429:
        if code == "insufficient_quota":
            return Fault("stop", "failed", detail, reason)
        return Fault("wait", "failed", detail, reason, requested_wait(answer.headers))
    if status in (408, 409, 425) or status >= 500:
        wait_s = requested_wait(answer.headers)
        overload = status in (408, 503, 504, 529)
        return Fault("retry", "failed", detail, reason, wait_s, overload=overload)
    if status in (401, 403, 404, 405) or 300 <= status < 400:
        return Fault("stop", "failed", detail, reason)
    if code in ("context_length_exceeded", "exceed_context_size_error") or _TOO_LONG.search(detail):
        return Fault("call", "too_long", detail, reason)
    if code == "content_filter" or _FILTERED.search(detail):
        return Fault("call", "refused", detail, reason)
    lacks = _lacking(str(message or ""), str(error.get("param") or ""), sent)
    return Fault("call", "refused", detail, reason, lacks=lacks)


def _lacking(message: str, param: str, sent: Collection[str]) -> str | None:
    """The feature that an endpoint says that it does not have, if the request asked for it."""
    for feature, fields in FIELDS.items():
        if not set(fields) & set(sent):
            continue
        if param.split(".")[0] in fields:
            return feature
        is_named = any(re.search(rf"\b{field}\b", message) for field in fields)
        if is_named and _UNKNOWN_FIELD.search(message):
            return feature
    return None


def shown_message(message: Any, key: str, messages: Sequence[Message]) -> str:
    """A provider's message after a colon, without the API key; empty where there is none.

    A message that quotes the prompt, whose messages are given, is not shown.
    """
    if not isinstance(message, str) or not message.strip():
        return ""
    line = " ".join(message.split())[:_LONGEST_MESSAGE]
    if _quotes(line, messages):
        return " (the provider's message quotes the prompt and is left out)"
    if key:
        line = line.replace(key, "***")
    return ": " + _KEY.sub("***", line)


def _quotes(line: str, messages: Sequence[Message]) -> bool:
    """Whether a line repeats a stretch of the prompt, or all of a short message."""
    contents = [" ".join(message["content"].split()) for message in messages]
    starts = range(len(line) - _QUOTED_CHARACTERS + 1)
    windows = {line[start : start + _QUOTED_CHARACTERS] for start in starts}
    return any(
        content and (content in line or any(window in content for window in windows))
        for content in contents
    )

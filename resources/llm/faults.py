"""What a failed request means: try again, give up on the call, or stop the whole batch."""

import re
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from resources.errors import PassingError
from resources.llm.rate import wait_told
from resources.llm.types import Message, Status

_WORDS = 300
_QUOTE = 24
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
# What an endpoint may lack, by the fields of a request that ask for it.
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
    """What an endpoint answered.

    Attributes:
        status: HTTP status.
        headers: Headers; names are found in any case.
        body: The body as it came.
    """

    status: int
    headers: Mapping[str, str]
    body: bytes


@dataclass(frozen=True, slots=True)
class Fault:
    """One request's fault.

    Attributes:
        then: ``retry`` it, ``wait`` (a limit was reached) and retry it, give up on this ``call``
            alone, or ``stop`` the batch because every call would end so.
        status: Status of the call's reply if it is given up.
        detail: For a person; the provider's own words where there are some.
        reason: In a word or two, for counting.
        wait_s: Seconds that the provider asked to wait.
        unreachable: No connection could be made.
        overload: The endpoint has more requests than it can serve.
        lacks: What the endpoint does not have (``FIELDS``): ask again without it.
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
    """Classify what a transport or the deadline raised."""
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
    """Classify an answer that is not a success.

    Args:
        answer: What came.
        body: Its body decoded; ``None`` where it is no JSON.
        key: The API key, which must not be in the detail.
        messages: The prompt, which must not be in the detail.
        sent: Fields of the request.
    """
    status = answer.status
    error = body.get("error") if isinstance(body, dict) else None
    if isinstance(error, str):
        error = {"message": error}
    if not isinstance(error, dict):
        error = body if isinstance(body, dict) else {}
    code = str(error.get("code") or error.get("type") or "")
    words = error.get("message")
    detail = f"HTTP {status}{told(words, key, messages)}"
    reason = f"HTTP {status}"
    if status == 429:
        if code == "insufficient_quota":
            return Fault("stop", "failed", detail, reason)
        return Fault("wait", "failed", detail, reason, wait_told(answer.headers))
    if status in (408, 409, 425) or status >= 500:
        wait_s = wait_told(answer.headers)
        overload = status in (408, 503, 504, 529)
        return Fault("retry", "failed", detail, reason, wait_s, overload=overload)
    if status in (401, 403, 404, 405) or 300 <= status < 400:
        return Fault("stop", "failed", detail, reason)
    if code in ("context_length_exceeded", "exceed_context_size_error") or _TOO_LONG.search(detail):
        return Fault("call", "too_long", detail, reason)
    if code == "content_filter" or _FILTERED.search(detail):
        return Fault("call", "refused", detail, reason)
    lacks = _lacking(str(words or ""), str(error.get("param") or ""), sent)
    return Fault("call", "refused", detail, reason, lacks=lacks)


def _lacking(words: str, param: str, sent: Collection[str]) -> str | None:
    """The feature that an endpoint says that it does not have, if the request asked for it."""
    for feature, fields in FIELDS.items():
        if not set(fields) & set(sent):
            continue
        if param.split(".")[0] in fields:
            return feature
        named = any(re.search(rf"\b{field}\b", words) for field in fields)
        if named and _UNKNOWN_FIELD.search(words):
            return feature
    return None


def told(words: Any, key: str, messages: Sequence[Message]) -> str:
    """The provider's own words after a colon; nothing where they can't be shown.

    Args:
        words: What the provider said.
        key: The API key, which is left out.
        messages: The prompt, which must not be quoted.
    """
    if not isinstance(words, str) or not words.strip():
        return ""
    line = " ".join(words.split())[:_WORDS]
    if _quotes(line, messages):
        return " (the provider's message quotes the prompt and is left out)"
    if key:
        line = line.replace(key, "***")
    return ": " + _KEY.sub("***", line)


def _quotes(line: str, messages: Sequence[Message]) -> bool:
    """Whether a line repeats a stretch of the prompt, or all of a short message."""
    contents = [" ".join(message["content"].split()) for message in messages]
    windows = {line[start : start + _QUOTE] for start in range(len(line) - _QUOTE + 1)}
    return any(
        content and (content in line or any(window in content for window in windows))
        for content in contents
    )

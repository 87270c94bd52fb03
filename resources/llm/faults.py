"""What a failed request means: try again, give up on the call, or stop the whole batch."""

import email.utils
import re
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

import openai

from resources.llm.types import Message, Status

_MOST_WAIT_S = 300.0
_WORDS = 300
_QUOTE = 24
_KEY = re.compile(r"\b(?:sk|pk|key)-[\w*.-]{4,}|Bearer\s+\S+", re.IGNORECASE)
_TOO_LONG = re.compile(
    r"context.?(?:length|size|window)|maximum context|prompt is too long|too many tokens",
    re.IGNORECASE,
)
_FILTERED = re.compile(r"content.?filter|content management policy|content policy", re.IGNORECASE)


@dataclass(frozen=True)
class Fault:
    """One request's fault.

    Attributes:
        then: ``retry`` it, ``wait`` (a limit was reached) and retry it, give up on this ``call``
            alone, or ``stop`` the batch because every call would end so.
        status: Status of the call's reply if it is given up.
        detail: For a person; the provider's own words where there are some.
        wait_s: Seconds that the provider asked to wait.
        unreachable: No connection could be made.
    """

    then: Literal["retry", "wait", "call", "stop"]
    status: Status
    detail: str
    wait_s: float | None = None
    unreachable: bool = False


def fault_of(error: Exception, *, key: str, messages: Sequence[Message], timeout_s: float) -> Fault:
    """Classify what a request raised.

    Args:
        error: What the SDK, the transport or the deadline raised.
        key: The API key, which must not be in the detail.
        messages: The prompt, which must not be in the detail.
        timeout_s: The deadline, for the message.
    """
    if isinstance(error, TimeoutError | openai.APITimeoutError):
        return Fault("retry", "failed", f"no reply within {timeout_s:g} s")
    if isinstance(error, openai.APIConnectionError):
        cause = error.__cause__
        # By name: which HTTP library the SDK stands on is its own matter.
        if type(cause).__name__ == "ConnectError":
            return Fault("retry", "failed", f"no connection: {cause}", unreachable=True)
        return Fault("retry", "failed", f"connection lost: {type(cause or error).__name__}")
    if isinstance(error, openai.APIStatusError):
        return _of_status(error, f"HTTP {error.status_code}{_words(error, key, messages)}")
    return Fault("retry", "failed", "the endpoint's answer is not a chat completion in JSON")


def _of_status(error: openai.APIStatusError, detail: str) -> Fault:
    status, code = error.status_code, str(error.code or error.type or "")
    if status == 429 and code == "insufficient_quota":
        return Fault("stop", "failed", detail)
    if status == 429:
        return Fault("wait", "failed", detail, _retry_after(error.response.headers))
    if status in (408, 409, 425) or status >= 500:
        return Fault("retry", "failed", detail, _retry_after(error.response.headers))
    if status in (401, 403, 404, 405):
        return Fault("stop", "failed", detail)
    if code in ("context_length_exceeded", "exceed_context_size_error") or _TOO_LONG.search(detail):
        return Fault("call", "too_long", detail)
    if code == "content_filter" or _FILTERED.search(detail):
        return Fault("call", "refused", detail)
    return Fault("call", "refused", detail)


def _words(error: openai.APIStatusError, key: str, messages: Sequence[Message]) -> str:
    """The provider's own words after a colon; nothing where they can't be shown."""
    body = error.body
    words = body.get("message") if isinstance(body, dict) else None
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


def _retry_after(headers: Mapping[str, str]) -> float | None:
    """Seconds that ``Retry-After`` asks for: a number or a date."""
    value = headers.get("retry-after", "")
    try:
        seconds = float(value)
    except ValueError:
        parsed = email.utils.parsedate_tz(value)
        if parsed is None:
            return None
        seconds = email.utils.mktime_tz(parsed) - time.time()
    return min(max(seconds, 0.0), _MOST_WAIT_S)

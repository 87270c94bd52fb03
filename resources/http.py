"""Servers that are busy: which answers another try may mend, and how long to wait before it."""

import email.utils
import random
import time
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING

from resources.errors import PassingError

if TYPE_CHECKING:
    import httpx

BUSY = frozenset({408, 409, 425, 429, 500, 502, 503, 504})
MOST_ASKED_S = 300.0


class BusyError(PassingError):
    """A server stayed busy, or out of reach, for all tries; the message says how."""


def retry_after(headers: Mapping[str, str]) -> float | None:
    """Seconds that an answer asks to wait, at most ``MOST_ASKED_S``; nothing if it does not say.

    Args:
        headers: The answer's headers, names in lower case or found in any.
    """
    milliseconds = number(headers.get("retry-after-ms"))
    if milliseconds is not None:
        return min(milliseconds / 1000, MOST_ASKED_S)
    value = headers.get("retry-after")
    seconds = number(value)
    if seconds is None and value:
        try:
            date = email.utils.parsedate_tz(value)
            seconds = max(email.utils.mktime_tz(date) - time.time(), 0.0) if date else None
        except (ValueError, OverflowError, TypeError, IndexError):
            return None
    return None if seconds is None else min(seconds, MOST_ASKED_S)


def number(text: str | None) -> float | None:
    """The number that a header holds; nothing for none, a negative one or an endless one."""
    try:
        value = float(text or "")
    except ValueError:
        return None
    return value if 0 <= value < float("inf") else None


def pause_s(
    tries: int, asked_s: float | None = None, *, first_s: float = 0.5, longest_s: float = 30.0
) -> float:
    """Seconds to wait before the next try: what the server asks for, else twice as long each time.

    Args:
        tries: Tries so far.
        asked_s: What the server asks for; 0 is no answer to who has just been refused.
        first_s: Pause after the first try, which is spread so that many do not come back at once.
        longest_s: Limit of both.
    """
    own = first_s * 2 ** min(tries - 1, 30) * random.uniform(0.5, 1.0)
    return min(asked_s or own, longest_s)


def ask(
    send: Callable[[], "httpx.Response"],
    wait: Callable[[float, str], bool | None],
    *,
    tries: int,
    first_s: float,
    longest_s: float,
) -> "httpx.Response":
    """The first answer that is not of a busy server.

    Args:
        send: Makes the request; its answer is read where its text is to be shown.
        wait: Waits so many seconds for the reason that it is given; true: there is no next try.
        tries: Most tries.
        first_s: As ``longest_s``, see ``pause_s``.
        longest_s: See ``pause_s``.

    Raises:
        BusyError: There was none.
    """
    import httpx

    for tried in range(1, tries + 1):
        asked_s = None
        try:
            answer = send()
        except httpx.UnsupportedProtocol:
            raise
        except httpx.HTTPError as error:
            reason = f"{type(error).__name__}: {error}".rstrip(": ")
        else:
            if answer.status_code not in BUSY:
                return answer
            reason, asked_s = status_of(answer), retry_after(answer.headers)
        pause = pause_s(tried, asked_s, first_s=first_s, longest_s=longest_s)
        if tried == tries or wait(pause, reason):
            break
    raise BusyError(f"{reason} ({tried} tries)")


def status_of(answer: "httpx.Response", most: int = 300) -> str:
    """An answer's status, and the beginning of its text where that was read."""
    text = " ".join(answer.text.split())[:most] if answer.is_stream_consumed else ""
    return f"HTTP {answer.status_code}: {text}".rstrip(": ")

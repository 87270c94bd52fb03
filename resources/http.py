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

    The headers' names are in lower case, or the mapping ignores case.
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
    """The number that a header holds; nothing where it is absent, negative or infinite."""
    try:
        value = float(text or "")
    except ValueError:
        return None
    return value if 0 <= value < float("inf") else None


def pause_s(
    tries: int, asked_s: float | None = None, *, first_s: float = 0.5, longest_s: float = 30.0
) -> float:
    """Seconds to wait before the next try: what the server asks for, else twice as long each time.

    A server that asks for 0 seconds has just refused, so that counts as nothing. Pauses are spread
    below their limit, which is ``first_s`` after the first try, so that many clients do not come
    back at once. ``longest_s`` limits every pause, the server's included.
    """
    doubled_s = min(first_s * 2 ** min(tries - 1, 30), longest_s) * random.uniform(0.5, 1.0)
    return min(asked_s or doubled_s, longest_s)


def ask(
    send: Callable[[], "httpx.Response"],
    wait: Callable[[float, str], bool | None],
    *,
    tries: int,
    first_s: float,
    longest_s: float,
) -> "httpx.Response":
    """The first answer of a server that is not busy, within so many tries; see ``pause_s``.

    ``send`` makes the request, and reads the answer where its text is to be shown. ``wait`` waits
    for a number of seconds, for a reason, and returns true to give up.

    Raises:
        BusyError: All tries met a busy server, or none at all.
    """
    import httpx

    for number_of_try in range(1, tries + 1):
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
        # A server that always asks for a moment must not use up all tries in moments.
        own_s = pause_s(number_of_try, first_s=first_s, longest_s=longest_s)
        pause = max(own_s, min(asked_s or 0.0, longest_s))
        if number_of_try == tries or wait(pause, reason):
            break
    raise BusyError(f"{reason} ({number_of_try} tries)")


def status_of(answer: "httpx.Response", most: int = 300) -> str:
    """An answer's status, and the beginning of its text where that was read."""
    text = " ".join(answer.text.split())[:most] if answer.is_stream_consumed else ""
    return f"HTTP {answer.status_code}: {text}".rstrip(": ")

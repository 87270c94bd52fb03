"""A key's rate limit as one process sees it: permits in small portions, and learning the limit.

The limit is shared by all processes that use the key (``coordination``). It comes from the
settings, else from the endpoint's ``x-ratelimit-*`` headers, else it is learned from refusals.
"""

import asyncio
import email.utils
import math
import re
import time
from collections import deque
from collections.abc import Mapping, Sequence
from itertools import takewhile

from resources.llm.coordination import Coordination, Grant

MOST_WAIT_S = 300.0
# Portions are asked for no more often than this; the shared bucket is deeper.
_ASK_EVERY_S = 0.02
# Over so many seconds it is counted how much of the limit is in use.
_LATELY_S = 2.0
# A measured limit is kept to with this little to spare, for clocks that differ.
_SPARE = 0.995
_DURATION = re.compile(
    r"(?:(\d+(?:\.\d+)?)h)?(?:(\d+(?:\.\d+)?)m)?(?:(\d+(?:\.\d+)?)s)?(?:(\d+(?:\.\d+)?)ms)?"
)


class LearnedRate:
    """Learns a limit that no one tells, from which calls are refused.

    Between two refused calls the endpoint's bucket is empty at both ends. What it let through in
    between, by the time, is its limit if as much was asked for: then it never was full and lost
    nothing. Until there are two such refusals, far enough apart, the rate is searched for, up where
    nothing is refused and down where something is. Afterwards it is tried upwards now and then, in
    steps that double for as long as nothing is refused.

    Attributes:
        per_s: Calls per second to keep to; ``None`` while nothing was refused.
    """

    _LEAST = 0.01
    # A first guess is low: what was let through may all have been in the bucket.
    _GUESSED_S, _GUESSED_LEAST = 10.0, 2.0
    _SEARCH_S, _SEARCH_CALLS, _SEARCH_LEAST, _SEARCH_MOST = 0.5, 3, 0.05, 1.0
    _MEASURED_S, _MEASURED_CALLS, _ASKED_FOR = 1.0, 20, 0.8
    # A try may be refused, so there are many calls between two.
    _TRY_S, _TRY_CALLS, _TRY, _MOST_TRY = 10.0, 120, 0.01, 0.5

    def __init__(self) -> None:
        self.per_s: float | None = None
        self._measured = False
        self._step = self._TRY
        self._leap, self._upwards, self._alike = self._SEARCH_MOST, False, 0
        # When the latest calls were sent, and how many there were in all.
        self._latest: deque[float] = deque(maxlen=2_048)
        self._sent = 0
        self._began_at: float | None = None
        # What is measured begins with a refused call: when it was sent, the calls up to then, and
        # how many were refused of those after it.
        self._from_at = 0.0
        self._from_sent = self._refused = 0
        self._changed_at = 0.0
        self._changed_sent = 0
        self._paused_s = self._paused_until = 0.0

    def sent(self, now: float) -> None:
        """A call was sent (``time.monotonic``)."""
        if self._began_at is None:
            self._began_at = now
        self._sent += 1
        self._latest.append(now)

    def refused(self, sent_at: float, now: float) -> None:
        """A call that was sent at a moment was refused for the rate."""
        # What was sent after it may be refused as well, which is not known yet.
        before = self._sent_until(sent_at) - 1
        if self.per_s is None:
            sent_for = sent_at - (sent_at if self._began_at is None else self._began_at)
            guess = before / max(sent_for, self._GUESSED_S)
            self._change(max(guess, self._GUESSED_LEAST), now)
            self._measure_from(sent_at)
            return
        if sent_at <= self._from_at:
            return
        self._refused += 1
        elapsed, asked_for = sent_at - self._from_at, before + 1 - self._from_sent
        let_through = asked_for - self._refused
        if elapsed >= self._MEASURED_S and let_through >= self._MEASURED_CALLS:
            # A bucket of one call loses something in each search; then its last step says more.
            found = 0.0 if self._measured else self.per_s / (1 + self._leap)
            used_for = elapsed - self._paused_s
            self._measured = asked_for >= self._ASKED_FOR * self.per_s * used_for
            if self._measured:
                # The fewer calls, the less exact, so the larger the next step.
                self._step = max(self._TRY, 1 / let_through)
                self._change(max(let_through / elapsed * _SPARE, found), now)
            elif sent_at > self._changed_at:
                self._search(now, upwards=False)
            self._measure_from(sent_at)
        elif sent_at > self._changed_at and not self._measured:
            self._search(now, upwards=False)
        elif self._refused >= 2 * self._MEASURED_CALLS and elapsed >= self._MEASURED_S:
            # Far less is let through than was measured.
            self._measured = False
            self._change(max(let_through, 1) / elapsed, now)
            self._measure_from(sent_at)

    def tick(self, now: float) -> None:
        """Time goes by: raise the rate where nothing was refused for long enough."""
        if self.per_s is None:
            return
        elapsed = now - max(self._changed_at, self._paused_until)
        calls = self._sent - self._changed_sent
        if calls < self._ASKED_FOR * self.per_s * elapsed - 1:
            # Not the limit was in the way.
            return
        if self._measured and elapsed >= self._TRY_S and calls >= self._TRY_CALLS:
            self._change(self.per_s * (1 + self._step), now)
            self._step = min(self._step * 2, self._MOST_TRY)
        elif not self._measured and elapsed >= self._SEARCH_S and calls >= self._SEARCH_CALLS:
            self._search(now, upwards=True)

    def follow(self, per_s: float, now: float) -> None:
        """Keep to what another process has learned, or this one before."""
        if self.per_s is not None and math.isclose(per_s, self.per_s, rel_tol=1e-6):
            return
        if self.per_s is None:
            self._measure_from(now)
        self._measured = True
        self._step = self._TRY
        self._change(per_s, now)

    def pause(self, seconds: float, now: float) -> None:
        """Nothing is sent for some time, since the endpoint asked for that."""
        until = now + seconds
        self._paused_s += max(until - max(self._paused_until, now), 0.0)
        self._paused_until = max(self._paused_until, until)

    def _search(self, now: float, *, upwards: bool) -> None:
        """Steps halve where the direction turns, and double where it stays the same for long."""
        assert self.per_s is not None  # noqa: S101 (callers have seen to it)
        self._alike = self._alike + 1 if upwards == self._upwards else 0
        growth = 0.5 if not self._alike else 2.0 if self._alike > 2 else 1.0
        self._leap = min(max(self._leap * growth, self._SEARCH_LEAST), self._SEARCH_MOST)
        self._upwards = upwards
        factor = 1 + self._leap
        self._change(self.per_s * factor if upwards else self.per_s / factor, now)

    def _change(self, per_s: float, now: float) -> None:
        self.per_s, self._changed_at = max(per_s, self._LEAST), now
        self._changed_sent = self._sent

    def _measure_from(self, sent_at: float) -> None:
        """Begin to measure with a call that was refused."""
        self._from_at, self._from_sent = sent_at, self._sent_until(sent_at)
        self._refused, self._paused_s = 0, 0.0

    def _sent_until(self, moment: float) -> int:
        """How many calls were sent up to a moment."""
        later = sum(1 for at in takewhile(lambda at: at > moment, reversed(self._latest)))
        return self._sent - later


class RateLimit:
    """The permits of one process for one key and model.

    Args:
        shared: What processes share.
        name: Name of the limit there.
        requests_per_minute: The limit where it is set.
        tokens_per_minute: Likewise.
    """

    def __init__(
        self,
        shared: Coordination,
        name: str,
        requests_per_minute: float | None,
        tokens_per_minute: float | None,
    ) -> None:
        self._shared = shared
        self._name = name
        self._set = (_per_second(requests_per_minute), _per_second(tokens_per_minute))
        self._told: tuple[float | None, float | None] = (None, None)
        self._learned = LearnedRate()
        self._learning = asyncio.Lock()
        # What was learned before, by whatever process, holds until this one knows better.
        stored = shared.limits(name)
        self.requests_per_s = self._set[0] or stored[0]
        self.tokens_per_s = self._set[1] or stored[1]
        self.permits = 0
        self.refusals = 0
        self._users = 1
        self._resume_at = 0.0
        self._ask_at = 0.0
        self._owed = 0.0
        self._share: float | None = None
        self._sent_lately, self._lately_from = 0, time.monotonic()

    @property
    def active(self) -> bool:
        """Whether there is any limit to keep to."""
        return self.requests_per_s is not None or self.tokens_per_s is not None

    @property
    def paused_s(self) -> float:
        """Seconds that the endpoint asked to wait and that are not over; 0 where none."""
        return max(self._resume_at - time.time(), 0.0)

    def use_permit(self) -> None:
        """A call is about to be sent, on one of the permits where the limit is active."""
        self.permits = max(self.permits - 1, 0)

    def sent(self, now: float) -> None:
        """A request is sent now (``time.monotonic``)."""
        self._learned.sent(now)
        self._sent_lately += 1

    def share(self) -> float | None:
        """Share of the limit of requests that this process took lately; ``None`` without one."""
        if self.requests_per_s is None:
            return None
        elapsed = time.monotonic() - self._lately_from
        if elapsed >= _LATELY_S:
            self._share = self._sent_lately / elapsed / self.requests_per_s
            self._sent_lately, self._lately_from = 0, time.monotonic()
        return self._share

    async def ask(self, tokens: Sequence[int]) -> None:
        """Get permits for waiting calls, or find out after some time that there are none.

        Args:
            tokens: Tokens of the calls that wait, prompt and reply together, in their order.
        """
        await asyncio.sleep(max(self._ask_at - time.monotonic(), 0.0))
        owed, self._owed = self._owed, 0.0
        grant = await asyncio.to_thread(self._shared.take, self._name, tokens, self._set, owed)
        self.permits = grant.calls
        self._note(grant)
        self._ask_at = time.monotonic() + min(max(grant.wait_s, _ASK_EVERY_S), 1.0)
        if self._learns:
            async with self._learning:
                before = self._learned.per_s
                self._learned.tick(time.monotonic())
                if self._learned.per_s != before:
                    await self._tell(emptied=False)

    def replied(self, reserved_tokens: int, tokens: int) -> None:
        """A call was let through; its tokens are known now (0: they were not told)."""
        if self.tokens_per_s is not None and tokens:
            self._owed += tokens - reserved_tokens

    async def observe(self, headers: Mapping[str, str]) -> None:
        """Learn the limits that an answer's headers tell, where none are set."""
        told = (_limit(headers, "requests"), _limit(headers, "tokens"))
        news = [
            new if mine is None and new is not None and new != old else None
            for mine, new, old in zip(self._set, told, self._told, strict=True)
        ]
        if news == [None, None]:
            return
        self._told = (told[0] or self._told[0], told[1] or self._told[1])
        self.requests_per_s = news[0] or self.requests_per_s
        self.tokens_per_s = news[1] or self.tokens_per_s
        await asyncio.to_thread(
            self._shared.learn, self._name, requests_per_s=news[0], tokens_per_s=news[1]
        )

    async def refused(self, wait_s: float | None, sent_at: float) -> None:
        """The endpoint refused a call for its rate.

        Args:
            wait_s: Seconds that it asked to wait, if it did.
            sent_at: When the call was sent (``time.monotonic``).
        """
        self.refusals += 1
        if wait_s:
            self._resume_at = max(self._resume_at, time.time() + wait_s)
            await asyncio.to_thread(self._shared.learn, self._name, resume_at=self._resume_at)
        if not self._learns:
            return
        async with self._learning:
            if self._learned.per_s is None:
                # Others may use the key and know already.
                grant = await asyncio.to_thread(self._shared.take, self._name, (), self._set)
                if grant.users > 1:
                    self._note(grant)
            before, now = self._learned.per_s, time.monotonic()
            self._learned.refused(sent_at, now)
            if wait_s:
                self._learned.pause(wait_s, now)
            if self._learned.per_s != before:
                await self._tell(emptied=True)

    @property
    def _learns(self) -> bool:
        """Whether the limit of requests is neither set nor told."""
        return self._set[0] is None and self._told[0] is None

    def _note(self, grant: Grant) -> None:
        self._users = grant.users
        self.requests_per_s, self.tokens_per_s = grant.requests_per_s, grant.tokens_per_s
        if self._learns and grant.requests_per_s is not None:
            # Each process measures its own share of the limit.
            self._learned.follow(grant.requests_per_s / grant.users, time.monotonic())

    async def _tell(self, *, emptied: bool) -> None:
        assert self._learned.per_s is not None  # noqa: S101 (callers have seen to it)
        self.requests_per_s = self._learned.per_s * self._users
        await asyncio.to_thread(
            self._shared.learn, self._name, requests_per_s=self.requests_per_s, emptied=emptied
        )


def wait_told(headers: Mapping[str, str]) -> float | None:
    """Seconds that an answer asks to wait: ``Retry-After`` (number or date), else the resets.

    Args:
        headers: The answer's headers, names in lower case.
    """
    milliseconds = _number(headers.get("retry-after-ms"))
    if milliseconds is not None:
        return _bounded(milliseconds / 1000)
    value = headers.get("retry-after")
    if value is not None:
        seconds = _number(value)
        if seconds is not None:
            return _bounded(seconds)
        parsed = email.utils.parsedate_tz(value)
        if parsed is not None:
            return _bounded(email.utils.mktime_tz(parsed) - time.time())
    for kind in ("requests", "tokens"):
        if headers.get(f"x-ratelimit-remaining-{kind}") == "0":
            reset = _duration(headers.get(f"x-ratelimit-reset-{kind}", ""))
            if reset is not None:
                # A bucket that refills gradually lets calls through long before it is full.
                return _bounded(min(reset, 1.0))
    return None


def _bounded(seconds: float) -> float:
    return min(max(seconds, 0.0), MOST_WAIT_S)


def _per_second(per_minute: float | None) -> float | None:
    return None if per_minute is None else per_minute / 60


def _limit(headers: Mapping[str, str], kind: str) -> float | None:
    """Requests or tokens per second by the headers, which tell them per minute."""
    per_minute = _number(headers.get(f"x-ratelimit-limit-{kind}"))
    return per_minute / 60 * _SPARE if per_minute else None


def _number(text: str | None) -> float | None:
    try:
        value = float(text or "")
    except ValueError:
        return None
    return value if 0 <= value < float("inf") else None


def _duration(text: str) -> float | None:
    """Seconds of a duration as OpenAI writes it: ``6m0s``, ``1.2s``, ``120ms``."""
    found = _DURATION.fullmatch(text)
    if not text or found is None:
        return None
    hours, minutes, seconds, milliseconds = (float(part or 0) for part in found.groups())
    return hours * 3600 + minutes * 60 + seconds + milliseconds / 1000

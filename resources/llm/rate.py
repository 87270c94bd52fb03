"""A key's rate limit as one process sees it: it gets permits in portions and learns the limit.

All processes that use the key share the limit (``coordination``). It comes from the settings, else
from the endpoint's ``x-ratelimit-*`` headers, else it is learned from refusals.
"""

import asyncio
import re
import time
from collections import deque
from collections.abc import Mapping, Sequence

from resources.http import number, retry_after
from resources.llm.coordination import Coordination, Grant
from resources.llm.learned_rate import LearnedRate

# Portions are asked for no more often than this; the shared bucket is deeper.
_ASK_EVERY_S = 0.02
# The share of the limit that is in use is a mean over so many seconds.
_LATELY_S = 2.0
# A limit of the headers is used up to this share, because clocks differ.
_SPARE = 0.995
_LONGEST_RESET_S = 90.0
# Each later call lowers a call's weight in the ratio of actual to expected tokens by this factor.
_FORGET = 0.98
_DURATION = re.compile(
    r"(?:(\d+(?:\.\d+)?)h)?(?:(\d+(?:\.\d+)?)m)?(?:(\d+(?:\.\d+)?)s)?(?:(\d+(?:\.\d+)?)ms)?"
)


class RateLimit:
    """The permits of one process for one key and model.

    All processes know the limit by its name. Limits per minute are those of the settings.
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
        self._by_headers: tuple[float | None, float | None] = (None, None)
        self._learned = LearnedRate()
        self._learning = asyncio.Lock()
        # What any process learned before holds until this one knows better.
        stored = shared.limits(name)
        self.requests_per_s = self._set[0] or stored[0]
        self.tokens_per_s = self._set[1] or stored[1]
        # Tokens that were taken out of the limit for each permit.
        self._permits: deque[float] = deque()
        # Calls' tokens as expected and as they were, since tokenizers are not always known.
        self._expected, self._actual = 0.0, 0.0
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
        """Seconds left of the pause that the endpoint asked for; 0 without one."""
        return max(self._resume_at - time.time(), 0.0)

    @property
    def permits(self) -> int:
        """Calls that may be sent now."""
        return len(self._permits)

    def use_permit(self) -> float:
        """Use a permit for a call that is sent now; the tokens that it took, 0 without one."""
        return self._permits.popleft() if self._permits else 0.0

    def sent(self, now: float) -> None:
        """Note that a request is sent at a moment (``time.monotonic``)."""
        self._learned.sent(now)
        self._sent_lately += 1

    def share(self) -> float | None:
        """Share of the request limit that this process took lately; ``None`` without a limit."""
        if self.requests_per_s is None:
            return None
        elapsed = time.monotonic() - self._lately_from
        if elapsed >= _LATELY_S:
            self._share = self._sent_lately / elapsed / self.requests_per_s
            self._sent_lately, self._lately_from = 0, time.monotonic()
        return self._share

    async def ask(self, tokens: Sequence[int]) -> None:
        """Get permits for waiting calls, given the expected tokens of each, prompt and reply.

        It returns without permits after some time where the limit lets no call through.
        """
        await asyncio.sleep(max(self._ask_at - time.monotonic(), 0.0))
        owed, self._owed = self._owed, 0.0
        ratio = self._actual / self._expected if self._expected else 1.0
        sizes = [size * ratio for size in tokens]
        grant = await asyncio.to_thread(self._shared.take, self._name, sizes, self._set, owed)
        self._permits = deque(sizes[: grant.calls])
        self._follow(grant)
        self._ask_at = time.monotonic() + min(max(grant.wait_s, _ASK_EVERY_S), 1.0)
        if self._learns:
            async with self._learning:
                before = self._learned.per_s
                self._learned.tick(time.monotonic())
                if self._learned.per_s != before:
                    await self._share_learned(emptied=False)

    def replied(self, expected: int, taken: float, actual: int) -> None:
        """Correct what a call's permit took out of the limit once its actual tokens are known.

        These are 0 where the endpoint did not say.
        """
        if not actual:
            return
        self._expected = self._expected * _FORGET + expected
        self._actual = self._actual * _FORGET + actual
        if self.tokens_per_s is not None:
            self._owed += actual - taken

    async def observe(self, headers: Mapping[str, str]) -> None:
        """Learn the limits that an answer's headers state, where none are set."""
        stated, before = (_limit(headers, "requests"), _limit(headers, "tokens")), self._by_headers
        news = [
            new if mine is None and new is not None and new != old else None
            for mine, new, old in zip(self._set, stated, before, strict=True)
        ]
        if news == [None, None]:
            return
        self._by_headers = (stated[0] or before[0], stated[1] or before[1])
        self.requests_per_s = news[0] or self.requests_per_s
        self.tokens_per_s = news[1] or self.tokens_per_s
        await asyncio.to_thread(
            self._shared.learn, self._name, requests_per_s=news[0], tokens_per_s=news[1]
        )

    async def refused(self, wait_s: float | None, sent_at: float) -> None:
        """Learn from a call, sent at a moment (``time.monotonic``), that was refused for the rate.

        The endpoint may have asked to wait some seconds.
        """
        self.refusals += 1
        if wait_s:
            self._resume_at = max(self._resume_at, time.time() + wait_s)
            await asyncio.to_thread(self._shared.learn, self._name, resume_at=self._resume_at)
        if not self._learns:
            return
        async with self._learning:
            if self._learned.per_s is None:
                # Other processes may use the key and know its limit.
                grant = await asyncio.to_thread(self._shared.take, self._name, (), self._set)
                if grant.users > 1:
                    self._follow(grant)
            before, now = self._learned.per_s, time.monotonic()
            self._learned.refused(sent_at, now)
            if self._learned.per_s != before:
                await self._share_learned(emptied=True)

    @property
    def _learns(self) -> bool:
        """Whether neither settings nor headers state the limit of requests."""
        return self._set[0] is None and self._by_headers[0] is None

    def _follow(self, grant: Grant) -> None:
        self._users = grant.users
        self.requests_per_s, self.tokens_per_s = grant.requests_per_s, grant.tokens_per_s
        if self._learns and grant.requests_per_s is not None:
            # Each process measures its own share of the limit.
            share = grant.requests_per_s / grant.users
            self._learned.follow(share, grant.measured, time.monotonic())

    async def _share_learned(self, *, emptied: bool) -> None:
        assert self._learned.per_s is not None  # noqa: S101 (callers have seen to it)
        self.requests_per_s = self._learned.per_s * self._users
        await asyncio.to_thread(
            self._shared.learn,
            self._name,
            requests_per_s=self.requests_per_s,
            measured=self._learned.measured,
            emptied=emptied,
        )


def requested_wait(headers: Mapping[str, str]) -> float | None:
    """Seconds that an answer asks to wait: ``Retry-After`` (number or date), else the resets.

    The headers' names are in lower case.
    """
    wait_s = retry_after(headers)
    if wait_s is not None:
        return wait_s
    for kind in ("requests", "tokens"):
        if headers.get(f"x-ratelimit-remaining-{kind}") == "0":
            reset = _duration(headers.get(f"x-ratelimit-reset-{kind}", ""))
            if reset is not None:
                # A bucket that refills gradually lets calls through long before it is full.
                return min(reset, 1.0)
    return None


def _per_second(per_minute: float | None) -> float | None:
    return None if per_minute is None else per_minute / 60


def _limit(headers: Mapping[str, str], kind: str) -> float | None:
    """Requests or tokens per second by the headers, which state them per minute."""
    per_minute = number(headers.get(f"x-ratelimit-limit-{kind}"))
    reset = _duration(headers.get(f"x-ratelimit-reset-{kind}", ""))
    if reset is not None and reset > _LONGEST_RESET_S:
        # A limit that takes longer to reset is one for a day, as some providers have it.
        return None
    return per_minute / 60 * _SPARE if per_minute else None


def _duration(text: str) -> float | None:
    """Seconds of a duration as OpenAI writes it (``6m0s``, ``1.2s``, ``120ms``), or of a number."""
    parts = _DURATION.fullmatch(text)
    if not text or parts is None:
        return number(text)
    hours, minutes, seconds, milliseconds = (float(part or 0) for part in parts.groups())
    return hours * 3600 + minutes * 60 + seconds + milliseconds / 1000

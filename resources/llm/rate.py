"""A key's rate limit as one process sees it: permits in small portions, and learning the limit.

The limit is shared by all processes that use the key (``coordination``). It comes from the
settings, else from the endpoint's ``x-ratelimit-*`` headers, else it is learned from refusals.
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
# Over so many seconds it is counted how much of the limit is in use.
_LATELY_S = 2.0
# A measured limit is kept to with this little to spare, for clocks that differ.
_SPARE = 0.995
_LONGEST_RESET_S = 90.0
# What a call weighs, a call later, in the ratio of tokens had to tokens thought.
_FORGET = 0.98
_DURATION = re.compile(
    r"(?:(\d+(?:\.\d+)?)h)?(?:(\d+(?:\.\d+)?)m)?(?:(\d+(?:\.\d+)?)s)?(?:(\d+(?:\.\d+)?)ms)?"
)


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
        # Tokens that were taken out of the limit for each permit.
        self._permits: deque[float] = deque()
        # What calls had, to what they were thought to have: tokenizers are not always known.
        self._thought, self._had = 0.0, 0.0
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

    @property
    def permits(self) -> int:
        """Calls that may be sent now."""
        return len(self._permits)

    def use_permit(self) -> float:
        """A call is about to be sent; the tokens that its permit took (0 where it had none)."""
        return self._permits.popleft() if self._permits else 0.0

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
            tokens: Tokens that the calls that wait are thought to have, prompt and reply together,
                in their order.
        """
        await asyncio.sleep(max(self._ask_at - time.monotonic(), 0.0))
        owed, self._owed = self._owed, 0.0
        ratio = self._had / self._thought if self._thought else 1.0
        sizes = [size * ratio for size in tokens]
        grant = await asyncio.to_thread(self._shared.take, self._name, sizes, self._set, owed)
        self._permits = deque(sizes[: grant.calls])
        self._note(grant)
        self._ask_at = time.monotonic() + min(max(grant.wait_s, _ASK_EVERY_S), 1.0)
        if self._learns:
            async with self._learning:
                before = self._learned.per_s
                self._learned.tick(time.monotonic())
                if self._learned.per_s != before:
                    await self._tell(emptied=False)

    def replied(self, thought: int, taken: float, had: int) -> None:
        """A call was let through, and its tokens are known now.

        Args:
            thought: Tokens that it was thought to have.
            taken: Tokens that its permit took (``use_permit``).
            had: Tokens that it had; 0 where that was not told.
        """
        if not had:
            return
        self._thought = self._thought * _FORGET + thought
        self._had = self._had * _FORGET + had
        if self.tokens_per_s is not None:
            self._owed += had - taken

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
            share = grant.requests_per_s / grant.users
            self._learned.follow(share, grant.measured, time.monotonic())

    async def _tell(self, *, emptied: bool) -> None:
        assert self._learned.per_s is not None  # noqa: S101 (callers have seen to it)
        self.requests_per_s = self._learned.per_s * self._users
        await asyncio.to_thread(
            self._shared.learn,
            self._name,
            requests_per_s=self.requests_per_s,
            measured=self._learned.measured,
            emptied=emptied,
        )


def wait_told(headers: Mapping[str, str]) -> float | None:
    """Seconds that an answer asks to wait: ``Retry-After`` (number or date), else the resets.

    Args:
        headers: The answer's headers, names in lower case.
    """
    asked_s = retry_after(headers)
    if asked_s is not None:
        return asked_s
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
    """Requests or tokens per second by the headers, which tell them per minute."""
    per_minute = number(headers.get(f"x-ratelimit-limit-{kind}"))
    reset = _duration(headers.get(f"x-ratelimit-reset-{kind}", ""))
    if reset is not None and reset > _LONGEST_RESET_S:
        # What needs longer to be full again is a limit for a day, as some providers have it.
        return None
    return per_minute / 60 * _SPARE if per_minute else None


def _duration(text: str) -> float | None:
    """Seconds of a duration as OpenAI writes it (``6m0s``, ``1.2s``, ``120ms``), or of a number."""
    found = _DURATION.fullmatch(text)
    if not text or found is None:
        return number(text)
    hours, minutes, seconds, milliseconds = (float(part or 0) for part in found.groups())
    return hours * 3600 + minutes * 60 + seconds + milliseconds / 1000

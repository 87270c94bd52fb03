"""Learns a rate limit that is stated nowhere, from the calls that are refused."""

import math


class LearnedRate:
    """The limit of requests of an endpoint for which neither headers nor settings state one.

    The endpoint's bucket is empty at each refusal, so the calls that it lets through between two
    refusals, divided by the time, are its limit, whatever was sent. Until two refusals are far
    enough apart to measure that, the rate is halved where it is too high and raised while nothing
    is refused. It never falls below one call a second, since an endpoint that refuses for another
    reason must not end the search: each refused call waits by itself, longer every time. A measured
    limit is tried upwards now and then, in steps that double for as long as nothing is refused.

    Attributes:
        per_s: Calls per second to keep to; ``None`` while nothing was refused.
        measured: Whether that was measured; otherwise the search goes on.
    """

    _LEAST = 1.0
    # A measured limit is used up to this share, because clocks differ.
    _SPARE = 0.995
    _MEASURED_S, _MEASURED_CALLS = 1.0, 20
    _SEARCH_S, _SEARCH = 0.5, 1.3
    _TRY_S, _TRY, _MOST_TRY = 10.0, 0.01, 0.5

    def __init__(self) -> None:
        self.per_s: float | None = None
        self.measured = False
        self._began_at: float | None = None
        self._refused_at = 0.0
        self._let_through = 0
        self._changed_at = 0.0
        self._step = self._TRY
        self._held = 0.0

    def sent(self, now: float) -> None:
        """Note that a call was sent at a moment (``time.monotonic``)."""
        if self._began_at is None:
            self._began_at = now
        self._let_through += 1

    def refused(self, sent_at: float, now: float) -> None:
        """Learn from a call that was sent at a moment and refused for the rate."""
        self._let_through = max(self._let_through - 1, 0)
        self._step = self._TRY
        if self.per_s is None:
            sent_for = max(now - (now if self._began_at is None else self._began_at), 0.05)
            self._change((self._let_through + 1) / sent_for / 2, now)
            self._measure_from(now)
            return
        elapsed = now - self._refused_at
        if elapsed >= self._MEASURED_S and self._let_through >= self._MEASURED_CALLS:
            self.measured = True
            # A bucket that was full meanwhile let through less than it could have. Nothing was
            # refused at the rate before the last try, so the limit is no less than that.
            self._change(max(self._let_through / elapsed * self._SPARE, self._held), now)
            self._held = 0.0
            self._measure_from(now)
        elif sent_at > self._changed_at and not self.measured:
            self._change(self.per_s / 2, now)

    def tick(self, now: float) -> None:
        """Raise the rate where nothing was refused for long enough."""
        if self.per_s is None:
            return
        if self.measured and now - self._changed_at >= self._TRY_S:
            self._held = self.per_s
            self._change(self.per_s * (1 + self._step), now)
            self._step = min(self._step * 2, self._MOST_TRY)
        elif not self.measured and now - self._changed_at >= self._SEARCH_S:
            self._change(self.per_s * self._SEARCH, now)

    def follow(self, per_s: float, measured: bool, now: float) -> None:
        """Keep to a rate that another process has learned, or this one before."""
        if self.per_s is not None and math.isclose(per_s, self.per_s, rel_tol=1e-6):
            return
        if self.per_s is None:
            self._measure_from(now)
        self.measured = measured
        self._change(per_s, now)

    def _change(self, per_s: float, now: float) -> None:
        self.per_s, self._changed_at = max(per_s, self._LEAST), now

    def _measure_from(self, now: float) -> None:
        self._refused_at, self._let_through = now, 0

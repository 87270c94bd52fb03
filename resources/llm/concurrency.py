"""Finds out while running how many requests an endpoint serves well at once.

The limit doubles as long as replies do not get slower by it, and goes back where they do, since
more requests would only wait in the endpoint's queue. An overload (503, a closed connection, no
reply within the deadline) makes it smaller at once. Every few rounds it tries a little more.
"""

import statistics

FIRST = 64
MOST = 1_024
_SEARCH = 2.0
_PROBE = 1.25
_SHRINK = 0.7
# Latency may rise by the square root of the growth: doubling that gives less than 1.4 times the
# throughput is not worth it.
_WORTH = 0.5
_ROUNDS_BETWEEN_PROBES = 4
_FEWEST_REPLIES = 8
# The first round can't be compared with an earlier one, but waiting in a queue shows within it: the
# mean latency is then several times the shortest.
_QUEUED = 4.0


class AdaptiveLimit:
    """Requests that may be in flight at one endpoint.

    A round ends when as many requests that began in it were answered as the limit allows. It says
    something about the limit only if a request had to wait for it. A fixed limit is the greatest
    from the start, without any search.
    """

    def __init__(self, most: int | None = None, *, fixed: bool = False) -> None:
        self._most = most or MOST
        self._fixed = fixed
        self.limit = self._most if fixed else min(FIRST, self._most)
        self.round = 0
        self._growth = _SEARCH
        # Limit and mean latency before the limit was raised; ``None`` while no raise is tried.
        self._before: tuple[int, float] | None = None
        self._latencies: list[float] = []
        self._was_full = False
        # The first round after a raise opens connections, which takes time of its own.
        self._warming = False
        self._steady_rounds = 0
        self._shrunk_in = -1

    def full(self) -> None:
        """Note that a request had to wait for the limit."""
        self._was_full = True

    def replied(self, began_in: int, latency_s: float) -> None:
        """Count a request that began in a round and was answered well after some seconds."""
        if self._fixed or began_in != self.round:
            return
        self._latencies.append(latency_s)
        if len(self._latencies) >= max(self.limit, _FEWEST_REPLIES):
            self._end_round()

    def overloaded(self, began_in: int) -> None:
        """Lower the limit, once a round, because a request of the round could not be served."""
        if self._fixed or began_in <= self._shrunk_in:
            return
        self._shrunk_in = self.round
        self._stay(max(int(self.limit * _SHRINK), 1))

    def _end_round(self) -> None:
        latency, quickest = statistics.fmean(self._latencies), min(self._latencies)
        if not self._was_full or self._warming:
            self._warming = False
            self._begin_round(self.limit)
        elif self._before is not None:
            fewer, quicker = self._before
            if latency <= quicker * (self.limit / fewer) ** _WORTH:
                self._try_more(latency)
            else:
                self._stay(fewer)
        elif self._growth == _SEARCH and latency <= _QUEUED * quickest:
            self._try_more(latency)
        else:
            self._growth = _PROBE
            self._steady_rounds += 1
            if self._steady_rounds >= _ROUNDS_BETWEEN_PROBES:
                self._try_more(latency)
            else:
                self._begin_round(self.limit)

    def _try_more(self, latency: float) -> None:
        if self.limit >= self._most:
            self._stay(self.limit)
            return
        self._before = (self.limit, latency)
        self._warming = self._growth == _SEARCH
        self._begin_round(min(int(self.limit * self._growth) + 1, self._most))

    def _stay(self, limit: int) -> None:
        self._growth = _PROBE
        self._before = None
        self._warming = False
        self._steady_rounds = 0
        self._begin_round(limit)

    def _begin_round(self, limit: int) -> None:
        self.limit = limit
        self.round += 1
        self._latencies = []
        self._was_full = False

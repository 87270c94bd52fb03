"""What a stage's calls took beyond tokens and dollars: latency, retries and why."""

import math
from collections import Counter
from collections.abc import Mapping
from typing import Any

from resources.llm.faults import Fault
from resources.llm.types import Reply, Usage

# Twelve buckets a doubling: a percentile is right within 3 %, however many calls there were.
_PER_DOUBLING = 12
_PERCENTILES = (50, 95, 99)


class CallReport:
    """Counts of one stage, flat in the number of calls.

    Attributes:
        retries: Requests that had to be sent again, or given up, by reason.
        replies: Replies that came now.
        new_calls: Calls that were to be sent when the stage began; ``None`` where not counted.
        expected_usd: Dollars that they were to cost; ``None`` where not known.
        limit_share: Share of the rate limit in use lately; ``None`` where there is no limit.
    """

    def __init__(self) -> None:
        self.retries: Counter[str] = Counter()
        self.replies = 0
        self.new_calls: int | None = None
        self.expected_usd: float | None = None
        self.limit_share: float | None = None
        self._latencies: Counter[int] = Counter()

    def expect(self, new_calls: int, cost_usd: float | None) -> None:
        """So many further calls are to be sent, for so many dollars."""
        self.new_calls = (self.new_calls or 0) + new_calls
        self.expected_usd = None if cost_usd is None else (self.expected_usd or 0.0) + cost_usd

    def parts(self, usage: Usage) -> list[str]:
        """What a progress line says of the calls beyond how many are done."""
        found = []
        if self.limit_share is not None:
            found.append(f"{self.limit_share:.0%} of the rate limit")
        if usage.cost_usd:
            of = f" of about ${self.expected_usd:.4g}" if self.expected_usd else ""
            found.append(f"${usage.cost_usd:.4g}{of}")
        if self.retries:
            found.append(f"{self.retries.total():,} retries")
        return found

    def replied(self, reply: Reply) -> None:
        """A reply came."""
        self.replies += 1
        self._latencies[_bucket(reply.latency_s)] += 1

    def faulted(self, fault: Fault) -> None:
        """A request came to a fault."""
        self.retries[fault.reason] += 1

    def percentile(self, percent: float) -> float | None:
        """Seconds within which so many of a hundred replies came; ``None`` without any."""
        rank = self.replies * percent / 100
        passed = 0
        for bucket, count in sorted(self._latencies.items()):
            passed += count
            if passed >= rank:
                return float(2 ** ((bucket + 0.5) / _PER_DOUBLING))
        return None

    def metadata(self) -> Mapping[str, Any]:
        """The figures for a person, where there are any."""
        found: dict[str, Any] = {}
        if self.new_calls is not None:
            found["calls_expected_new"] = self.new_calls
        if self.expected_usd is not None:
            found["cost_usd_expected"] = self.expected_usd
        if self.replies:
            for percent in _PERCENTILES:
                found[f"latency_s_p{percent}"] = round(self.percentile(percent) or 0.0, 4)
        if self.retries:
            found["requests_not_answered"] = dict(self.retries)
        return found


def _bucket(seconds: float) -> int:
    return math.floor(math.log2(max(seconds, 1e-6)) * _PER_DOUBLING)

"""Counts how long a stage's calls took, and how often and why they were sent again."""

import math
from collections import Counter
from collections.abc import Mapping
from typing import Any

from resources.llm.faults import Fault
from resources.llm.types import Reply, Usage

# With twelve buckets a doubling, a percentile is right within 3 %, however many calls there were.
_PER_DOUBLING = 12
_PERCENTILES = (50, 95, 99)


class CallReport:
    """Counts of one stage's calls; its size does not grow with their number.

    ``retries`` are requests that had to be sent again or given up, by reason; ``replies`` came now.
    ``new_calls``, which the stage expected to send, and the dollars that they were to cost are
    ``None`` where nobody counted them, and ``limit_share`` where there is no rate limit.
    """

    def __init__(self) -> None:
        self.retries: Counter[str] = Counter()
        self.replies = 0
        self.new_calls: int | None = None
        self.expected_usd: float | None = None
        self.limit_share: float | None = None
        self._latencies: Counter[int] = Counter()

    def expect(self, new_calls: int, cost_usd: float | None) -> None:
        """Count further calls that are to be sent, and what they are to cost."""
        self.new_calls = (self.new_calls or 0) + new_calls
        self.expected_usd = None if cost_usd is None else (self.expected_usd or 0.0) + cost_usd

    def parts(self, usage: Usage) -> list[str]:
        """The parts of a progress line that follow the number of calls done."""
        parts = []
        if self.limit_share is not None:
            parts.append(f"{self.limit_share:.0%} of the rate limit")
        if usage.cost_usd:
            of_expected = f" of about ${self.expected_usd:.4g}" if self.expected_usd else ""
            parts.append(f"${usage.cost_usd:.4g}{of_expected}")
        if self.retries:
            parts.append(f"{self.retries.total():,} retries")
        return parts

    def replied(self, reply: Reply) -> None:
        """Count a reply that came."""
        self.replies += 1
        self._latencies[_bucket(reply.latency_s)] += 1

    def faulted(self, fault: Fault) -> None:
        """Count a request that failed."""
        self.retries[fault.reason] += 1

    def percentile(self, percent: float) -> float | None:
        """Seconds within which this percentage of the replies came; ``None`` without any."""
        rank = self.replies * percent / 100
        passed = 0
        for bucket, count in sorted(self._latencies.items()):
            passed += count
            if passed >= rank:
                return float(2 ** ((bucket + 0.5) / _PER_DOUBLING))
        return None

    def metadata(self) -> Mapping[str, Any]:
        """The figures that the stage has, by their metadata keys."""
        figures: dict[str, Any] = {}
        if self.new_calls is not None:
            figures["calls_expected_new"] = self.new_calls
        if self.expected_usd is not None:
            figures["cost_usd_expected"] = self.expected_usd
        if self.replies:
            for percent in _PERCENTILES:
                figures[f"latency_s_p{percent}"] = round(self.percentile(percent) or 0.0, 4)
        if self.retries:
            figures["requests_not_answered"] = dict(self.retries)
        return figures


def _bucket(seconds: float) -> int:
    return math.floor(math.log2(max(seconds, 1e-6)) * _PER_DOUBLING)

"""The number of requests in flight, found against simulated endpoints."""

import heapq
import random
from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from resources.llm.concurrency import FIRST, AdaptiveLimit


def simulate(
    limit: AdaptiveLimit, calls: int, serve: Callable[[float, int], tuple[float, bool]]
) -> float:
    """Send calls as fast as the limit allows; seconds that it takes.

    ``serve`` gives the end of a request from its beginning and how many are in flight, and
    whether it is answered well.
    """
    now, sent, events = 0.0, 0, []
    while sent < calls or events:
        while sent < calls and len(events) < limit.limit:
            end, well = serve(now, len(events) + 1)
            heapq.heappush(events, (end, sent, now, limit.round, well))
            sent += 1
        if sent < calls:
            limit.full()
        now, _, began, began_in, well = heapq.heappop(events)
        if well:
            limit.replied(began_in, now - began)
        else:
            limit.overloaded(began_in)
    return now


def slots(count: int, latency: Callable[[], float]) -> Callable[[float, int], tuple[float, bool]]:
    """An endpoint that serves so many at once; the others wait in their order."""
    free = [0.0] * count

    def serve(now: float, in_flight: int) -> tuple[float, bool]:
        begin = max(heapq.heappop(free), now)
        end = begin + latency()
        heapq.heappush(free, end)
        return end, True

    return serve


@pytest.mark.parametrize("count", [16, 100, 256])
@pytest.mark.parametrize("noise", [0.0, 0.5])
def test_all_slots_are_kept_busy(count, noise):
    rng = random.Random(1)
    mean = 1.0 if not noise else 1.133

    def latency() -> float:
        return rng.lognormvariate(0.0, noise) if noise else 1.0

    limit = AdaptiveLimit()
    calls = count * 60
    seconds = simulate(limit, calls, slots(count, latency))
    # The search takes some rounds, and longer ones where latency varies.
    assert calls * mean / count / seconds >= (0.9 if noise else 0.95)
    assert count <= limit.limit * 1.1


def test_more_requests_than_slots_only_wait():
    limit = AdaptiveLimit()
    simulate(limit, 20_000, slots(100, lambda: 1.0))
    assert 100 <= limit.limit <= 350


def test_few_slots_do_not_get_ever_more_requests():
    limit = AdaptiveLimit()
    simulate(limit, 2_000, slots(4, lambda: 1.0))
    assert limit.limit <= FIRST * 1.25 + 1


def test_an_endpoint_that_batches_gets_more_while_that_helps():
    """Latency grows with the number in flight, and less than it: as of a GPU server."""
    limit = AdaptiveLimit()
    simulate(limit, 40_000, lambda now, n: (now + 1 + n / 500, True))
    assert limit.limit >= 256


def test_an_overload_makes_it_smaller():
    limit = AdaptiveLimit()
    simulate(limit, 20_000, lambda now, n: (now + (1 if n <= 50 else 0.01), n <= 50))
    assert 20 <= limit.limit <= 80


def test_a_fixed_limit_stays():
    limit = AdaptiveLimit(8, fixed=True)
    simulate(limit, 1_000, slots(2, lambda: 1.0))
    assert limit.limit == 8
    # The embedded server's requests may take long, and it has nothing else to do.
    limit.overloaded(limit.round)
    assert limit.limit == 8


@given(
    most=st.integers(1, 2_000),
    events=st.lists(
        st.tuples(st.sampled_from(["full", "reply", "overload"]), st.floats(1e-6, 1e3)),
        max_size=300,
    ),
)
def test_it_stays_within_bounds(most, events):
    limit = AdaptiveLimit(most)
    for what, latency in events:
        if what == "full":
            limit.full()
        elif what == "reply":
            limit.replied(limit.round, latency)
        else:
            limit.overloaded(limit.round)
        assert 1 <= limit.limit <= most

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


def test_an_endpoint_that_serves_fifty_gets_about_as_many():
    limit = AdaptiveLimit()
    simulate(limit, 20_000, lambda now, n: (now + (1 if n <= 50 else 0.01), n <= 50))
    assert 20 <= limit.limit <= 80


def end_round(limit: AdaptiveLimit, *latencies: float, full: bool = True) -> int:
    """Answer as many requests of this round as end it; the limit of the next round."""
    began_in = limit.round
    if full:
        limit.full()
    for number in range(max(limit.limit, 8)):
        assert limit.round == began_in
        limit.replied(began_in, latencies[number % len(latencies)])
    assert limit.round == began_in + 1
    return limit.limit


@pytest.mark.parametrize(("most", "first"), [(None, 64), (1_000, 64), (10, 10), (1, 1)])
def test_it_begins_with_64_or_the_most(most, first):
    assert AdaptiveLimit(most).limit == first


def test_it_doubles_while_replies_do_not_get_slower_by_it():
    limit = AdaptiveLimit()
    # The first round after a raise only opens connections, however long that takes.
    assert [end_round(limit, latency) for latency in (1.0, 50.0)] == [129, 129]
    # Twice the requests may take the square root of two as long.
    assert end_round(limit, 1.4) == 259
    assert end_round(limit, 50.0) == 259
    assert end_round(limit, 2.1) == 129


@pytest.mark.parametrize(("latency", "next_limit"), [(1.12, 102), (1.13, 64)])
def test_a_limit_that_was_found_is_tried_upwards_every_fourth_round(latency, next_limit):
    limit = AdaptiveLimit()
    end_round(limit, 1.0)
    end_round(limit, 1.0)
    assert end_round(limit, 1.5) == 64
    # Rounds in which no request had to wait say nothing.
    assert end_round(limit, 0.1, full=False) == 64
    assert [end_round(limit, 1.0) for _ in range(4)] == [64, 64, 64, 81]
    assert end_round(limit, latency) == next_limit
    if next_limit == 64:
        assert [end_round(limit, 1.0) for _ in range(4)] == [64, 64, 64, 81]


def test_a_round_in_which_no_request_had_to_wait_changes_nothing():
    limit = AdaptiveLimit()
    assert end_round(limit, 1.0, full=False) == 64
    assert end_round(limit, 1.0) == 129
    # Neither does it count for the comparison with fewer requests.
    end_round(limit, 1.0)
    assert end_round(limit, 9.0, full=False) == 129
    assert end_round(limit, 1.0) == 259


@pytest.mark.parametrize(("slow", "next_limit"), [(7.0, 129), (7.1, 64)])
def test_waiting_in_a_queue_shows_within_the_first_round(slow, next_limit):
    """The mean latency is then more than four times the shortest."""
    limit = AdaptiveLimit()
    assert end_round(limit, 1.0, slow) == next_limit
    if next_limit == 64:
        assert [end_round(limit, 1.0) for _ in range(3)] == [64, 64, 81]


def test_the_most_is_not_exceeded():
    limit = AdaptiveLimit(100)
    assert [end_round(limit, 1.0) for _ in range(8)] == [100] * 8


def test_an_overload_makes_it_smaller_once_a_round():
    limit = AdaptiveLimit()
    limit.overloaded(0)
    limit.overloaded(0)
    assert (limit.limit, limit.round) == (44, 1)
    limit.overloaded(1)
    assert (limit.limit, limit.round) == (30, 2)
    assert [end_round(limit, 1.0) for _ in range(4)] == [30, 30, 30, 38]
    # What was tried is no longer compared with what was before.
    limit.overloaded(limit.round)
    assert [end_round(limit, 9.0) for _ in range(4)] == [26, 26, 26, 33]
    for _ in range(20):
        limit.overloaded(limit.round)
    assert limit.limit == 1


def test_replies_of_earlier_rounds_do_not_count():
    limit = AdaptiveLimit(8)
    limit.full()
    for _ in range(7):
        limit.replied(0, 1.0)
    limit.replied(-1, 1.0)
    assert limit.round == 0
    limit.replied(0, 1.0)
    assert limit.round == 1


def test_a_round_has_at_least_eight_replies():
    limit = AdaptiveLimit(2)
    for _ in range(7):
        limit.replied(0, 1.0)
    assert limit.round == 0


def test_a_fixed_limit_stays():
    """The embedded server's requests may take long, and it has nothing else to do."""
    limit = AdaptiveLimit(8, fixed=True)
    simulate(limit, 1_000, slots(2, lambda: 1.0))
    limit.overloaded(limit.round)
    assert (limit.limit, limit.round) == (8, 0)


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

"""Learning a rate limit, keeping to it and sharing it, by a clock that only tests move."""

import asyncio
import functools
from collections.abc import Callable, Coroutine, Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from resources.llm import coordination, rate
from resources.llm.coordination import Coordination
from resources.llm.learned_rate import LearnedRate
from resources.llm.rate import RateLimit, requested_wait


class Bucket:
    """An endpoint's limit: so many calls a second, so many seconds deep."""

    def __init__(self, per_s: float, depth_s: float) -> None:
        self.per_s, self.deep = per_s, max(per_s * depth_s, 1)
        self.level, self.at = self.deep, 0.0

    def lets_through(self, now: float) -> bool:
        self.level = min(self.level + (now - self.at) * self.per_s, self.deep)
        self.at = now
        if self.level < 1:
            return False
        self.level -= 1
        return True


def drive(learned: LearnedRate, bucket: Bucket, start: float, seconds: float) -> tuple[int, int]:
    """Send as the learned rate allows; how many were let through and refused."""
    now, through, refused = start, 0, 0
    while now < start + seconds:
        learned.sent(now)
        if bucket.lets_through(now):
            through += 1
        else:
            refused += 1
            learned.refused(now, now + 0.01)
        learned.tick(now)
        # Before anything was refused, 64 calls of 0.1 s are in flight.
        now += 1 / (learned.per_s or 640)
    return through, refused


@pytest.mark.parametrize("per_s", [20, 100, 500])
@pytest.mark.parametrize("depth_s", [1.0, 60.0])
def test_a_limit_is_found_and_kept_to(per_s, depth_s):
    learned, bucket = LearnedRate(), Bucket(per_s, depth_s)
    settling = 15 + 2 * depth_s
    drive(learned, bucket, 0.0, settling)
    through, refused = drive(learned, bucket, settling, 120)
    assert through >= 0.97 * per_s * 120
    assert refused < 0.02 * (through + refused)


@pytest.mark.parametrize("factor", [0.5, 2.0])
def test_a_limit_that_changes_is_found_again(factor):
    learned, bucket = LearnedRate(), Bucket(100, 1.0)
    drive(learned, bucket, 0.0, 60)
    bucket.per_s = bucket.deep = 100 * factor
    drive(learned, bucket, 60.0, 120)
    through, refused = drive(learned, bucket, 180.0, 120)
    assert through >= 0.95 * bucket.per_s * 120
    assert refused < 0.03 * (through + refused)


def test_refusals_of_another_kind_do_not_silence_it():
    learned = LearnedRate()
    for turn in range(200):
        learned.sent(turn / 100)
        learned.refused(turn / 100, turn / 100)
    assert learned.per_s == 1.0
    for turn in range(40):
        learned.sent(2 + turn / 2)
        learned.tick(2 + turn / 2)
    assert learned.per_s > 50


def refused_first(sent: int, after_s: float) -> LearnedRate:
    """What is learned where calls sent at second 0 are let through but for the last."""
    learned = LearnedRate()
    for _ in range(sent):
        learned.sent(0.0)
    learned.refused(0.0, after_s)
    return learned


@pytest.mark.parametrize(
    ("sent", "after_s", "per_s"),
    [
        (20, 1.0, 10.0),
        (20, 0.5, 20.0),
        # Before a twentieth of a second is over, nothing can be said of the rate.
        (20, 0.05, 200.0),
        (20, 0.0, 200.0),
        (1, 10.0, 1.0),
        (0, 10.0, 10.0),
    ],
)
def test_the_first_refusal_halves_the_rate_at_which_calls_were_let_through(sent, after_s, per_s):
    learned = refused_first(sent, after_s)
    assert (learned.per_s, learned.measured) == (pytest.approx(per_s), False)


@pytest.mark.parametrize(
    ("sent", "after_s", "per_s", "measured"),
    [
        # The refused call is not among those that were let through.
        (21, 1.0, 20 * 0.995, True),
        (41, 2.0, 20 * 0.995, True),
        # Too few calls, or too short a time: the search goes on at half the rate.
        (20, 1.0, 25.0, False),
        (21, 0.99, 25.0, False),
    ],
)
def test_a_limit_is_measured_between_two_refusals(sent, after_s, per_s, measured):
    learned = refused_first(100, 1.0)
    assert learned.per_s == 50.0
    for _ in range(sent):
        learned.sent(1.0)
    learned.refused(1.0 + after_s, 1.0 + after_s)
    assert (learned.per_s, learned.measured) == (pytest.approx(per_s), measured)


def test_a_call_that_was_sent_before_the_last_change_does_not_lower_the_rate_again():
    learned = refused_first(100, 1.0)
    learned.refused(1.0, 1.1)
    assert learned.per_s == 50.0
    learned.refused(1.01, 1.2)
    assert learned.per_s == 25.0


def test_an_unmeasured_rate_is_raised_every_half_second():
    learned = refused_first(100, 1.0)
    learned.tick(1.49)
    assert learned.per_s == 50.0
    learned.tick(1.5)
    assert learned.per_s == pytest.approx(65.0)
    learned.tick(1.99)
    assert learned.per_s == pytest.approx(65.0)


def measured(per_s: float, now: float) -> LearnedRate:
    learned = LearnedRate()
    learned.follow(per_s, True, now)
    return learned


def test_a_measured_rate_is_tried_upwards_every_ten_seconds():
    learned = measured(100.0, 0.0)
    learned.tick(9.99)
    assert learned.per_s == 100.0
    learned.tick(10.0)
    assert learned.per_s == pytest.approx(101.0)


def test_steps_upwards_double_up_to_a_half_and_begin_anew_after_a_refusal():
    learned, factors = measured(100.0, 0.0), []
    for turn in range(1, 9):
        before = learned.per_s
        learned.tick(10.0 * turn)
        factors.append(learned.per_s / before)
    assert factors == pytest.approx([1.01, 1.02, 1.04, 1.08, 1.16, 1.32, 1.5, 1.5])
    learned.refused(79.0, 80.1)
    before = learned.per_s
    learned.tick(90.1)
    assert learned.per_s == pytest.approx(1.01 * before)


def test_a_try_that_is_refused_ends_no_lower_than_where_it_began():
    """A bucket that was full meanwhile let through less than it could have."""
    learned = measured(100.0, 0.0)
    learned.tick(10.0)
    for _ in range(31):
        learned.sent(10.5)
    learned.refused(10.6, 11.0)
    assert learned.per_s == pytest.approx(100.0)
    # A second refusal without another try lowers it.
    for _ in range(31):
        learned.sent(12.0)
    learned.refused(12.0, 12.0)
    assert learned.per_s == pytest.approx(30 * 0.995)


def test_a_rate_that_others_learned_is_kept_to_unless_it_is_the_same():
    learned = measured(100.0, 0.0)
    learned.follow(100.00001, False, 5.0)
    assert (learned.per_s, learned.measured) == (100.0, True)
    learned.tick(10.0)
    assert learned.per_s == pytest.approx(101.0)
    learned.follow(50.0, False, 10.0)
    assert (learned.per_s, learned.measured) == (50.0, False)


def test_a_measurement_begins_with_the_first_rate_that_others_learned():
    learned = LearnedRate()
    learned.follow(50.0, False, 100.0)
    for _ in range(21):
        learned.sent(100.0)
    learned.refused(100.5, 100.5)
    assert (learned.per_s, learned.measured) == (25.0, False)
    learned.follow(60.0, False, 100.9)
    learned.sent(100.9)
    learned.refused(101.0, 101.0)
    assert (learned.per_s, learned.measured) == (pytest.approx(20 * 0.995), True)


class Clock:
    """The time of one machine: a sleep ends at once, and later."""

    def __init__(self) -> None:
        self.now = 1_000_000.0
        self.slept: list[float] = []

    def time(self) -> float:
        return self.now

    monotonic = time

    async def sleep(self, seconds: float) -> None:
        self.slept.append(seconds)
        self.now += seconds


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    clock = Clock()
    monkeypatch.setattr(rate, "time", clock)
    monkeypatch.setattr(coordination, "time", clock)
    monkeypatch.setattr(asyncio, "sleep", clock.sleep)
    return clock


Limits = Callable[..., RateLimit]


@pytest.fixture
def limit_of(tmp_path: Path, clock: Clock) -> Iterator[Limits]:
    """Opens the limit of a key, in one of two processes that share it."""
    with ExitStack() as opened:
        url = f"sqlite:///{tmp_path / 'replies.sqlite'}"
        owners = [opened.enter_context(Coordination(url)) for _ in range(2)]

        def open_limit(
            requests: float | None = None,
            tokens: float | None = None,
            *,
            process: int = 0,
            name: str = "key",
        ) -> RateLimit:
            return RateLimit(owners[process], name, requests, tokens)

        yield open_limit


def in_a_loop(test: Callable[..., Coroutine[None, None, None]]) -> Callable[..., None]:
    @functools.wraps(test)
    def run(**fixtures: object) -> None:
        asyncio.run(test(**fixtures))

    return run


async def let_through(limit: RateLimit, calls: int, tokens: int = 1) -> int:
    """How many calls are let through of those that wait."""
    await limit.ask([tokens] * calls)
    return limit.permits


async def refuse(limit: RateLimit, clock: Clock, sent: int, within_s: float) -> None:
    """Send calls of which the last is refused after some time."""
    for _ in range(sent):
        limit.sent(clock.now)
    clock.now += within_s
    await limit.refused(None, clock.now)


STATED = {"x-ratelimit-limit-requests": "600", "x-ratelimit-limit-tokens": "60000"}


@in_a_loop
async def test_settings_win_over_headers_and_headers_over_refusals(limit_of, clock):
    by_settings = limit_of(120, name="one")
    await by_settings.observe(STATED)
    await by_settings.refused(None, clock.now)
    assert by_settings.requests_per_s == 2
    assert by_settings.tokens_per_s == pytest.approx(995)
    by_headers = limit_of(name="two")
    assert not by_headers.active
    await by_headers.observe({"x-ratelimit-limit-tokens": "60000"})
    assert by_headers.active
    assert by_headers.requests_per_s is None
    await by_headers.observe(STATED)
    await by_headers.refused(None, clock.now)
    assert by_headers.requests_per_s == pytest.approx(9.95)
    await by_headers.observe({"x-ratelimit-limit-requests": "nonsense"})
    assert by_headers.requests_per_s == pytest.approx(9.95)
    # Another process starts from there, and settings of its own come first.
    other, own = (limit_of(*set_, name="two", process=1) for set_ in ((), (60, 120)))
    assert (other.requests_per_s, other.tokens_per_s) == pytest.approx((9.95, 995))
    assert (own.requests_per_s, own.tokens_per_s) == (1, 2)


@in_a_loop
async def test_headers_that_say_the_same_again_change_nothing(limit_of):
    limit = limit_of()
    await limit.observe(STATED)
    await limit_of(process=1).observe({"x-ratelimit-limit-requests": "1200"})
    await limit.observe(STATED)
    assert limit_of().requests_per_s == pytest.approx(19.9)
    await limit.observe({"x-ratelimit-limit-requests": "300"})
    assert (limit.requests_per_s, limit.tokens_per_s) == pytest.approx((4.975, 995))
    assert limit_of().requests_per_s == pytest.approx(4.975)


@pytest.mark.parametrize(
    ("reset", "per_s"),
    [("1m30s", 9.95), ("1m31s", None), ("1h0m0s", None), ("", 9.95), ("soon", 9.95), ("91", None)],
)
@in_a_loop
async def test_a_limit_that_takes_long_to_reset_is_one_for_a_day(limit_of, reset, per_s):
    limit = limit_of()
    await limit.observe(STATED | {"x-ratelimit-reset-requests": reset})
    assert limit.requests_per_s == (per_s and pytest.approx(per_s))
    assert limit.tokens_per_s == pytest.approx(995)


@in_a_loop
async def test_requests_are_let_through_as_the_limit_allows(limit_of, clock):
    limit = limit_of(6_000)
    assert (limit.permits, limit.use_permit()) == (0, 0.0)
    await limit.ask([1, 2, 3])
    assert limit.permits == 3
    assert [limit.use_permit() for _ in range(4)] == [1, 2, 3, 0]
    # The bucket is a quarter of a second deep. It is asked again no sooner than after a fiftieth
    # of a second, in which two calls are added.
    assert await let_through(limit, 64) == 24
    assert await let_through(limit, 64) == 2
    assert clock.slept == pytest.approx([0, 0.02, 0.02])


@in_a_loop
async def test_whoever_waits_asks_again_when_told_to_or_after_a_second(limit_of, clock):
    slow, slower = limit_of(120, name="slow"), limit_of(6, name="slower")
    assert [await let_through(slow, 2) for _ in range(3)] == [1, 1, 1]
    assert clock.slept == pytest.approx([0, 0.5, 0.5])
    assert [await let_through(slower, 2) for _ in range(12)] == [1] + [0] * 9 + [1, 0]
    assert clock.slept[4:] == pytest.approx([1] * 11)


@in_a_loop
async def test_calls_that_are_larger_than_expected_take_what_they_have(limit_of, clock):
    limit, began = limit_of(None, 60 * 10_000), clock.now
    # A quarter of a second holds 2,500 tokens.
    assert await let_through(limit, 64, tokens=100) == 25
    for _ in range(25):
        limit.replied(100, limit.use_permit(), 1_000)
    # The calls had 25,000 tokens, of which 22,500 are made up for first.
    assert await let_through(limit, 64, tokens=100) == 0
    clock.now = began + 2.46
    assert await let_through(limit, 64, tokens=100) == 2
    # From here on calls take what they turned out to have, and nothing more is owed for them.
    for _ in range(2):
        taken = limit.use_permit()
        assert taken == pytest.approx(1_000)
        limit.replied(100, taken, 1_000)
    clock.now += 0.99
    assert await let_through(limit, 64, tokens=100) == 2


@in_a_loop
async def test_calls_that_are_smaller_than_expected_give_back_what_they_took(limit_of, clock):
    limit, began = limit_of(None, 60 * 10_000), clock.now
    assert await let_through(limit, 64, tokens=1_000) == 2
    for _ in range(2):
        limit.replied(1_000, limit.use_permit(), 100)
    # They had 200 tokens of 2,500, and 200 flow in until it is asked again.
    assert await let_through(limit, 64, tokens=1_000) == 25
    assert clock.now == pytest.approx(began + 0.05)


@in_a_loop
async def test_a_later_call_weighs_more_in_the_size_that_is_expected(limit_of):
    limit = limit_of(None, 60_000_000)
    limit.replied(100, 100, 1_000)
    limit.replied(100, 100, 100)
    # An endpoint that does not say how many tokens there were changes nothing.
    limit.replied(100, 0, 0)
    await limit.ask([100])
    assert limit.use_permit() == pytest.approx(100 * (1_000 * 0.98 + 100) / 198)


@in_a_loop
async def test_a_short_wait_does_not_cancel_a_longer_pause(limit_of, clock):
    limit, other = limit_of(600), limit_of(600, process=1)
    assert limit.paused_s == 0
    for wait_s in (20, 5, None):
        await limit.refused(wait_s, clock.now)
    assert (limit.paused_s, limit.refusals) == (20, 3)
    # The others wait as long.
    clock.now += 19
    assert await let_through(other, 1) == 0
    assert await let_through(other, 1) == 1
    clock.now += 5
    assert limit.paused_s == 0


@in_a_loop
async def test_the_share_of_the_limit_that_is_used_is_a_mean_over_two_seconds(limit_of, clock):
    assert limit_of(None, 60).share() is None
    limit = limit_of(600)
    for _ in range(10):
        limit.sent(clock.now)
    clock.now += 1.9
    assert limit.share() is None
    clock.now += 0.1
    assert limit.share() == pytest.approx(0.5)
    limit.sent(clock.now)
    clock.now += 1
    assert limit.share() == pytest.approx(0.5)
    clock.now += 1
    assert limit.share() == pytest.approx(0.05)


@in_a_loop
async def test_a_limit_that_was_learned_from_refusals_is_shared(limit_of, clock):
    limit = limit_of()
    await refuse(limit, clock, 41, within_s=2)
    assert limit.requests_per_s == pytest.approx(41 / 2 / 2)
    assert limit_of(process=1).requests_per_s == limit.requests_per_s
    # The endpoint's bucket is empty, so calls go one at a time; while nothing is refused, the rate
    # is raised.
    assert await let_through(limit, 9) == 1
    clock.now += 0.5
    await limit.ask([])
    assert limit.requests_per_s == pytest.approx(13.325)
    assert limit_of(process=1).requests_per_s == limit.requests_per_s
    assert await let_through(limit, 9) == 3


@in_a_loop
async def test_each_process_learns_its_own_share_of_a_limit(limit_of, clock):
    first, second = limit_of(), limit_of(process=1)
    await refuse(first, clock, 200, within_s=1)
    assert first.requests_per_s == pytest.approx(100)
    await first.ask([1])
    await second.ask([1])
    assert second.requests_per_s == pytest.approx(100)
    # Each has 50 of 100 calls a second, and raises the whole by the factor of its own share.
    clock.now += 0.5
    await second.ask([1])
    assert second.requests_per_s == pytest.approx(130)
    assert limit_of().requests_per_s == pytest.approx(130)


@in_a_loop
async def test_a_first_refusal_begins_with_what_other_users_know(limit_of, clock):
    first, second = limit_of(), limit_of(process=1)
    await refuse(first, clock, 200, within_s=1)
    await first.ask([1])
    await refuse(second, clock, 20, within_s=0)
    assert second.requests_per_s == pytest.approx(100)
    # A process that is alone begins with its own calls, whatever is stored.
    clock.now += 10
    third = limit_of()
    await refuse(third, clock, 20, within_s=1)
    assert third.requests_per_s == pytest.approx(10)


@pytest.mark.parametrize(
    ("headers", "seconds"),
    [
        ({}, None),
        ({"retry-after": "7"}, 7),
        ({"retry-after": "0"}, 0),
        ({"retry-after": "7", "x-ratelimit-remaining-requests": "0"}, 7),
        ({"remaining-requests": "0", "reset-requests": "120ms"}, 0.12),
        ({"remaining-requests": "0", "reset-requests": "0.5"}, 0.5),
        ({"remaining-requests": "0", "reset-requests": "1s"}, 1.0),
        # A bucket that refills gradually lets calls through long before it is full.
        ({"remaining-requests": "0", "reset-requests": "6m0s"}, 1.0),
        ({"remaining-requests": "1", "reset-requests": "120ms"}, None),
        ({"remaining-requests": "0", "reset-requests": "soon"}, None),
        ({"remaining-tokens": "0", "reset-tokens": "0.2s"}, 0.2),
        ({"remaining-requests": "0", "remaining-tokens": "0", "reset-tokens": "0.2s"}, 0.2),
        ({"remaining-tokens": "0", "reset-requests": "0.2s"}, None),
    ],
)
def test_how_long_to_wait_is_read(headers, seconds):
    whole = {
        name if name.startswith(("retry", "x-")) else f"x-ratelimit-{name}": value
        for name, value in headers.items()
    }
    assert requested_wait(whole) == (None if seconds is None else pytest.approx(seconds))


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("1h2m3s", 3_723),
        ("6m0s", 360),
        ("1.5s", 1.5),
        ("120ms", 0.12),
        ("1s20ms", 1.02),
        ("0.5h", 1_800),
        ("12", 12),
        ("", None),
        ("1d", None),
        ("s", None),
    ],
)
def test_durations_are_read_as_providers_write_them(text, seconds):
    assert rate._duration(text) == (None if seconds is None else pytest.approx(seconds))

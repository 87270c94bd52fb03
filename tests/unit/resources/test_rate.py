"""Learning a rate limit, against a simulated bucket; what headers say."""

import asyncio

import pytest

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
    bucket.per_s = 100 * factor
    bucket.deep = bucket.per_s
    drive(learned, bucket, 60.0, 120)
    through, refused = drive(learned, bucket, 180.0, 120)
    assert through >= 0.95 * bucket.per_s * 120
    assert refused < 0.03 * (through + refused)


def test_refusals_of_another_kind_do_not_silence_it():
    learned = LearnedRate()
    now = 0.0
    for _ in range(200):
        learned.sent(now)
        learned.refused(now, now)
        now += 0.01
    assert learned.per_s is not None
    assert learned.per_s >= 1
    for _ in range(40):
        learned.sent(now)
        learned.tick(now)
        now += 0.5
    assert learned.per_s > 50


def test_settings_win_over_headers_and_headers_over_refusals(tmp_path):
    async def main() -> None:
        told = {"x-ratelimit-limit-requests": "600", "x-ratelimit-limit-tokens": "60000"}
        with Coordination(f"sqlite:///{tmp_path / 'replies.sqlite'}") as shared:
            set_by_hand = RateLimit(shared, "one", 120, None)
            await set_by_hand.observe(told)
            assert set_by_hand.requests_per_s == 2
            assert set_by_hand.tokens_per_s == pytest.approx(1_000, rel=0.01)
            by_headers = RateLimit(shared, "two", None, None)
            assert not by_headers.active
            await by_headers.observe(told)
            await by_headers.refused(None, 0.0)
            assert by_headers.requests_per_s == pytest.approx(10, rel=0.01)
            await by_headers.observe({"x-ratelimit-limit-requests": "nonsense"})
            assert by_headers.requests_per_s == pytest.approx(10, rel=0.01)
            # Another process starts from there.
            assert RateLimit(shared, "two", None, None).requests_per_s == pytest.approx(
                10, rel=0.01
            )

    asyncio.run(main())


def test_calls_that_are_larger_than_thought_take_what_they_have_of_a_token_limit(tmp_path):
    async def main() -> None:
        with Coordination(f"sqlite:///{tmp_path / 'replies.sqlite'}") as shared:
            rate = RateLimit(shared, "tokens", None, 60 * 10_000)
            await rate.ask([100] * 64)
            # A quarter of a second deep: 2,500 tokens.
            assert rate.permits == 25
            for _ in range(25):
                rate.replied(100, rate.use_permit(), 1_000)
            await rate.ask([100] * 64)
            # They had 25,000: what they had too much is made up for first.
            assert rate.permits == 0
            rate._ask_at = 0.0
            await asyncio.sleep(2.6)
            await rate.ask([100] * 64)
            assert rate.permits == 2
            assert rate.use_permit() == pytest.approx(1_000)

    asyncio.run(main())


@pytest.mark.parametrize(
    ("headers", "seconds"),
    [
        ({}, None),
        ({"retry-after": "7"}, 7),
        ({"retry-after": "0.25"}, 0.25),
        ({"retry-after-ms": "1500"}, 1.5),
        ({"retry-after": "Wed, 21 Oct 2015 07:28:00 GMT"}, 0),
        ({"retry-after": "86400"}, 300),
        ({"retry-after": "soon"}, None),
        ({"retry-after": "nan"}, None),
        ({"retry-after": "-3"}, None),
    ],
)
def test_how_long_to_wait_is_read(headers, seconds):
    assert requested_wait(headers) == seconds

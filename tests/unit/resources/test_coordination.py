"""Claims, limits and bookings that processes share; on real SQLite files and a real Postgres."""

import os
import signal
import subprocess
import sys
import threading
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from resources.llm import coordination
from resources.llm.coordination import DEPTH_S, Coordination

ROOT = Path(__file__).resolve().parents[3]
HOLDER = """
import sys
from resources.llm.coordination import Coordination
shared = Coordination(sys.argv[1])
print(len(shared.claim(["a", "b"])), shared.book({"month": 5.0}, {"month": 9.0}, lambda _: 0.0))
sys.stdout.flush()
sys.stdin.read()
"""


@pytest.fixture(params=["sqlite", "postgres"])
def url(request, tmp_path):
    if request.param == "postgres":
        return request.getfixturevalue("postgres_url")
    return f"sqlite:///{tmp_path / 'replies.sqlite'}"


def test_a_call_is_claimed_by_one(url):
    with Coordination(url) as one, Coordination(url) as two:
        assert one.claim(["a", "b"]) == {"a", "b"}
        assert two.claim(["b", "c"]) == {"c"}
        assert one.claim(["a"]) == {"a"}
        # Only one's own can be given back.
        two.claim([], release=["a"])
        assert two.claim(["a"]) == set()
        one.claim([], release=["a"])
        assert two.claim(["a"]) == {"a"}


def test_claims_end_with_their_owner(url):
    with Coordination(url) as two:
        with Coordination(url) as one:
            one.claim(["a"])
            assert two.claim(["a"]) == set()
        assert two.claim(["a"]) == {"a"}


def test_a_killed_owner_is_taken_over_and_a_living_one_is_not(url):
    process = subprocess.Popen(
        [sys.executable, "-c", HOLDER, url],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
    )
    assert process.stdout is not None
    assert process.stdout.readline().split() == ["2", "True"]
    with Coordination(url) as other:
        assert other.claim(["a", "b", "c"]) == {"c"}
        assert not other.book({"month": 5.0}, {"month": 9.0}, lambda _: 0.0)
        assert other.others_book(["month"])
        process.send_signal(signal.SIGKILL)
        process.wait()
        assert other.claim(["a", "b"]) == {"a", "b"}
        assert other.book({"month": 5.0}, {"month": 9.0}, lambda _: 0.0)
        assert not other.others_book(["month"])


def test_overlapping_claims_in_other_orders_never_lock_each_other(url):
    keys = [f"k{number:03}" for number in range(200)]
    found: list[set[str]] = []

    def claim(mine: list[str]) -> None:
        with Coordination(url) as shared:
            got: set[str] = set()
            for start in range(0, len(mine), 20):
                got |= shared.claim(mine[start : start + 20])
            found.append(got)
            done.wait()

    done = threading.Barrier(2)
    threads = [threading.Thread(target=claim, args=(each,)) for each in (keys, keys[::-1])]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
        assert not thread.is_alive()
    one, two = found
    assert not one & two
    assert one | two == set(keys)


@pytest.fixture
def clock(monkeypatch):
    """A clock that only tests move, for one machine."""
    now = [1_000_000.0]
    monkeypatch.setattr(coordination.time, "time", lambda: now[0])
    return now


@settings(
    max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(
    rate=st.sampled_from([0.05, 3.0, 100.0, 5_000.0]),
    asks=st.lists(
        st.tuples(st.integers(0, 2), st.integers(1, 80), st.floats(0, 0.4)), min_size=5, max_size=40
    ),
)
def test_no_more_is_let_through_than_the_limit(tmp_path_factory, monkeypatch, rate, asks):
    now = [1_000_000.0]
    monkeypatch.setattr(coordination.time, "time", lambda: now[0])
    url = f"sqlite:///{tmp_path_factory.mktemp('limit') / 'replies.sqlite'}"
    owners = [Coordination(url) for _ in range(3)]
    let_through: list[tuple[float, int]] = []
    for owner, wanted, pause in asks:
        grant = owners[owner].take("limit", [10] * wanted, (rate, None))
        assert grant.calls == wanted or grant.wait_s > 0
        let_through.append((now[0], grant.calls))
        now[0] += pause
    for shared in owners:
        shared.close()
    deep = max(DEPTH_S * rate, 1)
    for start, (began, _) in enumerate(let_through):
        calls = 0
        for at, granted in let_through[start:]:
            calls += granted
            assert calls <= rate * (at - began) + deep + 1e-6


def test_a_lone_user_gets_all_and_two_get_equal_shares(tmp_path, clock):
    # On Postgres the database's clock counts, which a test can't move.
    url = f"sqlite:///{tmp_path / 'replies.sqlite'}"
    with Coordination(url) as one, Coordination(url) as two:
        got = 0
        for _ in range(200):
            got += one.take("limit", [1] * 50, (100.0, None)).calls
            clock[0] += 0.05
        assert got == pytest.approx(1_000, rel=0.04)
        shares = [0, 0]
        for _ in range(200):
            for place, shared in enumerate((one, two)):
                shares[place] += shared.take("limit", [1] * 50, (100.0, None)).calls
                clock[0] += 0.03
        assert sum(shares) == pytest.approx(1_200, rel=0.04)
        assert min(shares) >= 0.45 * sum(shares)


def test_tokens_are_limited_and_corrected(url, clock):
    with Coordination(url) as shared:
        # 1,000 tokens a second: a quarter of a second holds two calls of 100.
        assert shared.take("limit", [100] * 5, (None, 1_000.0)).calls == 2
        clock[0] += 0.1
        # Each had 100 tokens more than was thought.
        assert shared.take("limit", [100], (None, 1_000.0), 200.0).calls == 0
        clock[0] += 0.25
        assert shared.take("limit", [100], (None, 1_000.0)).calls == 1


def test_a_pause_holds_for_all(url, clock):
    with Coordination(url) as one, Coordination(url) as two:
        one.learn("limit", requests_per_s=100.0, resume_at=clock[0] + 3)
        grant = two.take("limit", [1], (None, None))
        assert grant.calls == 0
        assert grant.wait_s == pytest.approx(3, abs=0.5)
        clock[0] += 4
        assert two.take("limit", [1], (None, None)).calls == 1


@settings(max_examples=20, deadline=None)
@given(
    st.lists(
        st.tuples(st.integers(0, 2), st.sampled_from([0.0, 0.5, 1.0, 4.0])),
        min_size=1,
        max_size=30,
    )
)
def test_bookings_and_what_was_spent_never_exceed_a_limit(tmp_path_factory, steps):
    url = f"sqlite:///{tmp_path_factory.mktemp('book') / 'replies.sqlite'}"
    owners = [Coordination(url) for _ in range(3)]
    booked, spent = [0.0, 0.0, 0.0], 0.0
    for owner, usd in steps:
        total = spent
        if owners[owner].book({"month": usd}, {"month": 6.0}, lambda _, total=total: total):
            # Half of what was booked is spent at once.
            booked[owner] = usd
        assert spent + sum(booked) <= 6.0
        half = booked[owner] / 2
        spent += half
        booked[owner] -= half
        owners[owner].book_less({"month": booked[owner]})
    for shared in owners:
        shared.close()


def test_what_was_found_out_is_remembered(url):
    with Coordination(url) as one:
        one.remember("endpoint", {"has": {"seed": False}})
        one.remember("endpoint", {"asked_at": 3.0})
    with Coordination(url) as two:
        assert two.known("endpoint") == {"has": {"seed": False}, "asked_at": 3.0}
        two.forget_endpoint("endpoint")
        assert two.known("endpoint") == {}

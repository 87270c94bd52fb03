"""Claims, limits and bookings that processes share."""

import heapq
import itertools
import os
import random
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest
import sqlalchemy as sa
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from resources.llm import coordination
from resources.llm.coordination import DEPTH_S, Coordination
from resources.llm.errors import StoreError
from resources.llm.store import Flights, ReplyStore
from tests.unit.resources.test_reply_store import notes, record, send, sent

ROOT = Path(__file__).resolve().parents[3]
HOLDER = """
import sys
from resources.llm.coordination import Coordination
shared = Coordination(sys.argv[1])
print(len(shared.claim(["a", "b"])), shared.book({"month": 5.0}, {"month": 9.0}, lambda _: 0.0))
sys.stdout.flush()
sys.stdin.read()
"""


def started(script: str, *arguments: str) -> "subprocess.Popen[str]":
    return subprocess.Popen(
        [sys.executable, "-c", script, *arguments],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
    )


@pytest.fixture
def url(tmp_path: Path) -> str:
    return f"sqlite:///{tmp_path / 'replies.sqlite'}"


@pytest.fixture(scope="module")
def owners(tmp_path_factory: pytest.TempPathFactory) -> Iterator[list[Coordination]]:
    """Five owners for limits and bookings; each example has a name of its own."""
    url = f"sqlite:///{tmp_path_factory.mktemp('owners') / 'replies.sqlite'}"
    with ExitStack() as opened:
        yield [opened.enter_context(Coordination(url)) for _ in range(5)]


NAMES = (f"name {number}" for number in itertools.count())


def put_to_death(owner: Coordination) -> None:
    """As if its process had been killed."""
    row = sa.update(coordination.OWNERS).where(coordination.OWNERS.c.owner == owner.owner)
    with owner.database.writing() as connection:
        connection.execute(row.values(pid=2**30))
    owner.database.close()


def booked(shared: Coordination) -> dict[str, float]:
    """Dollars that are booked, by owner."""
    with shared.database.reading() as connection:
        rows = connection.execute(sa.select(coordination.BOOKINGS)).mappings()
        return {row["owner"]: row["usd"] for row in rows}


def test_calls_are_lost_before_what_was_booked_for_them_is_forgotten(url, monkeypatch):
    with Coordination(url) as two, ReplyStore(url) as store:
        one = Coordination(url)
        assert one.book({"month": 5.0}, {"month": 9.0}, lambda _: 0.0)
        send(store, sent("k", one.owner, most_usd=5.0))
        put_to_death(one)

        def fails(store: ReplyStore, owners: list[str]) -> None:
            raise StoreError("the disk is full")

        with monkeypatch.context() as broken:
            broken.setattr(ReplyStore, "lose_calls", fails)
            with pytest.raises(StoreError):
                two.beat()
        assert (booked(two), store.spent()) == ({one.owner: 5.0}, 0.0)
        two.beat()
        assert (booked(two), store.spent()) == ({}, 5.0)


def test_who_only_looks_makes_no_gap(url):
    one = Coordination(url)
    assert one.book({"month": 5.0}, {"month": 9.0}, lambda _: 0.0)
    with ReplyStore(url) as store:
        send(store, sent("k", one.owner, most_usd=5.0))
        put_to_death(one)
        with Coordination(url) as looking:
            assert (booked(looking), store.spent()) == ({}, 5.0)


def test_calls_of_owners_of_whom_nothing_is_known_are_lost(url):
    """As after a restart that the file of what is shared did not survive."""
    with Coordination(url) as living, ReplyStore(url) as store:
        send(store, sent("a", "forgotten"))
        send(store, sent("b", living.owner))
        with Coordination(url):
            assert notes(store) == {("a", "forgotten"): True, ("b", living.owner): False}


def test_who_begins_while_another_opens_is_not_taken_for_dead(url, monkeypatch):
    """Whoever opens reads the notes first: what is noted then has an owner who is known."""
    begun: list[Coordination] = []
    beat = Coordination.beat

    def another_begins(opening: Coordination) -> None:
        monkeypatch.setattr(Coordination, "beat", beat)
        begun.append(Coordination(url))
        send(store, sent("k", begun[0].owner))
        beat(opening)

    with ReplyStore(url) as store:
        monkeypatch.setattr(Coordination, "beat", another_begins)
        with Coordination(url):
            assert notes(store) == {("k", begun[0].owner): False}
        store.put_many([], Flights(begun[0].owner, ended=["k"]))
        begun[0].close()
        assert notes(store) == {}


@settings(max_examples=25)
@given(
    st.lists(
        st.tuples(
            st.integers(0, 2),
            st.sampled_from(["send", "send", "reply", "end", "kill", "beat", "close", "mistake"]),
        ),
        max_size=30,
    )
)
def test_a_call_in_flight_is_always_booked_or_lost(tmp_path_factory, steps):
    """Whatever owners do, and whoever dies when: and nothing else is lost in the end."""
    url = f"sqlite:///{tmp_path_factory.mktemp('notes') / 'replies.sqlite'}"
    owners: list[Coordination | None] = [None] * 3
    in_flight: dict[tuple[str, str], None] = {}
    killed: set[tuple[str, str]] = set()
    number = 0
    with ReplyStore(url) as store, Coordination(url) as looking:
        for place, what in steps:
            owner = owners[place]
            if owner is None:
                owner = owners[place] = Coordination(url)
            mine = [note for note in in_flight if note[1] == owner.owner]
            if what == "send":
                number += 1
                # The same few calls are sent again and again.
                key = f"k{number % 5}"
                send(store, sent(key, owner.owner, most_usd=1.0))
                in_flight[key, owner.owner] = None
            elif what == "reply" and mine:
                store.put_many([record(mine[0][0], cost_usd=0.0)], Flights(owner.owner))
                del in_flight[mine[0]]
            elif what == "end" and mine:
                store.put_many([], Flights(owner.owner, ended=[mine[0][0]]))
                del in_flight[mine[0]]
            elif what == "beat":
                owner.beat()
            elif what == "mistake":
                # As of an owner whose machine was asleep.
                store.lose_calls([owner.owner])
            elif what in ("kill", "close"):
                if what == "kill":
                    put_to_death(owner)
                else:
                    owner.close()
                owners[place] = None
                killed |= set(mine)
                in_flight = {note: None for note in in_flight if note not in mine}
            with looking.database.reading() as connection:
                known = set(connection.scalars(sa.select(coordination.OWNERS.c.owner)))
            noted = notes(store)
            assert noted.keys() == in_flight.keys() | killed
            assert all(is_lost or owner in known for (_, owner), is_lost in noted.items())
        for owner in filter(None, owners):
            keys = [key for key, name in in_flight if name == owner.owner]
            store.put_many([record(key, cost_usd=0.0) for key in keys], Flights(owner.owner))
            owner.close()
        looking.beat()
        assert notes(store) == dict.fromkeys(killed, True)
        assert store.spent() == store.lost_usd() == len(killed)


def test_a_killed_owner_is_taken_over_and_a_living_one_is_not(url):
    process = started(HOLDER, url)
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


@pytest.fixture
def clock(monkeypatch):
    """A clock that only tests move, for one machine."""
    now = [1_000_000.0]
    monkeypatch.setattr(coordination.time, "time", lambda: now[0])
    return now


def test_a_lone_user_gets_all_and_two_get_equal_shares(owners, clock):
    name, got, shares = next(NAMES), 0, [0, 0]
    for _ in range(100):
        got += owners[0].take(name, [1] * 50, (100.0, None)).calls
        clock[0] += 0.05
    assert got == pytest.approx(500, rel=0.04)
    for _ in range(100):
        for place in range(2):
            shares[place] += owners[place].take(name, [1] * 50, (100.0, None)).calls
            clock[0] += 0.03
    assert sum(shares) == pytest.approx(600, rel=0.06)
    assert min(shares) >= 0.45 * sum(shares)


@settings(max_examples=30)
@given(
    st.lists(
        st.tuples(st.integers(0, 2), st.sampled_from([0.0, 0.5, 1.0, 4.0])),
        min_size=1,
        max_size=30,
    )
)
@example([(0, 4.0), (1, 4.0), (0, 4.0)])
def test_bookings_and_what_was_spent_never_exceed_a_limit(owners, steps):
    scope = next(NAMES)
    booked, spent = [0.0, 0.0, 0.0], 0.0
    for owner, usd in steps:
        total = spent
        if owners[owner].book({scope: usd}, {scope: 6.0}, lambda _, total=total: total):
            booked[owner] = usd
        assert spent + sum(booked) <= 6.0
        # Half of what was booked is spent at once.
        half = booked[owner] / 2
        spent += half
        booked[owner] -= half
        owners[owner].book_less({scope: booked[owner]})


def test_a_limit_is_booked_to_the_last_cent_and_where_one_scope_is_full_nothing_is(owners):
    one, two = owners[:2]
    month, run = next(NAMES), next(NAMES)
    limits = {month: 9.0, run: 3.0}
    assert one.book({month: 5.0, run: 1.0}, limits, lambda _: 1.0)
    assert not two.book({month: 3.0, run: 1.5}, limits, lambda _: 1.0)
    assert (two.others_book(["another", run]), one.others_book([run])) == (True, False)
    assert two.book({month: 3.0, run: 1.0}, limits, lambda _: 1.0)
    one.book_less({month: 0.0, run: 0.0})
    assert (one.others_book([month]), two.others_book([month])) == (True, False)


CLAIMER = """
import random, sys
from resources.llm.coordination import Coordination
url, name = sys.argv[1:]
keys = [f"k{number:03}" for number in range(240)]
random.Random(name).shuffle(keys)
with Coordination(url) as shared:
    print("ready", flush=True)
    sys.stdin.readline()
    mine = set()
    for start in range(0, len(keys), 12):
        mine |= shared.claim(keys[start : start + 12])
    print(" ".join(sorted(mine)), flush=True)
    sys.stdin.readline()
"""


def test_processes_never_claim_the_same_call(url):
    processes = [started(CLAIMER, url, name) for name in ("one", "two")]
    try:
        for process in processes:
            assert process.stdout is not None
            assert process.stdout.readline() == "ready\n"
        for process in processes:
            assert process.stdin is not None
            process.stdin.write("go\n")
            process.stdin.flush()
        found = [process.stdout.readline().split() for process in processes if process.stdout]
        for process in processes:
            assert process.communicate("end\n", timeout=60)[0] == ""
            assert process.returncode == 0
    finally:
        for process in processes:
            process.kill()
            process.wait()
    claimed = [key for keys in found for key in keys]
    assert len(claimed) == len(set(claimed)) == 240


def test_claims_are_taken_over_from_one_that_was_forgotten_and_came_back(url, clock):
    """As after a long pause of its own: what it claims then is known to be of a living owner."""
    with Coordination(url) as other:
        back = Coordination(url)
        for _ in range(20):
            clock[0] += 4
            other.beat()
        # It was not seen for 80 seconds, and is forgotten.
        assert back.claim(["a"]) == {"a"}
        assert other.claim(["a"]) == set()
        for _ in range(20):
            clock[0] += 4
            other.beat()
        assert other.claim(["a"]) == {"a"}
        back.close()


def test_nobody_is_forgotten_because_the_machine_slept(url, clock):
    with Coordination(url) as one, Coordination(url) as two:
        assert one.claim(["a"]) == {"a"}
        assert one.book({"month": 1.0}, {"month": 1.0}, lambda _: 0.0)
        clock[0] += 8 * 3_600
        two.beat()
        assert two.claim(["a"]) == set()
        assert not two.book({"month": 1.0}, {"month": 1.0}, lambda _: 0.0)
        one.beat()
        clock[0] += 5
        two.beat()
        assert two.claim(["a"]) == set()


Asks = list[tuple[int, list[int], float]]


def asks(least_size: int, most_size: int, most_calls: int) -> st.SearchStrategy[Asks]:
    """Who asks for calls of which sizes, and the seconds until the next does."""
    sizes = st.lists(st.integers(least_size, most_size), min_size=1, max_size=most_calls)
    return st.lists(st.tuples(st.integers(0, 2), sizes, st.floats(0, 0.5)), min_size=3, max_size=40)


def assert_kept_to(
    owners: list[Coordination],
    clock: list[float],
    asks: Asks,
    limits: tuple[float | None, float | None],
) -> None:
    """No more is let through in any time than flows in then and a full bucket holds."""
    name = next(NAMES)
    let_through: list[tuple[float, int, int]] = []
    for owner, sizes, pause in asks:
        grant = owners[owner].take(name, sizes, limits)
        assert grant.calls == len(sizes) or grant.wait_s > 0
        let_through.append((clock[0], grant.calls, sum(sizes[: grant.calls])))
        clock[0] += pause
    # A call that is larger than the bucket waits until the bucket is full.
    largest = (1, max(size for _, sizes, _ in asks for size in sizes))
    for part, rate in enumerate(limits):
        if rate is None:
            continue
        deep = max(DEPTH_S * rate, largest[part])
        for start, (began, *_) in enumerate(let_through):
            through = itertools.accumulate(row[1 + part] for row in let_through[start:])
            for total, (at, *_) in zip(through, let_through[start:], strict=True):
                assert total <= rate * (at - began) + deep + 1e-3


# On a busy machine, examples take long to draw.
PROPERTY = settings(
    max_examples=25,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)


@PROPERTY
@given(rate=st.sampled_from([0.05, 3.0, 100.0, 5_000.0]), asks=asks(10, 10, 80))
def test_no_more_is_let_through_than_the_limit(owners, clock, rate, asks):
    assert_kept_to(owners, clock, asks, (rate, None))


@PROPERTY
@given(rate=st.sampled_from([50.0, 1_000.0, 20_000.0]), asks=asks(1, 3_000, 20))
def test_no_more_tokens_are_let_through_than_the_limit(owners, clock, rate, asks):
    assert_kept_to(owners, clock, asks, (None, rate))


@PROPERTY
@given(asks=asks(1, 400, 20))
@example(asks=[(0, [100] * 20, 0.1)] * 9 + [(1, [300] * 20, 0.1)] * 9)
def test_both_limits_are_kept_to(owners, clock, asks):
    assert_kept_to(owners, clock, asks, (20.0, 2_000.0))


@pytest.mark.parametrize("rate", [0.05, 0.4, 3.9, 4.1, 30.0, 2_000.0])
def test_who_asks_again_when_told_to_gets_the_whole_limit(owners, clock, rate):
    """Also three calls a minute."""
    seconds = max(10.0, 30 / rate)
    name, began, got = next(NAMES), clock[0], 0
    while clock[0] < began + seconds:
        grant = owners[0].take(name, [1] * 256, (rate, None))
        got += grant.calls
        clock[0] += min(max(grant.wait_s, 0.02), 1.0)
    assert 0.97 * rate * seconds <= got <= rate * seconds + max(DEPTH_S * rate, 1) + 1


@pytest.mark.parametrize(
    ("pauses", "share"),
    [
        ([0.02] * 2, 0.9),
        ([0.02] * 5, 0.9),
        # A process that gets little of a busy machine asks less often than the others.
        ([0.02, 0.06], 0.9),
        ([0.02, 0.02, 0.08], 0.8),
    ],
)
def test_many_users_have_equal_shares_of_the_whole(owners, clock, pauses, share):
    rate, seconds, count, name = 200.0, 10.0, len(pauses), next(NAMES)
    rng = random.Random(count)
    got = [0] * count
    asks = [(clock[0] + rng.random() * 0.02, place) for place in range(count)]
    end = clock[0] + seconds
    heapq.heapify(asks)
    while asks[0][0] < end:
        clock[0], place = heapq.heappop(asks)
        grant = owners[place].take(name, [1] * 256, (rate, None))
        got[place] += grant.calls
        # No process is exactly on time.
        wait = min(max(grant.wait_s, pauses[place]), 1.0) + rng.random() * 0.005
        heapq.heappush(asks, (clock[0] + wait, place))
    assert sum(got) >= 0.95 * rate * seconds
    assert min(got) >= share * sum(got) / count


@pytest.mark.parametrize("wanted", [0, 2])
def test_what_one_user_leaves_the_others_take(owners, clock, wanted):
    """One asks for little or nothing, though it is there."""
    rate, turns, name, got = 200.0, 250, next(NAMES), 0
    for turn in range(turns):
        got += owners[0].take(name, [1] * 256, (rate, None)).calls
        if turn % 10 == 0:
            got += owners[1].take(name, [1] * wanted, (rate, None)).calls
        clock[0] += 0.02
    assert got >= 0.95 * rate * turns * 0.02


def test_a_limit_that_nobody_used_for_long_is_not_kept_to(url, clock):
    with Coordination(url) as shared:
        shared.learn("limit", requests_per_s=2.0, tokens_per_s=50.0)
        clock[0] += 600
        assert shared.limits("limit") == (2.0, 50.0)
        assert shared.take("limit", [1], (None, None)).calls == 1
        clock[0] += 2 * 3_600
        assert shared.limits("limit") == (None, None)
        assert shared.take("limit", [1] * 99, (None, None)).calls == 99


def test_a_store_in_a_folder_of_odd_characters_is_coordinated_beside_it(tmp_path):
    folder = tmp_path / "a?b%20c"
    url = sa.URL.create("sqlite", database=str(folder / "replies.sqlite"))
    with Coordination(url.render_as_string(hide_password=False)) as shared:
        assert shared.claim(["a"]) == {"a"}
    assert (folder / "coordination.sqlite").exists()

"""Claims, limits and bookings that processes share; on real SQLite files and a real Postgres."""

import heapq
import os
import random
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest
import sqlalchemy as sa
from hypothesis import HealthCheck, given, settings
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


def test_calls_that_an_owner_leaves_behind_are_lost(url):
    with ReplyStore(url) as store:
        with Coordination(url) as one:
            send(store, sent("k", one.owner))
        assert notes(store) == {("k", one.owner): True}


@settings(max_examples=40, deadline=None)
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
    # On SQLite only: Postgres reckons the same, and these 400 turns would take longer there.
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


def started(script: str, *arguments: str) -> "subprocess.Popen[str]":
    return subprocess.Popen(
        [sys.executable, "-c", script, *arguments],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
    )


def test_processes_never_claim_the_same_call(url):
    processes = [started(CLAIMER, url, name) for name in ("one", "two", "three")]
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


def test_claims_are_taken_over_from_one_that_was_forgotten_and_came_back(tmp_path, clock):
    """As after a long pause of its own: what it claims then is known to be of a living owner."""
    url = f"sqlite:///{tmp_path / 'replies.sqlite'}"
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


def test_nobody_is_forgotten_because_the_machine_slept(tmp_path, clock):
    url = f"sqlite:///{tmp_path / 'replies.sqlite'}"
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


def test_both_that_take_each_other_for_gone_go_on(postgres_url, monkeypatch):
    """Two machines that were away from the database: each forgets the other, and neither fails."""
    monkeypatch.setattr(coordination, "_GONE_S", 0.0)
    faults: list[BaseException] = []

    def beat() -> None:
        try:
            with Coordination(postgres_url) as shared:
                for number in range(40):
                    shared.claim([f"k{number}"])
                    shared.beat()
        except BaseException as error:
            faults.append(error)

    threads = [threading.Thread(target=beat) for _ in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
        assert not thread.is_alive()
    assert not faults


def test_what_two_find_out_at_once_is_all_remembered(url):
    def remember(name: str) -> None:
        with Coordination(url) as shared:
            for number in range(15):
                shared.remember("endpoint", {f"{name}{number}": True})

    Coordination(url).close()
    threads = [threading.Thread(target=remember, args=(name,)) for name in "abc"]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    with Coordination(url) as shared:
        assert len(shared.known("endpoint")) == 45


@settings(
    max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(
    rate=st.sampled_from([50.0, 1_000.0, 20_000.0]),
    asks=st.lists(
        st.tuples(
            st.integers(0, 2),
            st.lists(st.integers(1, 3_000), min_size=1, max_size=20),
            st.floats(0, 0.5),
        ),
        min_size=3,
        max_size=30,
    ),
)
def test_no_more_tokens_are_let_through_than_the_limit(tmp_path_factory, monkeypatch, rate, asks):
    now = [1_000_000.0]
    monkeypatch.setattr(coordination.time, "time", lambda: now[0])
    url = f"sqlite:///{tmp_path_factory.mktemp('limit') / 'replies.sqlite'}"
    owners = [Coordination(url) for _ in range(3)]
    let_through: list[tuple[float, int]] = []
    for owner, sizes, pause in asks:
        grant = owners[owner].take("limit", sizes, (None, rate))
        let_through.append((now[0], sum(sizes[: grant.calls])))
        now[0] += pause
    for shared in owners:
        shared.close()
    # A call that is larger than the bucket waits until the bucket is full.
    deep = max([DEPTH_S * rate, *(size for _, sizes, _ in asks for size in sizes)])
    for start, (began, _) in enumerate(let_through):
        tokens = 0
        for at, granted in let_through[start:]:
            tokens += granted
            assert tokens <= rate * (at - began) + deep + 1e-3


@pytest.mark.parametrize("rate", [0.05, 0.4, 3.9, 4.1, 30.0, 2_000.0])
def test_who_asks_again_when_told_to_gets_the_whole_limit(tmp_path, clock, rate):
    """Also three calls a minute."""
    seconds = max(30.0, 30 / rate)
    url = f"sqlite:///{tmp_path / 'replies.sqlite'}"
    with Coordination(url) as shared:
        began, got = clock[0], 0
        while clock[0] < began + seconds:
            grant = shared.take("limit", [1] * 256, (rate, None))
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
def test_many_users_have_equal_shares_of_the_whole(tmp_path, clock, pauses, share):
    rate, seconds, count = 200.0, 10.0, len(pauses)
    rng = random.Random(count)
    url = f"sqlite:///{tmp_path / 'replies.sqlite'}"
    owners = [Coordination(url) for _ in range(count)]
    got = [0] * count
    asks = [(clock[0] + rng.random() * 0.02, place) for place in range(count)]
    end = clock[0] + seconds
    heapq.heapify(asks)
    while asks[0][0] < end:
        clock[0], place = heapq.heappop(asks)
        grant = owners[place].take("limit", [1] * 256, (rate, None))
        got[place] += grant.calls
        # No process is exactly on time.
        wait = min(max(grant.wait_s, pauses[place]), 1.0) + rng.random() * 0.005
        heapq.heappush(asks, (clock[0] + wait, place))
    for shared in owners:
        shared.close()
    assert sum(got) >= 0.95 * rate * seconds
    assert min(got) >= share * sum(got) / count


@pytest.mark.parametrize("wanted", [0, 2])
def test_what_one_user_leaves_the_others_take(tmp_path, clock, wanted):
    """One asks for little or nothing, though it is there."""
    rate, seconds = 200.0, 10.0
    url = f"sqlite:///{tmp_path / 'replies.sqlite'}"
    with Coordination(url) as hungry, Coordination(url) as modest:
        got = 0
        for turn in range(int(seconds / 0.02)):
            got += hungry.take("limit", [1] * 256, (rate, None)).calls
            if turn % 10 == 0:
                got += modest.take("limit", [1] * wanted, (rate, None)).calls
            clock[0] += 0.02
    assert got >= 0.95 * rate * seconds


def test_a_pause_never_becomes_shorter(url):
    with Coordination(url) as shared:
        now = time.time()
        shared.learn("limit", resume_at=now + 20)
        shared.learn("limit", resume_at=now + 5)
        assert shared.take("limit", [1], (100.0, None)).wait_s > 15


def test_a_limit_that_nobody_used_for_long_is_not_kept_to(tmp_path, clock):
    url = f"sqlite:///{tmp_path / 'replies.sqlite'}"
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

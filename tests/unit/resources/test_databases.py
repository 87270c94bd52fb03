"""What SQLite and Postgres do alike; everything else is tested on SQLite alone."""

import threading
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
import sqlalchemy as sa

from resources.llm import coordination, upkeep
from resources.llm.archive import export_replies, import_replies
from resources.llm.coordination import Coordination
from resources.llm.errors import StoreError
from resources.llm.replies_table import LLM_REPLIES
from resources.llm.store import (
    BATCHES,
    READINGS,
    REPLIES,
    SENT_CALLS,
    Flights,
    ReadingRow,
    ReplyStore,
    month_start,
)
from tests.unit.resources import test_archive as archived
from tests.unit.resources.test_reply_store import notes, record, send, sent


@pytest.fixture(params=["sqlite", "postgres"])
def url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    if request.param == "postgres":
        return request.getfixturevalue("postgres_url")
    return f"sqlite:///{tmp_path / 'replies.sqlite'}"


def at_once(*works: Callable[[], None]) -> None:
    """Do works in threads of their own; none may fail or wait for ever."""
    faults: list[BaseException] = []

    def done(work: Callable[[], None]) -> None:
        try:
            work()
        except BaseException as error:
            faults.append(error)

    threads = [threading.Thread(target=done, args=(work,)) for work in works]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(120)
        assert not thread.is_alive()
    assert not faults


def test_a_reply_comes_back_as_it_was(url):
    kept = record("k", logprobs=((("A", -0.5), (" B", -1.25)),), finish_reason="stop", cost_usd=0.1)
    for _ in range(2):
        with ReplyStore(url) as store:
            store.put(kept)
            replies = store.get_many(["k", "unknown"])
            assert list(replies) == ["k"]
            assert replies["k"].stored
            assert replies["k"].logprobs == kept.reply.logprobs
            assert (replies["k"].text, replies["k"].cost_usd) == ("hello", 0.1)
            assert store.requests(["k", "unknown"]) == {"k": '{"model": "m", "messages": []}'}


@pytest.mark.parametrize(
    ("text", "kept_text"),
    [
        # No database has half characters, and Postgres no NUL.
        ("a\x00b\ud800c", "a\N{REPLACEMENT CHARACTER}b?c"),
        ("漢字 \U0001f600", "漢字 \U0001f600"),
        ("", ""),
        ('quote " and \\ back', 'quote " and \\ back'),
    ],
)
def test_what_is_returned_is_what_is_stored(url, text, kept_text):
    with ReplyStore(url) as store:
        kept = store.put(record("k", text=text, detail="\udfff", request_id="\x00"))
        assert kept.text == store.get_many(["k"])["k"].text == kept_text


def test_the_first_reply_of_a_call_stays(url):
    with ReplyStore(url) as store:
        assert not store.put(record("k", text="first")).stored
        late, other, again = store.put_many(
            [record("k", text="second"), record("other"), record("other", text="later")]
        )
        assert (late.text, late.stored) == ("first", True)
        assert (other.text, other.stored, again.text) == ("hello", False, "hello")
        assert store.get_many(["k"])["k"].text == "first"


def test_the_first_reply_stays_for_both_connections(url):
    """Each gets what is stored, whoever was first."""
    start = threading.Barrier(2)
    kept: dict[str, list[str]] = {}

    def put(text: str) -> None:
        with ReplyStore(url) as store:
            start.wait(60)
            kept[text] = [store.put(record(f"k{n}", text=text)).text for n in range(60)]

    ReplyStore(url).close()
    at_once(lambda: put("1"), lambda: put("2"))
    assert kept["1"] == kept["2"]


def test_replies_and_readings_in_other_orders_never_lock_each_other(url):
    start = threading.Barrier(2)

    def put(order: list[int]) -> None:
        with ReplyStore(url) as store:
            for turn in range(6):
                start.wait(60)
                store.put_many([record(f"{turn}-{number}") for number in order])
                store.put_readings(
                    [ReadingRow(f"{turn}-{n}", "v1", "ok", "[1]", None) for n in order]
                )

    ReplyStore(url).close()
    numbers = list(range(300))
    at_once(lambda: put(numbers), lambda: put(numbers[::-1]))


def test_sixty_thousand_keys_are_looked_up(url):
    with ReplyStore(url) as store:
        store.put_many([record(f"k{number}") for number in range(0, 60_000, 100)])
        assert len(store.get_many([f"k{number}" for number in range(60_000)])) == 600


def test_notes_of_calls_and_what_is_spent_and_lost(url):
    with ReplyStore(url) as store:
        send(store, sent("a"), sent("b"), sent("c", most_usd=None), sent("d", run="run-2"))
        store.put_many([record("a", cost_usd=0.1)], Flights("one", [sent("e")], ended=["b"]))
        send(store, sent("c", "two"))
        assert store.owners_in_flight() == {"one", "two"}
        assert (store.spent(), store.lost_usd()) == (0.1, 0.0)
        store.lose_calls(["one", "unknown"])
        assert notes(store) == {
            ("c", "one"): True, ("d", "one"): True, ("e", "one"): True, ("c", "two"): False,
        }  # fmt: skip
        assert store.spent() == store.spent(since=month_start()) == pytest.approx(1.1)
        assert store.spent(run="run-1", stage="open_tags") == pytest.approx(0.6)
        assert store.lost_usd(run="run-1") == 0.5
        assert store.spent(since=datetime.now(UTC) + timedelta(days=1)) == 0.0
        rows = store.usage_rows()
        assert rows.schema == LLM_REPLIES.schema
        assert sorted(rows["status"]) == ["lost", "lost", "lost", "ok"]


def test_readings_and_means_of_replies(url):
    with ReplyStore(url) as store:
        store.put_many([record("a", completion_tokens=2), record("b", completion_tokens=4)])
        store.put_readings([ReadingRow("a", "v1", "unparsable", None, "no list")])
        # The first reading stays, and only that of the prompt version that asked counts.
        store.put_readings(
            [ReadingRow("a", "v1", "ok", "1", None), ReadingRow("b", "v2", "ok", "1", None)]
        )
        assert store.usage_rows().sort("reply_id")["readable"].to_list() == [False, None]
        measured = store.measured("m", "tagger")
        assert measured is not None
        assert (measured.completion_tokens, measured.latency_s) == (3.0, 0.5)


def test_what_a_batch_became_is_never_missed_in_what_was_spent(url):
    """A batch that is read meanwhile counts as open or with its replies, if not as both."""
    row = {
        "role": "tagger", "stage": "open_tags", "run": "run-1", "model": "m", "most_usd": 1.0,
        "endpoint": "http://host/v1", "state": "created", "created_at": 1,
    }  # fmt: skip
    sums: list[float] = []
    ends = threading.Event()
    with ReplyStore(url) as store, ReplyStore(url) as other:
        with store.database.writing() as connection:
            connection.execute(BATCHES.insert(), [row | {"batch_id": f"b{n}"} for n in range(40)])

        def look() -> None:
            while not ends.is_set():
                sums.append(other.spent(run="run-1"))

        def read() -> None:
            for number in range(40):
                store.put(record(f"k{number}", cost_usd=1.0))
                done = BATCHES.update().where(BATCHES.c.batch_id == f"b{number}")
                with store.database.writing() as connection:
                    connection.execute(done.values(state="done"))
            ends.set()

        at_once(look, read)
    assert sums
    # For a moment one may count as both.
    assert 40 <= min(sums) <= max(sums) <= 41


def test_replies_go_from_one_kind_of_store_into_the_other_and_back(url, tmp_path):
    with (
        ReplyStore(tmp_path / "first" / "replies.sqlite") as first,
        ReplyStore(url) as store,
        ReplyStore(tmp_path / "third" / "replies.sqlite") as third,
    ):
        archived.fill(first)
        export_replies(first, tmp_path / "replies.parquet")
        assert import_replies(store, str(tmp_path / "replies.parquet")).new == 12
        assert import_replies(store, str(tmp_path / "replies.parquet")).already_there == 12
        assert import_replies(third, url).new == 12
        for table in (REPLIES, READINGS):
            assert archived.rows(first, table) == archived.rows(store, table)
            assert archived.rows(first, table) == archived.rows(third, table)


def test_upkeep_drops_what_it_is_told_to_and_nothing_else(url):
    with ReplyStore(url) as store:
        archived.fill(store)
        store.put(archived.record(20, status="truncated", cost_usd=0.5))
        send(store, sent("k"))
        assert len(upkeep.find_replies(store, archived.key(3)[:8].upper())) == 1
        before = [{**row, "raw": None} for row in archived.rows(store)]
        upkeep.compact(store)
        assert (upkeep.size_of(store).replies, upkeep.drop_raw(store)) == (13, 13)
        assert archived.rows(store) == before
        # One of them was not readable, one is truncated.
        assert upkeep.unusable(store).replies == upkeep.drop_unusable(store) == 2
        assert upkeep.size_of(store).bytes > 0
        assert len(archived.rows(store)) == 11
        assert len(archived.rows(store, SENT_CALLS)) == 1


def test_a_call_is_claimed_by_one_as_long_as_that_lives(url):
    with Coordination(url) as two:
        with Coordination(url) as one:
            assert one.claim(["a", "b"]) == {"a", "b"}
            assert two.claim(["b", "c"]) == {"c"}
            assert one.claim(["a"]) == {"a"}
            # Only one's own can be given back.
            two.claim([], release=["a"])
            assert two.claim(["a"]) == set()
            one.claim([], release=["a"])
            assert two.claim(["a"]) == {"a"}
            with ReplyStore(url) as store:
                send(store, sent("b", one.owner))
        assert two.claim(["b"]) == {"b"}
        with ReplyStore(url) as store:
            assert notes(store) == {("b", one.owner): True}


def test_overlapping_claims_in_other_orders_never_lock_each_other(url):
    keys = [f"k{number:03}" for number in range(200)]
    claimed: list[set[str]] = []
    done = threading.Barrier(2)

    def claim(mine: list[str]) -> None:
        with Coordination(url) as shared:
            portions = [mine[start : start + 20] for start in range(0, len(mine), 20)]
            claimed.append(set().union(*map(shared.claim, portions)))
            done.wait(60)

    at_once(lambda: claim(keys), lambda: claim(keys[::-1]))
    one, two = claimed
    assert not one & two
    assert one | two == set(keys)


def test_both_that_take_each_other_for_gone_go_on(url, monkeypatch):
    """Machines that were away from the database: each forgets the others, and none fails."""
    monkeypatch.setattr(coordination, "_GONE_S", 0.0)

    def beat() -> None:
        with Coordination(url) as shared:
            for number in range(20):
                shared.claim([f"k{number}"])
                shared.beat()

    at_once(beat, beat, beat)


def test_a_limit_a_pause_and_bookings_hold_for_all(url, monkeypatch):
    now = [1_000_000.0]
    monkeypatch.setattr(coordination.time, "time", lambda: now[0])
    with Coordination(url) as one, Coordination(url) as two:
        # 1,000 tokens a second: a quarter of a second holds two calls of 100.
        assert one.take("tokens", [100] * 5, (None, 1_000.0)).calls == 2
        now[0] += 0.1
        # Each had 100 tokens more than was expected.
        assert one.take("tokens", [100], (None, 1_000.0), 200.0).calls == 0
        now[0] += 0.25
        assert one.take("tokens", [100], (None, 1_000.0)).calls == 1
        one.learn("limit", requests_per_s=100.0, resume_at=now[0] + 3)
        one.learn("limit", resume_at=now[0] + 1)
        assert two.limits("limit") == (100.0, None)
        grant = two.take("limit", [1], (None, None))
        assert (grant.calls, grant.wait_s) == (0, pytest.approx(3, abs=0.5))
        now[0] += 4
        assert two.take("limit", [1], (None, None)).calls == 1
        assert one.book({"month": 5.0}, {"month": 9.0}, lambda _: 0.0)
        assert two.others_book(["month"])
        assert not two.book({"month": 5.0}, {"month": 9.0}, lambda _: 0.0)
        one.book_less({"month": 4.0})
        assert two.book({"month": 5.0}, {"month": 9.0}, lambda _: 0.0)


def test_what_several_find_out_at_once_is_all_remembered(url):
    def remember(name: str) -> None:
        with Coordination(url) as shared:
            for number in range(10):
                shared.remember("endpoint", {f"{name}{number}": {"seed": False}})

    Coordination(url).close()
    at_once(lambda: remember("a"), lambda: remember("b"), lambda: remember("c"))
    with Coordination(url) as shared:
        assert len(shared.known("endpoint")) == 30
        assert shared.known("endpoint")["b7"] == {"seed": False}
        shared.forget_endpoint("endpoint")
        assert shared.known("endpoint") == {}


def test_a_postgres_store_of_the_second_release_is_taken_over(postgres_url):
    with ReplyStore(postgres_url) as store:
        store.put(record("k", cost_usd=0.2))
        with store.database.writing() as connection:
            connection.exec_driver_sql("drop table sent_calls")
            connection.exec_driver_sql("update opencs_store set version = 2")
    for _ in range(2):
        with ReplyStore(postgres_url) as store:
            assert store.get_many(["k"])["k"].text == "hello"
            assert (store.spent(), notes(store)) == (0.2, {})


def end_connection(store: ReplyStore, mine: sa.Connection) -> None:
    """As when the server is restarted: the connection ends in the middle."""
    pid = mine.exec_driver_sql("select pg_backend_pid()").scalar_one()
    with store.database.reading() as other:
        other.exec_driver_sql(f"select pg_terminate_backend({pid})")
    mine.exec_driver_sql("select 1")


def test_a_server_that_ends_the_connection_is_a_clear_failure(postgres_url):
    with ReplyStore(postgres_url) as store:
        store.put(record("k"))
        with pytest.raises(StoreError, match="check replies_url"), store.database.writing() as mine:
            end_connection(store, mine)
        assert store.put(record("another")).text == "hello"

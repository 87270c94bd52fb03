import shutil
import sqlite3
import subprocess
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import polars as pl
import pytest
import sqlalchemy as sa

from resources.llm import database
from resources.llm.errors import StoreError
from resources.llm.replies_table import LLM_REPLIES
from resources.llm.store import (
    BATCHES,
    CHUNK,
    REPLIES,
    SENT_CALLS,
    Flights,
    ReadingRow,
    Record,
    ReplyStore,
    SentCall,
    month_start,
)
from resources.llm.types import Reply

FIRST_RELEASE = """
create table replies (
    reply_id text primary key, role text not null, stage text not null, dataset text, run text,
    model text not null, provider text not null, endpoint text not null,
    prompt_version text not null, status text not null, text text not null, detail text,
    logprobs text, finish_reason text, prompt_bytes integer not null,
    prompt_tokens integer not null, completion_tokens integer not null, cost_usd real,
    latency_s real not null, request text not null, created_at integer not null
) strict;
create index replies_by_model on replies (model, role, created_at);
create index replies_by_run on replies (run) where run is not null;
pragma user_version = 1;
"""

SECOND_RELEASE = """
create table replies (
    reply_id text not null, role text not null, stage text not null, dataset text, run text,
    model text not null, provider text not null, endpoint text not null,
    prompt_version text not null, status text not null, text text not null, detail text,
    logprobs text, finish_reason text, prompt_bytes bigint not null,
    prompt_tokens bigint not null, completion_tokens bigint not null, cost_usd double,
    latency_s double not null, request text not null, created_at bigint not null,
    cached_tokens bigint default '0' not null, request_id text, raw text,
    via text default 'call' not null, primary key (reply_id)
);
create index replies_by_spender on replies (run, stage, cost_usd);
create index replies_by_model on replies (model, role, created_at);
create index replies_by_time on replies (created_at, cost_usd);
create table readings (
    reply_id text not null, prompt_version text not null, status text not null, value text,
    detail text, primary key (reply_id, prompt_version)
);
create table batches (
    batch_id text not null, role text not null, stage text not null, dataset text, run text,
    model text not null, endpoint text not null, state text not null, file_id text,
    provider_id text, most_usd double, detail text, created_at bigint not null,
    primary key (batch_id)
);
create table batch_calls (
    batch_id text not null, reply_id text not null, primary key (batch_id, reply_id)
);
create index batch_calls_by_reply on batch_calls (reply_id);
create table opencs_store (version integer not null, primary key (version));
pragma user_version = 2;
"""


def sent(
    key: str, owner: str = "one", most_usd: float | None = 0.5, run: str = "run-1"
) -> SentCall:
    return SentCall(
        reply_id=key,
        owner=owner,
        role="tagger",
        stage="open_tags",
        dataset="sample",
        run=run,
        model="m",
        provider="host",
        endpoint="http://host/v1",
        prompt_version="v1",
        most_usd=most_usd,
    )


def send(store: ReplyStore, *sent_calls: SentCall) -> None:
    """Note calls of one owner."""
    store.put_many([], Flights(sent_calls[0].owner, sent_calls))


def notes(store: ReplyStore) -> dict[tuple[str, str], bool]:
    """Whether each call that is noted, by key and owner, is lost."""
    with store.database.reading() as connection:
        rows = connection.execute(sa.select(SENT_CALLS)).mappings().all()
    return {(row["reply_id"], row["owner"]): row["lost_at"] is not None for row in rows}


def record(key: str, **reply: object) -> Record:
    values = {"text": "hello", "prompt_tokens": 10, "completion_tokens": 4, "latency_s": 0.5}
    return Record(
        reply=Reply(key, "ok", **{**values, **reply}),  # type: ignore[arg-type]
        role="tagger",
        stage="open_tags",
        dataset="sample",
        run="run-1",
        model="m",
        provider="host",
        endpoint="http://host/v1",
        prompt_version="v1",
        request='{"model": "m", "messages": []}',
        prompt_bytes=40,
    )


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "llm" / "replies.sqlite"


@pytest.fixture
def store(path: Path) -> Iterator[ReplyStore]:
    with ReplyStore(path) as opened:
        yield opened


def _only_reading(connection: sa.Connection) -> None:
    connection.exec_driver_sql("pragma query_only = on")


def test_it_is_there_after_reopening(path):
    with ReplyStore(path) as store:
        store.put_many([record(f"k{number}") for number in range(CHUNK + 1)])
    with ReplyStore(path) as store:
        assert len(store.get_many([f"k{number}" for number in range(2 * CHUNK)])) == CHUNK + 1


def test_unusable_replies_are_kept_as_such(store):
    store.put(replace(record("k"), reply=Reply("k", "truncated", text='["a')))
    assert store.get_many(["k"])["k"].status == "truncated"


def test_usage_rows_fit_the_table_and_hold_no_text(store):
    assert store.usage_rows().schema == LLM_REPLIES.schema
    store.put_many([record("a", cost_usd=0.2), record("b")])
    rows = store.usage_rows()
    assert rows.schema == LLM_REPLIES.schema
    assert rows["cost_usd"].to_list() == [0.2, None]
    assert "hello" not in rows.write_csv()
    age = pl.select(pl.lit(rows["created_at"][0]) - pl.lit(0).cast(pl.Datetime("us", "UTC"))).item()
    assert age.days > 20_000


def test_what_a_run_spent(store):
    store.put_many([record("a", cost_usd=0.2), record("b", cost_usd=0.3), record("c")])
    for scope in ({}, {"run": "run-1"}, {"run": "run-1", "stage": "open_tags"}):
        assert store.spent(**scope) == store.spent(**scope, since=month_start()) == 0.5
    for scope in ({"run": "another"}, {"run": "run-1", "stage": "single_scores"}):
        assert store.spent(**scope) == 0.0
    (created_at,) = {row.timestamp() for row in store.usage_rows()["created_at"]}
    moment = datetime.fromtimestamp(created_at, UTC)
    assert store.spent(since=moment) == 0.5
    assert store.spent(since=moment + timedelta(microseconds=1)) == 0.0


def test_a_month_begins_at_its_first_midnight_in_utc():
    assert month_start(datetime(2026, 11, 30, 23, 59, tzinfo=UTC)) == datetime(
        2026, 11, 1, tzinfo=UTC
    )


def test_an_open_batch_counts_as_spent_until_it_is_read(store):
    row = {
        "batch_id": "b", "role": "tagger", "stage": "open_tags", "run": "run-1", "model": "m",
        "endpoint": "http://host/v1", "state": "created", "most_usd": 2.0,
        "created_at": time.time_ns() // 1_000,
    }  # fmt: skip
    with store.database.writing() as connection:
        connection.execute(BATCHES.insert(), row)
    assert store.spent(run="run-1") == 2.0
    with store.database.writing() as connection:
        connection.execute(BATCHES.update().values(state="done"))
    assert store.spent(run="run-1") == 0.0


def test_what_was_read_is_seen_in_the_usage(store):
    store.put_many([record("a"), record("b"), record("c")])
    store.put_readings(
        [
            ReadingRow("a", "v1", "ok", "[1]", None),
            ReadingRow("b", "v1", "unparsable", None, "no list"),
            ReadingRow("c", "another version", "ok", "[1]", None),
        ]
    )
    rows = store.usage_rows().sort("reply_id")
    assert rows["readable"].to_list() == [True, False, None]


ROW_OF_THE_FIRST = (
    "('k', 'tagger', 'open_tags', 'd', 'r', 'm', 'h', 'http://h', 'v1', 'ok', 'hello', null, "
    "'[[[\"A\", -0.5]]]', 'stop', 40, 10, 4, 0.2, 0.5, '{}', 7"
)


@pytest.mark.parametrize(
    ("release", "row", "via"),
    [
        (FIRST_RELEASE, ROW_OF_THE_FIRST, "call"),
        (SECOND_RELEASE, f"{ROW_OF_THE_FIRST}, 1, 'id', '{{}}', 'batch'", "batch"),
    ],
    ids=["first", "second"],
)
def test_a_store_of_an_earlier_release_is_taken_over(tmp_path, release, row, via):
    path = tmp_path / "replies.sqlite"
    with sqlite3.connect(path) as old:
        old.executescript(release)
        old.execute(f"insert into replies values {row})")
        before = old.execute("select * from replies").fetchall()
    old.close()
    for _ in range(2):
        with ReplyStore(path) as store:
            reply = store.get_many(["k"])["k"]
            assert (reply.text, reply.cost_usd, reply.logprobs) == ("hello", 0.2, ((("A", -0.5),),))
            assert set(store.usage_rows()["via"]) == {via}
            assert (store.spent(run="r"), store.lost_usd(), notes(store)) == (0.2, 0.0, {})
            indexes = sa.inspect(store.database.engine).get_indexes("replies")
            assert {index.name for index in REPLIES.indexes} <= {row["name"] for row in indexes}
    with ReplyStore(path) as store:
        send(store, sent("k2"))
        assert notes(store) == {("k2", "one"): False}
        assert store.put(record("new")).text == "hello"
    raw = sqlite3.connect(path)
    kept = raw.execute("select * from replies where reply_id = 'k'").fetchall()
    assert [row[: len(before[0])] for row in kept] == before
    assert raw.execute("pragma user_version").fetchone() == (3,)


def test_a_note_stands_until_the_reply_is_kept_or_the_call_ends(store):
    send(store, sent("a"), sent("b"), sent("c"))
    store.put_many([record("a", cost_usd=0.1)], Flights("one", [sent("d")], ended=["b"]))
    assert notes(store) == {("c", "one"): False, ("d", "one"): False}
    # A call may end and be sent once more in one step.
    store.put_many([], Flights("one", [sent("c")], ended=["c", "d"]))
    assert notes(store) == {("c", "one"): False}
    # What lives is booked, and not spent.
    assert (store.spent(), store.lost_usd()) == (0.1, 0.0)
    assert store.usage_rows()["status"].to_list() == ["ok"]


def test_only_its_owner_ends_a_note(store):
    send(store, sent("k", "one"))
    store.lose_calls(["one"])
    send(store, sent("k", "two"))
    store.put_many([record("k", cost_usd=0.1)], Flights("two"))
    assert notes(store) == {("k", "one"): True}
    assert store.spent() == pytest.approx(0.6)
    # An owner that was taken for dead has its reply after all, though another's was first.
    store.put_many([record("k", cost_usd=0.2)], Flights("one"))
    assert notes(store) == {}
    assert store.spent() == pytest.approx(0.1)


def test_lost_calls_count_as_spent_in_every_scope(store):
    store.put(record("k", cost_usd=0.1))
    send(store, sent("a"), sent("b", most_usd=None), sent("c", run="run-2"))
    send(store, sent("d", "living"))
    store.lose_calls(["one", "unknown"])
    store.lose_calls([])
    assert store.spent() == pytest.approx(1.1)
    assert store.spent(run="run-1", stage="open_tags") == pytest.approx(0.6)
    assert store.spent(since=month_start()) == pytest.approx(1.1)
    tomorrow = datetime.now(UTC) + timedelta(days=1)
    assert (store.spent(since=tomorrow), store.lost_usd(since=tomorrow)) == (0.0, 0.0)
    assert store.lost_usd(run="run-1") == 0.5
    assert store.owners_in_flight() == {"living"}


def test_the_ledger_has_a_row_of_each_lost_call(store):
    store.put(record("a", cost_usd=0.1))
    for owner in ("one", "two"):
        send(store, sent("a", owner), sent("b", owner, most_usd=None))
    store.lose_calls(["one", "two"])
    rows = store.usage_rows()
    assert rows.schema == LLM_REPLIES.schema
    assert rows["reply_id"].n_unique() == 5
    lost = rows.filter(status="lost")
    assert lost["reply_id"].str.starts_with("lost:").all()
    assert sorted(lost["cost_usd"].fill_null(-1)) == [-1, -1, 0.5, 0.5]
    assert lost.select("prompt_tokens", "completion_tokens").sum().row(0) == (0, 0)


def test_measured_means(store):
    assert store.measured("m", "tagger") is None
    store.put_many([record("a", completion_tokens=2), record("b", completion_tokens=4)])
    measured = store.measured("m", "tagger")
    assert measured is not None
    assert (measured.completion_tokens, measured.latency_s) == (3.0, 0.5)
    assert measured.tokens_per_byte == 0.25
    assert store.measured("m", "judge") is None


def test_many_threads_and_connections(path):
    def write(worker: int) -> None:
        with ReplyStore(path) as store:
            for number in range(10):
                store.put(record(f"{worker}-{number}"))

    with ThreadPoolExecutor(6) as threads:
        list(threads.map(write, range(6)))
    with ReplyStore(path) as store:
        assert store.usage_rows().height == 60


def test_a_damaged_file_is_named(tmp_path):
    path = tmp_path / "replies.sqlite"
    path.write_bytes(b"this is no database" * 100)
    with pytest.raises(StoreError, match=r"replies\.sqlite.*damaged"):
        ReplyStore(path)


def test_a_file_damaged_in_the_middle_is_named(tmp_path):
    path = tmp_path / "replies.sqlite"
    with ReplyStore(path) as store:
        store.put_many([record(f"k{number}", text="x" * 900) for number in range(100)])
    data = bytearray(path.read_bytes())
    data[4096 : len(data) - 4096] = b"\xff" * (len(data) - 8192)
    path.write_bytes(data)
    with ReplyStore(path) as store, pytest.raises(StoreError, match="damaged"):
        store.usage_rows()


def test_a_store_of_another_version_is_refused(tmp_path):
    connection = sqlite3.connect(tmp_path / "replies.sqlite")
    connection.execute("pragma user_version = 4")
    connection.close()
    with pytest.raises(StoreError, match="version 4, this is version 3"):
        ReplyStore(tmp_path / "replies.sqlite")


def test_a_locked_store_is_a_clear_failure(monkeypatch, path):
    monkeypatch.setattr(database, "BUSY_S", 0.05)
    with ReplyStore(path) as store:
        store.put(record("before"))
        other = sqlite3.connect(path, isolation_level=None)
        other.execute("begin immediate")
        with pytest.raises(StoreError, match="another process holds it"):
            store.put(record("k"))
        assert "before" in store.get_many(["before"])
        other.close()
        store.put(record("k"))


def test_a_folder_that_cannot_be_made_is_a_clear_failure(tmp_path):
    blocker = tmp_path / "file"
    blocker.write_text("")
    with pytest.raises(StoreError, match="OPENCS_HOME"):
        ReplyStore(blocker / "llm" / "replies.sqlite")


def test_a_store_that_can_only_be_read(tmp_path):
    path = tmp_path / "replies.sqlite"
    with ReplyStore(path) as store:
        store.put(record("before"))
        sa.event.listen(store.database.engine, "begin", _only_reading)
        with pytest.raises(StoreError, match="writable"):
            store.put(record("k"))
        assert store.get_many(["before"])


def test_a_path_may_have_characters_that_mean_something_in_a_url(tmp_path):
    path = tmp_path / "a?b%20c#d" / "replies.sqlite"
    with ReplyStore(path) as store:
        store.put(record("k"))
        url = store.url
    assert path.exists()
    with ReplyStore(url) as store:
        assert store.get_many(["k"])


@pytest.mark.parametrize(
    "url",
    [
        "postgresql+psycopg://u:hush-hush@127.0.0.1:9/none",
        "postgresql+psycopg://127.0.0.1:9/none?user=u&password=hush-hush",
        "postgresql+psycopg://u:x@hush-hush@127.0.0.1:9/none",
        "postgresql+psycopg://u:x@127.0.0.1:hush-hush/none",
        "mysterydb://u:hush-hush@host/none",
    ],
)
def test_no_part_of_a_password_is_told(url):
    with pytest.raises(StoreError) as told:
        ReplyStore(url)
    assert "hush" not in str(told.value)
    with pytest.raises(StoreError, match="replies_url is not usable"):
        ReplyStore("nonsense")


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A disk of a megabyte."""
    folder = tmp_path / "disk"
    folder.mkdir()
    mount = shutil.which("mount")
    made = mount and subprocess.run(
        [mount, "-t", "tmpfs", "-o", "size=1m", "none", str(folder)],
        capture_output=True,
        check=False,
    )
    if not made or made.returncode:
        pytest.skip("no file system can be mounted here")
    yield folder
    subprocess.run(["umount", "--lazy", str(folder)], check=True)


def test_a_full_disk_is_a_clear_failure_and_loses_nothing(small_disk):
    with ReplyStore(small_disk / "replies.sqlite") as store:
        kept = 0

        def fill() -> None:
            nonlocal kept
            while True:
                store.put(record(f"k{kept}", text="x" * 20_000))
                kept += 1

        with pytest.raises(StoreError, match="free disk space"):
            fill()
        assert kept
        assert len(store.get_many([f"k{number}" for number in range(kept + 1)])) == kept
    subprocess.run(["mount", "-o", "remount,size=8m", str(small_disk)], check=True)
    with ReplyStore(small_disk / "replies.sqlite") as store:
        assert store.put(record("after")).text == "hello"
        assert len(store.get_many([f"k{number}" for number in range(kept)])) == kept


def test_a_disk_without_any_space_is_a_clear_failure(small_disk):
    (small_disk / "filler").write_bytes(b"x" * 1_048_576)
    with pytest.raises(StoreError, match="free disk space"):
        ReplyStore(small_disk / "replies.sqlite")


def test_a_disk_that_can_only_be_read_is_a_clear_failure(small_disk):
    with ReplyStore(small_disk / "replies.sqlite") as store:
        store.put(record("k"))
    subprocess.run(["mount", "-o", "remount,ro", str(small_disk)], check=True)
    with (
        pytest.raises(StoreError, match="writable"),
        ReplyStore(small_disk / "replies.sqlite") as store,
    ):
        store.put(record("another"))

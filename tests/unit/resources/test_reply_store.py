import sqlite3
import threading
from pathlib import Path

import polars as pl
import pytest

from opencs_assets.schemas import LLM_REPLIES
from resources.llm.errors import StoreError
from resources.llm.store import Record, ReplyStore
from resources.llm.types import Reply


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
        request={"model": "m", "messages": []},
        prompt_bytes=40,
    )


@pytest.fixture
def store(tmp_path):
    with ReplyStore(tmp_path / "llm" / "replies.sqlite") as opened:
        yield opened


def test_a_reply_comes_back_as_it_was(store):
    kept = record("k", logprobs=((("A", -0.5), (" B", -1.25)),), finish_reason="stop", cost_usd=0.1)
    store.put(kept)
    found = store.get_many(["k", "unknown"])
    assert list(found) == ["k"]
    assert found["k"].stored
    assert found["k"].logprobs == kept.reply.logprobs
    assert found["k"].text == "hello"
    assert found["k"].cost_usd == 0.1


def test_it_is_there_after_reopening(tmp_path):
    path = tmp_path / "replies.sqlite"
    with ReplyStore(path) as store:
        store.put_many([record(f"k{number}") for number in range(12_000)])
    with ReplyStore(path) as store:
        assert len(store.get_many([f"k{number}" for number in range(20_000)])) == 12_000


def test_the_first_reply_of_a_call_stays(store):
    assert not store.put(record("k", text="first")).stored
    late, other = store.put_many([record("k", text="second"), record("other")])
    assert (late.text, late.stored) == ("first", True)
    assert not other.stored
    assert store.get_many(["k"])["k"].text == "first"


def test_unusable_replies_are_kept_as_such(store):
    store.put(Record(**{**vars(record("k")), "reply": Reply("k", "truncated", text='["a')}))
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
    assert store.spent("run-1") == pytest.approx(0.5)
    assert store.spent("another") == 0.0


def test_measured_means(store):
    assert store.measured("m", "tagger") is None
    store.put_many([record("a", completion_tokens=2), record("b", completion_tokens=4)])
    measured = store.measured("m", "tagger")
    assert measured is not None
    assert (measured.replies, measured.completion_tokens, measured.latency_s) == (2, 3.0, 0.5)
    assert measured.tokens_per_byte == 0.25
    assert store.measured("m", "judge") is None


def test_many_threads_and_connections(tmp_path):
    path = tmp_path / "replies.sqlite"
    faults: list[BaseException] = []

    def write(worker: int) -> None:
        try:
            with ReplyStore(path) as store:
                for number in range(25):
                    store.put(record(f"{worker}-{number}"))
        except BaseException as error:
            faults.append(error)

    threads = [threading.Thread(target=write, args=(worker,)) for worker in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not faults
    with ReplyStore(path) as store:
        assert store.usage_rows().height == 150


def test_a_damaged_file_is_named(tmp_path):
    path = tmp_path / "replies.sqlite"
    path.write_bytes(b"this is no database" * 100)
    with pytest.raises(StoreError, match=r"replies\.sqlite.*damaged"):
        ReplyStore(path)


def test_a_file_damaged_in_the_middle_is_named(tmp_path):
    path = tmp_path / "replies.sqlite"
    with ReplyStore(path) as store:
        store.put_many([record(f"k{number}", text="x" * 900) for number in range(500)])
    data = bytearray(path.read_bytes())
    data[4096 : len(data) - 4096] = b"\xff" * (len(data) - 8192)
    path.write_bytes(data)
    with ReplyStore(path) as store, pytest.raises(StoreError, match="damaged"):
        store.usage_rows()


def test_a_store_of_another_version_is_refused(tmp_path):
    path = tmp_path / "replies.sqlite"
    connection = sqlite3.connect(path)
    connection.execute("pragma user_version = 99")
    connection.close()
    with pytest.raises(StoreError, match="version 99"):
        ReplyStore(path)


def test_a_locked_store_is_a_clear_failure(store, monkeypatch, tmp_path):
    store.put(record("before"))
    store._db.execute("pragma busy_timeout = 50")
    other = sqlite3.connect(tmp_path / "llm" / "replies.sqlite", isolation_level=None)
    other.execute("begin immediate")
    with pytest.raises(StoreError, match="another process holds it"):
        store.put(record("k"))
    assert "before" in store.get_many(["before"])
    other.execute("rollback")
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
        store._db.execute("pragma query_only = on")
        with pytest.raises(StoreError, match="writable"):
            store.put(record("k"))


def test_paths_are_where_they_are_said(tmp_path):
    path = tmp_path / "deep" / "er" / "replies.sqlite"
    ReplyStore(path).close()
    assert Path(path).exists()

"""Replies out of stores, into stores, and what is done to a store."""

import gzip
import hashlib
import json
import random
import sqlite3
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

import polars as pl
import pyarrow.parquet as pq
import pytest
import sqlalchemy as sa

from resources.llm import archive, database, upkeep
from resources.llm.archive import ArchiveError, export_replies, import_replies
from resources.llm.errors import LLMError, StoreError
from resources.llm.store import READINGS, REPLIES, SENT_CALLS, ReadingRow, Record, ReplyStore
from resources.llm.types import Reply
from tests.unit.resources.test_reply_store import send, sent

FORMS = ["replies.parquet", "replies.jsonl", "replies.jsonl.gz"]


def key(number: int) -> str:
    return hashlib.sha256(str(number).encode()).hexdigest()


def record(number: int, *, dataset: str = "d", stage: str = "open_tags", **reply: object) -> Record:
    chance = random.Random(number)
    given = {
        "status": "ok",
        "text": f'täg {number} "\n\t\N{PILE OF POO}',
        "logprobs": ((("A", -chance.random()), (" B", -1.25)),) if number % 2 else (),
        "finish_reason": "stop",
        "prompt_tokens": 10 + number,
        "completion_tokens": 4,
        "cost_usd": None if number % 5 == 4 else chance.random() / 1000,
        "latency_s": chance.random(),
        "cached_tokens": number,
        "request_id": f"req-{number}",
    }
    return Record(
        reply=Reply(key(number), **{**given, **reply}),  # type: ignore[arg-type]
        role="tagger",
        stage=stage,
        dataset=dataset,
        run="run-1",
        model="m",
        provider="host",
        endpoint="http://host/v1",
        prompt_version="v1",
        request=json.dumps({"model": "m", "messages": [{"role": "user", "content": "secret"}]}),
        prompt_bytes=40,
        raw=json.dumps({"choices": [], "number": number}),
        via="batch" if number % 3 else "call",
    )


def fill(store: ReplyStore, count: int = 12) -> None:
    """Replies that came at different times, and what was read from most of them."""
    for number in range(count):
        store.put(record(number))
    store.put_readings(
        [ReadingRow(key(n), "v1", "ok", json.dumps(["a", n]), None) for n in range(0, count, 2)]
        + [ReadingRow(key(1), "v1", "unparsable", None, "no list")]
    )


def rows(store: ReplyStore, table: sa.Table = REPLIES) -> list[dict]:
    with store.database.reading() as connection:
        found = connection.execute(sa.select(table).order_by(*table.primary_key.columns))
        return [dict(row) for row in found.mappings()]


@pytest.fixture
def store(tmp_path: Path):
    with ReplyStore(tmp_path / "replies.sqlite") as opened:
        yield opened


@pytest.fixture
def other(tmp_path: Path):
    with ReplyStore(tmp_path / "other" / "replies.sqlite") as opened:
        yield opened


@pytest.mark.parametrize("form", FORMS)
def test_what_goes_out_comes_in_as_it_was(store, other, tmp_path, form):
    fill(store)
    file = tmp_path / "out" / form
    written = export_replies(store, file)
    assert (written.replies, written.bytes) == (12, file.stat().st_size)
    assert list(file.parent.iterdir()) == [file]

    found = import_replies(other, str(file))
    assert (found.new, found.already_there, found.rejected) == (12, 0, 0)
    assert rows(other) == rows(store)
    assert rows(other, READINGS) == rows(store, READINGS)
    again = import_replies(other, str(file))
    assert (again.new, again.already_there, again.rejected) == (0, 12, 0)
    assert rows(other) == rows(store)


def test_another_store_is_a_source_by_path_and_by_url(store, other, tmp_path):
    fill(store)
    url = store.url
    assert import_replies(other, url).new == 12
    assert rows(other) == rows(store)
    with ReplyStore(tmp_path / "third.sqlite") as third:
        found = import_replies(third, str(tmp_path / "other" / "replies.sqlite"))
        assert (found.new, found.rejected) == (12, 0)
        assert rows(third, READINGS) == rows(store, READINGS)
    assert import_replies(store, url).already_there == 12


def test_a_store_of_an_older_version_is_read_and_left_as_it_is(other, tmp_path):
    path = tmp_path / "old.sqlite"
    with ReplyStore(path) as store:
        fill(store, 3)
    connection = sqlite3.connect(path)
    for name in ("cached_tokens", "request_id", "raw", "via"):
        connection.execute(f"alter table replies drop column {name}")
    for table in ("readings", "batches", "batch_calls"):
        connection.execute(f"drop table {table}")
    connection.execute("pragma user_version = 1")
    connection.commit()
    before = connection.execute("select sql from sqlite_master").fetchall()

    found = import_replies(other, str(path))

    assert (found.new, found.rejected) == (3, 0)
    assert [(row["cached_tokens"], row["via"], row["raw"]) for row in rows(other)] == [
        (0, "call", None)
    ] * 3
    assert connection.execute("select sql from sqlite_master").fetchall() == before
    assert connection.execute("pragma user_version").fetchone() == (1,)


def test_the_first_reply_stays_and_so_does_what_was_read_from_it(store, other, tmp_path):
    fill(store, 3)
    export_replies(store, tmp_path / "a.jsonl")
    other.put(record(0, text="another", cost_usd=1.0))
    found = import_replies(other, str(tmp_path / "a.jsonl"))
    assert (found.new, found.already_there) == (2, 1)
    assert other.get_many([key(0)])[key(0)].text == "another"
    assert {row["reply_id"] for row in rows(other, READINGS)} == {key(1), key(2)}


def test_a_reply_that_stands_twice_is_taken_once(store, other, tmp_path):
    fill(store, 2)
    export_replies(store, tmp_path / "a.jsonl")
    (tmp_path / "b.jsonl").write_bytes((tmp_path / "a.jsonl").read_bytes() * 2)
    found = import_replies(other, str(tmp_path / "b.jsonl"))
    assert (found.new, found.already_there, found.rejected) == (2, 2, 0)


def test_what_is_exported_can_be_chosen(store, tmp_path):
    store.put(record(1, dataset="a"))
    store.put(record(2, dataset="b", stage="single_scores"))
    moment = datetime.now(UTC)
    store.put(record(3, dataset="a", stage="single_scores"))
    file = tmp_path / "out.jsonl"

    def exported(**chosen: object) -> set[str]:
        export_replies(store, file, **chosen)  # type: ignore[arg-type]
        return {json.loads(line)["reply_id"] for line in file.read_text().splitlines()}

    assert exported() == {key(1), key(2), key(3)}
    assert exported(dataset="a") == {key(1), key(3)}
    assert exported(stage="single_scores") == {key(2), key(3)}
    assert exported(since=moment) == {key(3)}
    assert exported(dataset="a", stage="single_scores", since=moment) == {key(3)}
    assert exported(dataset="nothing") == set()


def test_prompts_can_be_left_out_and_replies_are_found_without_them(store, other, tmp_path):
    fill(store, 2)
    file = tmp_path / "out.parquet"
    export_replies(store, file, with_requests=False)
    assert "secret" not in pl.read_parquet(file).write_csv()
    assert import_replies(other, str(file)).new == 2
    assert other.get_many([key(0)])[key(0)].text == record(0).reply.text
    assert upkeep.read_reply(other, key(0)).messages == []


def test_pieces_are_many_and_the_order_is_that_of_time(store, tmp_path, monkeypatch):
    monkeypatch.setattr(archive, "_PIECE_BYTES", 1_000)
    fill(store, 30)
    export_replies(store, tmp_path / "out.parquet")
    assert pq.ParquetFile(tmp_path / "out.parquet").num_row_groups > 5
    created = pl.read_parquet(tmp_path / "out.parquet")["created_at"]
    assert created.is_sorted()
    assert len(created) == 30


def test_an_empty_store_gives_an_empty_archive(store, other, tmp_path):
    for form in FORMS:
        assert export_replies(store, tmp_path / form).replies == 0
        assert import_replies(other, str(tmp_path / form)).new == 0


GOOD = {
    "reply_id": key(1),
    "role": "tagger",
    "stage": "open_tags",
    "model": "m",
    "provider": "h",
    "endpoint": "http://h",
    "prompt_version": "v1",
    "status": "ok",
    "text": "hello",
    "prompt_bytes": 1,
    "prompt_tokens": 1,
    "completion_tokens": 1,
    "latency_s": 1,
    "request": "{}",
    "created_at": 1_700_000_000_000_000,
}


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"model": None}, "model is missing"),
        ({"reply_id": "k"}, "reply_id is not 64 characters"),
        ({"reply_id": key(1).upper()}, "reply_id is not 64 characters"),
        ({"status": "great"}, "status is none of"),
        ({"status": "failed"}, "status is none of garbled, ok, refused, truncated"),
        ({"via": "pigeon"}, "via is none of"),
        ({"text": 7}, "text is no text"),
        ({"prompt_tokens": "1"}, "prompt_tokens is no whole number"),
        ({"prompt_tokens": 1.5}, "prompt_tokens is no whole number"),
        ({"prompt_tokens": True}, "prompt_tokens is no whole number"),
        ({"prompt_tokens": -1}, "prompt_tokens is out of range"),
        ({"prompt_tokens": 2**63}, "prompt_tokens is out of range"),
        ({"cost_usd": -0.1}, "cost_usd is out of range"),
        ({"latency_s": "fast"}, "latency_s is no number"),
        ({"logprobs": "nonsense"}, "logprobs is no list"),
        ({"logprobs": '[[["A"]]]'}, "logprobs is no list"),
        ({"reading_status": "great"}, "reading_status is none of"),
        ({"reading_status": "ok", "reading_value": "{"}, "reading_value is no JSON"),
        ({"reading_value": "1"}, "reading_status is missing"),
    ],
)
def test_rows_that_do_not_fit_are_told_and_the_others_taken(store, tmp_path, change, reason):
    file = tmp_path / "in.jsonl"
    lines = [{**GOOD, **change}, {**GOOD, "reply_id": key(2)}]
    file.write_text("\n".join(json.dumps(line) for line in lines))
    found = import_replies(store, str(file))
    assert (found.new, found.rejected) == (1, 1)
    (told,) = found.reasons
    assert told.startswith(f"line 1: {reason}")
    assert [row["reply_id"] for row in rows(store)] == [key(2)]


def test_lines_that_are_no_rows_are_counted_and_never_quoted(store, tmp_path):
    file = tmp_path / "in.jsonl"
    file.write_text('{"reply_id": \n"secret"\n[1]\n\nnull\n' + "x\n" * 7 + json.dumps(GOOD))
    found = import_replies(store, str(file))
    assert (found.new, found.rejected, len(found.reasons)) == (1, 11, 5)
    assert found.reasons[:2] == ("line 1: is no JSON", "line 2: is no JSON object")
    assert "secret" not in str(found)


def test_columns_that_the_store_does_not_have_are_told(store, tmp_path):
    file = tmp_path / "in.parquet"
    pl.DataFrame([{**GOOD, "latency_s": 1.0, "colour": "red"}]).write_parquet(file)
    found = import_replies(store, str(file))
    assert (found.new, found.unknown_columns) == (1, ("colour",))


def test_a_parquet_file_without_a_needed_column(store, tmp_path):
    file = tmp_path / "in.parquet"
    pl.DataFrame([GOOD, GOOD]).drop("text").write_parquet(file)
    found = import_replies(store, str(file))
    assert (found.rejected, found.reasons[0]) == (2, "row 1: text is missing")


def test_sources_that_can_not_be_read(store, tmp_path):
    fill(store)
    export_replies(store, tmp_path / "a.parquet")
    export_replies(store, tmp_path / "a.jsonl.gz")
    cut_short = tmp_path / "short.jsonl.gz"
    cut_short.write_bytes((tmp_path / "a.jsonl.gz").read_bytes()[:-20])
    broken = tmp_path / "broken.parquet"
    broken.write_bytes((tmp_path / "a.parquet").read_bytes()[:-20])
    no_gzip = tmp_path / "plain.jsonl.gz"
    no_gzip.write_text("{}")
    sqlite3.connect(tmp_path / "empty.sqlite").execute("create table other (a)").close()
    for source, words in [
        (cut_short, "can't be read to its end"),
        (broken, "can't be read to its end"),
        (no_gzip, "can't be read to its end"),
        (tmp_path / "nowhere.parquet", "is not there"),
        (tmp_path / "nowhere.sqlite", "is not there"),
        (f"sqlite:///{tmp_path}/nowhere.sqlite", "is not there"),
        (tmp_path, "is not there, or no file"),
        (tmp_path / "empty.sqlite", "is no reply store"),
        ("nonsense://x", "give an SQLAlchemy URL"),
    ]:
        with pytest.raises(LLMError, match=words):
            import_replies(store, str(source))
    assert not (tmp_path / "nowhere.sqlite").exists()
    (tmp_path / "a.csv").write_text("")
    with pytest.raises(ArchiveError, match=r"must end in \.parquet, \.jsonl"):
        import_replies(store, str(tmp_path / "a.csv"))


def test_files_that_can_not_be_written_leave_nothing(store, tmp_path, monkeypatch):
    fill(store)
    with pytest.raises(ArchiveError, match="must end in"):
        export_replies(store, tmp_path / "a.csv")
    (tmp_path / "file").write_text("")
    with pytest.raises(ArchiveError, match="can't be written"):
        export_replies(store, tmp_path / "file" / "a.parquet")
    before = tmp_path / "out" / "a.jsonl"
    before.parent.mkdir()
    before.write_text("as it was")

    def full(*_: object) -> bytes:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(archive.orjson, "dumps", full)
    with pytest.raises(ArchiveError, match="No space left on device"):
        export_replies(store, before)
    assert [path.read_text() for path in before.parent.iterdir()] == ["as it was"]


def test_gzipped_lines_are_plain_gzip(store, tmp_path):
    fill(store, 2)
    export_replies(store, tmp_path / "a.jsonl.gz")
    with gzip.open(tmp_path / "a.jsonl.gz", "rt") as file:
        first = json.loads(file.readline())
    assert (first["reply_id"], first["reading_status"]) == (key(0), "ok")


def test_compacting_loses_nothing_and_gives_space_back(store):
    for number in range(60):
        store.put(record(number, text="x" * 20_000))
    with store.database.writing() as connection:
        connection.execute(REPLIES.delete().where(REPLIES.c.reply_id > "1"))
    send(store, sent("k"), sent("l", most_usd=None))
    store.lose_calls(["one"])
    before, size = rows(store), upkeep.size_of(store)
    noted = rows(store, SENT_CALLS)
    upkeep.compact(store)
    assert rows(store) == before
    assert rows(store, SENT_CALLS) == noted
    assert len(noted) == 2
    after = upkeep.size_of(store)
    assert after.replies == size.replies
    assert after.bytes < size.bytes / 3


def test_bodies_can_be_forgotten_and_the_rest_stays(store):
    fill(store)
    before = [{**row, "raw": None} for row in rows(store)]
    assert upkeep.drop_raw(store) == 12
    assert rows(store) == before
    assert upkeep.drop_raw(store) == 0


def test_unusable_replies_are_those_that_nobody_could_read(store, monkeypatch):
    monkeypatch.setattr(upkeep, "CHUNK", 2)
    for number, status in enumerate(["ok", "ok", "ok", "ok", "truncated", "refused", "garbled"]):
        store.put(record(number, status=status, cost_usd=None if number == 6 else 0.5))
    store.put_readings(
        [
            ReadingRow(key(0), "v1", "ok", "1", None),
            ReadingRow(key(1), "v1", "unparsable", None, "no list"),
            # An older prompt version could not read it, a newer one can.
            ReadingRow(key(2), "v1", "unparsable", None, "no list"),
            ReadingRow(key(2), "v2", "ok", "1", None),
            ReadingRow(key(4), "v1", "truncated", None, None),
        ]
    )
    assert upkeep.unusable(store) == upkeep.UnusableReplies(4, 1.5, 1)
    assert upkeep.drop_unusable(store) == 4
    assert {row["reply_id"] for row in rows(store)} == {key(0), key(2), key(3)}
    assert {row["reply_id"] for row in rows(store, READINGS)} == {key(0), key(2)}
    assert upkeep.unusable(store) == upkeep.UnusableReplies(0, 0.0, 0)


def test_a_store_that_another_process_writes_to_is_not_compacted(tmp_path, monkeypatch):
    monkeypatch.setattr(database, "BUSY_S", 0.1)
    with ReplyStore(tmp_path / "replies.sqlite") as store:
        fill(store)
        writer = sqlite3.connect(tmp_path / "replies.sqlite", isolation_level=None)
        writer.execute("begin immediate")
        for change in (upkeep.compact, upkeep.drop_raw, upkeep.drop_unusable):
            with pytest.raises(StoreError, match="another process holds it"):
                change(store)
        writer.execute("rollback")
        upkeep.compact(store)
        assert len(rows(store)) == 12


def test_replies_are_kept_while_others_are_dropped(store, monkeypatch):
    monkeypatch.setattr(upkeep, "CHUNK", 5)
    store.put_many([record(number, status="truncated") for number in range(60)])

    def write() -> None:
        with ReplyStore(store.url) as mine:
            for number in range(1000, 1030):
                mine.put(record(number))

    with ThreadPoolExecutor(1) as thread:
        writing = thread.submit(write)
        assert upkeep.drop_unusable(store) == 60
        writing.result()
    assert len(rows(store)) == 30


def test_a_reply_is_found_by_the_beginning_of_its_id(store):
    fill(store)
    (found,) = upkeep.find_replies(store, key(3)[:8].upper())
    assert (found["reply_id"], found["stage"]) == (key(3), "open_tags")
    assert abs((datetime.now(UTC) - found["created_at"]).total_seconds()) < 60
    twin = Reply(key(3)[:63] + ("0" if key(3)[63] != "0" else "1"), "ok")
    store.put(replace(record(3), reply=twin))
    assert len(upkeep.find_replies(store, key(3)[:20])) == 2
    assert len(upkeep.find_replies(store, key(3))) == 1
    assert upkeep.find_replies(store, "0" * 10) == []
    for wrong in ("abc", "not a key at all", "%%%%%%%%"):
        with pytest.raises(LLMError, match="first 8 or more characters"):
            upkeep.find_replies(store, wrong)


def test_a_reply_with_all_that_is_known_of_it(store):
    fill(store)
    kept = upkeep.read_reply(store, key(2))
    assert kept.messages == [{"role": "user", "content": "secret"}]
    assert [reading["value"] for reading in kept.readings] == ['["a", 2]']
    told = kept.as_dict()
    assert told["readings"][0]["value"] == ["a", 2]
    assert told["raw"]["number"] == 2
    json.dumps(told)
    with pytest.raises(LLMError, match="there is no reply"):
        upkeep.read_reply(store, "0" * 64)

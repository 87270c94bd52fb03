"""Calls in the provider's batches: once each, at half the price, whatever dies on the way."""

import os
import signal
import time
import uuid
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import Any

import orjson
import polars as pl
import pytest
import sqlalchemy as sa

from resources.llm.batch import following, runner, sending, sheet
from resources.llm.batch.following import BatchFollower
from resources.llm.batch.ledger import Batch
from resources.llm.batch.provider import Provider, Unreached
from resources.llm.batch.results import Keeper, ResultReader
from resources.llm.batch.sending import Sender
from resources.llm.client import LLMClient
from resources.llm.errors import BudgetError, LLMError
from resources.llm.prices import Price, price_of
from resources.llm.request import prepare
from resources.llm.store import BATCH_CALLS, BATCHES, Record, ReplyStore
from resources.llm.types import Call, Reply
from resources.settings import Role
from tests.forks import FORKS, preload
from tests.integration.llm.conftest import KEY, TestServer, calls, client_for, started, write_prices

DEFAULTS: dict[str, Any] = {"batch_delay": 0.1, "batch_mode": "ok", "keys": [], "latency": 0.0}
ROLE = Role(base_url="http://x", model="gpt-4o-mini")
BAD_KEY = {"keys": ["sk-another-one"]}

preload("openai", "resources.llm.client", __name__)


def stage(url: str, home: Path, store: str, first: int, count: int, where: str, out: Path) -> None:
    """A stage in a process of its own, which kills itself at a step (``""`` for none)."""
    os.environ["TEST_API_KEY"] = KEY

    def die_at(step: str, owner: type, name: str, *, after: bool = False) -> None:
        done = getattr(owner, name)

        def dying(*given: Any) -> Any:
            result = done(*given) if after else None
            if step == where:
                os.kill(os.getpid(), signal.SIGKILL)
            return result if after else done(*given)

        setattr(owner, name, dying)

    die_at("drafted", Sender, "_send_draft")
    die_at("prepared", Sender, "_upload")
    die_at("file sent", Sender, "_upload", after=True)
    die_at("uploaded", Sender, "_create")
    die_at("batch sent", Sender, "_create", after=True)
    die_at("created", BatchFollower, "_look")
    die_at("reading", Keeper, "keep", after=True)
    following.POLL_S = runner._TURN_S = 0.05
    sending.AT_ONCE = following.AT_ONCE = 5
    said: list[str] = []
    with client_for(url, home, store=ReplyStore(store), batch_from=5, say=said.append) as asking:
        found = asking.complete(calls(count, first=first), label="stage")
    out.write_text(f"ok {sum(reply.status == 'ok' for reply in found)}")


@pytest.fixture(scope="module")
def running_server() -> Iterator[TestServer]:
    with started("--batch-delay", "0.1") as server:
        yield server


@pytest.fixture
def server(running_server: TestServer, monkeypatch: pytest.MonkeyPatch) -> Iterator[TestServer]:
    monkeypatch.setenv("TEST_API_KEY", KEY)
    monkeypatch.setattr(following, "POLL_S", 0.05)
    monkeypatch.setattr(sending, "_AGAIN_S", (0.05, 0.05))
    running_server.configure(**DEFAULTS)
    running_server.reset()
    yield running_server
    running_server.configure(**DEFAULTS)


def complete(
    server: TestServer, home: Path, wanted: Sequence[Call], **options: Any
) -> tuple[list[Reply], list[str], LLMClient]:
    """Replies, what was said, and the client (closed)."""
    said: list[str] = []
    options = {"batch_from": 5, "say": said.append, **options}
    with client_for(server.url, home, **options) as asking:
        return asking.complete(wanted, label="calls"), said, asking


def store_of(home: Path) -> ReplyStore:
    return ReplyStore(home / "llm" / "replies.sqlite")


def rows(home: Path, table: sa.Table = BATCHES) -> list[dict[str, Any]]:
    with store_of(home) as store, store.database.reading() as connection:
        return [dict(row) for row in connection.execute(sa.select(table)).mappings()]


def replies(home: Path) -> pl.DataFrame:
    with store_of(home) as store, store.database.reading() as connection:
        names = "prompt_version", "via", "status", "cost_usd", "request", "raw", "prompt_bytes"
        asked = sa.text(f"select {', '.join(names)} from replies")
        return pl.DataFrame([dict(row) for row in connection.execute(asked).mappings()])


@dataclass(frozen=True)
class Stage:
    process: BaseProcess
    out: Path

    def ended(self) -> str:
        """What the stage came to, once it is over."""
        self.process.join(60)
        assert self.process.exitcode == 0
        return self.out.read_text()


def start(
    server: TestServer, home: Path, count: int, where: str = "", first: int = 0, store: str = ""
) -> Stage:
    (home / "llm").mkdir(exist_ok=True)
    store = store or f"sqlite:///{home / 'llm' / 'replies.sqlite'}"
    out = home / f"{uuid.uuid4().hex}.txt"
    process = FORKS.Process(target=stage, args=(server.url, home, store, first, count, where, out))
    process.start()
    return Stage(process, out)


def die(server: TestServer, home: Path, count: int, where: str) -> None:
    process = start(server, home, count, where).process
    process.join(60)
    assert process.exitcode == -signal.SIGKILL


def until(what: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 30
    while not what():
        assert time.monotonic() < deadline
        time.sleep(0.02)


def assert_each_batched_once(server: TestServer, count: int) -> None:
    stats = server.stats()
    assert stats["requests"] == 0
    assert stats["batches_created"] == 1
    assert stats["batched"] == {f"prompt {n}": 1 for n in range(count)}


def test_all_calls_are_in_the_store_at_half_the_price(server, tmp_path):
    found, said, asking = complete(server, tmp_path, calls(12) + calls(3), run="r1")
    assert [reply.status for reply in found] == ["ok"] * 15
    assert_each_batched_once(server, 12)
    table = replies(tmp_path)
    full = price_of(ROLE, tmp_path).cost(1000, 100)
    assert table["via"].to_list() == ["batch"] * 12
    assert table["cost_usd"].to_list() == [pytest.approx(full / 2)] * 12
    assert asking.usage.cost_usd == pytest.approx(12 * full / 2)
    assert asking.usage.prompt_tokens == 12_000
    assert asking.usage.calls == 15
    assert all(orjson.loads(each)["choices"] for each in table["raw"])
    asked = {orjson.loads(each)["messages"][0]["content"] for each in table["request"]}
    assert asked == {f"prompt {n}" for n in range(12)}
    (row,) = rows(tmp_path)
    assert (row["state"], row["run"], row["stage"]) == ("done", "r1", "open_tags")
    assert any("12/12 done (completed)" in line for line in said)
    with store_of(tmp_path) as store:
        assert store.spent(run="r1") == pytest.approx(12 * full / 2)
        # How long a batch takes says nothing of a call.
        assert store.measured("gpt-4o-mini", "tagger") is None
    assert not list((tmp_path / "llm").glob("*.jsonl"))


def test_few_calls_go_the_ordinary_way(server, tmp_path):
    complete(server, tmp_path, calls(4))
    complete(server, tmp_path, calls(20, first=4), batch_from=None)
    stats = server.stats()
    assert (stats["requests"], stats["files_uploaded"]) == (24, 0)
    assert set(replies(tmp_path)["via"]) == {"call"}


def test_the_row_is_there_before_anything_is_sent(server, tmp_path, monkeypatch):
    seen = []

    class Looking(Sender):
        def _upload(self, *given: Any) -> str:
            (row,) = rows(tmp_path)
            seen.append((row["state"], row["file_id"], len(rows(tmp_path, BATCH_CALLS))))
            assert server.stats()["files_uploaded"] == 0
            return super()._upload(*given)

        def _create(self, *given: Any) -> str:
            (row,) = rows(tmp_path)
            seen.append((row["state"], row["file_id"] is not None, row["provider_id"]))
            assert server.stats()["batches_created"] == 0
            return super()._create(*given)

    monkeypatch.setattr(runner, "Sender", Looking)
    complete(server, tmp_path, calls(6))
    assert seen == [("prepared", None, 6), ("uploaded", True, None)]


def test_more_calls_than_a_batch_holds_are_split(server, tmp_path, monkeypatch):
    monkeypatch.setattr(sending, "MOST_CALLS", 4)
    found, _, _ = complete(server, tmp_path, calls(10))
    assert {reply.status for reply in found} == {"ok"}
    stats = server.stats()
    assert (stats["batches_created"], stats["requests"]) == (3, 0)
    assert set(stats["batched"].values()) == {1}
    # So large that only their bytes split them: three of ten equally long lines in each.
    monkeypatch.setattr(sending, "MOST_CALLS", 50_000)
    wanted = calls(10, first=100)
    role = Role(base_url=f"{server.url}/v1", model="gpt-4o-mini")
    size = len(sheet.line_of(prepare(wanted[0], role), role, (), None).data)
    monkeypatch.setattr(sending, "MOST_BYTES", 3 * size)
    complete(server, tmp_path, wanted)
    assert server.stats()["batches_created"] == 3 + 4
    assert server.stats()["requests"] == 0


def test_what_an_expired_batch_lacks_goes_the_ordinary_way(server, tmp_path):
    server.configure(batch_mode="expire")
    found, said, _ = complete(server, tmp_path, calls(10))
    assert {reply.status for reply in found} == {"ok"}
    stats = server.stats()
    assert (sum(stats["batched"].values()), stats["requests"]) == (5, 5)
    assert any("5 of 10 replies; the other 5 are sent the ordinary way" in line for line in said)
    assert any("5 batch_expired" in line for line in said)


def test_what_failed_in_a_batch_goes_the_ordinary_way(server, tmp_path):
    server.configure(batch_mode="partial")
    found, said, _ = complete(server, tmp_path, calls(9))
    assert {reply.status for reply in found} == {"ok"}
    assert server.stats()["requests"] == 3
    assert any("failed: 3 HTTP 500" in line for line in said)


def test_replies_that_are_not_ok_are_kept_as_such(server, tmp_path):
    words = ("refusal", "length", "stopped", "empty", "badjson")
    wanted = [Call(({"role": "user", "content": f"fault={word}"},), "v1") for word in words]
    found, _, _ = complete(server, tmp_path, wanted)
    assert [reply.status for reply in found[:4]] == ["refused", "truncated", "refused", "refused"]
    # An answer that is none is the provider's error, and asked for once more.
    assert found[4].status == "garbled"
    assert server.stats()["requests"] == 1


def test_a_model_without_batches_is_told_before_anything_is_paid(server, tmp_path):
    server.configure(batch_mode="fail_validation")
    with pytest.raises(
        LLMError, match=r"not supported by the Batch API.*roles\.tagger\.batch_from"
    ):
        complete(server, tmp_path, calls(8))
    assert server.stats()["requests"] == 0
    (row,) = rows(tmp_path)
    assert row["state"] == "done"
    assert "model_not_found" in row["detail"]
    # Once batches are unset it works.
    complete(server, tmp_path, calls(8), batch_from=None)


def test_an_endpoint_without_batches_is_told(server, tmp_path):
    with pytest.raises(LLMError, match=r"no batches: HTTP 404.*batch_from"):
        complete(server, tmp_path, calls(8), base_url=f"{server.url}/other/v1")
    assert rows(tmp_path)[0]["state"] == "done"


def test_a_wrong_key_is_told_and_not_shown(server, tmp_path):
    server.configure(**BAD_KEY)
    with pytest.raises(LLMError, match=r"HTTP 401.*TEST_API_KEY") as raised:
        complete(server, tmp_path, calls(8))
    assert KEY not in str(raised.value)
    server.configure(keys=[])
    complete(server, tmp_path, calls(8))
    assert_each_batched_once(server, 8)


def test_a_file_that_fails_validation_leaves_its_calls_to_the_ordinary_way(
    server, tmp_path, monkeypatch
):
    monkeypatch.setattr(sheet, "url_of", lambda role: "/v1/embeddings")
    found, said, _ = complete(server, tmp_path, calls(8))
    assert {reply.status for reply in found} == {"ok"}
    assert server.stats()["requests"] == 8
    assert any("invalid_url in line 1: The URL provided" in line for line in said)


@pytest.mark.parametrize("where", ["drafted", "prepared", "file sent", "batch sent", "reading"])
def test_killed_anywhere_nothing_is_sent_twice(server, tmp_path, where):
    die(server, tmp_path, 12, where)
    if where == "reading":
        assert 0 < replies(tmp_path).height < 12
    with store_of(tmp_path) as store:
        assert (store.spent() > 0) == (where != "drafted")
    found, _, _ = complete(server, tmp_path, calls(12))
    assert [reply.status for reply in found] == ["ok"] * 12
    assert_each_batched_once(server, 12)
    assert server.stats()["files_uploaded"] == 1
    assert replies(tmp_path)["via"].to_list() == ["batch"] * 12
    assert {row["state"] for row in rows(tmp_path)} == {"done"}
    assert not [path for path in (tmp_path / "llm").iterdir() if "replies" not in path.name
                and "coordination" not in path.name]  # fmt: skip


def test_killed_several_times_on_the_way(server, tmp_path):
    for where in ("uploaded", "created", "reading"):
        die(server, tmp_path, 12, where)
    complete(server, tmp_path, calls(12))
    assert_each_batched_once(server, 12)


def test_an_open_batch_is_waited_for_also_where_batches_are_off(server, tmp_path):
    server.configure(batch_delay=0.5)
    die(server, tmp_path, 10, "created")
    # Few calls, or no batches in the settings: what is paid for is still not sent again.
    complete(server, tmp_path, calls(3), batch_from=None)
    assert_each_batched_once(server, 10)
    table = replies(tmp_path)
    assert table.height == 10
    assert set(table["prompt_version"]) == {"v1"}
    assert set(table["prompt_bytes"]) == {len("prompt 0")}
    assert all("prompt" in each for each in table["request"])


def test_a_batch_that_was_never_sent_is_abandoned_where_its_calls_are_not_all_wanted(
    server, tmp_path
):
    die(server, tmp_path, 10, "prepared")
    complete(server, tmp_path, calls(10, first=2))
    assert sorted(row["detail"].split(":")[0] for row in rows(tmp_path)) == [
        "abandoned",
        "completed",
    ]
    stats = server.stats()
    assert (stats["batches_created"], stats["requests"]) == (1, 0)
    assert stats["batched"] == {f"prompt {n}": 1 for n in range(2, 12)}


def test_a_batch_with_no_wanted_call_is_not_waited_for(server, tmp_path):
    server.configure(batch_delay=60)
    die(server, tmp_path, 10, "created")
    server.configure(batch_delay=0.1)
    complete(server, tmp_path, calls(10, first=50))
    assert [row["state"] for row in rows(tmp_path)] == ["created", "done"]
    assert server.stats()["requests"] == 0


@pytest.mark.parametrize("database", ["sqlite", "postgres"])
def test_two_processes_with_the_same_calls_make_one_batch(server, tmp_path, request, database):
    store = request.getfixturevalue("postgres_url") if database == "postgres" else ""
    server.configure(batch_delay=0.5)
    both = [start(server, tmp_path, 40, store=store) for _ in range(2)]
    for one in both:
        assert one.ended() == "ok 40"
    assert_each_batched_once(server, 40)
    assert server.stats()["files_uploaded"] == 1


def test_two_processes_with_overlapping_calls_share_them(server, tmp_path):
    server.configure(batch_delay=0.5)
    both = [start(server, tmp_path, 40, first=first) for first in (0, 20)]
    for one in both:
        assert one.ended() == "ok 40"
    stats = server.stats()
    assert stats["batched"] == {f"prompt {n}": 1 for n in range(60)}
    assert (stats["batches_created"], stats["requests"]) == (2, 0)


def test_who_waits_for_anothers_batch_takes_it_up_when_the_other_dies(server, tmp_path):
    server.configure(batch_delay=1.5)
    first = start(server, tmp_path, 12)
    until(lambda: server.stats()["batches_created"] == 1)
    second = start(server, tmp_path, 12)
    time.sleep(0.5)
    first.process.kill()
    first.process.join(60)
    assert second.ended() == "ok 12"
    assert_each_batched_once(server, 12)


def test_an_interrupt_leaves_the_batch_to_the_next_run(server, tmp_path):
    server.configure(batch_delay=1.5)
    process = start(server, tmp_path, 12).process
    until(lambda: server.stats()["batches_created"] == 1)
    time.sleep(0.2)
    assert process.pid is not None
    os.kill(process.pid, signal.SIGINT)
    process.join(20)
    assert process.exitcode == 1
    complete(server, tmp_path, calls(12))
    assert_each_batched_once(server, 12)


def test_a_batch_whose_creation_was_not_answered_is_found(server, tmp_path, monkeypatch):
    class Silent(Provider):
        def create(self, *given: Any) -> str:
            super().create(*given)
            raise Unreached("test", "no answer in time")

        def upload(self, *given: Any) -> str:
            super().upload(*given)
            raise Unreached("test", "no answer in time")

    monkeypatch.setattr(runner, "Provider", Silent)
    complete(server, tmp_path, calls(12))
    assert_each_batched_once(server, 12)
    assert server.stats()["files_uploaded"] == 1


def test_a_provider_that_is_away_for_a_while_is_asked_again(tmp_path, monkeypatch):
    monkeypatch.setenv("TEST_API_KEY", KEY)
    monkeypatch.setattr(following, "POLL_S", 0.05)
    said: list[str] = []
    with started() as server:

        def hear(line: str) -> None:
            said.append(line)
            if "handed to the provider" in line:
                server.process.send_signal(signal.SIGSTOP)
            if "asked again later" in line:
                server.process.send_signal(signal.SIGCONT)

        complete(server, tmp_path, calls(12), timeout_s=0.3, say=hear)
        assert_each_batched_once(server, 12)
    assert any("no answer in time; asked again later" in line for line in said)


def test_results_that_cannot_be_had_are_not_waited_for_without_end(server, tmp_path, monkeypatch):
    """The provider tells how the batch is, but never gives its files."""

    class Withheld(Provider):
        def download(self, *_: Any) -> None:
            raise Unreached("test", "HTTP 503")

    with monkeypatch.context() as patched:
        patched.setattr(runner, "Provider", Withheld)
        patched.setattr(following, "_PATIENCE_S", 0.5)
        with pytest.raises(LLMError, match="HTTP 503; run again to take the open batches up"):
            complete(server, tmp_path, calls(12))
    complete(server, tmp_path, calls(12))
    assert_each_batched_once(server, 12)


def test_a_batch_that_another_process_has_ended_is_not_begun_again(server, tmp_path, monkeypatch):
    """A process sleeps during the upload; by then another has taken its batch for dead."""

    class Asleep(Sender):
        def _upload(self, batch: Batch, *given: Any) -> str:
            file_id = super()._upload(batch, *given)
            self._claims.shared.claim([], [f"batch {batch.batch_id}"])
            self._ledger.change(replace(batch), state="done", detail="abandoned by the other")
            return file_id

    monkeypatch.setattr(runner, "Sender", Asleep)
    found, _, _ = complete(server, tmp_path, calls(12))
    assert {reply.status for reply in found} == {"ok"}
    assert [row["detail"] for row in rows(tmp_path)] == ["abandoned by the other"]
    stats = server.stats()
    assert (stats["batches_created"], stats["requests"]) == (0, 12)


def test_a_budget_makes_the_batch_smaller_and_ends_the_rest(server, tmp_path):
    write_prices(tmp_path)
    one = prepare(calls(1)[0], ROLE)
    most = price_of(ROLE, tmp_path).cost(one.most_prompt_tokens, one.max_tokens, batch=True)
    limit = 4.5 * most
    with pytest.raises(BudgetError, match="budget of the run reached"):
        complete(server, tmp_path, calls(20), run="r1", budget_usd=limit)
    stats = server.stats()
    assert (stats["batches_created"], sum(stats["batched"].values())) == (1, 4)
    with store_of(tmp_path) as store:
        assert 0 < store.spent(run="r1") <= limit
    found, _, _ = complete(server, tmp_path, calls(20), run="r1", budget_usd=1.0)
    assert {reply.status for reply in found} == {"ok"}


def test_an_open_batch_counts_as_spent(server, tmp_path):
    server.configure(batch_delay=60)
    die(server, tmp_path, 12, "created")
    (row,) = rows(tmp_path)
    with store_of(tmp_path) as store:
        assert store.spent(run=row["run"]) == pytest.approx(row["most_usd"])
    assert row["most_usd"] > 0
    with pytest.raises(BudgetError):
        complete(
            server,
            tmp_path,
            calls(12, first=50),
            run=row["run"],
            budget_usd=row["most_usd"] * 1.01,
        )
    assert server.stats()["batches_created"] == 1


def test_a_prompt_that_cannot_fit_is_in_no_batch(server, tmp_path):
    long = Call(({"role": "user", "content": "word " * 4000},), "v1")
    found, _, _ = complete(server, tmp_path, [*calls(8), long], context=2000)
    assert [reply.status for reply in found] == ["ok"] * 8 + ["too_long"]
    assert_each_batched_once(server, 8)


def test_azure_has_urls_of_its_own(tmp_path, monkeypatch):
    monkeypatch.setenv("TEST_API_KEY", KEY)
    role = Role(
        base_url="https://name.openai.azure.com",
        model="deployed",
        api_key_env="TEST_API_KEY",
        api_version="2024-10-21",
    )
    line = orjson.loads(sheet.line_of(prepare(calls(1)[0], role), role, (), None).data)
    assert sheet.url_of(role) == line["url"]
    assert line["url"] == "/chat/completions"
    assert line["body"]["model"] == "deployed"
    with Provider("tagger", role) as provider:
        assert str(provider._client.base_url) == "https://name.openai.azure.com/openai/"


# The reading of result files, on lines that no server writes on purpose.


def read(lines: Sequence[bytes], keys: Sequence[str] = ("a", "b")) -> tuple[list[Record], str]:
    one = Batch("id", "tagger", "open_tags", None, None, "m", "http://host/v1", "created",
                       None, 0)  # fmt: skip
    reader = ResultReader(one, keys, None, "v7", Price(1.0, 2.0, batch=0.5))
    found = list(reader.records(lines))
    return found, reader.summary()


def answered(key: str, text: str = "well", **response: Any) -> bytes:
    body = {
        "id": "chat-1",
        "choices": [{"message": {"content": text}, "finish_reason": "stop"}],
        "usage": {"prompt_tokens": 10, "completion_tokens": 5},
    }
    whole = {"status_code": 200, "request_id": "req-1", "body": body, **response}
    return orjson.dumps({"custom_id": key, "response": whole, "error": None}) + b"\n"


def test_a_good_line_becomes_a_record():
    (record,), summary = read([answered("a", "line\u2028break \x00")], ["a"])
    assert record.reply == Reply(
        "a",
        "ok",
        "line\u2028break \x00",
        finish_reason="stop",
        prompt_tokens=10,
        completion_tokens=5,
        cost_usd=pytest.approx(10e-6),
        request_id="req-1",
    )
    assert (record.via, record.prompt_version, record.provider) == ("batch", "v7", "host")
    assert (record.request, record.prompt_bytes) == ("{}", 0)
    assert summary == "1 of 1 replies"


def test_a_call_that_is_answered_twice_has_its_first_reply():
    records, summary = read([answered("a", "first"), answered("a", "second")], ["a"])
    assert [record.reply.text for record in records] == ["first"]
    assert summary == "1 of 1 replies"


def test_lines_that_are_no_replies_are_counted_and_nothing_is_raised():
    lines = [
        b"{not json\n",
        b"\n",
        b"[1]\n",
        b'{"custom_id": 5}\n',
        b"\xff\xfe\n",
        answered("of another batch"),
        answered("a", status_code=500, body={"error": {"message": "prompt words"}}),
        answered("b", body={"error": {"code": "server_error", "message": "prompt words"}}),
        b'{"custom_id": "b", "response": null, "error": {"code": "batch_expired"}}\n',
        b'{"custom_id": "b", "response": 3, "error": {"code": "words of a prompt"}}\n',
    ]
    records, summary = read(lines)
    assert records == []
    assert summary == (
        "0 of 2 replies; the other 2 are sent the ordinary way; failed: 2 an error, 1 HTTP 500, "
        "1 batch_expired; 4 lines can't be read; 1 lines are not of this batch"
    )


@pytest.mark.parametrize("body", [None, [], "text", {}, {"choices": [{"message": {}}, 5]}])
def test_an_answer_that_is_no_completion_is_kept_as_what_it_is(body):
    (record,), _ = read([answered("a", body=body)])
    assert record.reply.status in ("garbled", "refused")
    assert record.reply.cost_usd is None
    assert record.raw == orjson.dumps(body).decode()


def test_half_a_character_does_not_lose_a_reply():
    line = answered("a", "HALF").replace(b"HALF", b"\\ud83d")
    (record,), _ = read([line])
    assert record.reply.text == "?"
    assert record.raw.isascii()

"""Calls that are in flight when their process is killed stay in the ledger; no others do."""

import time
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa

from resources.llm.errors import BudgetError, LLMError
from resources.llm.prices import price_of
from resources.llm.request import PreparedCall, prepare
from resources.llm.store import SENT_CALLS, ReplyStore, month_start
from resources.llm.types import Call
from resources.settings import BudgetSettings, Role
from tests.integration.llm.conftest import (
    ONE_WAY,
    Stage,
    TestServer,
    call,
    calls,
    client_for,
    start_stage,
    started,
    until,
)

ROLE = Role(base_url="http://host/v1", model="gpt-4o-mini")
COST_USD = (1000 * 0.15 + 100 * 0.60) / 1e6


def notes(where: Path | str) -> list[dict[str, Any]]:
    """The notes that are there, as they are."""
    with ReplyStore(where) as store, store.database.reading() as connection:
        return [dict(row) for row in connection.execute(sa.select(SENT_CALLS)).mappings()]


def lost(where: Path | str) -> list[dict[str, Any]]:
    return [note for note in notes(where) if note["lost_at"] is not None]


def prepared(prompt: str) -> PreparedCall:
    """A call of ``start_stage``."""
    return prepare(Call(({"role": "user", "content": prompt},), "v1"), ROLE)


def most_usd(home: Path) -> float:
    """The most that a call of ``start_stage`` can cost, as it is booked."""
    price, one = price_of(ROLE, home), prepared("prompt 1")
    assert price is not None
    return price.cost(one.most_prompt_tokens, one.max_tokens)


def wait_for_requests(server: TestServer, count: int, stage: Stage) -> None:
    until(lambda: server.stats()["requests"] >= count, stage)


def killed(stage: Stage, server: TestServer) -> dict[str, Any]:
    """What the server has received of a stage that is killed: all that was on its way is there."""
    stage.kill()
    time.sleep(0.2)
    return server.stats()


def test_calls_in_flight_at_a_kill_are_lost_and_stay_so(tmp_path):
    where, count, at_once, month = tmp_path / "replies.sqlite", 200, 16, month_start()
    with started("--latency", "0.2") as server:
        stage = start_stage(tmp_path, server.url, count, concurrency=at_once)
        wait_for_requests(server, 60, stage)
        received = {prepared(prompt).key for prompt in killed(stage, server)["prompts"]}
        left = notes(where)
        with ReplyStore(where) as store:
            kept = set(store.usage_rows()["reply_id"])
        in_flight = {note["reply_id"] for note in left}
        # All that was received and is not kept is noted, nothing that is kept, and no more than
        # what may be in flight at once: what was noted and not yet sent is among that.
        assert received - kept <= in_flight
        assert not in_flight & kept
        assert 0 < len(left) <= at_once

        stage = start_stage(tmp_path, server.url, count, concurrency=at_once)
        assert stage.ended() == f"{count} ok, {len(kept)} stored"
    gone = lost(where)
    assert notes(where) == gone
    assert {note["reply_id"] for note in gone} == in_flight
    assert {note["most_usd"] for note in gone} == {most_usd(tmp_path)}
    with ReplyStore(where) as store:
        rows = store.usage_rows()
        of_lost = len(gone) * most_usd(tmp_path)
        assert store.lost_usd(since=month) == pytest.approx(of_lost)
        assert store.spent(since=month) == pytest.approx(count * COST_USD + of_lost)
        assert store.lost_usd(run=gone[0]["run"], stage="open_tags") == pytest.approx(of_lost)
        assert store.lost_usd(stage="another") == 0
    by_status = dict(rows.group_by("status").len().iter_rows())
    assert by_status == {"ok": count, "lost": len(gone)}
    assert rows["reply_id"].n_unique() == rows.height


def test_a_ceiling_that_lost_calls_reach_stops_the_next_run(tmp_path, monkeypatch):
    monkeypatch.setenv("TEST_API_KEY", "k")
    where = tmp_path / "llm" / "replies.sqlite"
    with started("--latency", "30") as server:
        kills, sent = 2, 0
        for _ in range(kills):
            store_url = f"sqlite:///{where}"
            stage = start_stage(tmp_path, server.url, 4, store_url=store_url, concurrency=4)
            wait_for_requests(server, sent + 4, stage)
            sent = killed(stage, server)["requests"]
        # The same calls, lost twice: each time the provider may have charged for them.
        limit = kills * 4 * most_usd(tmp_path)
        budget = BudgetSettings(max_cost_usd_per_month=limit * 1.001)
        with client_for(server.url, tmp_path, budget=budget) as client:
            words = r"budget of the month reached: .* in flight when their process was killed"
            with pytest.raises(BudgetError, match=words) as stopped:
                client.complete(calls(4), label="test")
        assert stopped.value.spent_usd == pytest.approx(limit)
        assert server.stats()["requests"] == sent
    assert len(lost(where)) == kills * 4


def test_processes_of_which_some_are_killed_never_exceed_a_budget_together(tmp_path):
    limit, at_once = 200 * COST_USD, 8
    budget = {"max_cost_usd_per_month": limit}
    with started("--latency", "0.1") as server:
        living = start_stage(
            tmp_path, server.url, 400, words="living", budget=budget, concurrency=4
        )
        for kills in range(3):
            before = server.stats()["requests"]
            stage = start_stage(
                tmp_path, server.url, 400, words=f"{kills}", budget=budget, concurrency=at_once
            )
            wait_for_requests(server, before + 20, stage)
            killed(stage, server)
        living.failed()
        # The provider may charge for all that it received, also where nobody takes the answer.
        requests = server.stats()["requests"]
    where = tmp_path / "replies.sqlite"
    gone = lost(where)
    assert 3 <= len(gone) <= 3 * at_once
    assert requests * COST_USD <= limit
    with ReplyStore(where) as store:
        replies = store.usage_rows().filter(status="ok").height
        assert requests <= replies + len(gone)
        assert store.spent() <= limit + 1e-9


def test_a_living_process_counts_what_a_killed_one_had_in_flight(tmp_path, monkeypatch):
    """It sees either what the other has booked or what it lost, and the whole of it at the end."""
    monkeypatch.setenv("TEST_API_KEY", "k")
    with started("--latency", "0.3") as server:
        where = tmp_path / "llm" / "replies.sqlite"
        with client_for(server.url, tmp_path) as client:
            client.complete(calls(1, "living"), label="test")
            stage = start_stage(
                tmp_path, server.url, 40, store_url=f"sqlite:///{where}", concurrency=8
            )
            wait_for_requests(server, 9, stage)
            killed(stage, server)
            assert notes(where)
            assert not lost(where)
            # Claiming what the killed one asks for buries it.
            client.complete(calls(40, max_tokens=None), label="test")
            assert lost(where)


@pytest.mark.parametrize(
    "prompts",
    [
        ["plain"],
        ["fault=500", "fault=500x2", "fault=reset", "fault=midbody"],
        ["fault=429x2", "plain"],
        ["fault=filter", "plain", "fault=toolong", "fault=refusal", "fault=length"],
        ["fault=html", "fault=badjson", "plain"],
        ["fault=401"],
        ["fault=quota"],
        ["fault=malformed"],
    ],
)
@ONE_WAY
def test_nothing_is_left_of_calls_that_ended(make_client, tmp_path, short_waits, prompts):
    asked = [call(f"{n} {prompt}") for n in range(3) for prompt in prompts]
    with make_client() as client:
        try:
            client.complete(asked, label="test")
        except LLMError:
            assert len(prompts) == 1
    assert notes(tmp_path / "llm" / "replies.sqlite") == []


@ONE_WAY
def test_nothing_is_left_of_a_budget_that_is_reached(make_client, tmp_path):
    with make_client(budget_usd=20 * COST_USD) as client, pytest.raises(BudgetError) as stopped:
        client.complete(calls(60), label="test")
    assert "killed" not in str(stopped.value)
    assert notes(tmp_path / "llm" / "replies.sqlite") == []


@ONE_WAY
def test_nothing_is_left_of_calls_that_a_stage_no_longer_wants(make_client, server, tmp_path):
    server.configure(latency=0.2)
    with make_client(concurrency=4) as client:
        stream = client.stream(calls(40), label="test")
        next(stream)
        # Those that were sent with the first one may have ended, and the next not be noted yet.
        until(lambda: bool(notes(tmp_path / "llm" / "replies.sqlite")))
        stream.close()
    assert notes(tmp_path / "llm" / "replies.sqlite") == []


def test_nothing_is_left_after_an_interrupt(tmp_path):
    with started("--latency", "0.5") as server:
        stage = start_stage(tmp_path, server.url, 1_000, concurrency=8)
        wait_for_requests(server, 12, stage)
        assert notes(tmp_path / "replies.sqlite")
        stage.interrupt()
    assert notes(tmp_path / "replies.sqlite") == []


@pytest.mark.parametrize("model", ["gpt-4o-mini", "a-model-of-unknown-price"])
@ONE_WAY
def test_a_call_is_noted_with_all_that_it_is_counted_by(make_client, server, tmp_path, model):
    server.configure(latency=0.3)
    where = tmp_path / "llm" / "replies.sqlite"
    with make_client(model=model, run="r") as client:
        stream = client.stream(calls(3), label="test")
        next(stream)
        stream.close()
        client.complete(calls(1), label="test")
        stream = client.stream([call("first"), call("fault=hang")], label="test")
        next(stream)
        (note,) = notes(where)
        stream.close()
    known = {
        "role": "tagger", "stage": "open_tags", "dataset": "sample", "run": "r", "model": model,
        "endpoint": f"{server.url}/v1", "prompt_version": "v1", "lost_at": None,
    }  # fmt: skip
    assert {name: note[name] for name in known} == known
    assert (note["most_usd"] is None) == (model != "gpt-4o-mini")
    assert abs(note["sent_at"] / 1e6 - time.time()) < 60


@ONE_WAY
def test_a_reply_that_could_not_be_kept_is_lost(make_client, tmp_path, monkeypatch):
    """It was paid for, so a ceiling counts the most that it can have cost."""
    put = ReplyStore.put_many

    def fails_with_replies(store: ReplyStore, records: Any, flights: Any = None) -> Any:
        if records:
            raise LLMError("the disk is full")
        return put(store, records, flights)

    monkeypatch.setattr(ReplyStore, "put_many", fails_with_replies)
    with make_client(concurrency=3) as client, pytest.raises(LLMError, match="disk is full"):
        client.complete(calls(3), label="test")
    left = notes(tmp_path / "llm" / "replies.sqlite")
    assert 1 <= len(left) <= 3
    assert all(note["lost_at"] for note in left)

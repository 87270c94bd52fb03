"""What was received is stored and what is stored is not asked for again, whatever happens."""

import json
import random
import sqlite3
from pathlib import Path

import pytest
import sqlalchemy as sa

from resources.llm import database
from resources.llm.errors import BudgetError, StoreError
from resources.llm.store import ReplyStore
from resources.llm.upkeep import size_of
from resources.settings import BudgetSettings
from tests.integration.llm.conftest import (
    ONE_WAY,
    Stage,
    TestServer,
    calls,
    client_for,
    start_stage,
    started,
    until,
)

COST_USD = (1000 * 0.15 + 100 * 0.60) / 1e6


def stored(where: Path | str) -> int:
    with ReplyStore(where) as store:
        return size_of(store).replies


def wait_for_requests(server: TestServer, stage: Stage, count: int) -> None:
    """Wait until a server has received so many, while a stage runs."""
    until(lambda: server.stats()["requests"] >= count, stage)


@pytest.mark.parametrize("kills", [4, pytest.param(20, marks=pytest.mark.soak)])
def test_kill_9_at_moments_of_a_stage(tmp_path, kills):
    count, at_once = 100 * kills, 16
    seed = random.randrange(1_000_000)
    rng = random.Random(seed)
    print(f"seed {seed}")
    with started("--latency", "0.05") as server:
        store = tmp_path / "replies.sqlite"
        for kill in range(kills):
            stage = start_stage(tmp_path, server.url, count, concurrency=at_once)
            before = server.stats()["requests"]
            wait_for_requests(server, stage, before + rng.randint(1, count // (kills + 5)))
            stage.kill()
            # The server may have answered those in flight after the client was gone.
            answered = len(server.stats()["answered"])
            assert stored(store) >= answered - at_once * (kill + 1)
        done = stored(store)
        stage = start_stage(tmp_path, server.url, count, concurrency=at_once)
        assert stage.ended() == f"{count} ok, {done} stored"
        stats = server.stats()
    assert stored(store) == count
    sent_again = sum(times - 1 for times in stats["prompts"].values())
    assert sent_again <= kills * at_once
    # Nobody's reply was thrown away: what was asked again had not been stored.
    assert stats["requests"] <= count + kills * at_once


@pytest.mark.parametrize("database", ["sqlite", "postgres"])
def test_two_processes_send_the_same_prompts_once(tmp_path, request, database):
    """Of one home, and of two homes that share a Postgres store."""
    store_url = request.getfixturevalue("postgres_url") if database == "postgres" else ""
    count, homes = (500, ["one", "two"]) if store_url else (1_500, ["one", "one"])
    with started("--latency", "0.05") as server:
        stages = [
            start_stage(tmp_path / home, server.url, count, store_url=store_url) for home in homes
        ]
        assert {stage.ended().split(",")[0] for stage in stages} == {f"{count} ok"}
        stats = server.stats()
    assert stats["requests"] == count
    assert set(stats["prompts"].values()) == {1}
    assert stored(store_url or tmp_path / "one" / "replies.sqlite") == count


def test_one_process_takes_over_what_a_killed_one_was_asking_for(tmp_path):
    with started("--latency", "0.1") as server:
        killed, living = (start_stage(tmp_path, server.url, 200, concurrency=8) for _ in range(2))
        wait_for_requests(server, killed, 40)
        killed.kill()
        assert living.ended().startswith("200 ok")
        stats = server.stats()
    assert sum(times - 1 for times in stats["prompts"].values()) <= 8


def test_an_interrupt_ends_soon_and_keeps_what_came(tmp_path):
    with started("--latency", "0.02") as server:
        stage = start_stage(tmp_path, server.url, 20_000, concurrency=4)
        wait_for_requests(server, stage, 40)
        stage.interrupt()
        answered = len(server.stats()["answered"])
    assert answered - 4 <= stored(tmp_path / "replies.sqlite") < 10_000


@ONE_WAY
def test_a_full_disk_is_a_clear_failure_and_earlier_replies_stay(make_client, server, tmp_path):
    path = tmp_path / "llm" / "replies.sqlite"
    with make_client() as client:
        client.complete(calls(20), label="test")
    store = ReplyStore(path)
    # SQLite reports a file that may not grow as it does a full disk.
    with store.database.writing() as connection:
        pages = connection.exec_driver_sql("pragma page_count").scalar_one()
    store.database.engine.dispose()
    sa.event.listen(
        store.database.engine,
        "connect",
        lambda connection, _: connection.execute(f"pragma max_page_count = {pages}"),
    )
    with make_client(store=store) as client, pytest.raises(StoreError, match="free disk space"):
        client.complete(calls(2_000), label="test")
    with make_client() as client:
        assert all(reply.stored for reply in client.complete(calls(20), label="test"))


@ONE_WAY
def test_a_locked_store_is_a_clear_failure_and_works_again_after(
    make_client, tmp_path, monkeypatch
):
    monkeypatch.setattr(database, "BUSY_S", 0.2)
    with make_client() as client:
        client.complete(calls(5), label="test")
    other = sqlite3.connect(tmp_path / "llm" / "replies.sqlite", isolation_level=None)
    other.execute("begin immediate")
    with make_client() as client, pytest.raises(StoreError, match="another process holds it"):
        client.complete(calls(10), label="test")
    other.execute("rollback")
    other.close()
    with make_client() as client:
        assert [reply.status for reply in client.complete(calls(10), label="test")] == ["ok"] * 10


@ONE_WAY
def test_a_damaged_store_is_a_clear_failure(make_client, server, tmp_path):
    path = tmp_path / "llm" / "replies.sqlite"
    path.parent.mkdir(parents=True)
    path.write_bytes(b"this is no database" * 1_000)
    with pytest.raises(StoreError, match=r"replies\.sqlite.*damaged.*restore it from a copy"):
        make_client()
    assert server.stats()["requests"] == 0


def test_a_budget_reached_in_the_middle_stops_and_resumes_when_raised(tmp_path, monkeypatch):
    monkeypatch.setenv("TEST_API_KEY", "k")
    # A call costs 0.00021, and 0.00062 at most, which is what is reserved for it in flight.
    limit = 50 * COST_USD
    with started("--latency", "0.02") as server:
        with client_for(server.url, tmp_path, budget_usd=limit, run="r", concurrency=8) as client:
            with pytest.raises(BudgetError, match=r"of the run reached.*raise budget\.max") as told:
                client.complete(calls(200), label="test")
            assert client.usage.cost_usd <= limit
        sent = server.stats()["requests"]
        assert 50 - 8 <= sent <= 50
        assert told.value.spent_usd == pytest.approx(sent * COST_USD)
        assert told.value.remaining == 200 - sent
        with client_for(server.url, tmp_path, budget_usd=1.0, run="r") as client:
            replies = client.complete(calls(200), label="test")
        assert sum(reply.stored for reply in replies) == sent
        assert server.stats()["requests"] == 200


@pytest.mark.parametrize(
    ("budget", "words"),
    [
        (BudgetSettings(max_cost_usd_per_asset={"open_tags": 5 * COST_USD}), "budget of the asset"),
        (BudgetSettings(max_cost_usd_per_month=5 * COST_USD), "budget of the month"),
    ],
)
@ONE_WAY
def test_assets_and_months_have_budgets_too(make_client, server, budget, words):
    with make_client(budget=budget, run="one") as client, pytest.raises(BudgetError, match=words):
        client.complete(calls(20), label="test")
    sent = server.stats()["requests"]
    assert 1 <= sent <= 5
    other = make_client(budget=budget, run="two", stage="single_scores")
    with other as client:
        if budget.max_cost_usd_per_month is None:
            assert client.complete(calls(20), label="test")[0].status == "ok"
        else:
            with pytest.raises(BudgetError, match=words):
                client.complete(calls(20), label="test")
            assert server.stats()["requests"] == sent


def test_two_processes_never_exceed_a_budget_together(tmp_path):
    limit = 300 * COST_USD
    budget = {"max_cost_usd_per_month": limit}
    with started("--latency", "0.02") as server:
        stages = [
            start_stage(tmp_path, server.url, 400, words=words, budget=budget, concurrency=8)
            for words in ("one", "two")
        ]
        for stage in stages:
            stage.failed()
        sent = server.stats()["requests"]
    assert 300 - 8 <= sent <= 300
    with ReplyStore(tmp_path / "replies.sqlite") as store:
        assert store.spent() <= limit


@ONE_WAY
def test_all_that_is_kept_of_a_call(make_client, tmp_path):
    with make_client() as client:
        client.complete(calls(1), label="test")
    rows = sqlite3.connect(tmp_path / "llm" / "replies.sqlite")
    rows.row_factory = sqlite3.Row
    row = dict(rows.execute("select * from replies").fetchone())
    assert json.loads(row["request"])["messages"][0]["content"] == "prompt 0"
    assert json.loads(row["raw"])["choices"][0]["message"]["content"] == row["text"]
    assert row["request_id"]
    assert row["cost_usd"] == pytest.approx(COST_USD)
    assert row["latency_s"] >= 0.02
    assert (row["prompt_tokens"], row["completion_tokens"]) == (1000, 100)
    assert "authorization" not in json.dumps(row).lower()

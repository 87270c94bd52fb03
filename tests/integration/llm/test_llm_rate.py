"""Rate limits: kept to, learned, shared; over real sockets and processes."""

import subprocess
import time

import pytest

from resources.llm import engine
from resources.llm.types import Call
from tests.integration.llm.conftest import TestServer, client_for, start_stage, started

PER_MINUTE = 6_000


def calls(count: int, words: str = "prompt") -> list[Call]:
    return [
        Call(({"role": "user", "content": f"{words} {number}"},), "v1", max_tokens=64)
        for number in range(count)
    ]


@pytest.fixture(autouse=True)
def _key(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TEST_API_KEY", "k")
    monkeypatch.setattr(engine, "_FIRST_WAIT_S", 0.05)


def permitted(stats: dict[str, float], per_minute: float) -> float:
    """Calls that the limit lets through from the first request to the last."""
    return (stats["last_at"] - stats["first_at"]) * per_minute / 60


@pytest.mark.parametrize(
    ("options", "role"),
    [
        (["--headers", "--retry-after"], {}),
        (["--headers"], {}),
        ([], {"requests_per_minute": PER_MINUTE}),
    ],
    ids=["headers", "headers, no Retry-After", "settings"],
)
def test_a_known_limit_is_used_in_full_and_not_exceeded(tmp_path, options, role):
    count = 1_200
    with (
        started("--rpm", str(PER_MINUTE), "--latency", "0.02", *options) as server,
        client_for(server.url, tmp_path, **role) as client,
    ):
        replies = client.complete(calls(count), label="test")
        stats = server.stats()
    assert {reply.status for reply in replies} == {"ok"}
    assert set(stats["answered"].values()) == {1}
    assert stats["refused"] <= 0.01 * count
    # The bucket is a second deep and full at first: so much more may pass.
    assert 0.97 * permitted(stats, PER_MINUTE) <= count <= permitted(stats, PER_MINUTE) + 100


@pytest.mark.parametrize("options", [["--retry-after"], []], ids=["Retry-After", "bare 429"])
def test_an_unknown_limit_is_learned_from_refusals(tmp_path, options):
    with (
        started("--rpm", str(PER_MINUTE), "--latency", "0.02", *options) as server,
        client_for(server.url, tmp_path) as client,
    ):
        # While it is learned, some are refused; each is answered in the end.
        first = client.complete(calls(600, "first"), label="test")
        server.reset()
        settled = client.complete(calls(1_000, "settled"), label="test")
        stats = server.stats()
    assert {reply.status for reply in [*first, *settled]} == {"ok"}
    assert stats["refused"] < 0.02 * 1_000
    # On a busy machine pauses that the endpoint asks for grow longer.
    assert 0.9 * permitted(stats, PER_MINUTE) <= 1_000


def test_a_token_limit_is_kept_to(tmp_path):
    # 1,100 tokens a call: 100 calls a second. The second half knows how long replies are.
    with (
        started("--tpm", str(PER_MINUTE * 1_100), "--headers", "--latency", "0.02") as server,
        client_for(server.url, tmp_path) as client,
    ):
        client.complete(calls(300, "first"), label="test")
        server.reset()
        replies = client.complete(calls(1_000, "settled"), label="test")
        stats = server.stats()
    assert {reply.status for reply in replies} == {"ok"}
    assert stats["refused"] < 0.02 * 1_000
    assert 0.97 * permitted(stats, PER_MINUTE) <= 1_000


def test_two_processes_share_a_limit_fairly(tmp_path):
    with started("--rpm", str(PER_MINUTE), "--headers", "--latency", "0.02") as server:
        stages = [start_stage(tmp_path, server.url, 1_000, words=words) for words in ("one", "two")]
        # Counted from when both are at it: one of them started earlier.
        before = counts_of(server, stages, at_least=50)
        after = counts_of(server, stages, at_least=min(before) + 250)
        for stage in stages:
            assert stage.communicate(timeout=120)[0].split()[0] == "1000"
        stats = server.stats()
    assert stats["refused"] <= 0.01 * 2_000
    assert set(stats["answered"].values()) == {1}
    assert 0.97 * permitted(stats, PER_MINUTE) <= 2_000
    taken = [last - first for first, last in zip(before, after, strict=True)]
    assert min(taken) > 0.35 * sum(taken)


def test_bursts_of_refusals_lose_nothing(tmp_path):
    """A limit that others use too: every now and then all is refused for a while."""
    with (
        started("--latency", "0.02") as server,
        client_for(server.url, tmp_path) as client,
    ):
        replies = client.complete(
            [
                Call(({"role": "user", "content": f"{n} fault={fault}"},), "v1")
                for n in range(8)
                for fault in ("429barex3", "429x2", "nonex1")
            ],
            label="test",
        )
        stats = server.stats()
    assert {reply.status for reply in replies} == {"ok"}
    assert set(stats["answered"].values()) == {1}


def counts_of(
    server: TestServer, stages: list["subprocess.Popen[str]"], at_least: int
) -> list[int]:
    """Calls answered of each stage, once both have so many."""
    while True:
        assert all(stage.poll() is None for stage in stages)
        answered = server.stats()["answered"]
        counts = [sum(prompt.startswith(words) for prompt in answered) for words in ("one", "two")]
        if min(counts) >= at_least:
            return counts
        time.sleep(0.05)

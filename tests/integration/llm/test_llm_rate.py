"""Rate limits: kept to, learned, shared; over real sockets and processes."""

import subprocess
import time
from concurrent.futures import Future, ThreadPoolExecutor

import pytest

from resources.llm.types import Reply
from tests.integration.llm.conftest import TestServer, calls, client_for, start_stage, started

pytestmark = pytest.mark.usefixtures("short_waits")
FIRST_WAIT_S = 0.05
PER_MINUTE = 6_000


@pytest.fixture(autouse=True)
def _key(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TEST_API_KEY", "k")


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
    # That it is not exceeded, the refusals tell: the server lets no more through.
    assert 0.97 * permitted(stats, PER_MINUTE) <= count


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
        client.complete(calls(300, "first", max_tokens=64), label="test")
        server.reset()
        replies = client.complete(calls(1_000, "settled", max_tokens=64), label="test")
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
    count = 400
    with (
        started("--latency", "0.02") as server,
        client_for(server.url, tmp_path) as client,
        ThreadPoolExecutor(1) as thread,
    ):
        asking = thread.submit(client.complete, calls(count), label="test")
        for burst in range(3):
            until(server, asking, "answers", 50 * (burst + 1))
            refused = server.stats()["refused"]
            server.configure(rpm=6)
            until(server, asking, "refused", refused + 5)
            server.configure(rpm=0)
        replies = asking.result()
        stats = server.stats()
    assert {reply.status for reply in replies} == {"ok"}
    assert len(stats["answered"]) == count
    assert set(stats["answered"].values()) == {1}


def until(server: TestServer, asking: "Future[list[Reply]]", what: str, count: int) -> None:
    """Wait until the server has counted so many, while calls run."""
    while server.stats()[what] < count:
        assert not asking.done()
        time.sleep(0.005)


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

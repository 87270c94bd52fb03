"""Rate limits over real sockets and processes: what a server refuses, and that nothing is lost.

How much of a limit is used is a matter of times, and tested by a given clock in the unit tests.
"""

from concurrent.futures import Future, ThreadPoolExecutor

import pytest

from resources.llm.types import Reply
from tests.integration.llm.conftest import (
    TestServer,
    calls,
    client_for,
    start_stage,
    started,
    until,
)

pytestmark = pytest.mark.usefixtures("short_waits")
FIRST_WAIT_S = 0.05
# The server lets 200 calls through at once, and then 200 a second: whoever does not keep to that
# is refused thousands of times.
PER_MINUTE = 12_000
LIMITED = ("--rpm", str(PER_MINUTE), "--latency", "0.02")


@pytest.fixture(autouse=True)
def _key(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TEST_API_KEY", "k")


def assert_kept_to(server: TestServer, replies: list[Reply]) -> None:
    """All calls were answered, once, and few were refused before."""
    stats = server.stats()
    assert {reply.status for reply in replies} == {"ok"}
    assert len(stats["answered"]) == len(replies)
    assert set(stats["answered"].values()) == {1}
    assert stats["refused"] <= 0.05 * len(replies)


@pytest.mark.parametrize(
    ("options", "role"),
    [
        (["--headers", "--retry-after"], {}),
        (["--headers"], {}),
        ([], {"requests_per_minute": PER_MINUTE}),
    ],
    ids=["headers", "headers, no Retry-After", "settings"],
)
def test_a_known_limit_is_not_exceeded(tmp_path, options, role):
    with (
        started(*LIMITED, *options) as server,
        client_for(server.url, tmp_path, **role) as client,
    ):
        assert_kept_to(server, client.complete(calls(500), label="test"))


@pytest.mark.parametrize("options", [["--retry-after"], []], ids=["Retry-After", "bare 429"])
def test_an_unknown_limit_is_learned_from_refusals(tmp_path, options):
    with started(*LIMITED, *options) as server, client_for(server.url, tmp_path) as client:
        # While it is learned, some are refused; each is answered in the end.
        first = client.complete(calls(500, "first"), label="test")
        assert {reply.status for reply in first} == {"ok"}
        server.reset()
        assert_kept_to(server, client.complete(calls(400, "settled"), label="test"))


def test_a_token_limit_is_kept_to(tmp_path):
    # 1,100 tokens a call: 200 calls a second. The second half knows how long replies are.
    with (
        started("--tpm", str(PER_MINUTE * 1_100), "--headers", "--latency", "0.02") as server,
        client_for(server.url, tmp_path) as client,
    ):
        client.complete(calls(200, "first", max_tokens=64), label="test")
        server.reset()
        settled = client.complete(calls(500, "settled", max_tokens=64), label="test")
        assert_kept_to(server, settled)


def test_two_processes_share_a_limit(tmp_path):
    with started(*LIMITED, "--headers") as server:
        stages = [start_stage(tmp_path, server.url, 300, words=words) for words in ("one", "two")]
        assert [stage.ended() for stage in stages] == ["300 ok, 0 stored"] * 2
        stats = server.stats()
    assert stats["refused"] <= 0.05 * 600
    assert set(stats["answered"].values()) == {1}


def test_bursts_of_refusals_lose_nothing(tmp_path):
    """A limit that others use too: every now and then all is refused for a while."""
    count = 200
    with (
        started("--latency", "0.02") as server,
        client_for(server.url, tmp_path) as client,
        ThreadPoolExecutor(1) as thread,
    ):
        asking = thread.submit(client.complete, calls(count), label="test")
        for burst in range(3):
            wait_for(server, asking, "answers", 40 * (burst + 1))
            refused = server.stats()["refused"]
            server.configure(rpm=6)
            wait_for(server, asking, "refused", refused + 5)
            server.configure(rpm=0)
        replies = asking.result()
        stats = server.stats()
    assert {reply.status for reply in replies} == {"ok"}
    assert len(stats["answered"]) == count
    assert set(stats["answered"].values()) == {1}


def wait_for(server: TestServer, asking: "Future[list[Reply]]", what: str, count: int) -> None:
    """Wait until the server has counted so many, while calls run."""

    def has_come() -> bool:
        assert not asking.done()
        return server.stats()[what] >= count

    until(has_come)

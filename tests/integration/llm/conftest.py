"""Fixtures for calls over real sockets."""

import os
import signal
import sys
import time
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from multiprocessing.connection import Connection
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import Any

import httpx
import pytest

from resources.llm import engine
from resources.llm.client import LLMClient
from resources.llm.store import ReplyStore
from resources.llm.types import Call
from resources.settings import BudgetSettings, Role
from tests.forks import FORKS, preload
from tests.integration.servers import openai_server

# Servers and stages are forked from one process that has imported all: that saves seconds for each.
preload("openai", __name__)
# What tests change of the shared server: each gets it as new.
DEFAULTS: dict[str, Any] = {"latency": 0.02, "without": [], "keys": [], "slots": 0, "queue": None}
# Tests ask servers often, and a new client would take longer than the request.
ASKING = httpx.Client(trust_env=False, verify=False)
KEY = "sk-testkey-not-a-real-one-0123456789"


@dataclass(frozen=True)
class TestServer:
    """A running server process: its URL, what it received, and its configuration."""

    __test__ = False

    url: str
    process: BaseProcess

    def stats(self) -> dict[str, Any]:
        return ASKING.get(f"{self.url}/stats").json()

    def reset(self) -> None:
        ASKING.post(f"{self.url}/reset", json={})

    def configure(self, **values: Any) -> None:
        ASKING.post(f"{self.url}/configure", json=values)


def serve(options: tuple[str, ...], announce: Connection) -> None:
    """Be a server, whose first line goes to the connection."""
    sys.argv = ["openai_server", *options]
    sys.stdout = os.fdopen(os.dup(announce.fileno()), "w")
    openai_server.main()


@contextmanager
def started(*options: str) -> Iterator[TestServer]:
    """A server of its own, ended with the block."""
    reader, writer = FORKS.Pipe(duplex=False)
    process = FORKS.Process(target=serve, args=(options, writer), daemon=True)
    process.start()
    writer.close()
    try:
        with os.fdopen(os.dup(reader.fileno())) as lines:
            yield TestServer(lines.readline().strip(), process)
    finally:
        process.kill()
        process.join()


@pytest.fixture(scope="session")
def running_server() -> Iterator[TestServer]:
    with started("--latency", "0.02") as server:
        yield server


@pytest.fixture
def server(running_server: TestServer, monkeypatch: pytest.MonkeyPatch) -> Iterator[TestServer]:
    monkeypatch.setenv("TEST_API_KEY", KEY)
    running_server.reset()
    yield running_server
    running_server.configure(**DEFAULTS)


@pytest.fixture(params=["lean", "sdk"])
def transport(request: pytest.FixtureRequest) -> str:
    """Both ways to the endpoint pass the same tests."""
    return request.param


# For tests of what does not depend on the way.
ONE_WAY = pytest.mark.parametrize("transport", ["lean"])


@pytest.fixture
def short_waits(monkeypatch: pytest.MonkeyPatch, request: pytest.FixtureRequest) -> None:
    """Retries come soon; a file may say in FIRST_WAIT_S how soon."""
    monkeypatch.setattr(engine, "_FIRST_WAIT_S", getattr(request.module, "FIRST_WAIT_S", 0.01))


@pytest.fixture
def make_client(server: TestServer, transport: str, tmp_path: Path) -> Callable[..., LLMClient]:
    return partial(client_for, server.url, tmp_path, transport=transport)


def write_prices(home: Path) -> None:
    """Give the models of the tests a price: listed prices hold at the providers' own URLs only."""
    home.mkdir(parents=True, exist_ok=True)
    if not (home / "prices.toml").exists():
        (home / "prices.toml").write_text(
            '[models]\n"gpt-4" = { input = 30, output = 60 }\n'
            '"gpt-4o-mini" = { input = 0.15, cached_input = 0.075, output = 0.60 }\n'
        )


def client_for(
    url: str,
    home: Path,
    model: str = "gpt-4o-mini",
    base_url: str | None = None,
    budget_usd: float | None = None,
    budget: BudgetSettings | None = None,
    run: str | None = None,
    role_name: str = "tagger",
    stage: str = "open_tags",
    store: ReplyStore | None = None,
    say: Callable[[str], None] | None = None,
    ask_endpoints: bool = True,
    **role: Any,
) -> LLMClient:
    write_prices(home)
    return LLMClient(
        role_name=role_name,
        role=Role(
            base_url=base_url or f"{url}/v1", model=model, api_key_env="TEST_API_KEY", **role
        ),
        store=store or ReplyStore(home / "llm" / "replies.sqlite"),
        home=home,
        models=home / "models",
        stage=stage,
        dataset="sample",
        budget=budget or BudgetSettings(max_cost_usd=budget_usd),
        run=run,
        say=say,
        ask_endpoints=ask_endpoints,
    )


def call(prompt: str, **more: Any) -> Call:
    return Call(({"role": "user", "content": prompt},), "v1", **{"max_tokens": 64, **more})


def calls(count: int, words: str = "prompt", *, first: int = 0, **more: Any) -> list[Call]:
    """Calls with numbered prompts; their replies may be as long as the role says."""
    return [
        call(f"{words} {n}", **{"max_tokens": None, **more}) for n in range(first, first + count)
    ]


@dataclass(frozen=True)
class Stage:
    """A stage in a process of its own."""

    process: BaseProcess
    out: Path

    @property
    def pid(self) -> int:
        assert self.process.pid is not None
        return self.process.pid

    def ended(self) -> str:
        """What the stage came to, once it is over."""
        self.process.join(120)
        assert self.process.exitcode == 0
        return self.out.read_text()

    def failed(self) -> None:
        """Wait until it is over, which it is not well."""
        self.process.join(120)
        assert self.process.exitcode not in (0, None)

    def kill(self) -> None:
        self.process.kill()
        self.process.join(60)

    def interrupt(self) -> None:
        os.kill(self.pid, signal.SIGINT)
        self.process.join(20)
        assert self.process.exitcode == 1


def fork(home: Path, work: Callable[..., str], *arguments: Any) -> Stage:
    """Do some work in a process of its own; it may be interrupted whoever started the tests."""
    out = home / f"{uuid.uuid4().hex}.txt"
    process = FORKS.Process(target=_do, args=(out, work, arguments), daemon=True)
    process.start()
    return Stage(process, out)


def _do(out: Path, work: Callable[..., str], arguments: tuple[Any, ...]) -> None:
    signal.signal(signal.SIGINT, signal.default_int_handler)
    out.write_text(work(*arguments))


def ask(
    home: Path,
    url: str,
    count: int,
    words: str,
    store_url: str,
    budget: dict[str, Any],
    role: dict[str, Any],
) -> str:
    os.environ["TEST_API_KEY"] = KEY
    store = ReplyStore(store_url or home / "replies.sqlite")
    limits = BudgetSettings(**budget)
    with client_for(url, home, store=store, budget=limits, **role) as client:
        replies = client.complete(calls(count, words), label="stage")
    ok = sum(reply.status == "ok" for reply in replies)
    return f"{ok} ok, {sum(reply.stored for reply in replies)} stored"


def start_stage(
    home: Path,
    url: str,
    count: int,
    words: str = "prompt",
    store_url: str = "",
    budget: dict[str, Any] | None = None,
    **role: Any,
) -> Stage:
    """A stage of so many calls in a process of its own; it says how many are ok and stored."""
    home.mkdir(exist_ok=True)
    return fork(home, ask, home, url, count, words, store_url, budget or {}, role)


def until(what: Callable[[], bool], stage: Stage | None = None) -> None:
    """Wait until something is so, while a stage runs."""
    while not what():
        assert stage is None or stage.process.is_alive()
        time.sleep(0.01)

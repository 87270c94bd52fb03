"""Fixtures for calls over real sockets."""

import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import httpx
import pytest

from resources.llm import engine
from resources.llm.client import LLMClient
from resources.llm.store import ReplyStore
from resources.llm.types import Call
from resources.settings import BudgetSettings, Role
from tests.integration.servers.started import first_line, running_process

SERVER = Path(__file__).parent.parent / "servers" / "openai_server.py"
ROOT = Path(__file__).resolve().parents[3]
# What tests change of the shared server: each gets it as new.
DEFAULTS: dict[str, Any] = {"latency": 0.02, "without": [], "keys": [], "slots": 0, "queue": None}
KEY = "sk-testkey-not-a-real-one-0123456789"


@dataclass(frozen=True)
class TestServer:
    """A running server process: its URL, what it received, and its configuration."""

    __test__ = False

    url: str
    process: "subprocess.Popen[str]"

    def stats(self) -> dict[str, Any]:
        return httpx.get(f"{self.url}/stats", trust_env=False, verify=False).json()

    def reset(self) -> None:
        httpx.post(f"{self.url}/reset", json={}, trust_env=False, verify=False)

    def configure(self, **values: Any) -> None:
        httpx.post(f"{self.url}/configure", json=values, trust_env=False, verify=False)


@contextmanager
def started(*options: str) -> Iterator[TestServer]:
    """A server of its own, ended with the block."""
    command = [sys.executable, str(SERVER), *options]
    with running_process(command, stdout=subprocess.PIPE) as process:
        yield TestServer(first_line(process), process)


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


STAGE = """
import sys
from pathlib import Path
from resources.llm.client import LLMClient
from resources.llm.store import ReplyStore
from resources.llm.types import Call
from resources.settings import BudgetSettings, Role

home, url, count, words, where, role, budget = sys.argv[1:8]
home = Path(home)
calls = [Call(({"role": "user", "content": f"{words} {n}"},), "v1") for n in range(int(count))]
store = ReplyStore(where or home / "replies.sqlite")
with LLMClient(role_name="tagger", role=Role(**eval(role)), store=store, home=home, models=home,
               stage="open_tags", budget=BudgetSettings(**eval(budget))) as client:
    replies = client.complete(calls, label="stage")
print(sum(reply.status == "ok" for reply in replies), sum(reply.stored for reply in replies))
"""


def start_stage(
    home: Path,
    url: str,
    count: int,
    words: str = "prompt",
    store_url: str = "",
    budget: dict[str, Any] | None = None,
    **role: Any,
) -> "subprocess.Popen[str]":
    """A stage of so many calls in a process of its own; it prints how many are ok and stored."""
    settings = {"base_url": f"{url}/v1", "model": "gpt-4o-mini", **role}
    write_prices(home)
    command = [sys.executable, "-c", STAGE, str(home), url, str(count), words, store_url]
    command += [repr(settings), repr(budget or {})]
    return subprocess.Popen(
        command,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
        env={**os.environ, "PYTHONPATH": str(ROOT), "OPENAI_API_KEY": "k"},
    )

"""Fixtures for calls over real sockets."""

import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import pytest

from resources.llm.client import LLMClient
from resources.llm.store import ReplyStore
from resources.settings import Role

SERVER = Path(__file__).parent.parent / "servers" / "openai_faults.py"
KEY = "sk-testkey-not-a-real-one-0123456789"


@dataclass(frozen=True)
class FaultServer:
    url: str

    def stats(self) -> dict[str, Any]:
        return httpx.get(f"{self.url}/stats", trust_env=False).json()

    def reset(self) -> None:
        httpx.post(f"{self.url}/reset", json={}, trust_env=False)


@pytest.fixture(scope="session")
def running_server() -> Iterator[FaultServer]:
    command = [sys.executable, str(SERVER), "--latency", "0.02"]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    yield FaultServer(process.stdout.readline().strip())
    process.kill()
    process.wait()


@pytest.fixture
def server(running_server: FaultServer, monkeypatch: pytest.MonkeyPatch) -> FaultServer:
    monkeypatch.setenv("TEST_API_KEY", KEY)
    running_server.reset()
    return running_server


@pytest.fixture
def make_client(server: FaultServer, tmp_path: Path) -> Callable[..., LLMClient]:
    def make(
        model: str = "gpt-4o-mini",
        base_url: str | None = None,
        budget_usd: float | None = None,
        run: str | None = None,
        role_name: str = "tagger",
        **role: Any,
    ) -> LLMClient:
        return LLMClient(
            role_name=role_name,
            role=Role(
                base_url=base_url or f"{server.url}/v1",
                model=model,
                api_key_env="TEST_API_KEY",
                **role,
            ),
            store=ReplyStore(tmp_path / "llm" / "replies.sqlite"),
            home=tmp_path,
            models=tmp_path / "models",
            stage="open_tags",
            dataset="sample",
            budget_usd=budget_usd,
            run=run,
        )

    return make

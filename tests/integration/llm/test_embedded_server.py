"""The embedded model, for real: its replies, and the life of its server."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from resources import models
from resources.llm.embedded import EmbeddedServer, live_leases, read_info
from resources.llm.errors import LLMError
from resources.llm.readings import expected_number, preference
from resources.llm.resource import LLMResource
from resources.llm.types import Call

pytestmark = pytest.mark.llm

ROOT = Path(__file__).resolve().parents[3]
TAGS = 'root ::= "[" tag (", " tag){1,2} "]"\ntag ::= "\\"" [a-z]{2,12} "\\""'
ASK = """
import sys
from resources.llm.resource import LLMResource
from resources.llm.types import Call
with LLMResource(home=sys.argv[1]).client("tagger", stage="open_tags") as client:
    call = Call(({"role": "user", "content": sys.argv[2]},), "v1", max_tokens=4)
    print(client.complete([call], label="ask")[0].status)
"""


def ask(text: str, **more: object) -> Call:
    return Call(({"role": "user", "content": text},), "v1", **more)  # type: ignore[arg-type]


def gone(pid: int, within_s: float) -> bool:
    deadline = time.monotonic() + within_s
    while time.monotonic() < deadline:
        state = Path(f"/proc/{pid}/stat")
        if not state.exists() or state.read_text().rsplit(")", 1)[1].split()[0] == "Z":
            return True
        time.sleep(0.1)
    return False


@pytest.fixture
def own_home(models_dir: Path, tmp_path: Path):
    """A home with a server of its own, ended with the test."""
    (tmp_path / "settings.toml").write_text(f"models_dir = {json.dumps(str(models_dir))}\n")
    yield tmp_path
    EmbeddedServer(tmp_path, models.served_gguf(models_dir)).stop()


def test_a_grammar_is_always_kept_to(embedded_home):
    questions = ["Write a haiku.", "What is 7 times 8?", "Fix my loop.", "Plan a dinner."]
    with LLMResource(home=str(embedded_home)).client("tagger", stage="open_tags") as client:
        assert client.structured == "grammar"
        calls = [ask(f"Two tags for: {each}", max_tokens=48, grammar=TAGS) for each in questions]
        replies = client.complete(calls, label="tags")
        assert client.model_label == "embedded:smollm2-135m-instruct"
        assert client.usage.cost_usd == 0.0
    log = (embedded_home / "llm" / "server" / "server.log").read_text(errors="replace")
    assert "haiku" not in log
    for reply in replies:
        assert reply.status == "ok"
        assert all(isinstance(tag, str) for tag in json.loads(reply.text))
        assert reply.prompt_tokens > 10
        assert reply.completion_tokens > 2


def test_probabilities_are_read(embedded_home):
    pair = "A: Paris is the capital of France.\nB: asdf qwer\nWhich is better? Answer A or B only."
    rate = "Rate this sentence from 1 to 9: 'Water boils at 100 degrees.' Answer with one digit."
    with LLMResource(home=str(embedded_home)).client("scorer", stage="test") as client:
        assert client.reading == "logprobs"
        first, second = client.complete(
            [
                ask(pair, max_tokens=1, grammar='root ::= "A" | "B"', top_logprobs=10),
                ask(rate, max_tokens=1, grammar="root ::= [1-9]", top_logprobs=10),
            ],
            label="readings",
        )
    assert first.status == second.status == "ok"
    assert first.text in {"A", "B"}
    assert len(first.logprobs[0]) >= 40
    assert -20 < preference(first) < 20
    assert 1 <= expected_number(second, 1, 9) <= 9


def test_a_prompt_that_does_not_fit_is_counted_and_refused(embedded_home):
    with LLMResource(home=str(embedded_home)).client("judge", stage="test") as client:
        (reply,) = client.complete([ask("word " * 4200, max_tokens=8)], label="long")
    assert reply.status == "too_long"
    assert reply.detail is not None
    assert "4096" in reply.detail
    assert reply.prompt_tokens == 0


def test_a_second_run_needs_no_server(own_home):
    call = ask("Say hello.", max_tokens=4)
    for _ in range(2):
        with LLMResource(home=str(own_home)).client("tagger", stage="test") as client:
            (reply,) = client.complete([call], label="hello")
        EmbeddedServer(own_home, Path("unused")).stop()
    assert reply.stored
    assert read_info(own_home / "llm" / "server") is None


def test_two_processes_share_one_server(own_home):
    processes = [
        subprocess.Popen(
            [sys.executable, "-c", ASK, str(own_home), f"Hello {number}"],
            stdout=subprocess.PIPE,
            text=True,
            env={**os.environ, "PYTHONPATH": str(ROOT)},
        )
        for number in range(2)
    ]
    pids = set()
    while any(process.poll() is None for process in processes):
        info = read_info(own_home / "llm" / "server")
        if info is not None:
            pids.add(info.pid)
        time.sleep(0.02)
    for process in processes:
        assert process.communicate()[0].split()[0] in {"ok", "truncated"}
    assert len(pids) == 1
    assert live_leases(own_home / "llm" / "server") == 0


def test_a_killed_server_is_started_again_within_a_batch(own_home, models_dir):
    server = EmbeddedServer(own_home, models.served_gguf(models_dir))
    with server.lease():
        server.url()
        first = read_info(server.folder)
        assert first is not None
        with LLMResource(home=str(own_home)).client("tagger", stage="test") as client:
            client.complete([ask("One.", max_tokens=2)], label="one")
            os.kill(first.pid, signal.SIGKILL)
            (reply,) = client.complete([ask("Two.", max_tokens=2)], label="two")
        second = read_info(server.folder)
    assert reply.status == "truncated"
    assert second is not None
    assert second.pid != first.pid


def test_a_server_that_dies_under_a_call_is_replaced(own_home, models_dir):
    server = EmbeddedServer(own_home, models.served_gguf(models_dir))
    with server.lease():
        server.url()
        info = read_info(server.folder)
        assert info is not None
        kill = f"import os,time; time.sleep(1.0); os.kill({info.pid}, 9)"
        killer = subprocess.Popen([sys.executable, "-c", kill])
        with LLMResource(home=str(own_home)).client("tagger", stage="test") as client:
            calls = [ask(f"Tell a long story about {n} bears.", max_tokens=100) for n in range(4)]
            replies = client.complete(calls, label="stories")
        killer.wait()
    assert {reply.status for reply in replies} <= {"ok", "truncated"}


def test_it_ends_when_idle_and_not_before(own_home, models_dir):
    server = EmbeddedServer(own_home, models.served_gguf(models_dir), idle_s=1.5)
    with server.lease():
        server.url()
        info = read_info(server.folder)
        assert info is not None
        assert not gone(info.pid, 4)
    assert gone(info.pid, 15)


def test_it_ends_when_its_home_is_removed(own_home, models_dir):
    server = EmbeddedServer(own_home, models.served_gguf(models_dir))
    with server.lease():
        server.url()
        info = read_info(server.folder)
        assert info is not None
        (server.folder / "server.json").unlink()
        assert gone(info.pid, 15)


def test_a_start_that_fails_tells_the_logs_last_line(tmp_path):
    broken = tmp_path / "broken.gguf"
    broken.write_bytes(b"not a model")
    server = EmbeddedServer(tmp_path, broken)
    with server.lease(), pytest.raises(LLMError, match=r"did not start: .+server\.log"):
        server.url()

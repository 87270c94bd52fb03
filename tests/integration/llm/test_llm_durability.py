"""What was received is stored, whatever happens to the process."""

import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

from resources.llm.store import ReplyStore

STAGE = """
import sys
from pathlib import Path
from resources.llm.client import LLMClient
from resources.llm.store import ReplyStore
from resources.llm.types import Call
from resources.settings import Role

home, url, count, concurrency = Path(sys.argv[1]), sys.argv[2], int(sys.argv[3]), int(sys.argv[4])
calls = [Call(({"role": "user", "content": f"prompt {n}"},), "v1") for n in range(count)]
role = Role(base_url=url + "/v1", model="gpt-4o-mini", concurrency=concurrency)
with LLMClient(role_name="tagger", role=role, store=ReplyStore(home / "replies.sqlite"),
               home=home, models=home, stage="open_tags") as client:
    replies = client.complete(calls, label="stage")
print(sum(reply.status == "ok" for reply in replies), sum(reply.stored for reply in replies))
"""


def start(home: Path, url: str, count: int, concurrency: int) -> "subprocess.Popen[str]":
    command = [sys.executable, "-c", STAGE, str(home), url, str(count), str(concurrency)]
    root = str(Path(__file__).resolve().parents[3])
    return subprocess.Popen(
        command,
        stdout=subprocess.PIPE,
        text=True,
        stderr=subprocess.DEVNULL,
        env={**os.environ, "PYTHONPATH": root},
    )


def stored(home: Path) -> int:
    with ReplyStore(home / "replies.sqlite") as store:
        return store.usage_rows().height


def test_after_kill_9_only_calls_in_flight_are_sent_again(server, tmp_path):
    count, concurrency = 400, 4
    for _ in range(3):
        process = start(tmp_path, server.url, count, concurrency)
        before = server.stats()["requests"]
        while server.stats()["requests"] < before + random.randint(20, 60):
            assert process.poll() is None
            time.sleep(0.01)
        os.kill(process.pid, signal.SIGKILL)
        process.wait()
        time.sleep(0.2)
        # The server may have answered those in flight after the client was gone.
        assert stored(tmp_path) >= len(server.stats()["answered"]) - concurrency
    before = stored(tmp_path)
    process = start(tmp_path, server.url, count, concurrency)
    out, _ = process.communicate(timeout=120)
    assert out.split() == [str(count), str(before)]
    assert server.stats()["requests"] <= count + 3 * concurrency
    assert stored(tmp_path) == count


def test_two_processes_share_one_store(server, tmp_path):
    processes = [start(tmp_path, server.url, 150, 4) for _ in range(2)]
    for process in processes:
        out, _ = process.communicate(timeout=120)
        assert out.split()[0] == "150"
    assert stored(tmp_path) == 150


def test_an_interrupt_ends_soon_and_keeps_what_came(server, tmp_path):
    process = start(tmp_path, server.url, 5_000, 4)
    while server.stats()["requests"] < 40:
        assert process.poll() is None
        time.sleep(0.01)
    process.send_signal(signal.SIGINT)
    process.communicate(timeout=20)
    assert process.returncode != 0
    assert len(server.stats()["answered"]) - 4 <= stored(tmp_path) < 2_500

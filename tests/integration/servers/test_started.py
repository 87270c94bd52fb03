"""Servers of the tests end with their block, whoever started the tests and however they fare."""

import signal
import subprocess
import sys
from pathlib import Path

import httpx
import pytest

from tests.integration.servers.started import first_line, running_process, started

STUBS = ("answer_server", "counting_model", "judge_server", "verdict_judge", "verdict_server")
DEAF = """
import signal, time
signal.signal(signal.SIGTERM, signal.SIG_IGN)
print("up", flush=True)
time.sleep(600)
"""
# Starts a command as a script's background does.
IN_BACKGROUND = """
import os, signal, sys
for number in (signal.SIGINT, signal.SIGTERM):
    signal.signal(number, signal.SIG_IGN)
os.execv(sys.executable, [sys.executable, *sys.argv[1:]])
"""


@pytest.mark.parametrize("name", [*STUBS, "openai_server"])
def test_a_server_answers_and_is_gone_after_its_block(name):
    with started(f"{name}.py") as url:
        path = "/stats" if name == "openai_server" else "/asked"
        assert httpx.get(f"{url}{path}", trust_env=False).status_code == 200
    with pytest.raises(httpx.ConnectError):
        httpx.get(url, trust_env=False)


def test_a_process_that_is_deaf_to_sigterm_is_killed_after_a_grace():
    with running_process([sys.executable, "-c", DEAF], 0.1, stdout=subprocess.PIPE) as process:
        assert first_line(process) == "up"
    assert process.returncode == -signal.SIGKILL


def test_a_process_that_ends_before_it_is_ready_is_named():
    command = [sys.executable, "-c", "raise SystemExit(3)"]
    with (
        running_process(command, stdout=subprocess.PIPE) as process,
        pytest.raises(AssertionError, match="ended with 3 before it was ready"),
    ):
        first_line(process)


def test_all_servers_end_where_the_tests_were_started_with_signals_ignored():
    test = test_a_server_answers_and_is_gone_after_its_block.__name__
    these = [f"{Path(__file__)}::{test}[{name}]" for name in ("judge_server", "openai_server")]
    command = [sys.executable, "-c", IN_BACKGROUND, "-m", "pytest", "-q", "-p", "no:cacheprovider"]
    done = subprocess.run([*command, *these], capture_output=True, text=True, timeout=240)
    assert done.returncode == 0, done.stdout[-2000:]
    assert "2 passed" in done.stdout

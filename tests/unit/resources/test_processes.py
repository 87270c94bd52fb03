"""Which process is meant, and whether it lives."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import replace

import pytest

from resources.processes import Process, lives, read_process, started_at, this_process

SLEEP = "import time; time.sleep(600)"


@pytest.fixture
def child() -> Iterator["subprocess.Popen[bytes]"]:
    process = subprocess.Popen([sys.executable, "-c", SLEEP])
    yield process
    process.kill()
    process.wait()


def identity(pid: int) -> Process:
    return replace(this_process(), pid=pid, started=started_at(pid) or "")


def test_this_process_lives_and_is_what_it_wrote_down():
    here = this_process()
    assert here.pid == os.getpid()
    assert lives(here) is True
    assert read_process(here.as_dict()) == here


@pytest.mark.parametrize("values", [{}, {"pid": "x"}, {"pid": 1}, {"pid": None, "host": "a"}])
def test_what_describes_no_process_is_none(values):
    assert read_process(values) is None


def test_a_killed_process_does_not_live_even_before_its_parent_takes_note(child):
    known = identity(child.pid)
    assert lives(known) is True
    child.kill()
    deadline = time.monotonic() + 10
    while lives(known) and time.monotonic() < deadline:
        time.sleep(0.01)
    # Nobody has waited for it: its id is still taken.
    os.kill(child.pid, 0)
    assert lives(known) is False
    child.wait()
    assert lives(known) is False


def test_another_process_with_the_same_id_is_another_one(child):
    assert lives(replace(identity(child.pid), started="1")) is False


def test_nothing_outlives_its_machines_boot(child):
    assert lives(replace(identity(child.pid), boot="an earlier boot")) is False


@pytest.mark.parametrize(
    "elsewhere",
    [
        {"host": "another machine"},
        {"host": "another machine", "boot": "its boot"},
        {"namespace": "x"},
    ],
)
@pytest.mark.parametrize("pid", [None, 2**22 + 1])
def test_what_cant_be_seen_from_here_is_not_known(child, elsewhere, pid):
    known = replace(identity(child.pid), pid=pid or child.pid)
    assert lives(replace(known, **elsewhere)) is None


PARENT = """
import subprocess, sys
child = subprocess.Popen([sys.executable, "-c", sys.argv[1]], stdout=subprocess.PIPE)
print(child.stdout.readline().decode().strip(), child.pid, flush=True)
child.wait()
"""
CHILD = """
import os, time
from resources.processes import end_with_parent
end_with_parent({parent})
print("watches", flush=True)
time.sleep(600)
"""


@pytest.mark.parametrize("parent", ["", "os.getppid()"])
def test_a_child_ends_with_its_killed_parent(parent):
    with subprocess.Popen(
        [sys.executable, "-c", PARENT, CHILD.format(parent=parent)],
        stdout=subprocess.PIPE,
        text=True,
    ) as process:
        assert process.stdout is not None
        word, pid = process.stdout.readline().split()
        assert word == "watches"
        process.kill()
        process.wait()
        deadline = time.monotonic() + 20
        while started_at(int(pid)) and time.monotonic() < deadline:
            time.sleep(0.05)
        alive = started_at(int(pid))
        with suppress(ProcessLookupError):
            os.kill(int(pid), signal.SIGKILL)
        assert alive is None


def test_a_child_whose_parent_was_gone_before_it_looked_ends_too():
    # The parent that it was told of is none any more.
    done = subprocess.run(
        [sys.executable, "-c", CHILD.format(parent=2**22 + 1)], timeout=30, capture_output=True
    )
    assert done.returncode == 131

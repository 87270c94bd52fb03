"""Calls to a language model, against the test server: what is reached of what can be.

Each workload is a process of its own, as a stage is. The plain way beside it is ``AsyncOpenAI``
with ``gather`` and a semaphore, which keeps no reply; other clients are in ``peers``.
"""

import os
import sys
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tests.benchmarks.peers.__main__ import ROOT, SCRIPTS, run_once, serving, stats_of

OURS, PLAIN = SCRIPTS / "ours.py", SCRIPTS / "plain_sdk.py"


@dataclass(frozen=True)
class CallRow:
    """One workload's outcome.

    Attributes:
        name: The workload.
        reached: What was reached, in words and figures.
        target: What was to be reached.
        met: Whether it was.
    """

    name: str
    reached: str
    target: str
    met: bool


def all_rows() -> Iterator[CallRow]:
    """Run the workloads one after another."""
    yield latency_bound()
    yield cpu_bound()
    yield rate_limited()
    yield from many_prompts()
    yield all_stored()


def latency_bound() -> CallRow:
    """1 s a call, 100 slots, 5,000 calls: at best 100 calls a second."""
    figures, stats = ours(5_000, "--latency", "1", "--slots", "100")
    # From the first request to the last answer: the start of the process is not the server's.
    seconds = stats["answered_at"] - stats["first_at"]
    share = 5_000 / seconds / 100
    return CallRow(
        "latency-bound: 1 s, 100 slots, 5,000 calls",
        f"{share:.1%} of the server's limit ({5_000 / figures['seconds']:.1f}/s with the start)",
        ">= 97 %",
        share >= 0.97 and well(figures, stats),
    )


def cpu_bound() -> CallRow:
    """0.1 s a call, 256 slots, 10,000 calls, beside the plain way with 2,000."""
    server = ("--latency", "0.1", "--slots", "256")
    figures, stats = ours(10_000, *server)
    with serving((*server, "--light")) as url:
        plain = run_once(command(PLAIN, url, 2_000), environment(), None, url)
    rate, plain_rate = 10_000 / figures["seconds"], 2_000 / plain["seconds"]
    cpu = figures["cpu_seconds"] / 10
    return CallRow(
        "CPU-bound: 0.1 s, 256 slots, 10,000 calls, replies kept",
        f"{rate:,.0f}/s, {cpu:.2f} CPU s per 1,000; plain: {plain_rate:,.0f}/s, "
        f"{plain['cpu_seconds'] / 2:.2f}; ratio {rate / plain_rate:.1f}x",
        ">= 8x the plain way, <= 0.7 CPU s per 1,000",
        rate >= 8 * plain_rate and cpu <= 0.7 and well(figures, stats),
    )


def rate_limited() -> CallRow:
    """6,000 a minute in a bucket of one second, told in headers only."""
    options = ("--latency", "0.1", "--rpm", "6000", "--depth-s", "1", "--headers", "--retry-after")
    figures, stats = ours(6_000, *options)
    # A hundred a second from the first request to the last, and the bucket's first filling.
    share = 6_000 / ((stats["last_at"] - stats["first_at"]) * 100 + 100)
    refused = stats["refused"] / stats["requests"]
    return CallRow(
        "RPM-limited: 6,000 a minute, 6,000 calls",
        f"{share:.1%} of what is permitted, {refused:.2%} refused, {figures['lost']} lost",
        ">= 97 %, <= 1 % refused, none lost",
        share >= 0.97 and refused <= 0.01 and well(figures, stats),
    )


def many_prompts() -> Iterator[CallRow]:
    """Memory with 20,000 and with 200,000 prompts."""
    server = ("--latency", "0.05")
    few, _ = ours(20_000, *server)
    many, stats = ours(200_000, *server)
    yield CallRow(
        "200,000 prompts, streamed",
        f"{many['peak_mb']} MB at most ({few['peak_mb']} MB with 20,000), "
        f"{200_000 / many['seconds']:,.0f}/s",
        "<= 400 MB, flat",
        many["peak_mb"] <= min(400, few["peak_mb"] + 60) and well(many, stats),
    )


def all_stored() -> CallRow:
    """52,000 calls that are stored already."""
    with tempfile.TemporaryDirectory() as state, serving(("--light",)) as url:
        first = command(OURS, url, 52_000, state)
        run_once(first, environment(), None, url)
        before = stats_of(url)["requests"]
        figures = run_once(first, environment(), None, url)
        new = stats_of(url)["requests"] - before
    return CallRow(
        "52,000 calls, all stored already",
        f"{figures['seconds']:.2f} s, {new} sent",
        "<= 2 s, none sent",
        figures["seconds"] <= 2 and new == 0 and figures["lost"] == 0,
    )


def ours(count: int, *server: str) -> tuple[dict[str, Any], dict[str, Any]]:
    """Figures of our client on a server of its own, and what the server saw."""
    with serving((*server, "--light")) as url:
        figures = run_once(command(OURS, url, count), environment(), None, url)
        return figures, stats_of(url)


def well(figures: dict[str, Any], stats: dict[str, Any]) -> bool:
    """Whether every prompt was answered, each once."""
    return figures["lost"] == 0 and stats["answer_repeats"] == 0


def command(script: Path, url: str, count: int, state: str | None = None) -> list[Any]:
    found = [sys.executable, script, "--url", url, "--count", str(count)]
    return [*found, "--state", state] if state else found


def environment() -> dict[str, str]:
    return {**os.environ, "PYTHONPATH": str(ROOT), "OPENCS_PROGRESS": "0"}

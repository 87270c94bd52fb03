"""Our client beside what else one would use, on the same server: one table.

Run: ``python -m tests.benchmarks.peers [workload...]``. Every peer has a virtual environment of
its own under ``.venv-peers/``, made at the first run. A peer that cannot be installed or run here
gets a row that says why.
"""

import argparse
import contextlib
import json
import os
import signal
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx
from rich.console import Console
from rich.table import Table

from tests.integration.servers.started import started

ROOT = Path(__file__).resolve().parents[3]
SCRIPTS = Path(__file__).resolve().parent
ENVIRONMENTS = ROOT / ".venv-peers"
TIMEOUT_S = 180


@dataclass(frozen=True)
class Peer:
    name: str
    script: str
    environment: str = ""
    packages: tuple[str, ...] = ()
    options: tuple[str, ...] = ()
    # Installed without the packages that they ask for.
    alone: tuple[str, ...] = ()


@dataclass(frozen=True)
class Workload:
    what: str
    count: int
    server: tuple[str, ...] = ("--latency", "0.1", "--slots", "256")
    options: tuple[str, ...] = ()
    killed: bool = False


@dataclass
class Row:
    workload: str
    client: str
    figures: dict[str, Any] = field(default_factory=dict)
    stats: dict[str, Any] = field(default_factory=dict)
    note: str = ""


PEERS = [
    Peer("opencs", "ours.py"),
    Peer("openai SDK 3.54.0", "plain_sdk.py", "openai", ("openai[aiohttp]==3.54.0",)),
    Peer(
        "openai SDK 3.54.0, aiohttp",
        "plain_sdk.py",
        "openai",
        ("openai[aiohttp]==3.54.0",),
        ("--aiohttp",),
    ),
    Peer("Curator 0.1.31", "curator_llm.py", "curator", ("bespokelabs-curator==0.1.31",)),
    Peer(
        "distilabel 1.5.3",
        "distilabel_pipeline.py",
        "distilabel",
        # It needs requests, and counts on the data sets library to bring it.
        ("distilabel[openai]==1.5.3", "openai==3.54.0", "datasets==5.2.0", "requests==2.34.2"),
    ),
    Peer(
        "LiteLLM router 1.106.2",
        "litellm_router.py",
        "litellm",
        # A hit of its cache imports the proxy.
        ("litellm[caching,proxy]==1.106.2",),
    ),
]
WORKLOADS = {
    "cpu-bound": Workload("2,000 prompts, 0.1 s each, 256 at once", 2_000),
    "killed": Workload("killed with -9 half-way and run again, 2,000 prompts", 2_000, killed=True),
    "rpm-limited": Workload(
        "6,000 requests per minute in a bucket of 1 s, told in headers; 1,500 prompts",
        1_500,
        ("--latency", "0.1", "--rpm", "6000", "--depth-s", "1", "--headers", "--retry-after"),
        ("--rpm", "6000"),
    ),
}


def environment(state: Path) -> dict[str, str]:
    """What the clients see: no telemetry, no look-ups outside, nothing left in the home folder."""
    return {
        **os.environ,
        "OPENAI_API_KEY": "sk-not-a-real-one",
        "NO_PROXY": "127.0.0.1",
        "HF_HOME": str(state / "hf"),
        "HF_HUB_OFFLINE": "1",
        "HF_HUB_DISABLE_TELEMETRY": "1",
        "TELEMETRY_ENABLED": "false",
        "CURATOR_DISABLE_RICH_DISPLAY": "1",
        "CURATOR_CACHE_DIR": str(state / "curator"),
        "LITELLM_LOCAL_MODEL_COST_MAP": "True",
        "PYTHONWARNINGS": "ignore",
    }


def python_of(peer: Peer) -> Path:
    """The peer's interpreter; makes its environment if it is not there or has other packages."""
    if not peer.environment:
        return Path(sys.executable)
    folder = ENVIRONMENTS / peer.environment
    python, done = folder / "bin" / "python", folder / "packages.txt"
    wanted = "\n".join([*peer.packages, *peer.alone])
    if not done.exists() or done.read_text() != wanted:
        subprocess.run([sys.executable, "-m", "venv", "--clear", folder], check=True)
        pip = [python, "-m", "pip", "install", "-q", "--disable-pip-version-check"]
        for packages in (peer.packages, *[("--no-deps", package) for package in peer.alone]):
            result = subprocess.run([*pip, *packages], capture_output=True, text=True)
            if result.returncode:
                raise RuntimeError(f"not installed: {last_line(result.stderr)}")
        done.write_text(wanted)
    return python


def last_line(text: str) -> str:
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    return lines[-1][:200] if lines else "no output"


def stats_of(url: str) -> dict[str, Any]:
    return httpx.get(f"{url}/stats", trust_env=False, timeout=30).json()


def end(process: "subprocess.Popen[str]") -> None:
    """End a client with all its processes, as a crash of the machine would."""
    with contextlib.suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)
    process.wait()


def run_once(
    command: list[Any],
    env: dict[str, str],
    kill_at: int | None,
    url: str,
    timeout_s: float = TIMEOUT_S,
) -> Any:
    """The client's figures; with ``kill_at`` it is killed once so many prompts were received."""
    with tempfile.TemporaryFile("w+") as out, tempfile.TemporaryFile("w+") as err:
        process = subprocess.Popen(
            command, cwd=ROOT, env=env, stdout=out, stderr=err, text=True, start_new_session=True
        )
        deadline = time.monotonic() + timeout_s
        try:
            while process.poll() is None:
                if time.monotonic() > deadline:
                    raise RuntimeError(f"did not finish in {timeout_s} s")
                if kill_at is not None and stats_of(url)["requests"] >= kill_at:
                    return None
                time.sleep(0.05)
        finally:
            end(process)
        out.seek(0)
        err.seek(0)
        for line in reversed(out.read().splitlines()):
            if line.startswith('{"peer"'):
                return json.loads(line)
        raise RuntimeError(f"failed: {last_line(err.read())}")


def measure(name: str, workload: Workload, peer: Peer) -> Row:
    row = Row(name, peer.name)
    with (
        tempfile.TemporaryDirectory() as folder,
        started("openai_server.py", *workload.server) as url,
    ):
        state = Path(folder)
        env = environment(state)
        if not peer.environment:
            env["PYTHONPATH"] = str(ROOT)
        options = ["--url", url, "--count", str(workload.count), *peer.options, *workload.options]
        try:
            command = [python_of(peer), SCRIPTS / peer.script, *options]
            if workload.killed:
                command += ["--state", state / "state"]
                (state / "state").mkdir()
                run_once(command, env, workload.count // 2, url)
            row.figures = run_once(command, env, None, url)
        except (RuntimeError, OSError, subprocess.CalledProcessError) as error:
            row.note = str(error)
        row.stats = stats_of(url)
    return row


def cells(row: Row) -> list[str]:
    """The row's figures; the server's are shown for a client that did not finish, too."""
    stats, figures = row.stats, row.figures
    share = stats["refused"] / max(1, stats["requests"])
    # Where requests are refused, a prompt that comes again was refused before.
    again = "" if stats["refused"] else f"{stats['repeats']:,}"
    seen = [again, f"{share:.1%}"]
    if not figures:
        return [row.workload, row.client, "", "", "", *seen, "", row.note]
    calls, seconds = figures["calls"], figures["seconds"]
    return [
        row.workload,
        row.client,
        f"{seconds:.2f}",
        f"{calls / seconds:,.0f}",
        f"{1000 * figures['cpu_seconds'] / calls:.2f}",
        *seen,
        f"{figures['lost']:,}",
        row.note,
    ]


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m tests.benchmarks.peers")
    parser.add_argument("workloads", nargs="*", metavar="workload", help=", ".join(WORKLOADS))
    parser.add_argument("--only", help="clients whose name has this in it")
    args = parser.parse_args()
    if unknown := set(args.workloads) - WORKLOADS.keys():
        parser.error(f"no such workload: {', '.join(sorted(unknown))}")
    peers = [peer for peer in PEERS if not args.only or args.only.lower() in peer.name.lower()]
    console = Console()
    table = Table(title="Clients on the same server", title_justify="left")
    for column in ("workload", "client"):
        table.add_column(column)
    for column in ("seconds", "prompts/s", "CPU ms/prompt", "sent again", "429", "lost"):
        table.add_column(column, justify="right")
    table.add_column("note")
    for name in args.workloads or WORKLOADS:
        for peer in peers:
            with console.status(f"{name}: {peer.name}"):
                table.add_row(*cells(measure(name, WORKLOADS[name], peer)))
        table.add_section()
    console.print(table)
    for name in args.workloads or WORKLOADS:
        console.print(f"{name}: {WORKLOADS[name].what}")
    console.print("sent again: requests for a prompt that the server had received already")


if __name__ == "__main__":
    main()

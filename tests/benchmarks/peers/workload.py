"""What every client of the comparison has in common: its command line and its line of figures.

It is imported from the script's own folder, in the environment of each peer: standard library
only, and no script here may have the name of a library.
"""

import argparse
import json
import os
import resource
import tempfile
import time
from collections.abc import Callable

MODEL = "gpt-4o-mini"
KEY = os.environ.get("OPENAI_API_KEY", "sk-not-a-real-one")


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser()
    parser.add_argument("--url", required=True, help="the server, without /v1")
    parser.add_argument("--count", type=int, default=2_000)
    parser.add_argument("--concurrency", type=int, default=256)
    parser.add_argument("--rpm", type=int, help="a known limit, for who can be told one")
    parser.add_argument("--state", help="folder that outlives a killed run, for who keeps a store")
    args = parser.parse_args()
    args.durable = args.state is not None
    return args


def measure(peer: str, run: Callable[[argparse.Namespace, list[str]], int]) -> None:
    """Run a client on the prompts and print its figures; ``run`` returns how many got a reply.

    The time starts after the imports: a long job does not notice them.
    """
    args = arguments()
    prompts = [f"prompt {number}" for number in range(args.count)]
    with tempfile.TemporaryDirectory() as folder:
        args.state = args.state or folder
        started, cpu = time.perf_counter(), cpu_seconds()
        replies = run(args, prompts)
        seconds, cpu = time.perf_counter() - started, cpu_seconds() - cpu
    figures = {
        "peer": peer,
        "calls": args.count,
        "seconds": round(seconds, 3),
        "cpu_seconds": round(cpu, 3),
        "lost": args.count - replies,
        "peak_mb": round(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024),
    }
    print(json.dumps(figures), flush=True)


def cpu_seconds() -> float:
    """Processor time of this process and of those it waited for."""
    used = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    return sum(usage.ru_utime + usage.ru_stime for usage in used)

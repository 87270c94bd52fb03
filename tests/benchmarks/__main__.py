"""``make bench``: every benchmark as a row of a table; with words, only the tables that they name.

A row is the same work done by the platform and by the plain way, in one run, with equal results
checked; its figure is the ratio. Where there is no plain way, only the platform's time is given.
From tags to clusters (``tags``), each side runs in a process of its own. Calls to language models
have a table of their own (``calls``): what is reached of what can be.
"""

import argparse
import resource
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from rich.console import Console
from rich.table import Table

from tests.benchmarks import calls, tags, works

REPEATS = 3
# Where it is not a terminal that says how wide it is, such as a log.
WIDTH = 200


@dataclass(frozen=True)
class Row:
    """One benchmark's outcome; seconds are the best of the repeats."""

    name: str
    size: str
    seconds: float
    plain_seconds: float | None
    equal: str


def measure(work: works.Work) -> Row:
    """Run the platform's way and the plain way and compare their results."""
    found, seconds = best(work.run)
    if work.plain is None:
        return Row(work.name, work.size, seconds, None, "")
    expected, plain_seconds = best(work.plain, repeats=1)
    equal = "yes" if work.same(found, expected) else "NO"
    return Row(work.name, work.size, seconds, plain_seconds, equal)


def best(run: Callable[[], Any], repeats: int = REPEATS) -> tuple[Any, float]:
    """The result and the shortest of several times, in seconds."""
    shortest, result = float("inf"), None
    for _ in range(repeats):
        started = time.perf_counter()
        result = run()
        shortest = min(shortest, time.perf_counter() - started)
    return result, shortest


def main() -> None:
    """Print the tables; exits with 1 if a result differs from the plain way's."""
    tables = {"works": print_works, "tags": print_tags, "calls": print_calls}
    parser = argparse.ArgumentParser(prog="python -m tests.benchmarks")
    parser.add_argument("tables", nargs="*", choices=[*tables, []], metavar="|".join(tables))
    console = Console()
    if not console.is_terminal:
        console = Console(width=WIDTH)
    right = [tables[name](console) for name in parser.parse_args().tables or tables]
    raise SystemExit(int(not all(right)))


def print_works(console: Console) -> bool:
    """The platform's own work beside the plain way; whether all results are the same."""
    table = Table(title="Benchmarks (best of 3; the plain way once)", title_justify="left")
    for name in ("work", "size", "seconds", "plain way", "ratio", "same result"):
        table.add_column(name, justify="left" if name in ("work", "size") else "right")
    differs = False
    for work in works.all_works():
        with console.status(work.name):
            row = measure(work)
        differs |= row.equal == "NO"
        plain = "" if row.plain_seconds is None else f"{row.plain_seconds:.3f}"
        ratio = "" if row.plain_seconds is None else f"{row.plain_seconds / row.seconds:.1f}x"
        table.add_row(row.name, row.size, f"{row.seconds:.3f}", plain, ratio, row.equal)
    console.print(table)
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    console.print(f"peak memory of these: {peak:,.0f} MB")
    return not differs


def print_tags(console: Console) -> bool:
    """From tags to clusters; a target that was missed is shown, and is no failure."""
    table = Table(
        title="From open tags to clusters (each side in its own process; normalizing: best of 5)",
        title_justify="left",
    )
    for name in ("work", "size", "seconds", "MB", "plain way", "MB", "ratio", "same result"):
        table.add_column(name, justify="left" if name in ("work", "size") else "right")
    table.add_column("to reach")
    table.add_column("met")
    same = True
    rows = tags.all_rows()
    while True:
        with console.status("tags"):
            row = next(rows, None)
        if row is None:
            break
        same &= not row.same.startswith("NO")
        plain = row.plain
        table.add_row(
            row.name,
            row.size,
            f"{row.ours.seconds:.2f}",
            f"{row.ours.megabytes:,.0f}",
            f"{plain.seconds:.2f}" if plain else "",
            f"{plain.megabytes:,.0f}" if plain else "",
            f"{row.ratio:.1f}x" if row.ratio else "",
            row.same,
            row.target,
            {True: "yes", False: "NO", None: ""}[row.met],
        )
    console.print(table)
    for missing in tags.left_out():
        console.print(missing)
    return same


def print_calls(console: Console) -> bool:
    """Calls to a language model; a target that was missed is shown, and is no failure."""
    table = Table(title="Calls to a language model (test server)", title_justify="left")
    for name in ("workload", "reached", "to reach", "met"):
        table.add_column(name)
    with console.status("calls"):
        for row in calls.all_rows():
            table.add_row(row.name, row.reached, row.target, "yes" if row.met else "NO")
    console.print(table)
    return True


if __name__ == "__main__":
    main()

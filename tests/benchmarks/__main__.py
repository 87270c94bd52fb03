"""``make bench``: every benchmark as a row of a table; with words, only the tables that they name.

A row is the same work done by the platform and by the plain way, in one run, with equal results
checked; its figure is the ratio. Where there is no plain way, only the platform's time is given.
From tags to clusters (``tags``) and from scores to subsets (``selecting``), each side runs in a
process of its own. Whom to compare (``contests``) is measured in recall, with a simulated scorer.
Calls to language models have a table of their own (``calls``): what is reached of what can be.
Answering (``answers``) is told in tokens a second, training (``training``) in what a step takes
longer than with the bare trainer. From verdicts to tables (``evaluation``), each side is a process;
building all tables from a grid of verdicts and from a million is ``warehouse``.
What a newcomer meets, and what a command pays before it does anything, is ``house``.
"""

import argparse
import resource
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

from rich.console import Console
from rich.table import Table

from tests.benchmarks import (
    answers,
    calls,
    contests,
    evaluation,
    house,
    published,
    scorer,
    selecting,
    tags,
    training,
    warehouse,
    works,
)

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
    tables = {
        "works": print_works,
        "tags": print_tags,
        "selecting": print_selecting,
        "contests": print_contests,
        "published": print_published,
        "scorer": print_scorer,
        "calls": print_calls,
        "answers": print_answers,
        "training": print_training,
        "evaluation": print_evaluation,
        "warehouse": print_warehouse,
        "house": print_house,
    }
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
    """From tags to clusters."""
    title = "From open tags to clusters (each side in its own process; normalizing: best of 5)"
    same = print_rows(console, title, tags.all_rows())
    for missing in tags.left_out():
        console.print(missing)
    return same


def print_selecting(console: Console) -> bool:
    """From scores to subsets."""
    return print_rows(
        console, "From scores to subsets (each side in its own process)", selecting.all_rows()
    )


def print_answers(console: Console) -> bool:
    """Answers to questions."""
    title = "Answers (embedded model, greedy; each side in its own process)"
    same = print_rows(console, title, answers.all_rows())
    for missing in answers.left_out():
        console.print(missing)
    return same


def print_training(console: Console) -> bool:
    """Fine-tuning on the CPU."""
    title = f"Fine-tuning (small model, CPU; medians of {training.ROUNDS} alternating runs)"
    return print_rows(console, title, training.all_rows())


def print_evaluation(console: Console) -> bool:
    """From verdicts to tables."""
    title = "From verdicts to tables (each side in its own process)"
    return print_rows(console, title, evaluation.all_rows())


def print_warehouse(console: Console) -> bool:
    """The warehouse, built whole."""
    title = "The warehouse, built whole (each size in its own process)"
    return print_rows(console, title, warehouse.warehouse_rows())


def print_rows(console: Console, title: str, rows: Iterator[tags.Row]) -> bool:
    """Rows of two sides; a target that was missed is shown, and is no failure."""
    table = Table(title=title, title_justify="left")
    for name in ("work", "size", "seconds", "MB", "plain way", "MB", "ratio", "same result"):
        table.add_column(name, justify="left" if name in ("work", "size") else "right")
    table.add_column("to reach")
    table.add_column("met")
    same = True
    while True:
        with console.status(title):
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
    return same


def print_contests(console: Console) -> bool:
    """Which pairs to ask about, with a simulated scorer; a target missed is no failure."""
    with console.status("contests"):
        every = contests.reference()
        rows = list(contests.all_rows())
    table = Table(
        title=f"Recall of the best {contests.CUT} of {contests.SIZE} by a simulated scorer, and "
        f"how many of the 95 % intervals hold ({contests.SEEDS} seeds; all "
        f"{contests.EVERY:,} ordered pairs: {every.recall:.1%}, {every.coverage:.1%})",
        title_justify="left",
    )
    table.add_column("calls")
    for name in contests.WAYS:
        table.add_column(name)
    for row in rows:
        told = [
            f"{each.recall:.1%} ± {each.error:.1%}, {each.coverage:.0%} hold"
            + (f", {each.calls:,.0f} made" if round(each.calls) < row.calls else "")
            for each in row.by_way.values()
        ]
        table.add_row(row.what, *told)
    console.print(table)
    for told, met in contests.verdicts(rows, every):
        console.print(f"{told}: {'yes' if met else 'NO'}")
    return True


def print_published(console: Console) -> bool:
    """Published subsets of Alpaca beside ours, where the data is at hand."""
    if not published.LONGEST.exists():
        console.print(f"Published subsets are left out: {published.LONGEST} is not there.")
        return True
    table = Table(title="Published subsets of Alpaca", title_justify="left")
    for name in ("published", "ours", "shared", "what of the rest"):
        table.add_column(name)
    with console.status("published"):
        for row in published.all_rows():
            table.add_row(row.published, row.ours, f"{row.shared} of {row.size:,}", row.told)
    console.print(table)
    return True


def print_scorer(console: Console) -> bool:
    """The embedded scorer on the sample dataset."""
    with console.status("scorer"):
        found = scorer.measure()
    console.print(
        f"The embedded scorer puts the good sample first in {found.right:.1%} of {found.pairs:,} "
        f"pairs of a good and a bad sample of one cluster (p = {found.chance:.4f} by shuffling)."
    )
    return True


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


def print_house(console: Console) -> bool:
    """The figures of the house; whether no contract is broken."""
    table = Table(title="The house", title_justify="left")
    for name in ("what", "figure", "to reach"):
        table.add_column(name)
    measures = house.measures()
    for each in measures:
        table.add_row(each.what, each.figure, each.wanted)
    console.print(table)
    return all(" 0 broken" in each.figure for each in measures if "contracts" in each.what)


if __name__ == "__main__":
    main()

"""``make mutants``: how many small faults in a method the tests beside it notice, by module.

Names choose modules: ``quota``, ``selection``, ``opencs_assets/selection/quota.py``, and by its
path a module that is no method; ``quota:115`` tries all faults of a line, no name all modules. A
sample of the faults is tried, the same for the same seed. One that reaches the time limit counts
as noticed.
"""

import argparse
import signal
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path

from rich.console import Console
from rich.table import Table

from tests.mutants import python_faults, sql_faults, trial
from tests.mutants.fault import Fault, sample
from tests.mutants.methods import ROOT, Method, methods, other_module


@dataclass(frozen=True)
class Outcome:
    """What became of one module's faults."""

    method: Method
    tried: list[Fault]
    survived: list[Fault]
    late: int
    seconds: float

    def cells(self) -> tuple[str, ...]:
        """The module's row of the table."""
        killed = len(self.tried) - len(self.survived)
        rate = f"{killed / len(self.tried):.0%}" if self.tried else ""
        counts = len(self.tried), killed, self.late
        return self.method.path, *map(str, counts), rate, f"{self.seconds:.1f}"


def main() -> None:
    """Try the faults and print the table with the survivors below it."""
    parser = argparse.ArgumentParser(prog="python -m tests.mutants", description=__doc__)
    parser.add_argument(
        "modules", nargs="*", metavar="module", help="module, package or module:line"
    )
    parser.add_argument("--each", type=int, default=12, metavar="N", help="faults a module (12)")
    parser.add_argument("--seed", type=int, default=0, help="another seed, another sample (0)")
    parser.add_argument("--jobs", type=int, default=2, metavar="N", help="tried at once (2)")
    parser.add_argument("--list", action="store_true", help="only print the faults of the sample")
    asked = parser.parse_args()
    chosen = choose(asked.modules)
    drawn = {
        method: draw(method, lines, asked.each, asked.seed) for method, lines in chosen.items()
    }
    if asked.list:
        print(*(fault.description for faults in drawn.values() for fault in faults), sep="\n")
        return
    # As for Ctrl-C: what was started is ended, and the copies are removed.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))
    trial.import_libraries()
    outcomes = []
    with tempfile.TemporaryDirectory(prefix="opencs-mutants-") as folder:
        copies = [
            trial.Copy.of_project(Path(folder) / f"copy-{place}") for place in range(asked.jobs)
        ]
        for method, faults in drawn.items():
            try:
                outcomes.append(try_faults(method, faults, copies))
            except trial.TrialError as error:
                print(f"error: {method.path}: {error}", file=sys.stderr)
    print_outcomes(outcomes)
    raise SystemExit(int(len(outcomes) < len(drawn)))


def choose(names: list[str]) -> dict[Method, set[int]]:
    """The modules that a person names, with the lines that are asked for; none: all lines."""
    every = methods()
    if not names:
        return {method: set() for method in every}
    chosen: dict[Method, set[int]] = {}
    for given in names:
        name, _, line = given.partition(":")
        meant = [method for method in every if method.is_called(name)] or other_module(name)
        if not meant:
            known = ", ".join(Path(method.path).stem for method in every)
            raise SystemExit(f"error: no method module is called {name}; there are: {known}")
        for method in meant:
            chosen.setdefault(method, set()).update([int(line)] if line else [])
    return chosen


def draw(method: Method, lines: set[int], each: int, seed: int) -> list[Fault]:
    """A sample of a module's faults, or all those of some lines."""
    code = (ROOT / method.path).read_text()
    language = sql_faults if method.path.endswith(".sql") else python_faults
    faults = language.faults(method.path, code)
    if lines:
        near = [fault for fault in faults if lines & {*range(fault.place[0], fault.place[1] + 1)}]
        return [fault for fault in near if fault.changed and fault.line in lines]
    return sample(faults, each, seed)


def try_faults(method: Method, faults: list[Fault], copies: list[trial.Copy]) -> Outcome:
    """Try a module's faults by the tests beside it, those of its own file first."""
    tests = in_order(method, copies[0].folder)
    seconds = trial.clean_seconds(copies[0], tests)
    survived, late = trial.survivors(copies, tests, faults, 3 * seconds + trial.GRACE)
    outcome = Outcome(method, faults, survived, late, seconds)
    said = "{}: {} tried, {} killed, {} of them by the time limit ({}); its tests take {} s".format(
        *outcome.cells()
    )
    print(said, *(f"  {fault.description}" for fault in survived), sep="\n", file=sys.stderr)
    return outcome


def in_order(method: Method, folder: Path) -> tuple[str, ...]:
    """The test files of a module; those that name it come first."""
    files = [
        str(path.relative_to(folder))
        for tests in method.tests
        for path in ([folder / tests] if tests.endswith(".py") else (folder / tests).rglob("*.py"))
        if path.name.startswith("test_")
    ]
    stem = Path(method.path).stem

    def distance(name: str) -> tuple[bool, bool, str]:
        names_it = stem in (folder / name).read_text()
        return f"test_{stem}.py" not in name, not names_it, name

    return tuple(sorted(files, key=distance))


def print_outcomes(outcomes: list[Outcome]) -> None:
    """Print the table, and below it each fault that no test noticed."""
    table = Table(title="Faults that the tests beside a module notice", title_justify="left")
    for name in ("module", "faults", "killed", "by time", "rate", "seconds of the tests"):
        table.add_column(name, justify="left" if name == "module" else "right")
    for outcome in outcomes:
        table.add_row(*outcome.cells())
    console = Console()
    (console if console.is_terminal else Console(width=120)).print(table)
    for outcome in outcomes:
        for fault in outcome.survived:
            print(fault.description)


if __name__ == "__main__":
    main()

"""A fault: one file with one small change; and a fair sample of many."""

import random
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import cached_property


@dataclass(frozen=True)
class Fault:
    """One small change of a file, which a test should notice.

    Attributes:
        path: The file, from the project's folder.
        kind: Kind of the change, in a word.
        place: First and last line that it may change, and what tells it from others there.
        code: The sound code.
        change: Gives the changed code; nothing where it would be the same, or no code.
    """

    path: str
    kind: str
    place: tuple[int, int, int]
    code: str = field(repr=False)
    change: Callable[[], str | None] = field(repr=False, compare=False)

    @cached_property
    def changed(self) -> str:
        """The changed code; empty where there is none."""
        return self.change() or ""

    @property
    def line(self) -> int:
        """The first line that is changed, from 1."""
        lines = zip(self.code.splitlines(), self.changed.splitlines(), strict=False)
        return next((n for n, (old, new) in enumerate(lines, 1) if old != new), self.place[0])

    @property
    def description(self) -> str:
        """What stood in the changed lines and what stands there now."""
        before, after = (text.splitlines()[self.line - 1 :] for text in (self.code, self.changed))
        while before and after and before[-1] == after[-1]:
            before.pop()
            after.pop()
        old, new = (" ".join(line.strip() for line in lines) for lines in (before, after))
        return f"{self.path}:{self.line} [{self.kind}]  {old}  ->  {new or '(nothing)'}"


def sample(faults: list[Fault], size: int, seed: int) -> list[Fault]:
    """A sample in which every kind of fault has its share, and lines come before repetitions.

    The same seed gives the same sample of the same file.
    """
    draw = random.Random(f"{seed} {faults[0].path if faults else ''}")
    by_kind: dict[str, list[Fault]] = {}
    for fault in draw.sample(faults, len(faults)):
        by_kind.setdefault(fault.kind, []).append(fault)
    chosen: list[Fault] = []
    while len(chosen) < size and any(by_kind.values()):
        for waiting in by_kind.values():
            lines = {each.place[0] for each in chosen}
            waiting.sort(key=lambda fault: fault.place[0] in lines)
            while waiting and len(chosen) < size:
                taken = waiting.pop(0)
                if taken.changed:
                    chosen.append(taken)
                    break
    return sorted(chosen, key=lambda fault: (fault.place, fault.kind))

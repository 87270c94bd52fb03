"""A fault: one file with one small change; and a fair sample of many."""

import random
from dataclasses import dataclass, field


@dataclass(frozen=True)
class Fault:
    """One small change of a file, which a test should notice."""

    path: str
    kind: str
    place: tuple[int, int]
    code: str = field(repr=False)
    changed: str = field(repr=False)

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
    """A sample in which every kind of fault has its share, and places come before repetitions.

    The same seed gives the same sample of the same file.
    """
    if not faults:
        return []
    draw = random.Random(f"{seed} {faults[0].path}")
    by_kind: dict[str, list[Fault]] = {}
    for fault in draw.sample(faults, len(faults)):
        by_kind.setdefault(fault.kind, []).append(fault)
    chosen: list[Fault] = []
    places: set[tuple[int, int]] = set()
    while len(chosen) < size and any(by_kind.values()):
        for waiting in by_kind.values():
            new = [each for each in waiting if each.place not in places]
            if waiting and len(chosen) < size:
                taken = (new or waiting)[0]
                waiting.remove(taken)
                places.add(taken.place)
                chosen.append(taken)
    return sorted(chosen, key=lambda fault: (fault.place, fault.kind, fault.changed))

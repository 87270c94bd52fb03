"""What was looked at, and what was found wrong."""

from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, field
from typing import Any, Literal

Layer = Literal["judged", "imported", "marts"]
Kind = Literal["edited", "missing", "duplicated", "unknown", "unreadable"]
_MOST_CHARACTERS = 120


@dataclass(frozen=True)
class VerificationFault:
    """One thing that does not follow from what is kept.

    Attributes:
        layer: Where it was found.
        kind: What is wrong: edited, missing, duplicated, unknown (it belongs to nothing) or
            unreadable.
        table: Table of the lake or the warehouse, ``replies`` or ``files``.
        partition: The partition, as ``dataset=d, experiment=e``; empty where there is none.
        row: What names the row; empty where it is about the whole.
        found: What is there.
        expected: What should be there.
    """

    layer: Layer
    kind: Kind
    table: str
    partition: str
    row: str
    found: str
    expected: str

    def line(self) -> str:
        """The fault in one line."""
        where = ", ".join(filter(None, (self.table, self.partition, self.row)))
        return f"{self.kind}: {where}: {self.found}; should be: {self.expected}"


@dataclass
class Tally:
    """How much of one kind was looked at."""

    checked: int = 0
    wrong: int = 0


@dataclass
class Findings:
    """All that was looked at and found.

    Attributes:
        faults: What is wrong, in the order in which it was found.
        notes: What could be looked at in part only, or is worth knowing.
        tallies: By layer and what was looked at.
    """

    faults: list[VerificationFault] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    tallies: dict[tuple[Layer, str], Tally] = field(default_factory=dict)

    def count(self, layer: Layer, what: str, checked: int = 1) -> None:
        """So many more were looked at."""
        self.tallies.setdefault((layer, what), Tally()).checked += checked

    def add(self, what: str, faults: Iterable[VerificationFault]) -> None:
        """Keep what is wrong with one of those that were looked at.

        Args:
            what: What it is, as in ``count``.
            faults: What is wrong with it; may be nothing.
        """
        new_faults = list(faults)
        if new_faults:
            self.tallies.setdefault((new_faults[0].layer, what), Tally()).wrong += 1
            self.faults.extend(new_faults)

    def note(self, text: str) -> None:
        """Keep a note, once."""
        if text not in self.notes:
            self.notes.append(text)

    def rows(self) -> list[dict[str, Any]]:
        """The short table: layer, what, how many were checked and how many are wrong."""
        return [
            {"layer": layer, "what": what, "checked": tally.checked, "wrong": tally.wrong}
            for (layer, what), tally in self.tallies.items()
        ]

    def as_dict(self) -> dict[str, Any]:
        """All of it, for JSON."""
        return {
            "ok": not self.faults,
            "checked": self.rows(),
            "faults": [asdict(fault) for fault in self.faults],
            "notes": self.notes,
        }


def partition_name(partition: Mapping[str, str]) -> str:
    """A partition in words."""
    return ", ".join(f"{name}={value}" for name, value in partition.items())


def shown(value: object) -> str:
    """A value for a fault's line, cut short."""
    if value is None:
        return "nothing"
    text = " ".join(value.split()) if isinstance(value, str) else repr(value)
    text = repr(text) if isinstance(value, str) else text
    return text if len(text) <= _MOST_CHARACTERS else text[: _MOST_CHARACTERS - 1] + "…"

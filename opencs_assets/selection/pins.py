"""A person's pins, which outrank the selector: ``pins.csv`` in the home keeps or bans samples.

Columns: ``sample`` (a sample's id, or its first 8 characters or more), ``action`` (``keep`` or
``ban``) and ``reason``. Pins of samples that the dataset does not have belong to other datasets.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from opencs_assets.files.reading import every_row
from opencs_assets.files.rows import AcceptedFiles
from resources.errors import MendableError

PINS = "pins.csv"
COLUMNS = ("sample", "action", "reason")
ACTIONS = ("keep", "ban")
SHORTEST_PREFIX = 8


class PinsError(MendableError):
    """``pins.csv`` can't be used; the message names the line."""


@dataclass(frozen=True)
class Pins:
    """Reasons by sample id of the samples that are always (in the file's order) or never chosen."""

    keep: dict[str, str]
    ban: dict[str, str]


def read_pins(path: Path, sample_ids: Sequence[str]) -> Pins:
    """Read the pins of a dataset's samples; without the file there are none.

    Raises:
        PinsError: A damaged line, wrong columns or action, an id that is too short or fits several
            samples, or a sample that is both kept and banned.
    """
    pins = Pins({}, {})
    if not path.exists():
        return pins
    for place, record in every_row(path, AcceptedFiles(PinsError, exact_header=COLUMNS)):
        where = f"{path}, {place}"
        start, action, reason = (record[column].strip() for column in COLUMNS)
        if action not in ACTIONS:
            raise PinsError(f"{where}: the action must be keep or ban, not {action!r}")
        if len(start) < SHORTEST_PREFIX:
            raise PinsError(
                f"{where}: give at least the first {SHORTEST_PREFIX} characters of a sample id, "
                f"not {start!r}"
            )
        matches = [sample for sample in sample_ids if sample.startswith(start)]
        if len(matches) > 1:
            raise PinsError(f"{where}: {start!r} fits {len(matches)} samples; give more of the id")
        pinned, opposite = (pins.keep, pins.ban) if action == "keep" else (pins.ban, pins.keep)
        for sample in matches:
            if sample in opposite:
                raise PinsError(f"{where}: {start!r} is both kept and banned")
            pinned[sample] = reason or "no reason given"
    return pins

"""A person's word over the selector's: ``pins.csv`` in the home keeps or bans samples.

Columns: ``sample`` (a sample's id, or its first 8 characters or more), ``action`` (``keep`` or
``ban``) and ``reason``. Pins of samples that the dataset does not have belong to other datasets.
"""

import csv
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from resources.errors import MendableError

COLUMNS = ("sample", "action", "reason")
ACTIONS = ("keep", "ban")
SHORTEST_PREFIX = 8


class PinsError(MendableError):
    """``pins.csv`` can't be used; the message names the line."""


@dataclass(frozen=True)
class Pins:
    """Pins of one dataset: reasons by sample id.

    Attributes:
        keep: Samples that are always chosen, in the file's order.
        ban: Samples that are never chosen.
    """

    keep: dict[str, str]
    ban: dict[str, str]


def read_pins(path: Path, sample_ids: Sequence[str]) -> Pins:
    """Read the pins of a dataset's samples.

    Args:
        path: The file; absent means no pins.
        sample_ids: The dataset's samples.

    Raises:
        PinsError: Wrong columns or action, an id that is too short or fits several samples, or a
            sample that is both kept and banned.
    """
    pins = Pins({}, {})
    if not path.exists():
        return pins
    try:
        with path.open(encoding="utf-8-sig", newline="") as file:
            reader = csv.DictReader(file)
            if tuple(reader.fieldnames or ()) != COLUMNS:
                raise PinsError(
                    f"{path}, line 1: the columns must be {','.join(COLUMNS)}, "
                    f"not {','.join(reader.fieldnames or ()) or 'nothing'}"
                )
            for record in reader:
                _pin(pins, record, sample_ids, f"{path}, line {reader.line_num}")
    except UnicodeDecodeError as error:
        raise PinsError(f"{path}: not UTF-8 at byte {error.start}; save it as UTF-8") from None
    return pins


def _pin(pins: Pins, record: dict[str, str], sample_ids: Sequence[str], where: str) -> None:
    start = (record["sample"] or "").strip()
    action = (record["action"] or "").strip()
    if action not in ACTIONS:
        raise PinsError(f"{where}: the action must be keep or ban, not {action!r}")
    if len(start) < SHORTEST_PREFIX:
        raise PinsError(
            f"{where}: give at least the first {SHORTEST_PREFIX} characters of a sample id, "
            f"not {start!r}"
        )
    found = [sample for sample in sample_ids if sample.startswith(start)]
    if len(found) > 1:
        raise PinsError(f"{where}: {start!r} fits {len(found)} samples; give more of the id")
    for sample in found:
        mine, other = (pins.keep, pins.ban) if action == "keep" else (pins.ban, pins.keep)
        if sample in other:
            raise PinsError(f"{where}: {start!r} is both kept and banned")
        mine[sample] = (record["reason"] or "").strip() or "no reason given"

"""Errors about rows of a person's file that can't be used; a rejected row keeps its reason."""

from collections.abc import Mapping
from types import MappingProxyType
from typing import ClassVar, Final

from resources.errors import MendableError

DAMAGES: Final[Mapping[str, str]] = MappingProxyType(
    {
        "broken_json": "the row is not JSON, for instance because the file was cut",
        "broken_csv": (
            "the CSV record has another number of fields than the header, or a quote is never "
            "closed"
        ),
        "bad_encoding": "bytes or characters that are not valid Unicode",
        "not_an_object": "the row is JSON, but not an object",
        "cut_file": "the file ends in the middle; what came before is kept",
    }
)
"""Code of each reason for which no stage can use a row, with its meaning."""


class RejectedRowError(MendableError):
    """One row that can't be used: a code of ``reasons``, and a ``detail`` for a person."""

    reasons: ClassVar[Mapping[str, str]]

    def __init__(self, reason: str, detail: str) -> None:
        if reason not in self.reasons:
            raise KeyError(reason)
        super().__init__(f"{reason}: {detail}")
        self.reason = reason
        self.detail = detail


class DamagedRowError(RejectedRowError):
    """One row that can't be read, whatever it means to a stage."""

    reasons = DAMAGES

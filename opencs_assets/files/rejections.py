"""Rows of a person's file that can't be used: each is kept apart, with its reason."""

from collections.abc import Mapping
from typing import ClassVar

from resources.errors import MendableError


class RejectedRowError(MendableError):
    """One row that can't be used.

    Attributes:
        reasons: What each code of a reason means.
        reason: A code of ``reasons``.
        detail: One sentence for a person.
    """

    reasons: ClassVar[Mapping[str, str]]

    def __init__(self, reason: str, detail: str) -> None:
        if reason not in self.reasons:
            raise KeyError(reason)
        super().__init__(f"{reason}: {detail}")
        self.reason = reason
        self.detail = detail

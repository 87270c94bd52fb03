"""Errors about a dataset's file as a whole and about one of its rows."""

from collections.abc import Mapping
from types import MappingProxyType
from typing import Final

from opencs_assets.files.rejections import DAMAGES, RejectedRowError
from resources.errors import MendableError

REASONS: Final[Mapping[str, str]] = MappingProxyType(
    {
        **DAMAGES,
        "broken_json": "the row, or the JSON text in a column, is not JSON",
        "unknown_shape": "none of the known row shapes, or a part that is not text",
        "no_instruction": "a question is missing, blank or not text",
        "no_response": "an answer is missing, blank or not text",
        "bad_roles": "the conversation is not user and assistant in turn, ending with an answer",
        "too_long": "a message is longer than MAX_CHARS",
        "duplicate": "an earlier row has the same content",
    }
)
"""Code of each reason for which a row is rejected, and what it means."""


class DatasetError(MendableError):
    """A file, a name or a folder that can't be used as a whole."""


class DatasetRowError(RejectedRowError):
    """One row that can't become a sample."""

    reasons = REASONS

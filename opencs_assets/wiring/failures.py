"""Errors that a person can mend, told as one clear message and not retried."""

from collections.abc import Iterator
from contextlib import contextmanager

import dagster as dg

from resources.errors import MendableError


@contextmanager
def clear_failures() -> Iterator[None]:
    """Turn an error that a retry can't mend into a failure with its message alone."""
    try:
        yield
    except MendableError as error:
        raise dg.Failure(description=str(error), allow_retries=False) from error

"""Errors that a person can mend fail a step with one clear message and are not retried."""

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

"""The family of all errors that this project raises, so that nobody keeps lists of them.

An error's message says what was wrong, where (file, row, partition), and what to do. Whoever calls
a library turns the library's errors into one of these, where a person or a retry can do something
about them.
"""


class OpenCSError(Exception):
    """The common parent of all errors of this project."""


class MendableError(OpenCSError):
    """A person can mend it (input, settings, a missing file, a budget); a retry can't."""


class PassingError(OpenCSError):
    """A retry may mend it: something outside did not answer, or not in time."""


class InternalError(OpenCSError):
    """One part of the program raises it for another to catch; one that escapes is a defect."""

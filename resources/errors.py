"""The family of all errors that this project raises, so that nobody keeps lists of them.

An error's message says what was wrong, where (file, row, partition), and what to do. What is raised
by libraries is not here: whoever calls a library turns its errors into one of these, where a person
or a retry can do something about them.
"""


class OpenCSError(Exception):
    """The common parent of all errors of this project."""


class MendableError(OpenCSError):
    """A person can mend it (input, settings, a missing file, a budget); a retry can't."""


class PassingError(OpenCSError):
    """A retry may mend it: something outside did not answer, or not in time."""


class InternalError(OpenCSError):
    """One part of the program tells it to another, which catches it; escaping is a defect."""

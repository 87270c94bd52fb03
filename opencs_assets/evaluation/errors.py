"""Errors of what reads the warehouse."""

from resources.errors import MendableError


class ReportError(MendableError):
    """The report can't be written; the message says where and why."""

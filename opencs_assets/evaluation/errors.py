"""Errors of what reads the warehouse."""


class ReportError(RuntimeError):
    """The report can't be written; the message says where and why."""

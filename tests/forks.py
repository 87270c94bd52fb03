"""Processes that are forked from one that has imported what they need, which saves seconds each."""

import multiprocessing

FORKS = multiprocessing.get_context("forkserver")
_modules: list[str] = []


def preload(*modules: str) -> None:
    """Have the one process that all others are forked from import further modules."""
    _modules.extend(modules)
    FORKS.set_forkserver_preload(_modules)

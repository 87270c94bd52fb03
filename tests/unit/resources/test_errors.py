"""All errors of the project are one family, so that nobody has to keep a list of them."""

import importlib
import inspect
import pkgutil
from collections.abc import Iterator

import opencs_assets
import resources
from resources.errors import InternalError, MendableError, OpenCSError, PassingError


def modules() -> Iterator[str]:
    for package in (resources, opencs_assets):
        for each in pkgutil.walk_packages(package.__path__, f"{package.__name__}."):
            yield each.name


def errors() -> Iterator[type[Exception]]:
    for name in modules():
        for _, thing in inspect.getmembers(importlib.import_module(name), inspect.isclass):
            if thing.__module__ == name and issubclass(thing, Exception):
                yield thing


def test_every_error_is_of_the_family_and_of_one_kind():
    kinds = (MendableError, PassingError, InternalError)
    seen = [each for each in errors() if each not in (OpenCSError, *kinds)]
    assert len(seen) > 40
    outside = [
        f"{each.__module__}.{each.__name__}"
        for each in seen
        if sum(issubclass(each, kind) for kind in kinds) != 1
    ]
    assert outside == []

"""Fixtures of the cluster's own tests, and whether they run."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.kubernetes_node.client import IMAGE, Cluster, started
from tests.kubernetes_node.tested import PACKAGE, is_tested

SHELL = {"PATH": "/usr/bin:/bin"}
DEFAULTS: dict[str, Any] = {
    "images": {IMAGE: SHELL},
    "allocatable": {"cpu": "64", "memory": "256Gi", "pods": "110", "nvidia.com/gpu": "2"},
    "tokens": {},
    "node_loss_s": 0.15,
}


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Leave these tests out where the package is as it was when they passed.

    They run where a file is another, where they are named on the command line, and as soak tests.
    """
    own = [item for item in items if item.path.is_relative_to(PACKAGE)]
    named = any(
        Path(each.split("::")[0]).absolute().is_relative_to(PACKAGE) for each in config.args
    )
    if "soak" in config.option.markexpr:
        for item in own:
            item.add_marker("soak")
    elif own and not named and is_tested():
        config.hook.pytest_deselected(items=own)
        items[:] = [item for item in items if item not in own]


@pytest.fixture(scope="package")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    folder = tmp_path_factory.mktemp("cluster")
    with started(folder, claims={"home": str(folder / "claim")}, **DEFAULTS) as cluster:
        yield cluster


@pytest.fixture
def cluster(shared: Cluster) -> Iterator[Cluster]:
    """The shared cluster as it was at first, and empty."""
    yield shared
    shared.empty(**DEFAULTS)

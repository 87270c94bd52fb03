"""Clusters of the tests, and Dagster on one of them."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from tests.integration.training.conftest import tiny_model as tiny_model_of_training
from tests.kubernetes_node.client import ROOT, Cluster, started

if TYPE_CHECKING:
    from tests.integration.cluster.orchestrator import Orchestrator

NO_CLAIMS = {"home": "", "model": ""}


@pytest.fixture(scope="session")
def shared_cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    """A cluster that many tests have, one after the other."""
    accounts = ["opencs-training", "dagster"]
    with started(
        tmp_path_factory.mktemp("shared"), claims=NO_CLAIMS, service_accounts=accounts
    ) as cluster:
        yield cluster


@pytest.fixture
def cluster(shared_cluster: Cluster) -> Iterator[Cluster]:
    """The shared cluster, empty; a test says which folders its claims are, and its images."""
    yield shared_cluster
    shared_cluster.empty(claims=NO_CLAIMS, tokens={})


# The same tiny model as in the training's tests; fixtures are found by a conftest's names.
tiny_model = tiny_model_of_training


@contextmanager
def dagster_on_a_cluster(folder: Path, tiny_model: Path | None) -> Iterator["Orchestrator"]:
    """Dagster on a cluster of its own; with a model also the platform, and a subset to train on."""
    from tests.integration.cluster.orchestrator import orchestrating
    from tests.integration.training.test_launcher import Platform

    home = folder / "home"
    home.mkdir()
    if tiny_model:
        Platform(home, tiny_model)
    with (
        pytest.MonkeyPatch.context() as patch,
        started(folder, claims={"home": str(home)}, service_accounts=["dagster"]) as cluster,
    ):
        patch.setenv("OPENCS_HOME", str(home))
        patch.setenv("PYTHONPATH", str(ROOT))
        with orchestrating(cluster, home, platform=tiny_model is not None) as running:
            yield running


@pytest.fixture(scope="session")
def orchestrator(tmp_path_factory: pytest.TempPathFactory) -> Iterator["Orchestrator"]:
    """Dagster with assets that wait: the platform would take half a minute to load."""
    with dagster_on_a_cluster(tmp_path_factory.mktemp("orchestrator"), None) as running:
        yield running


@pytest.fixture(scope="session")
def training_orchestrator(
    tmp_path_factory: pytest.TempPathFactory, tiny_model: Path
) -> Iterator["Orchestrator"]:
    """Dagster with the platform too."""
    with dagster_on_a_cluster(tmp_path_factory.mktemp("training"), tiny_model) as running:
        yield running

"""Clusters of the tests, and Dagster on one of them."""

from collections.abc import Iterator
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


@pytest.fixture(scope="session")
def orchestrator(
    tmp_path_factory: pytest.TempPathFactory, tiny_model: Path
) -> Iterator["Orchestrator"]:
    """Dagster and the platform on a cluster, with a tiny model and a subset to train it on."""
    from tests.integration.cluster.orchestrator import orchestrating
    from tests.integration.training.test_launcher import Platform

    folder = tmp_path_factory.mktemp("orchestrator")
    home = folder / "home"
    home.mkdir()
    Platform(home, tiny_model)
    with (
        pytest.MonkeyPatch.context() as patch,
        started(folder, claims={"home": str(home)}, service_accounts=["dagster"]) as cluster,
    ):
        patch.setenv("OPENCS_HOME", str(home))
        patch.setenv("PYTHONPATH", str(ROOT))
        with orchestrating(cluster, home) as running:
            yield running

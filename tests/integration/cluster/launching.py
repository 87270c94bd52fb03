"""A home whose launcher makes Jobs on the tests' cluster, and runs that ask it for work."""

import os
import signal
import threading
from collections.abc import Iterator, Mapping
from concurrent.futures import Future
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import dagster as dg
import polars as pl
import tomli_w

from resources.launcher.kubernetes import spec
from resources.launcher.resource import TrainingLauncher
from resources.launcher.work import Work
from resources.settings import KubernetesLauncher, load_settings
from tests.forks import preload
from tests.integration.cluster.counting import HOLD
from tests.kubernetes_node.client import JOBS, PYTHON_IMAGE, Cluster

IMAGE = f"registry.example.com/opencs/trainer@sha256:{'0' * 64}"
COUNTING = "tests.integration.cluster.counting"
SETTINGS: dict[str, Any] = {
    "image": IMAGE,
    "namespace": "default",
    "home_claim": "home",
    "gpus": 0,
    "cpu": "1",
    "memory": "1Gi",
    "poll_s": 0.1,
    "patience_s": 30,
    "grace_s": 10,
}


@dataclass
class Ran:
    """A run that is over.

    Attributes:
        result: What the launcher returned; absent where it failed.
        failure: The failure's description.
        retries: Whether the failure allows retries.
        said: Messages of the run's log.
    """

    result: dict[str, Any] | None
    failure: str | None
    retries: bool | None
    said: list[str]


@dataclass
class Launching:
    """The home, its cluster, and the work that is asked for.

    Attributes:
        cluster: The cluster; none in a process that only asks.
        home: The home, mounted at its own path.
        instance: Where runs are written down.
    """

    cluster: Cluster | None
    home: Path
    instance: dg.DagsterInstance
    launcher: dict[str, Any] = field(default_factory=lambda: dict(SETTINGS))

    def configure(self, *, kind: str = "kubernetes", **launcher: Any) -> None:
        """Change the settings ``[launcher.kubernetes]``."""
        self.launcher |= {"kubeconfig": str(self.cluster.kubeconfig), **launcher}
        content = {"launcher": {"kind": kind, "kubernetes": self.launcher}}
        (self.home / "settings.toml").write_text(tomli_w.dumps(content))

    @property
    def settings(self) -> KubernetesLauncher:
        return load_settings(self.home).launcher.kubernetes

    def work(self, provenance: str = "p1", **job: Any) -> Work:
        output = str(self.home / "checkpoints" / provenance)
        return Work(
            COUNTING,
            {"output": output, "steps": 5, **job},
            {"table": pl.DataFrame({"x": [1, 2]})},
            asset="checkpoint",
            partition="d|random@tiny",
            provenance=provenance,
            parallel=True,
            places=(output,),
        )

    def job_name(self, work: Work) -> str:
        return work.job_name(spec.home_label(self.settings, str(self.home)))

    def begun(self, provenance: str = "p1") -> list[int]:
        """The step at which each process of the job began."""
        file = self.home / "checkpoints" / provenance / "begun"
        return [int(line.split()[0]) for line in file.read_text().splitlines()]

    def at_step(self, step: int, provenance: str = "p1") -> None:
        """Wait until the job has come to a step."""
        state = self.home / "checkpoints" / provenance / "state"
        self.cluster.wait(lambda: state.exists() and int(state.read_text() or 0) >= step, 60)

    @contextmanager
    def held(self, provenance: str = "p1") -> Iterator[None]:
        """The job ends no step within the block, however long that takes."""
        file = self.home / "checkpoints" / provenance / HOLD
        file.touch()
        try:
            yield
        finally:
            file.unlink()

    def start_watching(self, work: Work) -> "Future[Ran]":
        """A run that has found the job that is there, and looks at it."""
        before = len(self.cluster.requests("get", JOBS))
        running = self.start(work)
        self.cluster.wait(lambda: len(self.cluster.requests("get", JOBS)) > before + 2, 60)
        return running

    def run(self, work: Work, tags: Mapping[str, str] | None = None) -> Ran:
        """A run that asks for a work, to its end."""
        results: list[dict[str, Any]] = []
        failures: list[dg.Failure] = []
        launcher = TrainingLauncher(home=str(self.home))

        @dg.asset
        def asks(context: dg.AssetExecutionContext) -> dg.MaterializeResult:
            try:
                results.append(launcher.run(context, work))
            except dg.Failure as failure:
                failures.append(failure)
                raise
            return dg.MaterializeResult()

        ended = dg.materialize([asks], instance=self.instance, tags=tags, raise_on_error=False)
        records = self.instance.all_logs(ended.run_id)
        said = [entry.user_message for entry in records]
        told = failures[0] if failures else None
        for event in ended.all_events:
            assert told or not event.is_step_failure, event.step_failure_data.error
        return Ran(
            results[0] if results else None,
            told.description if told else None,
            told.allow_retries if told else None,
            said,
        )

    def start(self, work: Work) -> "Future[Ran]":
        """A run that goes on beside the test."""
        future: Future[Ran] = Future()

        def target() -> None:
            try:
                future.set_result(self.run(work))
            except BaseException as error:
                future.set_exception(error)

        threading.Thread(target=target, daemon=True).start()
        return future


preload(__name__)


def ask(home: Path, folder: Path, log: Path, job: Mapping[str, Any]) -> None:
    """A run of a Dagster instance in this process that asks for a work; stderr is the log."""
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    os.environ["DAGSTER_HOME"] = str(folder)
    with log.open("wb") as output:
        os.dup2(output.fileno(), 2)
    with dg.DagsterInstance.from_config(str(folder)) as instance:
        launching = Launching(None, home, instance)
        launching.run(launching.work(**job))


@contextmanager
def launching(cluster: Cluster, folder: Path) -> Iterator[Launching]:
    """A home in a folder, whose Jobs a cluster runs."""
    home = folder / "home"
    home.mkdir()
    cluster.configure(images={IMAGE: PYTHON_IMAGE}, claims={"home": str(home)})
    with dg.DagsterInstance.ephemeral() as instance:
        launching = Launching(cluster, home, instance)
        launching.configure()
        yield launching

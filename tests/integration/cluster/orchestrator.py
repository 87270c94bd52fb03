"""Dagster on the tests' cluster: an instance whose runs are Kubernetes Jobs, and the platform."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import dagster as dg
import yaml
from dagster._cli.job import _create_run
from dagster._core.workspace.context import WorkspaceProcessContext
from dagster._core.workspace.load_target import WorkspaceFileTarget

from tests.kubernetes_node.client import IMAGE, Cluster

KEY = dg.MultiPartitionKey({"dataset": "d", "experiment": "random@tiny"})
PARTITION = {
    "dagster/partition": str(KEY),
    "dagster/partition/dataset": "d",
    "dagster/partition/experiment": "random@tiny",
}
# The platform with jobs of its own: the checkpoint alone, in the run's pod or in a pod a step.
PLATFORM = """
import dagster as dg
from dagster_k8s import k8s_job_executor

from definitions import build_defs

in_steps = k8s_job_executor.configured({"enable_owner_references": True})
# Without the checks that are steps of their own: each would be a pod more.
checkpoint = dg.AssetSelection.assets("checkpoint")
others = dg.AssetSelection.checks(
    dg.AssetCheckKey(dg.AssetKey("checkpoint"), "files_intact"),
    dg.AssetCheckKey(dg.AssetKey("checkpoint"), "template_of_training"),
)
defs = dg.Definitions.merge(
    build_defs(),
    dg.Definitions(
        jobs=[
            dg.define_asset_job("train_job", selection=checkpoint),
            dg.define_asset_job(
                "train_in_steps", selection=checkpoint - others, executor_def=in_steps
            ),
        ]
    ),
)
"""
# Assets that wait, for what happens to a run meanwhile; they load sooner than the platform.
WAITING = """
import os
import time
from pathlib import Path

import dagster as dg
from dagster_k8s import k8s_job_executor

from resources.runs.executor import one_process_executor

home = Path(os.environ["OPENCS_HOME"])


def wait(name):
    (home / f"{name}.started").touch()
    try:
        time.sleep(600)
    finally:
        (home / f"{name}.interrupted").touch()


@dg.asset(pool="gpu")
def waits():
    wait("waits")


@dg.asset
def step_waits():
    wait("step_waits")


defs = dg.Definitions(
    assets=[waits, step_waits],
    executor=one_process_executor,
    jobs=[
        dg.define_asset_job("waiting_job", selection=["waits"]),
        dg.define_asset_job(
            "waiting_in_steps", selection=["step_waits"], executor_def=k8s_job_executor
        ),
    ],
)
"""


@dataclass(frozen=True)
class Orchestrator:
    """An instance with ``K8sRunLauncher``, and a code server of the platform.

    Attributes:
        cluster: Where runs run.
        instance: The real instance.
        home: The platform's home, mounted in each pod at its own path.
        context: The workspace: the platform, and assets that wait.
    """

    cluster: Cluster
    instance: dg.DagsterInstance
    home: Path
    context: WorkspaceProcessContext

    def launch(self, job: str, tags: Mapping[str, str] | None = None) -> str:
        """Create and launch a run of a job; returns its id."""
        workspace = self.context.create_request_context()
        location, repository = next(
            (location, repository)
            for location in workspace.code_locations
            for repository in location.get_repositories().values()
            if repository.has_job(job)
        )
        run = _create_run(
            instance=self.instance,
            code_location=location,
            remote_repo=repository,
            remote_job=repository.get_full_job(job),
            run_config={},
            tags=tags,
            op_selection=None,
            run_id=None,
        )
        self.instance.launch_run(run.run_id, workspace)
        return run.run_id

    def run(self, run_id: str) -> dg.DagsterRun:
        return self.instance.get_run_by_id(run_id)

    def finish(self, run_id: str, seconds: float = 120.0) -> dg.DagsterRun:
        """Wait for a run to be over."""
        self.cluster.wait(lambda: self.run(run_id).is_finished, seconds)
        return self.run(run_id)

    def job_of(self, run_id: str) -> str:
        """The Kubernetes Job of a run."""
        return f"dagster-run-{run_id}"

    def pod_of(self, run_id: str) -> str:
        """The pod of a run, once it is there."""
        job = self.job_of(run_id)
        return self.cluster.wait(lambda: self.cluster.pods_of(job))[0]["metadata"]["name"]

    def said(self, run_id: str) -> list[str]:
        """Messages of a run's events."""
        return [entry.message or entry.user_message for entry in self.instance.all_logs(run_id)]


@contextmanager
def orchestrating(
    cluster: Cluster,
    home: Path,
    storage: Mapping[str, Any] | None = None,
    *,
    platform: bool = True,
    **launcher: Any,
) -> Iterator[Orchestrator]:
    """Dagster on a cluster.

    Args:
        cluster: Has the claim ``home``, the folder of the home.
        home: The home, with what is to be trained on in its lake.
        storage: The instance's storage; unset: SQLite in the home.
        platform: Load the platform too, not only the assets that wait.
        launcher: Further configuration of the run launcher.
    """
    folder = home / "dagster"
    folder.mkdir(exist_ok=True)
    config = {
        "telemetry": {"enabled": False},
        "run_launcher": {
            "module": "resources.runs.cluster",
            "class": "ClusterRunLauncher",
            "config": {
                "service_account_name": "dagster",
                "instance_config_map": "dagster-instance",
                "dagster_home": str(folder),
                "job_image": IMAGE,
                "job_namespace": "default",
                "load_incluster_config": False,
                "kubeconfig_file": str(cluster.kubeconfig),
                "env_vars": [f"OPENCS_HOME={home}"],
                "volumes": [{"name": "home", "persistentVolumeClaim": {"claimName": "home"}}],
                "volume_mounts": [{"name": "home", "mountPath": str(home)}],
                **launcher,
            },
        },
        "run_monitoring": {
            "enabled": True,
            "max_resume_run_attempts": 0,
            "free_slots_after_run_end_seconds": 1,
        },
        **({"storage": storage} if storage else {}),
    }
    (folder / "dagster.yaml").write_text(yaml.safe_dump(config))
    files = {**({"platform": PLATFORM} if platform else {}), "waiting": WAITING}
    for name, text in files.items():
        (cluster.folder / f"{name}_location.py").write_text(text)
    workspace = cluster.folder / "workspace.yaml"
    places = [
        {
            "python_file": {
                "relative_path": f"{name}_location.py",
                "location_name": name,
                "working_directory": ".",
            }
        }
        for name in files
    ]
    workspace.write_text(yaml.safe_dump({"load_from": places}))
    with (
        dg.DagsterInstance.from_config(str(folder)) as instance,
        WorkspaceProcessContext(instance, WorkspaceFileTarget([str(workspace)])) as context,
    ):
        instance.add_dynamic_partitions("dataset", ["d"])
        yield Orchestrator(cluster, instance, home, context)

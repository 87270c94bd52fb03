"""A Kubernetes cluster of a test's own, and a handle on it."""

import json
import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import httpx
import kubernetes
import pytest
import yaml

from tests.integration.training.conftest import tiny_model as tiny_model_of_training

if TYPE_CHECKING:
    from tests.integration.cluster.orchestrator import Orchestrator

SERVER = Path(__file__).parent.parent / "servers" / "kubernetes_server.py"
ROOT = Path(__file__).resolve().parents[3]
IMAGE = "opencs/trainer:test"
# The environment of an image that has this project and its Python.
PYTHON_IMAGE: dict[str, str] = {
    "PATH": f"{Path(sys.executable).parent}:/usr/local/bin:/usr/bin:/bin",
    "PYTHONPATH": str(ROOT),
    "PYTHONUNBUFFERED": "1",
    "HF_HUB_OFFLINE": "1",
}
JOBS = "/apis/batch/v1/namespaces/[^/]+/jobs"
PODS = "/api/v1/namespaces/[^/]+/pods"


@dataclass(frozen=True)
class Cluster:
    """A running cluster: how to reach it, what it has, and what is to go wrong.

    Attributes:
        url: Of its API.
        kubeconfig: A file for ``kubernetes.config.load_kube_config``.
        folder: The test's own; mount points may be made below it.
        images: Image name to the environment that it brings.
        claims: Claim's name to the folder that it is.
        process: The server.
    """

    url: str
    kubeconfig: Path
    folder: Path
    images: Mapping[str, Mapping[str, str]]
    claims: Mapping[str, str]
    process: "subprocess.Popen[str]"

    # Asking.

    def client(self) -> kubernetes.client.ApiClient:
        """The real client, configured by the kubeconfig."""
        return kubernetes.config.new_client_from_config(str(self.kubeconfig))

    @cached_property
    def core(self) -> kubernetes.client.CoreV1Api:
        return kubernetes.client.CoreV1Api(self.client())

    @cached_property
    def batch(self) -> kubernetes.client.BatchV1Api:
        return kubernetes.client.BatchV1Api(self.client())

    def pods(self, namespace: str = "default", labels: str = "") -> list[dict[str, Any]]:
        """All pods, as JSON; not among the recorded requests."""
        return self._things("pods", namespace, labels)

    def jobs(self, namespace: str = "default", labels: str = "") -> list[dict[str, Any]]:
        return self._things("jobs", namespace, labels)

    def events(self, namespace: str = "default") -> list[dict[str, Any]]:
        return self._things("events", namespace, "")

    def _things(self, plural: str, namespace: str, labels: str) -> list[dict[str, Any]]:
        return self._ask(f"objects/{plural}/{namespace}", {"labels": labels})

    def job(self, name: str, namespace: str = "default") -> dict[str, Any]:
        return next(job for job in self.jobs(namespace) if job["metadata"]["name"] == name)

    def pods_of(self, job: str, namespace: str = "default") -> list[dict[str, Any]]:
        """The pods of a Job that are there, oldest first."""
        found = self.pods(namespace, f"job-name={job}")
        return sorted(found, key=lambda pod: int(pod["metadata"]["resourceVersion"]))

    def log(self, pod: str, namespace: str = "default", **query: Any) -> str:
        """A pod's log; the client's own way to a text makes ``b'...'`` of it."""
        answer = self.core.read_namespaced_pod_log(pod, namespace, _preload_content=False, **query)
        return answer.data.decode()

    def requests(self, verb: str = "", path: str = "") -> list[dict[str, Any]]:
        """Recorded requests of a verb whose path matches a regular expression."""
        return self._ask("requests", {"verb": verb, "path": path})

    def wait(self, until: Callable[[], Any], seconds: float = 20.0) -> Any:
        """Wait for something to be true and return it."""
        end = time.monotonic() + seconds
        while not (found := until()):
            assert time.monotonic() < end, f"not within {seconds} s; pods: {self._sketch()}"
            time.sleep(0.02)
        return found

    def wait_phase(
        self, job: str, phase: str, namespace: str = "default", seconds: float = 20.0
    ) -> dict[str, Any]:
        """Wait for a pod of a Job to be in a phase; returns the pod."""

        def found() -> dict[str, Any] | None:
            pods = self.pods_of(job, namespace)
            return next((pod for pod in pods if pod["status"]["phase"] == phase), None)

        return self.wait(found, seconds)

    def wait_job(
        self, job: str, condition: str, namespace: str = "default", seconds: float = 20.0
    ) -> dict[str, Any]:
        """Wait for a Job's condition (``Complete``, ``Failed``); returns the condition."""

        def found() -> dict[str, Any] | None:
            conditions = self.job(job, namespace)["status"].get("conditions") or []
            return next((each for each in conditions if each["type"] == condition), None)

        return self.wait(found, seconds)

    def _sketch(self) -> list[Any]:
        return [(pod["metadata"]["name"], pod["status"]) for pod in self._ask("objects/pods/*", {})]

    # Making.

    def add_secret(self, name: str, namespace: str = "default", **values: str) -> None:
        body = {"metadata": {"name": name}, "stringData": values}
        self.core.create_namespaced_secret(namespace, body)

    def add_config_map(
        self, name: str, data: Mapping[str, str], namespace: str = "default"
    ) -> None:
        body = {"metadata": {"name": name}, "data": dict(data)}
        self.core.create_namespaced_config_map(namespace, body)

    def kubeconfig_for(
        self, rules: list[dict[str, Any]], name: str, namespace: str = "default"
    ) -> Path:
        """A kubeconfig whose bearer may do what a Role's rules say, and nothing else."""
        tokens = self._ask("config", {})["tokens"]
        tokens[f"token-of-{name}"] = {"namespace": namespace, "rules": rules, "user": name}
        tokens.setdefault("token-of-admin", {"admin": True})
        self.configure(tokens=tokens)
        return write_kubeconfig(self.folder / f"{name}.kubeconfig", self.url, name, namespace)

    # What is to go wrong.

    def configure(self, **values: Any) -> None:
        """Change the server's configuration (``kubernetes_node.config.Config``)."""
        self._tell("configure", values)

    def fail(self, kind: str, **fault: Any) -> None:
        """Let API requests fail; see ``kubernetes_node.faults.ApiFault``.

        ``for_s`` instead of ``times`` makes all fail for so many seconds.
        """
        self._tell("faults/api", {"kind": kind, **fault})

    def fail_logs(self, kind: str, **fault: Any) -> None:
        """Let log streams fail; see ``kubernetes_node.faults.LogFault``."""
        self._tell("faults/logs", {"kind": kind, **fault})

    def fail_pods(self, kind: str, **fault: Any) -> None:
        """Let pods fail before they run; see ``kubernetes_node.faults.PodFault``."""
        self._tell("faults/pods", {"kind": kind, **fault})

    def clear_faults(self) -> None:
        self._tell("faults/clear", {})

    def clear_requests(self) -> None:
        self._tell("requests/clear", {})

    def oom(self, pod: str, namespace: str = "default", **options: Any) -> None:
        """Kill a pod's containers as the kernel does when memory runs out."""
        self._tell(f"pods/{namespace}/{pod}/oom", options)

    def kill(self, pod: str, namespace: str = "default", **options: Any) -> None:
        """Send a signal (``signal``, SIGKILL) to a pod's main processes."""
        self._tell(f"pods/{namespace}/{pod}/kill", options)

    def evict(self, pod: str, namespace: str = "default", **options: Any) -> None:
        """Evict a pod, by the kubelet or, with ``by="api"``, by the eviction API."""
        self._tell(f"pods/{namespace}/{pod}/evict", options)

    def preempt(self, pod: str, namespace: str = "default", **options: Any) -> None:
        self._tell(f"pods/{namespace}/{pod}/preempt", options)

    def lose_node(self, pod: str, namespace: str = "default") -> None:
        """Take the node away from under a pod."""
        self._tell(f"pods/{namespace}/{pod}/lose", {})

    @cached_property
    def _http(self) -> httpx.Client:
        url = f"{self.url}/_test/"
        return httpx.Client(base_url=url, trust_env=False, verify=False, timeout=30)

    def _tell(self, what: str, body: Mapping[str, Any]) -> None:
        answer = self._http.post(what, json=dict(body))
        assert answer.status_code == 200, answer.text

    def _ask(self, what: str, query: Mapping[str, str]) -> Any:
        answer = self._http.get(what, params=dict(query))
        assert answer.status_code == 200, answer.text
        return answer.json()


def write_kubeconfig(path: Path, url: str, user: str, namespace: str = "default") -> Path:
    content = {
        "apiVersion": "v1",
        "kind": "Config",
        "current-context": "test",
        "clusters": [{"name": "test", "cluster": {"server": url}}],
        "users": [{"name": user, "user": {"token": f"token-of-{user}"}}],
        "contexts": [
            {"name": "test", "context": {"cluster": "test", "user": user, "namespace": namespace}}
        ],
    }
    path.write_text(yaml.safe_dump(content))
    return path


@contextmanager
def started(folder: Path, **config: Any) -> Iterator[Cluster]:
    """A cluster of its own, ended with the block and with it all that it runs.

    Args:
        folder: Scratch folder; mount points may be made below it.
        config: The server's configuration, ``kubernetes_node.config.Config``.
    """
    root = folder / "cluster"
    root.mkdir(parents=True)
    kubeconfig = folder / "kubeconfig"
    image = {**PYTHON_IMAGE, "KUBECONFIG": str(kubeconfig)}
    values = {
        "root": str(root),
        "mounts": str(folder),
        "images": {IMAGE: image},
        "claims": {},
        **config,
    }
    (root / "config.json").write_text(json.dumps(values))
    process = subprocess.Popen(
        [sys.executable, str(SERVER), str(root / "config.json")],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        env={key: value for key, value in os.environ.items() if key != "PYTHONPATH"},
    )
    assert process.stdin is not None
    assert process.stdout is not None
    try:
        url = process.stdout.readline().strip()
        write_kubeconfig(kubeconfig, url, "admin")
        yield Cluster(url, kubeconfig, folder, values["images"], values["claims"], process)
    finally:
        process.stdin.close()
        try:
            process.wait(20)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
            raise
        finally:
            process.stdout.close()


@pytest.fixture
def cluster_config() -> dict[str, Any]:
    """What a test file's clusters have besides the default; for overriding."""
    return {}


@pytest.fixture
def cluster(tmp_path: Path, cluster_config: dict[str, Any]) -> Iterator[Cluster]:
    """A cluster of the test's own."""
    with started(tmp_path, **cluster_config) as running:
        yield running


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

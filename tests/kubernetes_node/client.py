"""A handle on a running cluster: to ask, to make objects, and to tell what goes wrong."""

import json
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import httpx
import kubernetes
import yaml

from tests.integration.servers.started import first_line, running_process

ROOT = Path(__file__).resolve().parents[2]
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
CLOSES_WITHIN_S = 20.0


@dataclass(frozen=True)
class Cluster:
    """A running cluster.

    Attributes:
        url: Of its API.
        kubeconfig: A file for ``kubernetes.config.load_kube_config``.
        folder: The test's own; mount points may be made below it.
        claims: Claim's name to the folder that it is.
        process: The server.
    """

    url: str
    kubeconfig: Path
    folder: Path
    claims: Mapping[str, str]
    process: "subprocess.Popen[str]"

    def client(self) -> kubernetes.client.ApiClient:
        """The real client, configured by the kubeconfig."""
        return kubernetes.config.new_client_from_config(str(self.kubeconfig))

    @cached_property
    def core(self) -> kubernetes.client.CoreV1Api:
        return kubernetes.client.CoreV1Api(self.client())

    @cached_property
    def batch(self) -> kubernetes.client.BatchV1Api:
        return kubernetes.client.BatchV1Api(self.client())

    # Asking; by its own way, which is not among the recorded requests.

    def pods(self, labels: str = "") -> list[dict[str, Any]]:
        return self._ask("objects/pods/default", labels=labels)

    def jobs(self, labels: str = "") -> list[dict[str, Any]]:
        return self._ask("objects/jobs/default", labels=labels)

    def events(self) -> list[dict[str, Any]]:
        return self._ask("objects/events/default")

    def job(self, name: str) -> dict[str, Any]:
        return next(job for job in self.jobs() if job["metadata"]["name"] == name)

    def pods_of(self, job: str) -> list[dict[str, Any]]:
        """The pods of a Job that are there, in the order of their last changes."""
        pods = self.pods(f"job-name={job}")
        return sorted(pods, key=lambda pod: int(pod["metadata"]["resourceVersion"]))

    def log(self, pod: str, **query: Any) -> str:
        """A pod's log; the client's own way to a text makes ``b'...'`` of it."""
        answer = self.core.read_namespaced_pod_log(pod, "default", _preload_content=False, **query)
        return answer.data.decode()

    def requests(self, verb: str = "", path: str = "") -> list[dict[str, Any]]:
        """Recorded requests of a verb whose path matches a regular expression."""
        return self._ask("requests", verb=verb, path=path)

    def wait(self, until: Callable[[], Any], seconds: float = 20.0) -> Any:
        """Wait for something to be true and return it."""
        end = time.monotonic() + seconds
        while not (met := until()):
            if time.monotonic() > end:
                pods = [(pod["metadata"]["name"], pod["status"]) for pod in self.pods()]
                raise AssertionError(f"not within {seconds} s; pods: {pods}")
            time.sleep(0.02)
        return met

    def wait_phase(self, job: str, phase: str) -> dict[str, Any]:
        """Wait for a pod of a Job to be in a phase; returns the pod."""
        return self.wait(
            lambda: next(
                (pod for pod in self.pods_of(job) if pod["status"]["phase"] == phase), None
            )
        )

    def wait_job(self, job: str, condition: str) -> dict[str, Any]:
        """Wait for a Job's condition (``Complete``, ``Failed``); returns the condition."""

        def met() -> dict[str, Any] | None:
            conditions = self.job(job)["status"].get("conditions") or []
            return next((each for each in conditions if each["type"] == condition), None)

        return self.wait(met)

    # Making.

    def add_secret(self, name: str, **values: str) -> None:
        body = {"metadata": {"name": name}, "stringData": values}
        self.core.create_namespaced_secret("default", body)

    def kubeconfig_for(self, rules: list[dict[str, Any]], name: str) -> Path:
        """A kubeconfig whose bearer may do what a Role's rules say, and nothing else."""
        token = {"namespace": "default", "rules": rules, "user": name}
        self.configure(tokens={**self._ask("config")["tokens"], f"token-of-{name}": token})
        return write_kubeconfig(self.folder / f"{name}.kubeconfig", self.url, name)

    def empty(self, **config: Any) -> None:
        """Forget faults and requests, delete all pods and Jobs at once, and change the settings."""
        self._tell("empty")
        self.wait(lambda: not self.jobs() and not self.pods())
        self.clear_requests()
        self.configure(**config)

    # What is to go wrong.

    def configure(self, **values: Any) -> None:
        """Change the server's configuration (``config.Config``)."""
        self._tell("configure", values)

    def fail(self, kind: str, **fault: Any) -> None:
        """Let API requests fail (``faults.ApiFault``)."""
        self._tell("faults/api", {"kind": kind, **fault})

    def fail_logs(self, kind: str, **fault: Any) -> None:
        """Let log streams fail (``faults.LogFault``)."""
        self._tell("faults/logs", {"kind": kind, **fault})

    def fail_pods(self, kind: str, **fault: Any) -> None:
        """Let pods fail before they run (``faults.PodFault``)."""
        self._tell("faults/pods", {"kind": kind, **fault})

    def clear_faults(self) -> None:
        self._tell("faults/clear")

    def clear_requests(self) -> None:
        self._tell("requests/clear")

    def oom(self, pod: str) -> None:
        """Kill a pod's containers as the kernel does when memory runs out."""
        self._tell(f"pods/default/{pod}/oom")

    def evict(self, pod: str, **options: Any) -> None:
        """Evict a pod, by the kubelet or, with ``by="api"``, by the eviction API."""
        self._tell(f"pods/default/{pod}/evict", options)

    def preempt(self, pod: str) -> None:
        self._tell(f"pods/default/{pod}/preempt")

    def lose_node(self, pod: str) -> None:
        """Take the node away from under a pod."""
        self._tell(f"pods/default/{pod}/lose")

    @cached_property
    def _http(self) -> httpx.Client:
        return httpx.Client(base_url=f"{self.url}/_test/", trust_env=False, timeout=30)

    def _tell(self, what: str, body: Mapping[str, Any] | None = None) -> None:
        answer = self._http.post(what, json=dict(body or {}))
        assert answer.status_code == 200, answer.text

    def _ask(self, what: str, **query: str) -> Any:
        answer = self._http.get(what, params=query)
        assert answer.status_code == 200, answer.text
        return answer.json()


def write_kubeconfig(path: Path, url: str, user: str) -> Path:
    context = {"cluster": "test", "user": user, "namespace": "default"}
    content = {
        "apiVersion": "v1",
        "kind": "Config",
        "current-context": "test",
        "clusters": [{"name": "test", "cluster": {"server": url}}],
        "users": [{"name": user, "user": {"token": f"token-of-{user}"}}],
        "contexts": [{"name": "test", "context": context}],
    }
    path.write_text(yaml.safe_dump(content))
    return path


@contextmanager
def started(folder: Path, **config: Any) -> Iterator[Cluster]:
    """A cluster of its own, ended with the block and with it all that it runs.

    Args:
        folder: Scratch folder; mount points may be made below it.
        config: The server's configuration, ``config.Config``.
    """
    root = folder / "cluster"
    root.mkdir(parents=True)
    kubeconfig = folder / "kubeconfig"
    values = {
        "root": str(root),
        "mounts": str(folder),
        "images": {IMAGE: {**PYTHON_IMAGE, "KUBECONFIG": str(kubeconfig)}},
        "claims": {},
        **config,
    }
    (root / "config.json").write_text(json.dumps(values))
    command = [sys.executable, "-m", "tests.kubernetes_node", str(root / "config.json")]
    pipe = subprocess.PIPE
    with running_process(command, CLOSES_WITHIN_S, stdin=pipe, stdout=pipe, cwd=ROOT) as process:
        url = first_line(process)
        write_kubeconfig(kubeconfig, url, "admin")
        yield Cluster(url, kubeconfig, folder, values["claims"], process)

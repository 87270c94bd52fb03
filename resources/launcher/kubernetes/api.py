"""Calls of Kubernetes' API that survive a failing network and a busy API server.

Objects are plain dictionaries, with the names of Kubernetes' own documentation.
"""

import json
import os
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import kubernetes
import urllib3
from kubernetes.client.exceptions import ApiException
from kubernetes.config.config_exception import ConfigException

from resources.http import BUSY, pause_s, retry_after
from resources.launcher.kubernetes.spec import CONTAINER
from resources.launcher.protocol import LauncherError
from resources.settings import KubernetesLauncher

Object = dict[str, Any]

NOT_FOUND, CONFLICT = 404, 409
# Errors that the client raises where the network fails.
UNREACHABLE = (urllib3.exceptions.HTTPError, OSError)
# Seconds to connect, and to the next byte of an answer.
TIMEOUT_S = (5.0, 30.0)
# Seconds of silence after which a log is asked for again, as its connection may be dead.
SILENT_S = 120.0


class Api:
    """The calls that the launcher makes; each further try is logged.

    Each call raises a ``LauncherError`` where Kubernetes refuses it, or does not answer in time.
    """

    def __init__(self, launcher: KubernetesLauncher, log: Callable[[str], None]) -> None:
        self._namespace = launcher.namespace
        self._patience_s = launcher.patience_s
        self._log = log
        client = _client(launcher)
        self._plain = client.sanitize_for_serialization
        self._batch = kubernetes.client.BatchV1Api(client)
        self._core = kubernetes.client.CoreV1Api(client)

    def create_job(self, manifest: Object) -> Object | None:
        """Make a Job; return nothing where there is one of its name."""
        return self._call(
            "create the Job", self._batch.create_namespaced_job, self._namespace, manifest
        )

    def job(self, name: str) -> Object | None:
        """The Job of a name, if there is one."""
        return self._call("read the Job", self._batch.read_namespaced_job, name, self._namespace)

    def jobs(self, labels: str) -> list[Object]:
        """Jobs that a label selector selects."""
        return self._list("Jobs", self._batch.list_namespaced_job, label_selector=labels)

    def delete_job(self, job: Object) -> None:
        """Delete a Job and its pods, unless it is gone already, even if another has its name.

        The Job stays until its pods are gone, so that none is made anew while one still trains.
        """
        self._call(
            "delete the Job",
            self._batch.delete_namespaced_job,
            job["metadata"]["name"],
            self._namespace,
            body={
                "propagationPolicy": "Foreground",
                "preconditions": {"uid": job["metadata"]["uid"]},
            },
        )

    def pods(self, job: Object) -> list[Object]:
        """Pods of a Job, oldest first, without those of another Job of the same name."""
        pods = self._list(
            "pods",
            self._core.list_namespaced_pod,
            label_selector=f"batch.kubernetes.io/controller-uid={job['metadata']['uid']}",
        )
        return sorted(
            pods, key=lambda pod: (pod["metadata"]["creationTimestamp"], pod["metadata"]["name"])
        )

    def warnings(self, name: str) -> list[str]:
        """Messages of the warnings about an object, oldest first."""
        events = self._list(
            "events",
            self._core.list_namespaced_event,
            field_selector=f"involvedObject.name={name}",
        )
        warnings = [event for event in events if event.get("type") == "Warning"]
        warnings.sort(key=lambda event: event.get("lastTimestamp") or event.get("eventTime") or "")
        return [str(event.get("message") or event.get("reason")) for event in warnings]

    def create_service(self, manifest: Object) -> None:
        """Make a service, unless there is one of its name."""
        self._call(
            "create the service", self._core.create_namespaced_service, self._namespace, manifest
        )

    def delete_service(self, name: str) -> None:
        """Delete a service, unless it is gone already."""
        self._call(
            "delete the service", self._core.delete_namespaced_service, name, self._namespace
        )

    def log_end(self, pod: str, lines: int) -> str:
        """The end of a pod's log; empty where it can't be read any more."""
        with suppress(ApiException, *UNREACHABLE):
            answer = self._core.read_namespaced_pod_log(
                pod,
                self._namespace,
                container=CONTAINER,
                tail_lines=lines,
                _preload_content=False,
                _request_timeout=TIMEOUT_S,
            )
            return bytes(answer.data).decode("utf-8", "replace")
        return ""

    def log(self, pod: str, since_s: int | None, *, follow: bool) -> Any:
        """A stream of a pod's log with each line's time, which may break at any moment.

        The first line is ``since_s`` seconds back, or where the whole log begins; followed, the
        stream goes on as lines come.
        """
        since = {} if since_s is None else {"since_seconds": since_s}
        return self._core.read_namespaced_pod_log(
            pod,
            self._namespace,
            container=CONTAINER,
            follow=follow,
            timestamps=True,
            _preload_content=False,
            _request_timeout=(TIMEOUT_S[0], SILENT_S),
            **since,
        )

    def _list(self, what: str, call: Callable[..., Any], **selector: str) -> list[Object]:
        answer = self._call(f"list {what}", call, self._namespace, **selector) or {"items": []}
        return list(answer["items"])

    def _call(
        self, doing: str, call: Callable[..., Any], *args: Any, **kwargs: Any
    ) -> Object | None:
        """Make a call until it is answered; return nothing for an absent object, or a taken name.

        A call that is cut off may have had its effect, and then the answer to its repeat says so:
        409 to a creation, 404 to a deletion.
        """
        ends = time.monotonic() + self._patience_s
        tries = 0
        while True:
            tries += 1
            try:
                answer: Object = self._plain(call(*args, **kwargs, _request_timeout=TIMEOUT_S))
                return answer
            except ApiException as error:
                if error.status in (NOT_FOUND, CONFLICT) and _about_the_object(error, doing):
                    return None
                if error.status not in BUSY:
                    raise LauncherError(
                        f"Kubernetes refuses to {doing}: {_message(error)}", refused=True
                    ) from None
                reason, asked_s = _message(error), retry_after(error.headers or {})
            except UNREACHABLE as error:
                reason, asked_s = " ".join(str(error).split()) or type(error).__name__, None
            pause = pause_s(tries, asked_s)
            if time.monotonic() + pause > ends:
                raise LauncherError(
                    f"Kubernetes' API did not let us {doing} for {self._patience_s:g} s; "
                    f"last it said: {reason}",
                    refused=False,
                )
            self._log(f"Kubernetes' API can't {doing} now ({reason}); again in {pause:.1f} s")
            time.sleep(pause)


def _client(launcher: KubernetesLauncher) -> Any:
    configuration = kubernetes.client.Configuration()
    # The client's own retries would hide what happened; ``Api`` makes all of them, by one rule.
    configuration.retries = False
    kubeconfig = launcher.kubeconfig or os.environ.get("KUBECONFIG")
    in_cluster = "KUBERNETES_SERVICE_HOST" in os.environ
    try:
        if in_cluster and not kubeconfig and launcher.context is None:
            kubernetes.config.load_incluster_config(configuration)
        else:
            kubernetes.config.load_kube_config(
                str(Path(kubeconfig).expanduser()) if kubeconfig else None,
                launcher.context,
                configuration,
                persist_config=False,
            )
    except ConfigException as error:
        raise LauncherError(
            f"no way to Kubernetes: {error}; set launcher.kubernetes.kubeconfig or KUBECONFIG, or "
            "run in a pod with an account",
            refused=True,
        ) from None
    return kubernetes.client.ApiClient(configuration)


def _about_the_object(error: ApiException, doing: str) -> bool:
    """Whether 404 and 409 are about the object, not its namespace or something in its way."""
    if error.status == CONFLICT:
        # A deletion gets 409 where another object has the name.
        return _field(error, "reason") == "AlreadyExists" or doing.startswith("delete")
    return not doing.startswith(("create", "list"))


def _message(error: ApiException) -> str:
    return _field(error, "message") or f"{error.status} {error.reason}"


def _field(error: ApiException, name: str) -> str:
    """A field of the answer that an error came with; empty where the answer has none."""
    try:
        return str(json.loads(error.body)[name])
    except (TypeError, ValueError, KeyError):
        return ""

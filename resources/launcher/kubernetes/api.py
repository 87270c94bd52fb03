"""Calls of Kubernetes' API that bear what a network and a busy API server do.

Objects go in and come out as plain dictionaries, in the names of Kubernetes' own documentation.
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
# What the client raises where the network fails.
UNREACHABLE = (urllib3.exceptions.HTTPError, OSError)
# Seconds to connect, and to the next byte of an answer.
TIMEOUT_S = (5.0, 30.0)
# A log that is silent for longer is asked for again: the connection may be dead.
SILENT_S = 120.0


class Api:
    """The calls that the launcher makes.

    Args:
        launcher: Namespace, kubeconfig and patience.
        log: Told about each call that is tried again.
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
        """Make a Job; nothing where one of its name is there.

        Raises:
            LauncherError: See the class.
        """
        made: Object | None = self._call(
            "create the Job", self._batch.create_namespaced_job, self._namespace, manifest
        )
        return made

    def job(self, name: str) -> Object | None:
        """A Job, if it is there."""
        found: Object | None = self._call(
            "read the Job", self._batch.read_namespaced_job, name, self._namespace
        )
        return found

    def jobs(self, labels: str) -> list[Object]:
        """Jobs of a label selector."""
        found = self._call(
            "list Jobs", self._batch.list_namespaced_job, self._namespace, label_selector=labels
        )
        items: list[Object] = found["items"]
        return items

    def delete_job(self, job: Object) -> None:
        """Delete a Job and its pods; that it is gone already, and another there, is as good.

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
        """Pods of a Job that are there, oldest first; not those of another of the same name."""
        found = self._call(
            "list pods",
            self._core.list_namespaced_pod,
            self._namespace,
            label_selector=f"batch.kubernetes.io/controller-uid={job['metadata']['uid']}",
        )
        return sorted(
            found["items"],
            key=lambda pod: (pod["metadata"]["creationTimestamp"], pod["metadata"]["name"]),
        )

    def warnings(self, name: str) -> list[str]:
        """What warnings say of an object, oldest first."""
        found = self._call(
            "list events",
            self._core.list_namespaced_event,
            self._namespace,
            field_selector=f"involvedObject.name={name}",
        )
        events = [each for each in found["items"] if each.get("type") == "Warning"]
        events.sort(key=lambda each: each.get("lastTimestamp") or each.get("eventTime") or "")
        return [str(each.get("message") or each.get("reason")) for each in events]

    def create_service(self, manifest: Object) -> None:
        """Make a service; that one of its name is there is as good."""
        self._call(
            "create the service", self._core.create_namespaced_service, self._namespace, manifest
        )

    def delete_service(self, name: str) -> None:
        """Delete a service; that it is gone already is as good."""
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
        """A pod's log, each line with its time; may break at any moment.

        Args:
            pod: The pod's name.
            since_s: Only what came in the last seconds; unset: all.
            follow: Go on as it comes.
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

    def _call(self, doing: str, call: Callable[..., Any], *given: Any, **named: Any) -> Any:
        """Make a call until it is answered; nothing for what is not there, or is there already.

        A call that is cut off may have had its effect: each is such that the answer to its repeat
        then says so (409 to a creation, 404 to a deletion).
        """
        ends = time.monotonic() + self._patience_s
        tries = 0
        while True:
            tries += 1
            try:
                return self._plain(call(*given, **named, _request_timeout=TIMEOUT_S))
            except ApiException as error:
                if error.status in (NOT_FOUND, CONFLICT) and _about_the_object(error, doing):
                    return None
                if error.status not in BUSY:
                    raise LauncherError(
                        f"Kubernetes refuses to {doing}: {_message(error)}", refused=True
                    ) from None
                said, asked_s = _message(error), retry_after(error.headers or {})
            except UNREACHABLE as error:
                said, asked_s = " ".join(str(error).split()) or type(error).__name__, None
            rest = pause_s(tries, asked_s)
            if time.monotonic() + rest > ends:
                raise LauncherError(
                    f"Kubernetes' API did not let us {doing} for {self._patience_s:g} s; "
                    f"last it said: {said}",
                    refused=False,
                )
            self._log(f"Kubernetes' API can't {doing} now ({said}); again in {rest:.1f} s")
            time.sleep(rest)


def _client(launcher: KubernetesLauncher) -> Any:
    configuration = kubernetes.client.Configuration()
    # The client's own retries would hide what happened; all are made here, by one rule.
    configuration.retries = False
    named = launcher.kubeconfig or os.environ.get("KUBECONFIG")
    inside = "KUBERNETES_SERVICE_HOST" in os.environ
    try:
        if inside and not named and launcher.context is None:
            kubernetes.config.load_incluster_config(configuration)
        else:
            kubernetes.config.load_kube_config(
                str(Path(named).expanduser()) if named else None,
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
    """Whether 404 and 409 are of the object, not of its namespace or of something in its way."""
    if error.status == CONFLICT:
        # To a deletion: another of the name is there.
        return _reason(error) == "AlreadyExists" or doing.startswith("delete")
    return not doing.startswith(("create", "list"))


def _reason(error: ApiException) -> str:
    try:
        return str(json.loads(error.body)["reason"])
    except (TypeError, ValueError, KeyError):
        return ""


def _message(error: ApiException) -> str:
    try:
        return str(json.loads(error.body)["message"])
    except (TypeError, ValueError, KeyError):
        return f"{error.status} {error.reason}"

"""The API over HTTP: Kubernetes' own, and ``/_test`` by which tests tell it what goes wrong."""

import asyncio
import contextlib
import json
import re
import signal
import socket
import struct
import time
from collections.abc import Callable, Mapping
from dataclasses import asdict, fields
from typing import Any, NamedTuple

from aiohttp import web

from tests.kubernetes_node.admission import NAMESPACE, admit, label_of
from tests.kubernetes_node.config import Config
from tests.kubernetes_node.faults import ApiFault, Faults, LogFault, PodFault, Request
from tests.kubernetes_node.jobs import JobController
from tests.kubernetes_node.kubelet import NODE, Kubelet, Log, Runner
from tests.kubernetes_node.pods import Pods
from tests.kubernetes_node.store import (
    KINDS,
    PLURALS,
    ApiError,
    Filter,
    Kind,
    Object,
    Store,
    bad_request,
    field_filter,
    label_filter,
    no_such_path,
    not_built,
    now,
)

TICK_S = 0.05
REASONS = {
    404: ("NotFound", "not found"),
    429: ("TooManyRequests", "too many requests, please try again later"),
    500: ("InternalError", "Internal error occurred: etcdserver: request timed out"),
    503: ("ServiceUnavailable", "apiserver not ready"),
}


class Target(NamedTuple):
    """What a request is about: a kind, and one of its objects or a part of that."""

    kind: Kind
    namespace: str
    name: str | None
    sub: str | None


class Cluster:
    """The whole cluster: its store, controllers and node."""

    def __init__(self, config: Config) -> None:
        self.config, self.faults, self.store = config, Faults(), Store()
        self.pods = Pods(self.store)
        self.kubelet = Kubelet(self.store, self.pods, config, self.faults)
        self.pods.node = self.kubelet
        self.jobs = JobController(self.store, self.pods, config)
        self.tasks: set[asyncio.Task[None]] = set()
        for account in ["default", *config.service_accounts]:
            self.store.create("serviceaccounts", NAMESPACE, {"metadata": {"name": account}})
        for claim in config.claims:
            body = {"metadata": {"name": claim}, "status": {"phase": "Bound"}}
            self.store.create("persistentvolumeclaims", NAMESPACE, body)

    async def control(self) -> None:
        """Run the controllers until cancelled."""
        while True:
            self.store.changed.clear()
            self.jobs.sync()
            self.kubelet.sync()
            self.collect_garbage()
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(TICK_S):
                    await self.store.changed.wait()
            await asyncio.sleep(0.005)

    def collect_garbage(self) -> None:
        """Delete what belongs to objects that are gone."""
        uids = self.store.uids()
        for plural in ("jobs", "pods"):
            for thing in self.store.all(plural):
                owners = thing["metadata"].get("ownerReferences") or []
                if owners and not any(each["uid"] in uids for each in owners):
                    self.delete(thing, {"propagationPolicy": "Background"})

    def create(self, kind: Kind, namespace: str, thing: Object) -> Object:
        """Admit and store an object."""
        admit(self.store, kind, namespace, thing)
        made = self.store.create(kind.plural, namespace, thing)
        if kind.plural == "jobs":
            label_of(made)
        return made

    def delete(self, thing: Object, options: Mapping[str, Any]) -> None:
        """Delete an object as the options of the request say."""
        plural, metadata = PLURALS[thing["kind"]], thing["metadata"]
        uid = (options.get("preconditions") or {}).get("uid", metadata["uid"])
        if uid != metadata["uid"]:
            message = (
                f'Operation cannot be fulfilled on {KINDS[plural].qualified} "{metadata["name"]}": '
                f"Precondition failed: UID in precondition: {uid}, UID in object meta: "
                f"{metadata['uid']}"
            )
            details = KINDS[plural].details(metadata["name"])
            raise ApiError(409, "Conflict", message, details)
        if plural == "pods":
            grace = options.get("gracePeriodSeconds")
            self.pods.delete(thing, None if grace is None else int(grace))
            return
        how = options.get("propagationPolicy") or ("Orphan" if plural == "jobs" else "Background")
        if how == "Foreground" and plural == "jobs":
            # The Job controller takes it away after its pods.
            metadata.setdefault("deletionTimestamp", now())
            self.store.touch(thing)
            return
        if how == "Orphan":
            for pod in self.store.all("pods"):
                owners = pod["metadata"].get("ownerReferences") or []
                left = [each for each in owners if each["uid"] != metadata["uid"]]
                pod["metadata"]["ownerReferences"] = left
        self.store.remove(thing)

    # What happens to pods.

    def runner(self, pod: Object) -> Runner:
        """The runner of a pod that is on the node."""
        runner = self.kubelet.runners.get(pod["metadata"]["uid"])
        if runner is None:
            raise bad_request(f"pod {pod['metadata']['name']} does not have a host assigned")
        return runner

    def afflict(self, namespace: str, name: str, what: str, options: Mapping[str, Any]) -> None:
        """Have something happen to a pod."""
        pod = self.store.get("pods", namespace, name)
        grace = options.get("grace_s")
        if what == "oom":
            for container in self.runner(pod).containers.values():
                container.killed_for = "OOMKilled"
                container.signal(signal.SIGKILL)
        elif what == "evict" and options.get("by") == "api":
            self.pods.disrupt(pod, "EvictionByEvictionAPI", "Eviction API: evicting")
            self.pods.delete(pod, grace)
        elif what == "evict":
            message = "The node was low on resource: memory. "
            pod["status"]["reason"], pod["status"]["message"] = "Evicted", message
            self.pods.disrupt(pod, "TerminationByKubelet", message)
            self.store.event(pod, "Evicted", message, warning=True)
            self.kubelet.terminate(pod, pod["spec"]["terminationGracePeriodSeconds"])
        elif what == "preempt":
            by = "default-scheduler: preempting to accommodate a higher priority pod"
            self.pods.disrupt(pod, "PreemptionByScheduler", by)
            self.store.event(pod, "Preempted", "Preempted by pod on node " + NODE, by=by[:17])
            self.pods.delete(pod, grace)
        elif what == "lose":
            task = asyncio.ensure_future(self.lose(pod, self.runner(pod)))
            self.tasks.add(task)
            task.add_done_callback(self.tasks.discard)
        else:
            raise bad_request(f"nothing that can happen to a pod: {what}")

    async def lose(self, pod: Object, runner: Runner) -> None:
        """A pod's node is gone: the pod says nothing more, is evicted, and later removed."""
        runner.lost = True
        runner.terminate(0.0)
        await asyncio.sleep(self.config.node_loss_s)
        message = "Taint manager: deleting due to NoExecute taint"
        self.pods.disrupt(pod, "DeletionByTaintManager", message)
        self.store.event(pod, "TaintManagerEviction", "Marking for deletion Pod", by="taint")
        self.pods.delete(pod)
        await asyncio.sleep(self.config.node_loss_s)
        pod["status"]["phase"] = "Failed"
        self.store.touch(pod)
        self.pods.collect(pod)


class Server:
    """Answers requests."""

    def __init__(self, cluster: Cluster) -> None:
        self.cluster = cluster

    def application(self) -> web.Application:
        app = web.Application(client_max_size=64 << 20)
        app.router.add_route("*", "/_test/{what:.*}", self.test)
        app.router.add_route("*", "/{path:.*}", self.answer)
        return app

    async def answer(self, request: web.Request) -> web.StreamResponse:
        """Answer a request of Kubernetes' API, or let it fail as told."""
        target, faults = target_of(request.path), self.cluster.faults
        verb = verb_of(request.method, target)
        raw = await request.read()
        body = json.loads(raw) if raw else None
        record = Request(time.time(), verb, request.path, body)
        faults.requests.append(record)
        fault = faults.of_request(verb, request.path)
        if fault and fault.kind == "hang":
            await asyncio.sleep(86400)
        if fault and fault.kind == "reset":
            return abort(request)
        try:
            if target is None:
                raise no_such_path()
            if fault and fault.kind == "status":
                raise status_of(fault, target)
            self.permit(request, target, verb)
            response = await self.serve(request, target, verb, body)
        except ApiError as error:
            response = web.json_response(error.body, status=error.code, headers=error.headers)
        if fault and fault.kind == "reset_after":
            return abort(request)
        record.status = response.status
        return response

    def permit(self, request: web.Request, target: Target, verb: str) -> None:
        """Refuse what the bearer of a token may not do."""
        token = request.headers.get("Authorization", "").removeprefix("Bearer ")
        role = self.cluster.config.tokens.get(token)
        if role is None:
            return
        kind, resource = target.kind, target.kind.plural + (f"/{target.sub}" if target.sub else "")
        for rule in role["rules"] if role["namespace"] == target.namespace else []:
            named = not rule.get("resourceNames") or target.name in rule["resourceNames"]
            right = (kind.group in rule["apiGroups"], resource in rule["resources"], named)
            if all(right) and verb in rule["verbs"]:
                return
        name = f' "{target.name}"' if target.name else ""
        message = (
            f'{kind.qualified}{name} is forbidden: User "{role["user"]}" cannot {verb} resource '
            f'"{resource}" in API group "{kind.group}" in the namespace "{target.namespace}"'
        )
        raise ApiError(403, "Forbidden", message, kind.details(target.name or ""))

    async def serve(
        self, request: web.Request, target: Target, verb: str, body: Any
    ) -> web.StreamResponse:
        kind, namespace, name, sub = target
        cluster = self.cluster
        if verb == "list":
            return web.json_response(self.list(request.query, kind, namespace))
        if verb == "create" and name is None:
            return web.json_response(cluster.create(kind, namespace, body), status=201)
        if verb not in ("get", "delete") or name is None:
            raise not_built(f"{verb} of {kind.plural}")
        thing = cluster.store.get(kind.plural, namespace, name)
        if (kind.plural, verb, sub) == ("pods", "get", "log"):
            return await self.log(request, thing)
        if sub not in (None, "status"):
            raise no_such_path()
        if verb == "delete":
            cluster.delete(thing, {**request.query, **(body or {})})
            if not cluster.store.has(thing):
                details = {**kind.details(name), "uid": thing["metadata"]["uid"]}
                success = {"kind": "Status", "status": "Success", "details": details}
                return web.json_response({"apiVersion": "v1", "metadata": {}, **success})
        return web.json_response(thing)

    def list(self, query: Mapping[str, str], kind: Kind, namespace: str) -> Object:
        if known := set(query) & {"watch", "continue", "limit"}:
            raise not_built(f"list with {sorted(known)}")
        tests: list[Filter] = [
            label_filter(query.get("labelSelector", "")),
            field_filter(query.get("fieldSelector", "")),
        ]
        things = self.cluster.store.all(kind.plural, namespace)
        return {
            "kind": f"{kind.kind}List",
            "apiVersion": kind.api_version,
            "metadata": {"resourceVersion": str(self.cluster.store.version)},
            "items": [
                {key: value for key, value in thing.items() if key not in ("kind", "apiVersion")}
                for thing in things
                if all(test(thing) for test in tests)
            ],
        }

    # Logs.

    async def log(self, request: web.Request, pod: Object) -> web.StreamResponse:
        log = self.log_of(pod, request.query)
        response = web.StreamResponse(headers={"Content-Type": "text/plain"})
        response.enable_chunked_encoding()
        with contextlib.suppress(ConnectionError):
            await response.prepare(request)
            fault = self.cluster.faults.of_log()
            if await write_log(request, response, log, fault):
                await response.write_eof()
        return response

    def log_of(self, pod: Object, query: Mapping[str, str]) -> Log:
        """The log that a request asks for."""
        name, containers = pod["metadata"]["name"], pod["spec"]["containers"]
        if query.get("previous") or len(containers) > 1:
            raise not_built("logs of previous or several containers")
        wanted = containers[0]["name"]
        if query.get("container", wanted) != wanted:
            raise bad_request(f"container {query['container']} is not valid for pod {name}")
        runner = self.cluster.runner(pod)
        if runner.lost:
            why = f'Get "https://10.0.0.1:10250/containerLogs/{name}": dial tcp: no route to host'
            raise ApiError(500, "InternalError", why)
        container = runner.containers[wanted]
        if waiting := container.status["state"].get("waiting"):
            reason = waiting["reason"]
            if reason in ("ErrImagePull", "ImagePullBackOff"):
                reason = "trying and failing to pull image"
            raise bad_request(f'container "{wanted}" in pod "{name}" is waiting to start: {reason}')
        return container.log

    # The tests' own ways.

    async def test(self, request: web.Request) -> web.Response:
        """Tell or ask what is not Kubernetes' own."""
        what, query = request.match_info["what"], request.query
        body = await request.json() if request.can_read_body else {}
        try:
            answer = self.told(what, query, body)
        except ApiError as error:
            return web.json_response(error.body, status=error.code)
        except TypeError as error:
            return web.json_response(bad_request(str(error)).body, status=400)
        self.cluster.store.changed.set()
        return web.json_response(answer)

    def told(self, what: str, query: Mapping[str, str], body: Mapping[str, Any]) -> Any:
        cluster, faults = self.cluster, self.cluster.faults
        if match := re.fullmatch(r"pods/([^/]+)/([^/]+)/(\w+)", what):
            return cluster.afflict(match[1], match[2], match[3], body)
        if match := re.fullmatch(r"objects/(\w+)/([^/]+)", what):
            matches = label_filter(query.get("labels", ""))
            return [each for each in cluster.store.all(match[1], match[2]) if matches(each)]
        answers: dict[str, Callable[[], Any]] = {
            "faults/api": lambda: faults.api.append(ApiFault(**body)),
            "faults/logs": lambda: faults.logs.append(LogFault(**body)),
            "faults/pods": lambda: faults.pods.append(PodFault(**body)),
            "faults/clear": faults.clear,
            "empty": self.empty,
            "requests": lambda: [
                asdict(each)
                for each in faults.requests
                if query["verb"] in ("", each.verb) and re.search(query["path"], each.path)
            ],
            "requests/clear": faults.requests.clear,
            "configure": lambda: self.configure(body),
            "config": lambda: asdict(cluster.config),
        }
        if what not in answers:
            raise ApiError(404, "NotFound", f"/_test/{what} is nothing that can be told")
        return answers[what]()

    def empty(self) -> None:
        """End all faults, and delete all that tests made."""
        store, pods = self.cluster.store, self.cluster.pods
        self.cluster.faults.clear()
        for plural in ("jobs", "services", "secrets", "events"):
            for thing in store.all(plural):
                store.remove(thing)
        for pod in store.all("pods"):
            pod["metadata"].pop("finalizers", None)
            pods.delete(pod, 0)

    def configure(self, values: Mapping[str, Any]) -> None:
        """Change the configuration; what it says now holds for what comes."""
        if unknown := set(values) - {each.name for each in fields(Config)}:
            raise bad_request(f"no such configuration: {sorted(unknown)}")
        for name, value in values.items():
            setattr(self.cluster.config, name, value)


def target_of(path: str) -> Target | None:
    """What a path is about; None where it is of nothing that is here."""
    match = re.fullmatch(r"/(?:api/v1|apis/([^/]+)/v1)/namespaces/([^/]+)/(.+)", path)
    if match is None:
        return None
    plural, *rest = match[3].split("/")
    kind = KINDS.get(plural)
    if kind is None or kind.group != (match[1] or "") or len(rest) > 2:
        return None
    name, sub = [*rest, None, None][:2]
    return Target(kind, match[2], name, sub)


def verb_of(method: str, target: Target | None) -> str:
    """Kubernetes' verb for a request."""
    collection = target is not None and target.name is None
    if method == "GET":
        return "list" if collection else "get"
    return {"POST": "create", "DELETE": "delete"}.get(method, method.lower())


def flag(query: Mapping[str, str], name: str) -> bool:
    """Whether a query's boolean is set; the Python client writes ``True``."""
    return query.get(name, "").lower() == "true"


def status_of(fault: ApiFault, target: Target) -> ApiError:
    """The answer that a fault is."""
    reason, message = REASONS[fault.code]
    details, headers = target.kind.details(target.name or ""), {}
    if fault.retry_after is not None:
        headers["Retry-After"] = str(fault.retry_after)
        details["retryAfterSeconds"] = fault.retry_after
    return ApiError(fault.code, reason, message, details, headers)


async def write_log(
    request: web.Request, response: web.StreamResponse, log: Log, fault: LogFault | None
) -> bool:
    """Send a log; returns whether it came to its end."""
    query = request.query
    since = time.time() - float(query["sinceSeconds"]) if "sinceSeconds" in query else 0.0
    place = max(0, len(log.lines) - int(query["tailLines"])) if "tailLines" in query else 0
    sent = 0
    while True:
        changed, closed = log.changed, log.closed
        for at, line in log.lines[place:]:
            place += 1
            if at < since:
                continue
            if flag(query, "timestamps"):
                line = f"{stamp(at)} ".encode() + line
            if fault and sent + len(line) > fault.after_bytes:
                part = line[: fault.after_bytes - sent]
                await response.write(part)
                if fault.kind == "drop":
                    # What was written is to be read before the break.
                    await asyncio.sleep(0.05)
                    abort(request)
                if fault.kind in ("drop", "end"):
                    return fault.kind == "end"
                await asyncio.sleep(fault.seconds)
                line, sent, fault = line[len(part) :], sent + len(part), None
            await response.write(line)
            sent += len(line)
        if closed or not flag(query, "follow"):
            return True
        await changed.wait()


def stamp(seconds: float) -> str:
    """A time as logs have it."""
    whole = time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(seconds))
    return f"{whole}.{int(seconds % 1 * 1e6):06d}000Z"


def abort(request: web.Request) -> web.StreamResponse:
    """Break the connection with a reset."""
    if request.transport is not None:
        linger = struct.pack("ii", 1, 0)
        connection = request.transport.get_extra_info("socket")
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, linger)
        request.transport.abort()
    return web.Response()

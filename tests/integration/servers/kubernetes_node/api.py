"""The API over HTTP: Kubernetes' own, and ``/_test`` by which tests tell it what goes wrong."""

import asyncio
import base64
import contextlib
import copy
import json
import re
import signal
import socket
import struct
import time
from collections.abc import Callable, Mapping
from dataclasses import asdict, fields, replace
from typing import Any, NamedTuple

import kubernetes_validate
from aiohttp import web

from .config import Config
from .faults import ApiFault, Faults, LogFault, PodFault, Request
from .jobs import FOREGROUND, JobController
from .kubelet import ADDRESS, NODE, Container, Kubelet, Log, Runner, claim_folder, stamp
from .pods import Pods, check_pod_spec
from .store import (
    KINDS,
    ApiError,
    Kind,
    Object,
    Store,
    bad_request,
    conflict,
    details_of,
    field_filter,
    in_seconds,
    invalid,
    label_filter,
    not_found,
    now,
)

VERSION = "1.37.0"
DNS_NAME = re.compile(r"[a-z0-9]([a-z0-9.-]{0,251}[a-z0-9])?")
DNS_LABEL = re.compile(r"[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?")
LABEL_VALUE = re.compile(r"([A-Za-z0-9]([A-Za-z0-9_.-]{0,61}[A-Za-z0-9])?)?")
UNSUPPORTED_JOB = ("backoffLimitPerIndex", "maxFailedIndexes", "successPolicy", "managedBy")
TICK_S = 0.05
REASONS = {
    400: "BadRequest",
    401: "Unauthorized",
    403: "Forbidden",
    404: "NotFound",
    409: "AlreadyExists",
    410: "Expired",
    429: "TooManyRequests",
    500: "InternalError",
    503: "ServiceUnavailable",
    504: "Timeout",
}


class Target(NamedTuple):
    """What a request is about."""

    kind: Kind
    namespace: str | None
    name: str | None
    sub: str | None


class Cluster:
    """The whole cluster: its store, controllers, node and API."""

    def __init__(self, config: Config) -> None:
        self.config, self.faults, self.store = config, Faults(), Store()
        self.pods = Pods(self.store)
        self.kubelet = Kubelet(self.store, self.pods, config, self.faults)
        self.pods.node = self.kubelet
        self.jobs = JobController(self.store, self.pods, config)
        self.tasks: set[asyncio.Task[None]] = set()
        for namespace in config.namespaces:
            self.make_namespace(namespace)
        self.store.create("nodes", "", {"metadata": {"name": NODE}})
        self.configured()

    def make_namespace(self, name: str) -> Object:
        """A namespace with what every one has."""
        made = self.store.create(
            "namespaces", "", {"metadata": {"name": name}, "status": {"phase": "Active"}}
        )
        for account in ["default", *self.config.service_accounts]:
            self.store.create("serviceaccounts", name, {"metadata": {"name": account}})
        return made

    def configured(self) -> None:
        """Bring what the configuration says about into being."""
        node = self.store.get("nodes", "", NODE)
        node["metadata"]["labels"] = {"kubernetes.io/hostname": NODE, **self.config.node_labels}
        node["spec"] = {"taints": self.config.taints}
        ready = {"type": "Ready", "status": "True", "reason": "KubeletReady"}
        node["status"] = {
            "allocatable": self.config.allocatable,
            "capacity": self.config.allocatable,
            "conditions": [ready],
        }
        self.store.touch(node)
        for claim in self.config.claims:
            within, _, name = claim.rpartition("/")
            for namespace in [within] if within else self.config.namespaces:
                if self.store.find("persistentvolumeclaims", namespace, name) is None:
                    spec = {"accessModes": ["ReadWriteMany"]}
                    self.create(
                        KINDS["persistentvolumeclaims"],
                        namespace,
                        {"metadata": {"name": name}, "spec": spec},
                    )
        self.store.changed.set()

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
        for plural in ("jobs", "pods", "services", "configmaps", "secrets"):
            for thing in self.store.all(plural):
                owners = thing["metadata"].get("ownerReferences") or []
                if owners and not any(each["uid"] in uids for each in owners):
                    self.delete(thing, {"propagationPolicy": "Background"})

    # Verbs.

    def create(self, kind: Kind, namespace: str, thing: Object) -> Object:
        """Admit and store an object."""
        metadata = thing.setdefault("metadata", {})
        if kind.namespaced and self.store.find("namespaces", "", namespace) is None:
            raise not_found(KINDS["namespaces"], namespace)
        if metadata.get("namespace") not in (None, namespace):
            raise bad_request(
                f"the namespace of the provided object does not match the namespace sent on the "
                f"request ({metadata['namespace']} and {namespace})"
            )
        self.check(kind, thing)
        if kind.plural == "pods":
            return self.pods.create(namespace, thing)
        if kind.plural == "namespaces":
            return self.make_namespace(metadata["name"])
        if kind.plural == "jobs":
            return self.create_job(namespace, thing)
        if kind.plural == "persistentvolumeclaims":
            claim_folder(self.config, namespace, metadata["name"])
            thing["status"] = {"phase": "Bound"}
        if kind.plural == "services":
            thing["spec"].setdefault("clusterIP", ADDRESS)
        if kind.plural == "secrets":
            thing.setdefault("type", "Opaque")
            texts = thing.pop("stringData", None) or {}
            encoded = {key: _base64(text) for key, text in texts.items()}
            thing["data"] = {**(thing.get("data") or {}), **encoded}
        return self.store.create(kind.plural, namespace, thing)

    def check(self, kind: Kind, thing: Object) -> None:
        """Refuse what is not an object of this kind."""
        metadata = thing["metadata"]
        if self.config.strict:
            whole = {"apiVersion": kind.api_version, "kind": kind.kind, **without_nulls(thing)}
            try:
                kubernetes_validate.validate(whole, VERSION, strict=True)
            except kubernetes_validate.ValidationError as error:
                where = ".".join(str(part) for part in error.path)
                raise bad_request(
                    f"{kind.kind} in version {kind.version!r} cannot be handled as a "
                    f"{kind.kind}: strict decoding error: {where}: {error.message}"
                ) from None
        name = metadata.get("name") or (metadata.get("generateName") or "") + "x"
        pattern = DNS_LABEL if kind.plural in ("jobs", "services") else DNS_NAME
        if not pattern.fullmatch(name):
            why = f'Invalid value: "{name}": a lowercase RFC 1123 name must consist of lower case '
            raise invalid(kind, name, "metadata.name", why + "alphanumeric characters or '-'")
        for where, labels in label_maps(thing):
            for key, value in labels.items():
                if not LABEL_VALUE.fullmatch(value):
                    why = f'Invalid value: "{value}": must be a valid label value (of {key})'
                    raise invalid(kind, name, where, why)

    def create_job(self, namespace: str, job: Object) -> Object:
        """Admit a Job with its defaults."""
        kind, metadata, spec = KINDS["jobs"], job["metadata"], job["spec"]
        name = metadata.setdefault("name", metadata.get("generateName", ""))
        for field in UNSUPPORTED_JOB:
            if spec.get(field) is not None:
                raise ApiError(501, "NotImplemented", f"the tests' cluster has no Job {field}")
        if spec.get("suspend"):
            raise ApiError(501, "NotImplemented", "the tests' cluster has no suspended Jobs")
        template = spec["template"]
        template["metadata"] = template.get("metadata") or {}
        pod = template.setdefault("spec", {})
        check_pod_spec("spec.template.spec", "jobs", name, pod)
        if pod.get("restartPolicy") not in ("Never", "OnFailure"):
            why = 'Required value: valid values: "OnFailure", "Never"'
            raise invalid(kind, name, "spec.template.spec.restartPolicy", why)
        policy = spec.get("podFailurePolicy")
        if policy and pod["restartPolicy"] != "Never":
            why = f'Invalid value: "{pod["restartPolicy"]}": only "Never" is supported when '
            raise invalid(
                kind,
                name,
                "spec.template.spec.restartPolicy",
                why + "podFailurePolicy is specified",
            )
        self.check_policy(name, policy or {}, pod)
        for key, value in (
            ("parallelism", 1),
            ("completions", 1),
            ("backoffLimit", 6),
            ("completionMode", "NonIndexed"),
            ("suspend", False),
            ("podReplacementPolicy", "Failed" if policy else "TerminatingOrFailed"),
        ):
            if spec.get(key) is None:
                spec[key] = value
        if policy and spec["podReplacementPolicy"] != "Failed":
            why = "Unsupported value: only Failed is supported where podFailurePolicy is used"
            raise invalid(kind, name, "spec.podReplacementPolicy", why)
        if spec.get("selector"):
            why = "`selector` not auto-generated"
            raise invalid(kind, name, "spec.selector", why)
        job["status"] = {}
        metadata["labels"] = metadata.get("labels") or dict(
            template["metadata"].get("labels") or {}
        )
        metadata["generation"] = 1
        made = self.store.create("jobs", namespace, job)
        own = {
            "batch.kubernetes.io/controller-uid": metadata["uid"],
            "batch.kubernetes.io/job-name": name,
            "controller-uid": metadata["uid"],
            "job-name": name,
        }
        template["metadata"]["labels"] = {**(template["metadata"].get("labels") or {}), **own}
        uid = "batch.kubernetes.io/controller-uid"
        spec["selector"] = {"matchLabels": {uid: metadata["uid"]}}
        self.store.touch(made)
        return made

    def check_policy(self, name: str, policy: Object, pod: Object) -> None:
        """Refuse a pod failure policy that Kubernetes refuses."""
        kind = KINDS["jobs"]
        containers = {each["name"] for each in pod["containers"]}
        containers |= {each["name"] for each in pod.get("initContainers") or []}
        for index, rule in enumerate(policy.get("rules") or []):
            at = f"spec.podFailurePolicy.rules[{index}]"
            if rule.get("action") not in ("FailJob", "Ignore", "Count"):
                why = f'Unsupported value: "{rule.get("action")}"'
                raise invalid(kind, name, f"{at}.action", why)
            codes, conditions = rule.get("onExitCodes"), rule.get("onPodConditions")
            if bool(codes) == bool(conditions):
                raise invalid(
                    kind, name, at, "specifying one of OnExitCodes and OnPodConditions is required"
                )
            if codes and codes.get("containerName", pod["containers"][0]["name"]) not in containers:
                raise invalid(
                    kind, name, f"{at}.onExitCodes.containerName", "must be one of the containers"
                )
            if codes and codes["operator"] == "In" and 0 in codes["values"]:
                why = "Invalid value: 0: must not be 0 for the In operator"
                raise invalid(kind, name, f"{at}.onExitCodes.values", why)
            if codes and list(codes["values"]) != sorted(set(codes["values"])):
                why = "Invalid value: must be ordered and without duplicates"
                raise invalid(kind, name, f"{at}.onExitCodes.values", why)

    def delete(self, thing: Object, options: Mapping[str, Any]) -> Object | None:
        """Delete an object as the options say; returns it where it is still there."""
        plural, metadata = KINDS_BY_NAME[thing["kind"]].plural, thing["metadata"]
        asked = options.get("preconditions") or {}
        for key in ("uid", "resourceVersion"):
            if asked.get(key) not in (None, metadata[key]):
                why = f"Precondition failed: {key} in precondition: {asked[key]}, "
                raise conflict(KINDS[plural], metadata["name"], why + f"in object: {metadata[key]}")
        if plural == "pods":
            self.pods.delete(thing, options.get("gracePeriodSeconds"))
            return thing
        usual = "Orphan" if plural == "jobs" else "Background"
        how = options.get("propagationPolicy") or (
            {True: "Orphan", False: "Background"}.get(options.get("orphanDependents"), usual)
        )
        if how == "Foreground" and plural == "jobs":
            if "deletionTimestamp" not in metadata:
                metadata["deletionTimestamp"], metadata["deletionGracePeriodSeconds"] = now(), 0
                metadata["finalizers"] = [FOREGROUND]
                self.store.touch(thing)
            return thing
        if how == "Orphan":
            self.orphan(thing)
        self.store.remove(thing)
        return None

    def orphan(self, thing: Object) -> None:
        """Let what belongs to an object live on without it."""
        uid = thing["metadata"]["uid"]
        for plural in ("pods", "jobs"):
            for each in self.store.all(plural):
                references = each["metadata"].get("ownerReferences") or []
                left = [reference for reference in references if reference["uid"] != uid]
                if len(left) < len(references):
                    each["metadata"]["ownerReferences"] = left
                    self.store.touch(each)

    # Faults of pods.

    def runner(self, namespace: str, name: str) -> Runner:
        """The runner of a pod that is on the node."""
        pod = self.store.get("pods", namespace, name)
        found = self.kubelet.runners.get(pod["metadata"]["uid"])
        if found is None:
            raise bad_request(f"pod {name} is not on the node: {pod['status']['phase']}")
        return found

    def afflict(self, namespace: str, name: str, what: str, options: Mapping[str, Any]) -> None:
        """Have something happen to a pod; see ``kubernetes_server.py``."""
        pod = self.store.get("pods", namespace, name)
        grace = options.get("grace_s")
        if what in ("oom", "kill"):
            for container in self.runner(namespace, name).containers.values():
                if options.get("container") in (None, container.spec["name"]):
                    container.killed_for = "OOMKilled" if what == "oom" else None
                    container.signal(int(options.get("signal", signal.SIGKILL)))
        elif what == "evict" and options.get("by", "kubelet") == "kubelet":
            resource = options.get("resource", "memory")
            message = f"The node was low on resource: {resource}. "
            pod["status"]["reason"], pod["status"]["message"] = "Evicted", message
            self.pods.disrupt(pod, "TerminationByKubelet", message)
            self.store.event(pod, "Evicted", message, warning=True)
            seconds = pod["spec"]["terminationGracePeriodSeconds"] if grace is None else grace
            self.kubelet.terminate(pod, seconds)
        elif what == "evict":
            self.pods.disrupt(pod, "EvictionByEvictionAPI", "Eviction API: evicting")
            self.pods.delete(pod, grace)
        elif what == "preempt":
            by = "default-scheduler: preempting to accommodate a higher priority pod"
            self.pods.disrupt(pod, "PreemptionByScheduler", by)
            self.store.event(pod, "Preempted", "Preempted by pod on node " + NODE, by=by[:17])
            self.pods.delete(pod, grace)
        elif what == "lose":
            task = asyncio.ensure_future(self.lose(pod, self.runner(namespace, name)))
            self.tasks.add(task)
            task.add_done_callback(self.tasks.discard)
        else:
            raise bad_request(f"nothing that can happen to a pod: {what}")
        self.store.changed.set()

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


KINDS_BY_NAME = {kind.kind: kind for kind in KINDS.values()}


def _base64(text: str) -> str:
    return base64.b64encode(text.encode()).decode()


def without_nulls(value: Any) -> Any:
    """An object without its null fields, which mean the same as none."""
    if isinstance(value, dict):
        return {key: without_nulls(each) for key, each in value.items() if each is not None}
    if isinstance(value, list):
        return [without_nulls(each) for each in value]
    return value


def label_maps(thing: Object) -> list[tuple[str, Mapping[str, str]]]:
    """All labels of an object and of its template, with where they stand."""
    maps = [("metadata.labels", thing["metadata"].get("labels") or {})]
    template = (thing.get("spec") or {}).get("template") or {}
    labels = (template.get("metadata") or {}).get("labels") or {}
    return [*maps, ("spec.template.labels", labels)]


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
        target = self.target(request.path)
        verb = verb_of(request, target)
        raw = await request.read()
        body = json.loads(raw) if raw else None
        record = Request(
            time.time(), verb, request.method, request.path, request.query_string, body
        )
        faults = self.cluster.faults
        faults.requests.append(record)
        fault = faults.of_request(verb, request.method, request.path_qs)
        record.fault = fault.kind if fault else None
        if fault and fault.kind == "hang":
            await asyncio.sleep(86400)
        if fault and fault.kind == "slow":
            await asyncio.sleep(fault.delay_s)
        if fault and fault.kind == "reset":
            return abort(request)
        try:
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

    def target(self, path: str) -> Target | None:
        """What a path is about; None where it is none of an object."""
        match = re.fullmatch(r"/(?:api/v1|apis/([^/]+)/([^/]+))/(.+)", path.rstrip("/"))
        if match is None:
            return None
        group, version, parts = match[1] or "", match[2] or "v1", match[3].split("/")
        namespace = None
        if parts[0] == "namespaces" and len(parts) > 2:
            namespace, parts = parts[1], parts[2:]
        kind = KINDS.get(parts[0])
        if kind is None or (kind.group, kind.version) != (group, version) or len(parts) > 3:
            return None
        name, sub = [*parts[1:], None, None][:2]
        return Target(kind, namespace, name, sub)

    def permit(self, request: web.Request, target: Target | None, verb: str) -> None:
        """Refuse what the bearer of a token may not do."""
        token = request.headers.get("Authorization", "").removeprefix("Bearer ")
        tokens = self.cluster.config.tokens
        if not token or not tokens or target is None:
            return
        if token not in tokens:
            raise ApiError(401, "Unauthorized", "Unauthorized")
        role = tokens[token]
        if role.get("admin"):
            return
        resource = target.kind.plural + (f"/{target.sub}" if target.sub else "")
        within = role["namespace"] in (target.namespace, "*")
        for rule in role["rules"] if within else []:
            if (
                {target.kind.group, "*"} & set(rule["apiGroups"])
                and {resource, "*"} & set(rule["resources"])
                and {verb, "*"} & set(rule["verbs"])
                and (not rule.get("resourceNames") or target.name in rule["resourceNames"])
            ):
                return
        name = f' "{target.name}"' if target.name else ""
        message = (
            f'{target.kind.qualified}{name} is forbidden: User "{role.get("user", "test")}" cannot '
            f'{verb} resource "{resource}" in API group "{target.kind.group}" in the namespace '
            f'"{target.namespace}"'
        )
        raise ApiError(403, "Forbidden", message, details_of(target.kind, target.name or ""))

    async def serve(
        self, request: web.Request, target: Target | None, verb: str, body: Any
    ) -> web.StreamResponse:
        if target is None:
            return self.about(request.path)
        if target.kind.namespaced and target.namespace is None and verb not in ("list", "watch"):
            raise ApiError(404, "NotFound", "the server could not find the requested resource")
        if verb == "watch":
            return await self.watch(request, target)
        if verb == "list":
            return web.json_response(self.list(request, target))
        if verb == "deletecollection":
            options = delete_options(request, body)
            found = self.list(request, target)["items"]
            for each in found:
                place = (each["metadata"].get("namespace", ""), each["metadata"]["name"])
                self.cluster.delete(self.cluster.store.get(target.kind.plural, *place), options)
            return web.json_response(success(target.kind, ""))
        namespace = target.namespace or ""
        if target.sub == "log" and verb == "get":
            return await self.log(request, namespace, str(target.name))
        if target.sub == "eviction" and verb == "create":
            self.cluster.afflict(namespace, str(target.name), "evict", {"by": "api"})
            return web.json_response(success(target.kind, str(target.name)), status=201)
        if target.sub not in (None, "status"):
            raise ApiError(404, "NotFound", "the server could not find the requested resource")
        if verb == "create":
            made = self.cluster.create(target.kind, namespace, body)
            return web.json_response(made, status=201)
        thing = self.cluster.store.get(target.kind.plural, namespace, str(target.name))
        if verb == "delete":
            left = self.cluster.delete(thing, delete_options(request, body))
            name = thing["metadata"]["name"]
            gone = success(target.kind, name, thing["metadata"]["uid"])
            return web.json_response(gone if left is None else left)
        if verb in ("patch", "update"):
            self.change(thing, target, body, verb)
        return web.json_response(thing)

    def change(self, thing: Object, target: Target, body: Any, verb: str) -> None:
        """Patch or replace an object; of what a cluster keeps unchangeable, nothing is changed."""
        version = (
            body.get("metadata", {}).get("resourceVersion") if isinstance(body, dict) else None
        )
        if version not in (None, thing["metadata"]["resourceVersion"]):
            why = "the object has been modified; please apply your changes to the latest version"
            raise conflict(target.kind, str(target.name), f"{why} and try again")
        new = patched(thing, body) if verb == "patch" else copy.deepcopy(body)
        own = ("uid", "creationTimestamp", "name", "namespace", "generation", "resourceVersion")
        kept = {key: thing["metadata"][key] for key in own if key in thing["metadata"]}
        new["metadata"] = {**(new.get("metadata") or {}), **kept}
        if target.sub == "status":
            new = {**thing, "status": new.get("status", {})}
        elif "status" in thing:
            new["status"] = thing["status"]
        for frozen in ("template", "selector", "completions"):
            if target.kind.plural == "jobs" and new["spec"].get(frozen) != thing["spec"][frozen]:
                name = str(target.name)
                raise invalid(target.kind, name, f"spec.{frozen}", "field is immutable")
        if new == thing:
            return
        # In place: runners and controllers hold the object itself.
        status = thing.get("status")
        thing.clear()
        thing.update(new)
        if status is not None and target.sub != "status":
            thing["status"] = status
        self.cluster.store.touch(thing)
        if target.kind.plural == "pods":
            self.cluster.pods.collect(thing)

    def about(self, path: str) -> web.Response:
        """Answers that are about the server itself."""
        if path == "/version":
            major, minor, _ = VERSION.split(".")
            return web.json_response(
                {"major": major, "minor": minor, "gitVersion": f"v{VERSION}", "platform": "test"}
            )
        if path in ("/healthz", "/readyz", "/livez"):
            return web.Response(text="ok")
        if path == "/api":
            return web.json_response({"kind": "APIVersions", "versions": ["v1"]})
        if match := re.fullmatch(r"/(?:api/v1|apis/batch/v1)", path):
            group = "batch" if "batch" in match[0] else ""
            resources = [
                {"name": kind.plural, "kind": kind.kind, "namespaced": kind.namespaced, "verbs": []}
                for kind in KINDS.values()
                if kind.group == group
            ]
            version = "batch/v1" if group else "v1"
            return web.json_response(
                {"kind": "APIResourceList", "groupVersion": version, "resources": resources}
            )
        raise ApiError(404, "NotFound", "the server could not find the requested resource")

    def filter(self, request: web.Request, target: Target) -> Callable[[Object], bool]:
        labels = label_filter(request.query.get("labelSelector", ""))
        fields_ = field_filter(target.kind, request.query.get("fieldSelector", ""))

        def matches(thing: Object) -> bool:
            within = target.namespace in (None, thing["metadata"].get("namespace"))
            named = target.name in (None, thing["metadata"]["name"])
            return within and named and labels(thing) and fields_(thing)

        return matches

    def list(self, request: web.Request, target: Target) -> Object:
        store, matches = self.cluster.store, self.filter(request, target)
        found = [each for each in store.all(target.kind.plural) if matches(each)]
        metadata: Object = {"resourceVersion": str(store.version)}
        start = int(request.query.get("continue") or 0)
        limit = int(request.query.get("limit") or 0)
        left = len(found) - start - limit
        if limit and left > 0:
            metadata.update({"continue": str(start + limit), "remainingItemCount": left})
        items = found[start : start + limit if limit else None]
        return {
            "kind": f"{target.kind.kind}List",
            "apiVersion": target.kind.api_version,
            "metadata": metadata,
            "items": [
                {key: value for key, value in each.items() if key not in ("kind", "apiVersion")}
                for each in items
            ],
        }

    async def watch(self, request: web.Request, target: Target) -> web.StreamResponse:
        store, query = self.cluster.store, request.query
        watch = store.watch(target.kind, self.filter(request, target), query.get("resourceVersion"))
        response = web.StreamResponse(headers={"Content-Type": "application/json"})
        response.enable_chunked_encoding()
        end = time.monotonic() + float(query.get("timeoutSeconds") or 1800)
        try:
            await response.prepare(request)
            while (left := end - time.monotonic()) > 0:
                try:
                    async with asyncio.timeout(left):
                        kind, thing = await watch.queue.get()
                except TimeoutError:
                    break
                line = json.dumps({"type": kind, "object": thing})
                await response.write(line.encode() + b"\n")
            await response.write_eof()
        except ConnectionError:
            pass
        finally:
            store.unwatch(watch)
        return response

    # Logs.

    async def log(self, request: web.Request, namespace: str, name: str) -> web.StreamResponse:
        query = request.query
        log, lost = self.log_of(namespace, name, query.get("container"), query)
        if lost:
            why = (
                f'Get "https://10.0.0.1:10250/containerLogs/{namespace}/{name}": dial tcp: no route'
            )
            raise ApiError(500, "InternalError", why)
        response = web.StreamResponse(headers={"Content-Type": "text/plain"})
        response.enable_chunked_encoding()
        with contextlib.suppress(ConnectionError):
            await response.prepare(request)
            fault = self.cluster.faults.of_log(name)
            if await self.write_log(request, response, log, fault):
                await response.write_eof()
        return response

    def log_of(
        self, namespace: str, name: str, wanted: str | None, query: Mapping[str, str]
    ) -> tuple[Log, bool]:
        """A container's log, and whether its node is lost."""
        pod = self.cluster.store.get("pods", namespace, name)
        specs = pod["spec"]["containers"]
        both = [*(pod["spec"].get("initContainers") or []), *specs]
        if wanted is None and len(specs) > 1:
            names = " ".join(each["name"] for each in specs)
            raise bad_request(
                f"a container name must be specified for pod {name}, choose one of: [{names}]"
            )
        wanted = wanted or specs[0]["name"]
        if all(each["name"] != wanted for each in both):
            raise bad_request(f"container {wanted} is not valid for pod {name}")
        runner = self.cluster.kubelet.runners.get(pod["metadata"]["uid"])
        if runner is None:
            raise bad_request(f"pod {name} does not have a host assigned")
        container: Container = runner.containers[wanted]
        if flag(query, "previous"):
            if container.previous is None:
                raise bad_request(
                    f'previous terminated container "{wanted}" in pod "{name}" not found'
                )
            return container.previous, runner.lost
        if waiting := container.status["state"].get("waiting"):
            if container.previous is not None:
                return container.previous, runner.lost
            reason = waiting["reason"]
            if reason in ("ErrImagePull", "ImagePullBackOff"):
                reason = "trying and failing to pull image"
            raise bad_request(f'container "{wanted}" in pod "{name}" is waiting to start: {reason}')
        return container.log, runner.lost

    async def write_log(
        self, request: web.Request, response: web.StreamResponse, log: Log, fault: LogFault | None
    ) -> bool:
        """Send a log; returns whether it came to its end."""
        query = request.query
        since = 0.0
        if query.get("sinceSeconds"):
            since = time.time() - float(query["sinceSeconds"])
        elif query.get("sinceTime"):
            since = in_seconds(query["sinceTime"])
        sent, limit = 0, int(query.get("limitBytes") or 0)
        place = 0
        if query.get("tailLines"):
            place = max(0, len(log.lines) - int(query["tailLines"]))
        while True:
            changed, closed = log.changed, log.closed
            for at, line in log.lines[place:]:
                place += 1
                if at < since:
                    continue
                if flag(query, "timestamps"):
                    line = f"{stamp(at)} ".encode() + line
                if limit:
                    line = line[: limit - sent]
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
                if limit and sent >= limit:
                    return True
            if closed or not flag(query, "follow"):
                return True
            await changed.wait()

    # The tests' own ways.

    async def test(self, request: web.Request) -> web.Response:
        """Tell or ask what is not Kubernetes' own."""
        what = request.match_info["what"]
        body = await request.json() if request.can_read_body else {}
        cluster = self.cluster
        answers: dict[str, Callable[[], Any]] = {
            "faults/api": lambda: cluster.faults.api.append(made(ApiFault, body)),
            "faults/logs": lambda: cluster.faults.logs.append(made(LogFault, body)),
            "faults/pods": lambda: cluster.faults.pods.append(made(PodFault, body)),
            "faults/clear": self.clear,
            "requests": lambda: cluster.faults.recorded(
                request.query.get("verb", ""), request.query.get("path", "")
            ),
            "requests/clear": cluster.faults.requests.clear,
            "configure": lambda: self.configure(body),
            "config": lambda: asdict(cluster.config),
        }
        try:
            if match := re.fullmatch(r"pods/([^/]+)/([^/]+)/(\w+)", what):
                cluster.afflict(match[1], match[2], match[3], body)
                return web.json_response({})
            if match := re.fullmatch(r"objects/(\w+)/([^/]+)", what):
                matches = label_filter(request.query.get("labels", ""))
                found = cluster.store.all(match[1], None if match[2] == "*" else match[2])
                return web.json_response([each for each in found if matches(each)])
            if what not in answers:
                raise ApiError(404, "NotFound", f"/_test/{what} is nothing that can be told")
            answer = answers[what]()
        except ApiError as error:
            return web.json_response(error.body, status=error.code)
        cluster.store.changed.set()
        return web.json_response(answer)

    def clear(self) -> None:
        faults = self.cluster.faults
        for each in (faults.api, faults.logs, faults.pods):
            each.clear()

    def configure(self, values: Mapping[str, Any]) -> None:
        """Change the configuration; what it says now holds for what comes."""
        known = {each.name for each in fields(Config)} - {"root"}
        if unknown := set(values) - known:
            raise bad_request(f"no such configuration: {sorted(unknown)}; there is {sorted(known)}")
        new = replace(self.cluster.config, **values)
        for name in values:
            setattr(self.cluster.config, name, getattr(new, name))
        self.cluster.configured()


def made(kind: Callable[..., Any], body: Mapping[str, Any]) -> Any:
    """A fault as a request tells it."""
    values = dict(body)
    if (seconds := values.pop("for_s", None)) is not None:
        values.update(until=time.time() + seconds, times=None)
    try:
        return kind(**values)
    except TypeError as error:
        raise bad_request(str(error)) from None


def flag(query: Mapping[str, str], name: str) -> bool:
    """Whether a query's boolean is set; the Python client writes ``True``."""
    return query.get(name, "").lower() in ("true", "t", "1")


def verb_of(request: web.Request, target: Target | None) -> str:
    """Kubernetes' verb for a request."""
    method = request.method
    collection = target is not None and target.name is None
    if method == "GET" and flag(request.query, "watch"):
        return "watch"
    if method == "GET":
        return "list" if collection else "get"
    if method == "DELETE":
        return "deletecollection" if collection else "delete"
    return {"POST": "create", "PUT": "update", "PATCH": "patch"}.get(method, method.lower())


def status_of(fault: ApiFault, target: Target | None) -> ApiError:
    """The answer that a fault is."""
    kind = target.kind if target else KINDS["pods"]
    details = details_of(kind, (target and target.name) or "")
    headers = {}
    if fault.retry_after is not None:
        headers["Retry-After"] = str(fault.retry_after)
        details["retryAfterSeconds"] = fault.retry_after
    messages = {
        409: f"{kind.qualified} already exists",
        429: "too many requests, please try again later",
        500: "Internal error occurred: etcdserver: request timed out",
        503: "apiserver not ready",
    }
    reason = REASONS.get(fault.code, "Unknown")
    return ApiError(fault.code, reason, messages.get(fault.code, reason), details, headers)


def success(kind: Kind, name: str, uid: str | None = None) -> Object:
    details = {**details_of(kind, name), **({"uid": uid} if uid else {})}
    return {
        "kind": "Status",
        "apiVersion": "v1",
        "metadata": {},
        "status": "Success",
        "details": details,
    }


def delete_options(request: web.Request, body: Any) -> Object:
    """Options of a delete: of its body, and over them those of its query."""
    options = dict(body or {})
    if "propagationPolicy" in request.query:
        options["propagationPolicy"] = request.query["propagationPolicy"]
    if "gracePeriodSeconds" in request.query:
        options["gracePeriodSeconds"] = int(request.query["gracePeriodSeconds"])
    if "orphanDependents" in request.query:
        options["orphanDependents"] = flag(request.query, "orphanDependents")
    return options


def patched(thing: Object, patch: Any) -> Object:
    """An object with a patch applied: a JSON patch if it is a list, else a merge patch."""
    if isinstance(patch, list):
        new: Any = copy.deepcopy(thing)
        for change in patch:
            *way, last = [
                part.replace("~1", "/").replace("~0", "~") for part in change["path"].split("/")[1:]
            ]
            parent = new
            for part in way:
                parent = parent[int(part) if isinstance(parent, list) else part]
            if isinstance(parent, list):
                place = len(parent) if last == "-" else int(last)
                if change["op"] == "add":
                    parent.insert(place, change["value"])
                elif change["op"] == "remove":
                    del parent[place]
                else:
                    parent[place] = change["value"]
            elif change["op"] == "remove":
                del parent[last]
            else:
                parent[last] = change["value"]
        return new
    return merged(thing, patch)


def merged(old: Any, patch: Any) -> Any:
    if not isinstance(patch, dict):
        return patch
    base = dict(old) if isinstance(old, dict) else {}
    for key, value in patch.items():
        if value is None:
            base.pop(key, None)
        else:
            base[key] = merged(base.get(key), value)
    return base


def abort(request: web.Request) -> web.StreamResponse:
    """Break the connection with a reset."""
    if request.transport is not None:
        linger = struct.pack("ii", 1, 0)
        connection = request.transport.get_extra_info("socket")
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, linger)
        request.transport.abort()
    return web.Response()

"""The cluster's objects, their versions, and who watches them."""

import asyncio
import copy
import re
import secrets
import uuid
from collections import deque
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any, NamedTuple

Object = dict[str, Any]
HISTORY = 5000  # changes that a watch may start behind; older ones answer 410 Gone


class Kind(NamedTuple):
    """A kind of object: where the API has it."""

    plural: str
    kind: str
    group: str = ""
    version: str = "v1"
    namespaced: bool = True

    @property
    def api_version(self) -> str:
        return f"{self.group}/{self.version}" if self.group else self.version

    @property
    def qualified(self) -> str:
        """The resource's name in messages, such as ``jobs.batch``."""
        return f"{self.plural}.{self.group}" if self.group else self.plural


KINDS = {
    kind.plural: kind
    for kind in (
        Kind("pods", "Pod"),
        Kind("events", "Event"),
        Kind("services", "Service"),
        Kind("configmaps", "ConfigMap"),
        Kind("secrets", "Secret"),
        Kind("persistentvolumeclaims", "PersistentVolumeClaim"),
        Kind("serviceaccounts", "ServiceAccount"),
        Kind("namespaces", "Namespace", namespaced=False),
        Kind("nodes", "Node", namespaced=False),
        Kind("jobs", "Job", "batch"),
    )
}
SELECTABLE = {
    "pods": {
        "spec.nodeName",
        "spec.restartPolicy",
        "spec.schedulerName",
        "spec.serviceAccountName",
        "spec.hostNetwork",
        "status.phase",
        "status.podIP",
        "status.nominatedNodeName",
    },
    "events": {
        "involvedObject.kind",
        "involvedObject.namespace",
        "involvedObject.name",
        "involvedObject.uid",
        "involvedObject.apiVersion",
        "involvedObject.resourceVersion",
        "involvedObject.fieldPath",
        "reason",
        "reportingComponent",
        "source",
        "type",
    },
    "jobs": {"status.successful"},
    "secrets": {"type"},
}


class ApiError(Exception):
    """An answer that is a Status of failure.

    Args:
        code: HTTP status.
        reason: Kubernetes' word for it.
        message: What was wrong.
        details: The Status' details.
        headers: Further headers of the answer.
    """

    def __init__(
        self,
        code: int,
        reason: str,
        message: str,
        details: Mapping[str, Any] | None = None,
        headers: Mapping[str, str] | None = None,
    ) -> None:
        super().__init__(message)
        self.code, self.headers = code, dict(headers or {})
        self.body: Object = {
            "kind": "Status",
            "apiVersion": "v1",
            "metadata": {},
            "status": "Failure",
            "message": message,
            "reason": reason,
            "details": dict(details or {}),
            "code": code,
        }


def details_of(kind: Kind, name: str) -> Object:
    group = {"group": kind.group} if kind.group else {}
    return {"name": name, **group, "kind": kind.plural}


def not_found(kind: Kind, name: str) -> ApiError:
    message = f'{kind.qualified} "{name}" not found'
    return ApiError(404, "NotFound", message, details_of(kind, name))


def exists(kind: Kind, name: str) -> ApiError:
    message = f'{kind.qualified} "{name}" already exists'
    return ApiError(409, "AlreadyExists", message, details_of(kind, name))


def conflict(kind: Kind, name: str, why: str) -> ApiError:
    message = f'Operation cannot be fulfilled on {kind.qualified} "{name}": {why}'
    return ApiError(409, "Conflict", message, details_of(kind, name))


def bad_request(message: str) -> ApiError:
    return ApiError(400, "BadRequest", message)


def invalid(kind: Kind, name: str, where: str, why: str) -> ApiError:
    message = f'{kind.kind}{"." + kind.group if kind.group else ""} "{name}" is invalid: {where}: '
    cause = {"reason": "FieldValueInvalid", "message": why, "field": where}
    details = {**details_of(kind, name), "kind": kind.kind, "causes": [cause]}
    return ApiError(422, "Invalid", message + why, details)


def now() -> str:
    """This moment as Kubernetes writes it: UTC, whole seconds."""
    return datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def in_seconds(text: str) -> float:
    """A time that Kubernetes wrote, in seconds since the epoch."""
    return datetime.fromisoformat(text).timestamp()


Filter = Callable[[Object], bool]
_REQUIREMENT = re.compile(r"\s*([\w./-]+)\s+(in|notin)\s*\(([^)]*)\)\s*|\s*([^,]+?)\s*(?:,|$)")


def label_filter(selector: str) -> Filter:
    """The test that a label selector is.

    Raises:
        ApiError: The selector can't be read.
    """
    tests: list[Callable[[Mapping[str, str]], bool]] = []
    rest = selector
    while rest.strip():
        match = _REQUIREMENT.match(rest)
        if match is None:
            raise bad_request(f"unable to parse requirement: {rest!r}")
        rest = rest[match.end() :].lstrip(", ")
        if match[2]:
            values = {value.strip() for value in match[3].split(",")}
            tests.append(_among(match[1], values, match[2] == "in"))
        elif "!=" in match[4]:
            key, value = match[4].split("!=", 1)
            tests.append(_among(key.strip(), {value.strip()}, False))
        elif "=" in match[4]:
            key, value = re.split("==?", match[4], maxsplit=1)
            tests.append(_among(key.strip(), {value.strip()}, True))
        elif match[4].startswith("!"):
            absent = match[4][1:].strip()
            tests.append(lambda labels, key=absent: key not in labels)
        else:
            tests.append(lambda labels, key=match[4]: key in labels)
    return lambda thing: all(test(thing["metadata"].get("labels") or {}) for test in tests)


def _among(key: str, values: set[str], wanted: bool) -> Callable[[Mapping[str, str]], bool]:
    if wanted:
        return lambda labels: labels.get(key) in values
    return lambda labels: labels.get(key) not in values


def field_filter(kind: Kind, selector: str) -> Filter:
    """The test that a field selector is.

    Raises:
        ApiError: It names a field that Kubernetes can't select this kind by.
    """
    tests: list[Filter] = []
    for part in filter(None, selector.split(",")):
        path, sign, value = re.split("(!=|==?)", part, maxsplit=1)
        known = {"metadata.name", "metadata.namespace"} | SELECTABLE.get(kind.plural, set())
        if path not in known:
            raise bad_request(
                f'Unable to find "{kind.api_version}, Resource={kind.plural}" that match label '
                f'selector "", field selector "{selector}": field label not supported: {path}'
            )
        wanted = sign != "!="
        tests.append(
            lambda thing, path=path, value=value, wanted=wanted: (
                (_at(thing, path) == value) == wanted
            )
        )
    return lambda thing: all(test(thing) for test in tests)


def _at(thing: Object, path: str) -> str:
    value: Any = thing
    for part in path.split("."):
        value = value.get(part) if isinstance(value, dict) else None
    return "" if value is None else str(value)


class Change(NamedTuple):
    version: int
    plural: str
    kind: str  # ADDED, MODIFIED or DELETED
    thing: Object


@dataclass(eq=False)
class Watch:
    """One who watches a kind: changes wait in ``queue`` as (type, object)."""

    kind: Kind
    matches: Filter
    queue: "asyncio.Queue[tuple[str, Object]]" = field(default_factory=asyncio.Queue)
    known: set[str] = field(default_factory=set)

    def tell(self, change: Change) -> None:
        """Pass on a change, as it looks through the selectors."""
        uid = change.thing["metadata"]["uid"]
        matches = change.kind != "DELETED" and self.matches(change.thing)
        if matches:
            self.queue.put_nowait(("MODIFIED" if uid in self.known else "ADDED", change.thing))
            self.known.add(uid)
        elif uid in self.known or (change.kind == "DELETED" and self.matches(change.thing)):
            self.known.discard(uid)
            self.queue.put_nowait(("DELETED", change.thing))


class Store:
    """All objects, by kind, namespace and name."""

    def __init__(self) -> None:
        self.version = 1000
        self.changed = asyncio.Event()
        self._objects: dict[str, dict[tuple[str, str], Object]] = {name: {} for name in KINDS}
        self._history: deque[Change] = deque(maxlen=HISTORY)
        self._watches: set[Watch] = set()

    def get(self, plural: str, namespace: str, name: str) -> Object:
        """The object itself, not a copy.

        Raises:
            ApiError: There is none (404).
        """
        found = self.find(plural, namespace, name)
        if found is None:
            raise not_found(KINDS[plural], name)
        return found

    def find(self, plural: str, namespace: str, name: str) -> Object | None:
        return self._objects[plural].get((namespace, name))

    def all(self, plural: str, namespace: str | None = None) -> list[Object]:
        """The objects of a kind, by name."""
        return [
            thing
            for (place, _), thing in sorted(self._objects[plural].items())
            if namespace is None or place == namespace
        ]

    def uids(self) -> set[str]:
        return {
            thing["metadata"]["uid"] for each in self._objects.values() for thing in each.values()
        }

    def create(self, plural: str, namespace: str, thing: Object) -> Object:
        """Add an object.

        Raises:
            ApiError: Its name is taken (409).
        """
        kind = KINDS[plural]
        metadata = thing.setdefault("metadata", {})
        if not metadata.get("name") and metadata.get("generateName"):
            metadata["name"] = metadata["generateName"] + random_suffix()
        name = metadata["name"]
        if self.find(plural, namespace, name) is not None:
            raise exists(kind, name)
        if kind.namespaced:
            metadata["namespace"] = namespace
        metadata["uid"] = str(uuid.uuid4())
        metadata["creationTimestamp"] = now()
        metadata.pop("resourceVersion", None)
        thing["apiVersion"], thing["kind"] = kind.api_version, kind.kind
        self._objects[plural][namespace, name] = thing
        self._record(plural, "ADDED", thing)
        return thing

    def touch(self, thing: Object) -> None:
        """Tell that an object was changed in place."""
        plural = plural_of(thing)
        metadata = thing["metadata"]
        if self.find(plural, metadata.get("namespace", ""), metadata["name"]) is thing:
            self._record(plural, "MODIFIED", thing)

    def remove(self, thing: Object) -> None:
        """Take an object away; its finalizers are the caller's matter."""
        plural = plural_of(thing)
        metadata = thing["metadata"]
        place = (metadata.get("namespace", ""), metadata["name"])
        if self._objects[plural].get(place) is thing:
            del self._objects[plural][place]
            self._record(plural, "DELETED", thing)

    def _record(self, plural: str, what: str, thing: Object) -> None:
        self.version += 1
        thing["metadata"]["resourceVersion"] = str(self.version)
        change = Change(self.version, plural, what, copy.deepcopy(thing))
        self._history.append(change)
        for watch in self._watches:
            if watch.kind.plural == plural:
                watch.tell(change)
        self.changed.set()

    def watch(self, kind: Kind, matches: Filter, since: str | None) -> Watch:
        """Start a watch.

        Args:
            kind: What to watch.
            matches: Which of its objects.
            since: Resource version behind which changes are told; unset or ``0``: all objects
                are told as added first.

        Raises:
            ApiError: The version is too old (410).
        """
        watch = Watch(kind, matches)
        if since in (None, "", "0"):
            for thing in self.all(kind.plural):
                watch.tell(Change(0, kind.plural, "ADDED", copy.deepcopy(thing)))
        else:
            start = int(str(since))
            oldest = self._history[0].version if self._history else 0
            if len(self._history) == HISTORY and start + 1 < oldest:
                raise ApiError(410, "Expired", f"too old resource version: {start} ({oldest})")
            past = [each for each in self._history if each.plural == kind.plural]
            # What was there at that version is known to the watcher, who listed it.
            for change in past:
                if change.version <= start:
                    uid = change.thing["metadata"]["uid"]
                    if change.kind != "DELETED" and matches(change.thing):
                        watch.known.add(uid)
                    else:
                        watch.known.discard(uid)
            for change in past:
                if change.version > start:
                    watch.tell(change)
        self._watches.add(watch)
        return watch

    def unwatch(self, watch: Watch) -> None:
        self._watches.discard(watch)

    def event(
        self, about: Object, reason: str, message: str, warning: bool = False, by: str = "kubelet"
    ) -> None:
        """Record an event about an object; a repeated one is counted."""
        metadata = about["metadata"]
        namespace = metadata.get("namespace", "default")
        for known in self.all("events", namespace):
            if (
                known["involvedObject"]["uid"] == metadata["uid"]
                and known["reason"] == reason
                and known["message"] == message
            ):
                known["count"] += 1
                known["lastTimestamp"] = now()
                self.touch(known)
                return
        self.create(
            "events",
            namespace,
            {
                "metadata": {"name": f"{metadata['name']}.{secrets.token_hex(8)}"},
                "involvedObject": {
                    "kind": about["kind"],
                    "namespace": namespace,
                    "name": metadata["name"],
                    "uid": metadata["uid"],
                    "apiVersion": about["apiVersion"],
                    "resourceVersion": metadata["resourceVersion"],
                },
                "reason": reason,
                "message": message,
                "source": {"component": by},
                "reportingComponent": by,
                "reportingInstance": "",
                "firstTimestamp": now(),
                "lastTimestamp": now(),
                "count": 1,
                "type": "Warning" if warning else "Normal",
            },
        )


def plural_of(thing: Object) -> str:
    return next(kind.plural for kind in KINDS.values() if kind.kind == thing["kind"])


def random_suffix() -> str:
    """Five letters as Kubernetes appends them to generated names."""
    return "".join(secrets.choice("bcdfghjklmnpqrstvwxz2456789") for _ in range(5))


def owner(thing: Object) -> Object | None:
    """The owner reference of an object's controller."""
    references: Iterable[Object] = thing["metadata"].get("ownerReferences") or []
    return next((each for each in references if each.get("controller")), None)


def condition(thing: Object, kind: str) -> Object | None:
    conditions = thing.get("status", {}).get("conditions") or []
    return next((each for each in conditions if each["type"] == kind), None)


def has_condition(thing: Object, kind: str) -> bool:
    found = condition(thing, kind)
    return found is not None and found["status"] == "True"


def set_condition(
    thing: Object, kind: str, status: bool = True, reason: str = "", message: str = ""
) -> None:
    """Set a condition of an object's status; its time changes only with its status."""
    conditions = thing["status"].setdefault("conditions", [])
    new = {"type": kind, "status": str(status), "lastProbeTime": None}
    if thing["kind"] == "Job":
        new["lastProbeTime"] = now()
    old = condition(thing, kind)
    changed = old is None or old["status"] != new["status"]
    new["lastTransitionTime"] = now() if changed or old is None else old["lastTransitionTime"]
    new.update({name: text for name, text in (("reason", reason), ("message", message)) if text})
    if old is None:
        conditions.append(new)
    else:
        conditions[conditions.index(old)] = new

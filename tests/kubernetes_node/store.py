"""The cluster's objects by kind, namespace and name; the errors that its API answers with."""

import asyncio
import re
import secrets
import uuid
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from typing import Any, NamedTuple

Object = dict[str, Any]
# What a test or a person may select events, Jobs and pods by, besides labels.
SELECTABLE = {"metadata.name", "involvedObject.name", "status.phase"}


class Kind(NamedTuple):
    """A kind of object: where the API has it."""

    plural: str
    kind: str
    group: str = ""

    @property
    def api_version(self) -> str:
        return f"{self.group}/v1" if self.group else "v1"

    @property
    def qualified(self) -> str:
        """The resource's name in messages, such as ``jobs.batch``."""
        return f"{self.plural}.{self.group}" if self.group else self.plural

    def details(self, name: str) -> Object:
        """The details of a Status about an object of this kind."""
        group = {"group": self.group} if self.group else {}
        return {"name": name, **group, "kind": self.plural}


KINDS = {
    kind.plural: kind
    for kind in (
        Kind("pods", "Pod"),
        Kind("events", "Event"),
        Kind("services", "Service"),
        Kind("secrets", "Secret"),
        Kind("persistentvolumeclaims", "PersistentVolumeClaim"),
        Kind("serviceaccounts", "ServiceAccount"),
        Kind("jobs", "Job", "batch"),
    )
}
PLURALS = {kind.kind: kind.plural for kind in KINDS.values()}


class ApiError(Exception):
    """An answer that is a Status of failure."""

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


def bad_request(message: str) -> ApiError:
    return ApiError(400, "BadRequest", message)


def no_such_path() -> ApiError:
    return ApiError(404, "NotFound", "the server could not find the requested resource")


def not_built(what: str) -> ApiError:
    """The answer to what Kubernetes can do and this cluster can't."""
    return ApiError(501, "NotImplemented", f"the tests' cluster has no {what}")


def invalid(kind: Kind, name: str, where: str, why: str) -> ApiError:
    message = f'{kind.kind}{"." + kind.group if kind.group else ""} "{name}" is invalid: {where}: '
    cause = {"reason": "FieldValueInvalid", "message": why, "field": where}
    details = {**kind.details(name), "kind": kind.kind, "causes": [cause]}
    return ApiError(422, "Invalid", message + why, details)


def now() -> str:
    """This moment as Kubernetes writes it: UTC, whole seconds."""
    return datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def in_seconds(text: str) -> float:
    """A time that Kubernetes wrote, in seconds since the epoch."""
    return datetime.fromisoformat(text).timestamp()


Filter = Callable[[Object], bool]


def label_filter(selector: str) -> Filter:
    """The test that a label selector is: labels that are equal to values, parted by commas."""
    parts = [part.partition("=") for part in filter(None, selector.split(","))]
    if any(not sign or not re.fullmatch(r"[\w./-]+", key) for key, sign, _ in parts):
        raise not_built(f"label selector {selector!r}")
    wanted = {key: value for key, _, value in parts}
    return lambda thing: wanted.items() <= (thing["metadata"].get("labels") or {}).items()


def field_filter(selector: str) -> Filter:
    """The test that a field selector is: fields that are equal to values, parted by commas."""
    wanted = [part.split("=", 1) for part in filter(None, selector.split(","))]
    if any(path not in SELECTABLE for path, _ in wanted):
        raise not_built(f"field selector {selector!r}")
    return lambda thing: all(_at(thing, path) == value for path, value in wanted)


def _at(thing: Object, path: str) -> str:
    value: Any = thing
    for part in path.split("."):
        value = value.get(part) if isinstance(value, dict) else None
    return "" if value is None else str(value)


class Store:
    """All objects; who changes one in place says so by ``touch``."""

    def __init__(self) -> None:
        self.version = 1000
        self.changed = asyncio.Event()
        self._objects: dict[str, dict[tuple[str, str], Object]] = {name: {} for name in KINDS}

    def get(self, plural: str, namespace: str, name: str) -> Object:
        """The object itself, not a copy; an ``ApiError`` (404) where there is none."""
        thing = self.find(plural, namespace, name)
        if thing is None:
            kind = KINDS[plural]
            message = f'{kind.qualified} "{name}" not found'
            raise ApiError(404, "NotFound", message, kind.details(name))
        return thing

    def find(self, plural: str, namespace: str, name: str) -> Object | None:
        return self._objects[plural].get((namespace, name))

    def all(self, plural: str, namespace: str | None = None) -> list[Object]:
        """The objects of a kind, by name."""
        return [
            thing
            for (place, _), thing in sorted(self._objects[plural].items())
            if namespace in (None, place)
        ]

    def uids(self) -> set[str]:
        return {thing["metadata"]["uid"] for plural in KINDS for thing in self.all(plural)}

    def create(self, plural: str, namespace: str, thing: Object) -> Object:
        """Add an object; an ``ApiError`` (409) where its name is taken."""
        kind, metadata = KINDS[plural], thing["metadata"]
        name = metadata["name"]
        if self.find(plural, namespace, name) is not None:
            message = f'{kind.qualified} "{name}" already exists'
            raise ApiError(409, "AlreadyExists", message, kind.details(name))
        metadata["namespace"] = namespace
        metadata["uid"] = str(uuid.uuid4())
        metadata["creationTimestamp"] = now()
        thing["apiVersion"], thing["kind"] = kind.api_version, kind.kind
        self._objects[plural][namespace, name] = thing
        self.touch(thing)
        return thing

    def touch(self, thing: Object) -> None:
        """Note that an object was changed in place."""
        self.version += 1
        thing["metadata"]["resourceVersion"] = str(self.version)
        self.changed.set()

    def has(self, thing: Object) -> bool:
        """Whether this object, and not only one of its name, is there."""
        metadata = thing["metadata"]
        return self.find(PLURALS[thing["kind"]], metadata["namespace"], metadata["name"]) is thing

    def remove(self, thing: Object) -> None:
        """Take an object away; its finalizers are the caller's matter."""
        if self.has(thing):
            metadata = thing["metadata"]
            del self._objects[PLURALS[thing["kind"]]][metadata["namespace"], metadata["name"]]
            self.changed.set()

    def event(
        self, about: Object, reason: str, message: str, warning: bool = False, by: str = "kubelet"
    ) -> None:
        """Record an event about an object; a repeated one is counted."""
        metadata = about["metadata"]
        namespace = metadata["namespace"]
        for known in self.all("events", namespace):
            same = (known["involvedObject"]["uid"], known["reason"], known["message"])
            if same == (metadata["uid"], reason, message):
                known["count"] += 1
                known["lastTimestamp"] = now()
                self.touch(known)
                return
        involved = {key: metadata[key] for key in ("namespace", "name", "uid", "resourceVersion")}
        event = {
            "metadata": {"name": f"{metadata['name']}.{secrets.token_hex(8)}"},
            "involvedObject": {
                "kind": about["kind"],
                "apiVersion": about["apiVersion"],
                **involved,
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
        }
        self.create("events", namespace, event)


def random_suffix() -> str:
    """Five letters as Kubernetes appends them to generated names."""
    return "".join(secrets.choice("bcdfghjklmnpqrstvwxz2456789") for _ in range(5))


def owner(thing: Object) -> Object | None:
    """The owner reference of an object's controller."""
    references = thing["metadata"].get("ownerReferences") or []
    return next((each for each in references if each.get("controller")), None)


def ended(pod: Object) -> bool:
    return pod["status"]["phase"] in ("Succeeded", "Failed")


def condition(thing: Object, kind: str) -> Object | None:
    conditions = thing["status"].get("conditions") or []
    return next((each for each in conditions if each["type"] == kind), None)


def has_condition(thing: Object, kind: str) -> bool:
    return (condition(thing, kind) or {}).get("status") == "True"


def set_condition(
    thing: Object, kind: str, status: bool = True, reason: str = "", message: str = ""
) -> None:
    """Set a condition of an object's status; its time changes only with its status."""
    old = condition(thing, kind)
    if old is None:
        old = {"type": kind}
        thing["status"].setdefault("conditions", []).append(old)
    if old.get("status") != str(status):
        old["lastTransitionTime"] = now()
    old["status"] = str(status)
    old["lastProbeTime"] = now() if thing["kind"] == "Job" else None
    for name, text in (("reason", reason), ("message", message)):
        old.pop(name, None)
        if text:
            old[name] = text

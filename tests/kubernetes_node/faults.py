"""What is told to go wrong, and the record of all requests."""

import re
from dataclasses import dataclass, field
from typing import Any


@dataclass
class ApiFault:
    """How requests that match are to fail.

    Kinds: ``status`` answers with ``code`` and has no effect; ``reset`` breaks the connection
    before the request has an effect, ``reset_after`` once it had it; ``hang`` never answers and has
    no effect.
    """

    kind: str
    verb: str  # Kubernetes' verb: get, list, create, delete
    path: str  # regular expression, searched in the path
    code: int = 500
    retry_after: int | None = None  # seconds, in the header
    times: int | None = 1  # None: always

    def takes(self, verb: str, path: str) -> bool:
        """Whether this request is to fail; counts it if so."""
        return self.verb == verb and bool(re.search(self.path, path)) and _count(self)


@dataclass
class LogFault:
    """How log streams are to fail, after so many bytes.

    Kinds: ``drop`` breaks the connection, ``end`` closes it as if the log were at its end, and
    ``silent`` sends nothing for ``seconds`` but stays open.
    """

    kind: str
    after_bytes: int = 0
    seconds: float = 3600.0
    times: int | None = 1


@dataclass
class PodFault:
    """What pods of a name are to suffer: ``create_error`` or ``pull_error``."""

    kind: str
    pod: str = ".*"
    message: str = ""
    times: int | None = None  # pods that it hits; None: all
    hit: set[str] = field(default_factory=set)

    def takes(self, uid: str, pod: str) -> bool:
        """Whether this pod suffers; one that did once does so until the fault is cleared."""
        if uid not in self.hit and re.search(self.pod, pod) and _count(self):
            self.hit.add(uid)
        return uid in self.hit


def _count(fault: ApiFault | LogFault | PodFault) -> bool:
    """Whether a fault still happens; counts it if so."""
    if fault.times is not None:
        fault.times -= 1
    return fault.times is None or fault.times >= 0


@dataclass
class Request:
    """A request as it was received; its status is absent where it was not, or not yet, answered."""

    time: float
    verb: str
    path: str
    body: Any = None
    status: int | None = None


@dataclass
class Faults:
    """All that is to go wrong, and all that was asked."""

    api: list[ApiFault] = field(default_factory=list)
    logs: list[LogFault] = field(default_factory=list)
    pods: list[PodFault] = field(default_factory=list)
    requests: list[Request] = field(default_factory=list)

    def of_request(self, verb: str, path: str) -> ApiFault | None:
        return next((each for each in self.api if each.takes(verb, path)), None)

    def of_log(self) -> LogFault | None:
        return next((each for each in self.logs if _count(each)), None)

    def of_pod(self, kind: str, pod: dict[str, Any]) -> PodFault | None:
        uid, name = pod["metadata"]["uid"], pod["metadata"]["name"]
        rules = [each for each in self.pods if each.kind == kind]
        return next((each for each in rules if each.takes(uid, name)), None)

    def clear(self) -> None:
        for each in (self.api, self.logs, self.pods):
            each.clear()

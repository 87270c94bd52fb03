"""What is told to go wrong, and the record of all requests."""

import re
import time
from dataclasses import asdict, dataclass, field
from typing import Any


@dataclass
class ApiFault:
    """How requests that match are to fail.

    Kinds: ``status`` answers with ``code`` and has no effect; ``reset`` breaks the connection
    before the request has an effect, ``reset_after`` once it had it; ``slow`` waits and then goes
    on as usual; ``hang`` never answers and has no effect.
    """

    kind: str
    verb: str = "*"  # Kubernetes' verb (get, list, watch, create, ...) or the HTTP method
    path: str = ".*"  # regular expression, searched in path and query
    code: int = 500
    retry_after: int | None = None  # seconds, in the header
    delay_s: float = 1.0
    times: int | None = 1  # None: always
    skip: int = 0  # requests that pass first
    until: float | None = None  # time.time() of its end

    def takes(self, verb: str, method: str, path: str) -> bool:
        """Whether this request is to fail; counts it if so."""
        if self.verb not in ("*", verb, method) or not re.search(self.path, path):
            return False
        if self.times == 0 or (self.until is not None and time.time() > self.until):
            return False
        if self.skip > 0:
            self.skip -= 1
            return False
        if self.times is not None:
            self.times -= 1
        return True


@dataclass
class LogFault:
    """How log streams of pods are to fail.

    Kinds: ``drop`` breaks the connection, ``end`` closes it as if the log were at its end, and
    ``silent`` sends nothing for ``seconds`` but stays open; each after so many bytes.
    """

    kind: str
    pod: str = ".*"
    after_bytes: int = 0
    seconds: float = 3600.0
    times: int | None = 1

    def takes(self, pod: str) -> bool:
        if self.times == 0 or not re.search(self.pod, pod):
            return False
        if self.times is not None:
            self.times -= 1
        return True


@dataclass
class PodFault:
    """What pods of a name are to suffer: ``unschedulable``, ``create_error`` or ``pull_error``."""

    kind: str
    pod: str = ".*"
    message: str = ""
    times: int | None = None  # pods that it hits; None: all
    hit: list[str] = field(default_factory=list)

    def takes(self, uid: str, pod: str) -> bool:
        if uid in self.hit:
            return True
        if not re.search(self.pod, pod) or (self.times is not None and len(self.hit) >= self.times):
            return False
        self.hit.append(uid)
        return True


@dataclass
class Request:
    """A request as it was received."""

    time: float
    verb: str
    method: str
    path: str
    query: str
    body: Any = None
    status: int | None = None  # None: not answered (yet), or broken off
    fault: str | None = None


@dataclass
class Faults:
    """All that is to go wrong, and all that was asked."""

    api: list[ApiFault] = field(default_factory=list)
    logs: list[LogFault] = field(default_factory=list)
    pods: list[PodFault] = field(default_factory=list)
    requests: list[Request] = field(default_factory=list)

    def of_request(self, verb: str, method: str, path: str) -> ApiFault | None:
        return next((each for each in self.api if each.takes(verb, method, path)), None)

    def of_log(self, pod: str) -> LogFault | None:
        return next((each for each in self.logs if each.takes(pod)), None)

    def of_pod(self, kind: str, uid: str, pod: str) -> PodFault | None:
        rules = [each for each in self.pods if each.kind == kind]
        return next((each for each in rules if each.takes(uid, pod)), None)

    def recorded(self, verb: str, path: str) -> list[dict[str, Any]]:
        """The requests of a verb (empty: any) whose path matches a regular expression."""
        return [
            asdict(each)
            for each in self.requests
            if verb in ("", each.verb) and re.search(path, each.path)
        ]

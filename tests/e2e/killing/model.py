"""The model that the killed processes call: a server that counts, and what its count says."""

import json
import urllib.request
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from tests.integration.servers.started import started

# A reply that left the server so shortly before the kill may not have been stored yet.
UNDERWAY_S = 0.5


@dataclass(frozen=True)
class CountingModel:
    """A running server; see ``tests/integration/servers/counting_model.py``."""

    url: str

    def reset(self, latency: float = 0.1) -> None:
        """Forget the calls, and set how long a reply takes in seconds."""
        self._ask("/configure", {"latency": latency})

    def count(self) -> int:
        """Number of the calls that came."""
        return int(self._ask("/count"))

    def calls(self) -> list[dict[str, Any]]:
        """The calls that came, in their order."""
        calls: list[dict[str, Any]] = self._ask("/asked")
        return calls

    def _ask(self, path: str, body: Any = None) -> Any:
        request = urllib.request.Request(
            f"{self.url}{path}", None if body is None else json.dumps(body).encode()
        )
        with urllib.request.urlopen(request, timeout=10) as reply:
            return json.load(reply)


@contextmanager
def counting_model() -> Iterator[CountingModel]:
    """A server of its own while the block lasts."""
    with started("counting_model.py") as url:
        yield CountingModel(url)


@dataclass(frozen=True)
class Repeats:
    """What a kill did to the calls.

    Attributes:
        in_flight: Prompts that were being answered at the kill.
        repeated: Prompts that were asked again, by how many times more than once.
    """

    in_flight: Counter[str]
    repeated: Counter[str]

    def assert_only_in_flight(self) -> None:
        """Fail where a call was made again that was not in flight at the kill."""
        paid_twice = self.repeated - self.in_flight
        assert not paid_twice, (
            f"{paid_twice.total()} calls were repeated that were not in flight at the kill "
            f"(in flight: {self.in_flight.total()}, repeated: {self.repeated.total()})"
        )


def repeats(calls: list[dict[str, Any]], deaths: Sequence[float]) -> Repeats:
    """What kills did to the calls.

    Args:
        calls: As the server lists them.
        deaths: Moments on the monotonic clock at which a process that may have called was killed.
    """
    asked = Counter(call["prompt"] for call in calls)
    in_flight = Counter(call["prompt"] for call in calls if _was_in_flight(call, deaths))
    return Repeats(in_flight, Counter({each: n - 1 for each, n in asked.items() if n > 1}))


def _was_in_flight(call: dict[str, Any], deaths: Sequence[float]) -> bool:
    began, answered = call["began"], call["answered"]
    # Without an answer its asker was gone, whenever that was.
    return answered is None or any(
        began <= death and answered > death - UNDERWAY_S for death in deaths
    )

"""The file of a batch's requests, which is written here or downloaded from the provider."""

from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any

import orjson

from resources.llm.batch.spool import Spool
from resources.llm.completion import decode
from resources.llm.prices import Price
from resources.llm.request import PreparedCall, request_body
from resources.llm.types import Message
from resources.settings import Role

NO_VERSION = "unknown"


@dataclass(frozen=True, slots=True)
class Line:
    """A call as a line of a batch's file; ``most_usd`` is 0 where the price is not known."""

    key: str
    data: bytes
    most_usd: float
    prompt_version: str


class Sheet(Spool):
    """A batch's requests, a line each."""

    def __init__(self, folder: Path) -> None:
        super().__init__(folder)
        self.most_usd = 0.0
        self._most: dict[str, float] = {}
        self._first_version: str | None = None
        self._further_versions: dict[str, str] = {}
        self._places: dict[str, tuple[int, int]] | None = None

    def __len__(self) -> int:
        return len(self._most)

    def __contains__(self, key: str) -> bool:
        return key in self._most

    @property
    def keys(self) -> list[str]:
        """Keys of the calls that were added."""
        return list(self._most)

    @property
    def version(self) -> str | None:
        """The prompt version of all calls that were added; ``None`` where they have several."""
        return None if self._further_versions else self._first_version

    def add(self, line: Line) -> None:
        """Append a call."""
        self.write(line.data)
        self._most[line.key] = line.most_usd
        self.most_usd += line.most_usd
        self._first_version = self._first_version or line.prompt_version
        if line.prompt_version != self._first_version:
            self._further_versions[line.key] = line.prompt_version

    def forget_keys(self) -> None:
        """Free the memory of the keys, which the store has from now on."""
        self._most = {}

    def added(self) -> Iterator[Line]:
        """The lines that were added."""
        for (key, most), data in zip(self._most.items(), self.lines(), strict=True):
            yield Line(key, data, most, self.version_of(key) or NO_VERSION)

    def version_of(self, key: str) -> str | None:
        """The prompt version that a call was added with."""
        return self._further_versions.get(key, self._first_version)

    def body(self, key: str) -> dict[str, Any] | None:
        """A call's request; ``None`` where the file does not have it."""
        if self._places is None:
            self._places = self._read_places()
        place = self._places.get(key)
        if place is None:
            return None
        start, size = place
        self._file.seek(start)
        return _request(self._file.read(size))[1]

    def messages(self, number: int) -> Sequence[Message] | None:
        """The prompt in a line, counted from 1; ``None`` where there is no such line."""
        line = next(islice(self.lines(), number - 1, None), None) if number > 0 else None
        body = None if line is None else _request(line)[1]
        return None if body is None else body["messages"]

    def _read_places(self) -> dict[str, tuple[int, int]]:
        places: dict[str, tuple[int, int]] = {}
        start = 0
        for line in self.lines():
            key, _ = _request(line)
            if key is not None:
                places[key] = (start, len(line))
            start += len(line)
        return places


def url_of(role: Role) -> str:
    """The URL that a role's requests name in each line and for the batch; Azure has its own."""
    return "/chat/completions" if role.api_version else "/v1/chat/completions"


def line_of(
    prepared: PreparedCall, role: Role, lacks: Collection[str], price: Price | None
) -> Line:
    """A call as a line, without what the endpoint lacks."""
    body = request_body(prepared, role, role.model, lacks)
    line = {"custom_id": prepared.key, "method": "POST", "url": url_of(role), "body": body}
    most = (
        price.cost(prepared.most_prompt_tokens, prepared.max_tokens, batch=True) if price else 0.0
    )
    return Line(prepared.key, orjson.dumps(line) + b"\n", most, prepared.call.prompt_version)


def _request(line: bytes) -> tuple[str | None, dict[str, Any] | None]:
    """Key and body of a line of a batch's file; nothing where the platform did not write it."""
    request = decode(line) or {}
    key, body = request.get("custom_id"), request.get("body")
    if not isinstance(key, str) or not isinstance(body, dict) or "messages" not in body:
        return None, None
    return key, body

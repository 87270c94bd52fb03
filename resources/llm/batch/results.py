"""The replies in a batch's output and error files."""

import json
from collections import Counter
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from typing import Any

import orjson

from resources.llm.batch.ledger import Batch
from resources.llm.batch.provider import CODE
from resources.llm.batch.sheet import NO_VERSION, Sheet
from resources.llm.completion import RAW_CHARACTERS, decode, is_error, read_completion
from resources.llm.prices import Price
from resources.llm.request import provider_of
from resources.llm.store import Record, ReplyStore
from resources.llm.types import Reply, Usage


class ResultReader:
    """Makes records of a batch's output and error files, and counts what is no reply.

    The sheet is missing where nobody has the requests any more; ``version`` is the prompt version
    of calls without one in the sheet.
    """

    def __init__(
        self,
        batch: Batch,
        keys: Collection[str],
        sheet: Sheet | None,
        version: str | None,
        price: Price | None,
    ) -> None:
        self._batch = batch
        self._keys = set(keys)
        self._sheet = sheet
        self._version = version or NO_VERSION
        self._price = price
        self._replied: set[str] = set()
        self.faults: Counter[str] = Counter()
        self.unreadable = self.unknown = 0

    def records(self, lines: Iterable[bytes]) -> Iterator[Record]:
        """Yield a record for each line with a reply; the other lines are counted."""
        for line in lines:
            if line.strip():
                record = self._record(decode(line))
                if record is not None:
                    yield record

    def summary(self) -> str:
        """The numbers of replies and of other lines, for a person."""
        total = len(self._keys)
        parts = [f"{len(self._replied):,} of {total:,} replies"]
        if len(self._replied) < total:
            parts.append(f"the other {total - len(self._replied):,} are sent the ordinary way")
        if self.faults:
            counted = ", ".join(f"{count:,} {why}" for why, count in self.faults.most_common(3))
            parts.append(f"failed: {counted}")
        if self.unreadable:
            parts.append(f"{self.unreadable:,} lines can't be read")
        if self.unknown:
            parts.append(f"{self.unknown:,} lines are not of this batch")
        return "; ".join(parts)

    def _record(self, line: Any) -> Record | None:
        key = line.get("custom_id") if isinstance(line, dict) else None
        if not isinstance(key, str):
            self.unreadable += 1
            return None
        if key not in self._keys:
            self.unknown += 1
            return None
        response = line.get("response")
        response = response if isinstance(response, dict) else {}
        answer = response.get("body")
        if key in self._replied:
            return None
        fault = _fault(line.get("error"), response.get("status_code"), answer)
        if fault is not None:
            self.faults[fault] += 1
            return None
        self._replied.add(key)
        request_id = response.get("request_id")
        return self._record_of(key, answer, request_id if isinstance(request_id, str) else None)

    def _record_of(self, key: str, answer: Any, request_id: str | None) -> Record:
        batch = self._batch
        request = self._sheet.body(key) if self._sheet is not None else None
        raw = _dumped(answer)
        reply = self._reply(key, answer, request, request_id)
        messages = request["messages"] if request else ()
        version = self._sheet.version_of(key) if self._sheet is not None else None
        return Record(
            reply=reply,
            role=batch.role,
            stage=batch.stage,
            dataset=batch.dataset,
            run=batch.run,
            model=batch.model,
            provider=provider_of(batch.endpoint),
            endpoint=batch.endpoint,
            prompt_version=version or self._version,
            request=orjson.dumps(request or {}).decode(),
            prompt_bytes=sum(len(message["content"].encode()) for message in messages),
            raw=raw[:RAW_CHARACTERS] if reply.status == "garbled" else raw,
            via="batch",
        )

    def _reply(
        self, key: str, answer: Any, request: Mapping[str, Any] | None, request_id: str | None
    ) -> Reply:
        body = request or {}
        try:
            completion = read_completion(
                answer,
                max_tokens=body.get("max_completion_tokens") or body.get("max_tokens") or 0,
                wants_logprobs=request is None or bool(body.get("logprobs")),
            )
        except ValueError as error:
            return Reply(key, "garbled", detail=str(error), request_id=request_id)
        # The reply has no latency: how long a batch takes says nothing of the calls in it.
        return completion.reply(key, self._price, request_id=request_id, batch=True)


class Keeper:
    """Keeps the records of a batch's files in the reply store.

    Attributes:
        usage: Tokens and dollars of the replies that were new, without a number of calls.
    """

    def __init__(self, store: ReplyStore) -> None:
        self._store = store
        self.usage = Usage()

    def keep(self, records: Sequence[Record]) -> None:
        """Keep replies; those that the store has already stay as they are."""
        for reply in self._store.put_many(records):
            if not reply.stored:
                self.usage += Usage(
                    prompt_tokens=reply.prompt_tokens,
                    completion_tokens=reply.completion_tokens,
                    cost_usd=reply.cost_usd,
                )


def _fault(error: Any, status: Any, answer: Any) -> str | None:
    """Why a call has no reply, in a word or two; ``None`` where it has one."""
    if not error and status == 200 and not is_error(answer):
        return None
    code = error.get("code") if isinstance(error, dict) else None
    # Messages may quote the prompt; codes don't.
    if isinstance(code, str) and CODE.fullmatch(code):
        return code
    return f"HTTP {status}" if isinstance(status, int) and status != 200 else "an error"


def _dumped(value: Any) -> str:
    try:
        return orjson.dumps(value).decode()
    except TypeError:  # The text holds half a character, which orjson does not write.
        return json.dumps(value)

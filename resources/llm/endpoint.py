"""One endpoint of a role: its connection, its limits, its features and its health."""

import asyncio
import contextlib
import hashlib
import os
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlsplit

import orjson

from resources.llm.capabilities import Capabilities
from resources.llm.completion import RAW_CHARACTERS, decode, is_error, read_completion
from resources.llm.concurrency import AdaptiveLimit
from resources.llm.coordination import Coordination
from resources.llm.embedded import CONTEXT_PER_SLOT, SLOTS, EmbeddedServer
from resources.llm.errors import LLMError
from resources.llm.faults import (
    ConnectionLost,
    Fault,
    HttpAnswer,
    NoConnection,
    fault_of_answer,
    fault_of_error,
)
from resources.llm.prices import Price
from resources.llm.rate import RateLimit
from resources.llm.request import PreparedCall, provider_of, request_body
from resources.llm.transport import LeanTransport, SdkTransport, is_loopback, open_transport
from resources.llm.types import Reply
from resources.settings import FurtherEndpoint, Role

# The settings are at fault where so many requests are refused or garbled before a good answer.
_WRONG_AT_ONCE = 8
# Few requests are sent at once before a first good answer shows that key and URL are right.
_FIRST_CONTACT = 4
_CONTACT_S = 0.2
# After so many faults one after another, other endpoints get the calls for a while.
_FAULTS_IN_A_ROW = 5
_FIRST_REST_S, _MOST_REST_S = 1.0, 60.0
# One request waits at each slot, so that no slot is ever without work.
_EMBEDDED_IN_FLIGHT = 2 * SLOTS


@dataclass(frozen=True, slots=True)
class Sent:
    """A request that needs no retry: the reply, or the reason why the call was not sent.

    The reply is kept where the provider ``completed`` the call; ``raw`` is the answer's body.
    """

    reply: Reply
    completed: bool
    request: str = ""
    raw: str | None = None


class Endpoint:
    """One endpoint that serves a role's model; used in one event loop.

    ``place`` holds its URL, its name of the model and its limits; ``say`` takes a line for a
    person; ``server`` is the embedded server of an embedded role.

    Raises:
        LLMError: Its key or URL can't be used.
    """

    def __init__(
        self,
        role_name: str,
        role: Role,
        place: FurtherEndpoint,
        price: Price | None,
        shared: Coordination,
        say: Callable[[str], None],
        server: EmbeddedServer | None = None,
    ) -> None:
        self._role_name = role_name
        self._set_at = _set_at(role_name)
        self._role = role
        self._place = place
        self._price = price
        self._server = server
        self.model = place.model or role.model
        self._key_env = place.api_key_env or role.api_key_env
        self._key = "" if role.embedded else _api_key(role_name, place.base_url, self._key_env)
        whose = hashlib.sha256(self._key.encode()).hexdigest()[:12]
        self.rate = RateLimit(
            shared,
            f"{place.base_url} {self.model} {whose}",
            place.requests_per_minute,
            place.tokens_per_minute,
        )
        if role.embedded:
            self.limit = AdaptiveLimit(role.concurrency or _EMBEDDED_IN_FLIGHT, fixed=True)
        else:
            self.limit = AdaptiveLimit(role.concurrency)
        self.in_flight = 0
        self.dead: LLMError | None = None
        self.resting_until = 0.0
        self._rest_s = _FIRST_REST_S
        self._faults_in_a_row = 0
        self._answered = self._reached = self._faulted = False
        self._first_at: float | None = None
        self._wrong = 0
        # The embedded server's requests share this machine's cores with each other.
        self.deadline_s = role.timeout_s * (_EMBEDDED_IN_FLIGHT if role.embedded else 1)
        self._leases = contextlib.ExitStack()
        self._restarting = asyncio.Lock()
        self._transport: LeanTransport | SdkTransport
        self.capabilities = Capabilities(
            shared, place.base_url, self.model, say, embedded=role.embedded
        )

    @property
    def base_url(self) -> str:
        """Its base URL, as it is kept with replies."""
        return self._place.base_url

    @property
    def load(self) -> float:
        """Share of the requests that it may have in flight; from 1 on it is full."""
        if self._answered or self._contact_over():
            return self.in_flight / self.limit.limit
        return self.in_flight / min(self.limit.limit, _FIRST_CONTACT)

    @property
    def contact_s(self) -> float:
        """Seconds until it gets more than a few requests even if none was answered yet."""
        if self._answered or self._faulted or self._first_at is None:
            return 0.0
        return max(self._first_at + _CONTACT_S - time.monotonic(), 0.0)

    def _contact_over(self) -> bool:
        """Whether requests have been on their way for long enough without any fault."""
        return self._first_at is not None and not self._faulted and self.contact_s == 0

    def is_up(self, now: float) -> bool:
        """Whether it may get calls at a moment (``time.monotonic``)."""
        return self.dead is None and now >= self.resting_until

    async def open(self) -> None:
        """Connect.

        Raises:
            LLMError: The embedded server does not start.
        """
        url = self._place.base_url
        if self._server is not None:
            self._leases.enter_context(self._server.lease())
            url = await self._server_url()
        self._transport = open_transport(
            self._role.transport, url, self._key, self._place.api_version
        )

    async def close(self) -> None:
        """Close its connections; the embedded server may end now."""
        try:
            if hasattr(self, "_transport"):
                await self._transport.close()
        finally:
            self._leases.close()

    async def attempt(self, prepared: PreparedCall) -> Sent | Fault:
        """Send a call once; what went wrong is returned, not raised.

        A fault that every call would meet leaves the endpoint ``dead`` with the reason.
        """
        excess = self._sure_excess(prepared)
        if excess is not None:
            return _not_sent(prepared, excess)
        if self._first_at is None:
            self._first_at = time.monotonic()
        call = prepared.call
        if call.json_schema is not None or call.grammar is not None:
            await self.capabilities.learn_forms(
                self._ask, schema=call.json_schema is not None, grammar=call.grammar is not None
            )
        while True:
            lacks = self.capabilities.lacks
            body = request_body(prepared, self._role, self.model, lacks)
            began_in, began = self.limit.round, time.monotonic()
            url = self._transport.base_url
            answer: HttpAnswer | None = None
            try:
                async with asyncio.timeout(self.deadline_s):
                    if self._server is not None:
                        excess = await self._embedded_excess(prepared)
                        if excess is not None:
                            return _not_sent(prepared, excess)
                    self.rate.sent(began)
                    answer = await self._chat(body)
            except (TimeoutError, NoConnection, ConnectionLost) as error:
                fault = fault_of_error(error, self.deadline_s)
                decoded: Any = None
            else:
                decoded = decode(answer.body)
                if answer.status == 200 and not is_error(decoded):
                    latency = time.monotonic() - began
                    self._well(began_in, latency)
                    await self.rate.observe(answer.headers)
                    return self._sent(prepared, body, answer, decoded, latency)
                fault = fault_of_answer(
                    _with_true_status(answer, decoded),
                    decoded,
                    key=self._key,
                    messages=call.messages,
                    sent=body,
                )
            if fault.lacks is not None and fault.lacks not in lacks:
                await self.capabilities.miss(fault.lacks)
                continue
            await self._learn_from(fault, began_in, began, url, answer)
            return fault

    async def _chat(self, body: dict[str, Any]) -> HttpAnswer:
        """The answer to one request or, where hedging is on, to the faster of two."""
        after = self._role.hedge_after_s
        if after is None:
            return await self._transport.chat(body)
        first = asyncio.ensure_future(self._transport.chat(body))
        tasks = {first}
        try:
            done, _ = await asyncio.wait(tasks, timeout=after)
            if not done:
                tasks.add(asyncio.ensure_future(self._transport.chat(body)))
            waiting = set(tasks)
            while waiting:
                done, waiting = await asyncio.wait(waiting, return_when=asyncio.FIRST_COMPLETED)
                for task in done:
                    if task.exception() is None:
                        return task.result()
            return first.result()
        finally:
            for task in tasks:
                task.cancel()

    async def _ask(self, body: dict[str, Any]) -> HttpAnswer:
        """Send a request that finds out what the endpoint can do."""
        async with asyncio.timeout(self.deadline_s):
            return await self._transport.chat(body)

    async def learn_logprobs(self) -> bool:
        """Whether it gives token probabilities; asked once and remembered."""
        return await self.capabilities.learn_logprobs(self._ask)

    async def learn_all(self) -> Mapping[str, bool]:
        """Whether it has each feature that can be asked for."""
        await self.capabilities.learn_forms(self._ask, schema=True, grammar=True)
        await self.capabilities.learn_logprobs(self._ask)
        return self.capabilities.has

    def _well(self, began_in: int, latency: float) -> None:
        self._reached = True
        self._faults_in_a_row, self._rest_s = 0, _FIRST_REST_S
        self.limit.replied(began_in, latency)

    def _sent(
        self,
        prepared: PreparedCall,
        body: dict[str, Any],
        answer: HttpAnswer,
        decoded: Any,
        latency: float,
    ) -> Sent:
        raw = answer.body.decode(errors="replace").replace("\x00", "\N{REPLACEMENT CHARACTER}")
        request = orjson.dumps(body).decode()
        request_id = answer.headers.get("x-request-id") or answer.headers.get("apim-request-id")
        try:
            completion = read_completion(
                decoded,
                max_tokens=prepared.max_tokens,
                wants_logprobs=prepared.call.top_logprobs is not None,
            )
        except ValueError as error:
            self._faulted = True
            self._count_wrong(str(error), f"check {self._set_at}.base_url")
            reply = Reply(
                prepared.key, "garbled", detail=str(error), latency_s=latency, request_id=request_id
            )
            return Sent(reply, True, request, raw[:RAW_CHARACTERS])
        self._answered, self._wrong = True, -1
        reply = completion.reply(
            prepared.key, self._price, request_id=request_id, latency_s=latency
        )
        return Sent(reply, True, request, raw)

    async def _learn_from(
        self, fault: Fault, began_in: int, began: float, url: str, answer: HttpAnswer | None
    ) -> None:
        """Learn from a fault about limits and health; it may end the endpoint's use."""
        self._faulted = True
        if answer is not None:
            self._reached = True
            await self.rate.observe(answer.headers)
        if fault.then == "wait":
            await self.rate.refused(fault.wait_s, began)
            return
        if fault.overload:
            self.limit.overloaded(began_in)
        if fault.unreachable and not self._reached and self._server is None:
            self._die(
                f"{fault.detail}; start the endpoint, or correct {self._set_at}.base_url "
                f"({self.base_url})"
            )
        elif fault.then == "stop":
            self._die(f"{fault.detail}; {self._advice(fault)}")
        elif fault.then == "call" and fault.status == "refused" and not self._answered:
            self._count_wrong(
                fault.detail,
                f"check {self._set_at} (reading, structured, temperature) against what "
                "the endpoint supports",
            )
        elif fault.then == "retry":
            self._faults_in_a_row += 1
            if self._faults_in_a_row >= _FAULTS_IN_A_ROW and self._server is None:
                self.resting_until = time.monotonic() + self._rest_s
                self._rest_s = min(self._rest_s * 2, _MOST_REST_S)
                self._faults_in_a_row = 0
            if self._server is not None:
                try:
                    await self._revive(url)
                except LLMError as error:
                    self.dead = error

    def _count_wrong(self, detail: str, advice: str) -> None:
        """Give up on the endpoint where its first answers are all unusable."""
        if self._wrong < 0:
            return
        self._wrong += 1
        if self._wrong >= _WRONG_AT_ONCE:
            self._die(f"the first {self._wrong} requests failed, the last with {detail}; {advice}")

    def _die(self, reason: str) -> None:
        where = f"{self._role_name}: {self.model} at {provider_of(self.base_url)}"
        self.dead = LLMError(f"{where}: {reason}")

    def _advice(self, fault: Fault) -> str:
        if fault.detail.startswith(("HTTP 401", "HTTP 403")):
            return f"check the key in {self._key_env} and what it may use"
        if fault.detail.startswith("HTTP 429"):
            return f"raise the quota of the account that {self._key_env} belongs to"
        role = self._set_at
        return f"check {role}.model ({self.model}) and {role}.base_url ({self.base_url})"

    def _sure_excess(self, prepared: PreparedCall) -> str | None:
        """Why a prompt of this size surely does not fit; ``None`` where it may fit.

        An endpoint itself refuses the prompts that turn out too long. The embedded server counts
        their tokens before (``_embedded_excess``).
        """
        if self._server is not None:
            return None
        least = prepared.least_prompt_tokens
        return self._excess(prepared, f"at least {least}", least, self._role.context)

    async def _embedded_excess(self, prepared: PreparedCall) -> str | None:
        """Why a prompt does not fit the embedded model, whose server counts where it is close."""
        context = min(self._role.context, CONTEXT_PER_SLOT)
        # A token is at least one byte; the frame is the chat template's.
        frame = 8 * len(prepared.call.messages) + 40
        if prepared.prompt_bytes + frame + prepared.max_tokens <= context:
            return None
        assert isinstance(self._transport, LeanTransport)  # noqa: S101 (the embedded server's)
        messages = [dict(message) for message in prepared.call.messages]
        answer = await self._transport.post(
            "/chat/completions/input_tokens", orjson.dumps({"messages": messages})
        )
        counted = decode(answer.body)
        if answer.status != 200 or not isinstance(counted, dict):
            raise ConnectionLost("tokens not counted")
        tokens = int(counted["input_tokens"])
        return self._excess(prepared, str(tokens), tokens, context)

    def _excess(self, prepared: PreparedCall, shown: str, tokens: int, context: int) -> str | None:
        if tokens + prepared.max_tokens <= context:
            return None
        return (
            f"the prompt has {shown} tokens and the reply may have {prepared.max_tokens}, but the "
            f"{self._role_name}'s context is {context}; it was not sent"
        )

    async def _server_url(self) -> str:
        """URL of the living embedded server."""
        assert self._server is not None  # noqa: S101 (callers have checked; for the type checker)
        return f"{await asyncio.to_thread(self._server.url)}/v1"

    async def _revive(self, url: str) -> None:
        """Restart the embedded server if it died and no other call has restarted it."""
        async with self._restarting:
            if self._transport.base_url == url:
                self._transport.base_url = await self._server_url()


def _set_at(role_name: str) -> str:
    """The settings' key: a role is one of ``roles``, an outside model's name is its key."""
    return role_name if "." in role_name else f"roles.{role_name}"


def _not_sent(prepared: PreparedCall, reason: str) -> Sent:
    return Sent(Reply(prepared.key, "too_long", detail=reason), completed=False)


def _with_true_status(answer: HttpAnswer, decoded: Any) -> HttpAnswer:
    """The answer with the status of the error in its body, where it came with 200."""
    if answer.status != 200:
        return answer
    error = decoded.get("error")
    code = error.get("code") if isinstance(error, dict) else None
    status = code if isinstance(code, int) and 400 <= code < 600 else 500
    return HttpAnswer(status, answer.headers, answer.body)


def _api_key(role_name: str, base_url: str, variable: str) -> str:
    """The key in the environment; empty for an endpoint on this machine that needs none."""
    if urlsplit(base_url).scheme not in ("http", "https"):
        raise LLMError(
            f"{_set_at(role_name)}.base_url must begin with http:// or https://: {base_url!r}"
        )
    key = os.environ.get(variable, "")
    if not key and not is_loopback(base_url):
        raise LLMError(
            f"{role_name}: no key for {provider_of(base_url)}; set the environment variable "
            f"{variable} (or {_set_at(role_name)}.api_key_env to the variable that holds it; any "
            "value where the endpoint needs none)"
        )
    return key

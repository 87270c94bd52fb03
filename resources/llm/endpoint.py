"""One role's endpoint over HTTP: a request out, a reply in, retries for what a retry can mend."""

import asyncio
import contextlib
import ipaddress
import logging
import os
import random
import time
from dataclasses import dataclass
from types import TracebackType
from typing import Any
from urllib.parse import urlsplit

import openai
from openai.types.chat import ChatCompletion
from openai.types.chat.chat_completion import Choice

from resources.llm.embedded import CONTEXT_PER_SLOT, SLOTS, EmbeddedServer
from resources.llm.errors import LLMError
from resources.llm.faults import Fault, fault_of
from resources.llm.prices import Price
from resources.llm.request import EXTRA_FIELDS, Prepared, provider_of, request_body
from resources.llm.types import Reply, Status
from resources.settings import Role

RETRIES = 6
# A reached limit only costs time, so it is waited for longer than a fault.
_RATE_RETRIES = 30
_FIRST_WAIT_S = 0.5
_MOST_BACKOFF_S = 20.0
# So many requests refused as malformed before any was answered: the settings are at fault.
_REJECTED_AT_ONCE = 8


@dataclass(frozen=True)
class Sent:
    """A reply, and whether the call was completed (and so is kept) or came to nothing."""

    reply: Reply
    completed: bool


class Endpoint:
    """The connection to one role's model, for one batch.

    Args:
        role_name: tagger, scorer or judge; for messages.
        role: Its settings.
        price: Price of its model, where known.
        server: The embedded server, for an embedded role.
    """

    def __init__(
        self, role_name: str, role: Role, price: Price | None, server: EmbeddedServer | None
    ) -> None:
        self._role_name = role_name
        self._role = role
        self._price = price
        self._server = server
        self._leases = contextlib.ExitStack()
        self._restarting = asyncio.Lock()
        self._answered = self._reached = False
        self._rejected = 0
        self._resume_at = 0.0
        self._stopping = False
        self._key = _api_key(role_name, role)
        # The embedded server's requests share this machine's cores with each other.
        self._deadline_s = role.timeout_s * (SLOTS if role.embedded else 1)
        self._client: openai.AsyncOpenAI

    async def __aenter__(self) -> "Endpoint":
        _quiet_loggers()
        url = self._role.base_url
        if self._server is not None:
            self._leases.enter_context(self._server.lease())
            url = await self._server_url()
        local = _is_loopback(url)
        self._client = openai.AsyncOpenAI(
            base_url=url,
            api_key=self._key or "none",
            max_retries=0,
            timeout=self._deadline_s,
            # A proxy never leads to this machine.
            http_client=openai.DefaultAsyncHttpxClient(trust_env=not local),
        )
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        await self._client.close()
        self._leases.close()

    def stop(self) -> None:
        """Let requests in flight end, but retry none."""
        self._stopping = True

    async def send(self, prepared: Prepared) -> Sent:
        """Send one call until it is answered or given up.

        Raises:
            LLMError: Every call would end so: the key, the model or the address is wrong.
        """
        hopeless = self._hopeless(prepared)
        if hopeless:
            return Sent(Reply(prepared.key, "too_long", detail=hopeless), completed=False)
        faults = waits = 0
        while True:
            await self._resumed()
            url = str(self._client.base_url)
            started = time.monotonic()
            try:
                async with asyncio.timeout(self._deadline_s):
                    return await self._once(prepared, started)
            except (TimeoutError, openai.OpenAIError, ValueError) as error:
                fault = fault_of(
                    error,
                    key=self._key,
                    messages=prepared.call.messages,
                    timeout_s=self._deadline_s,
                )
            self._raise_if_general(fault)
            waits += fault.then == "wait"
            faults += fault.then == "retry"
            given_up = fault.then == "call" or faults > RETRIES or waits > _RATE_RETRIES
            if given_up or self._stopping:
                return Sent(Reply(prepared.key, fault.status, detail=fault.detail), completed=False)
            if self._server is not None and fault.then == "retry":
                await self._revive(url)
            await self._wait(fault, faults + waits)

    async def _once(self, prepared: Prepared, started: float) -> Sent:
        too_long = await self._too_long(prepared)
        if too_long:
            return Sent(Reply(prepared.key, "too_long", detail=too_long), completed=False)
        body = request_body(prepared, self._role)
        extra = {name: body.pop(name) for name in EXTRA_FIELDS if name in body}
        completion: Any = await self._client.chat.completions.create(**body, extra_body=extra)
        if not isinstance(completion, ChatCompletion):
            raise ValueError("not a chat completion")
        self._answered = self._reached = True
        return Sent(self._reply(prepared, completion, time.monotonic() - started), completed=True)

    def _hopeless(self, prepared: Prepared) -> str | None:
        """Why a prompt surely does not fit, where only its size is known.

        The embedded model's tokens are counted (``_too_long``). Elsewhere 8 bytes a token is
        more than any text of words has: what is refused here would not have fitted, and the
        endpoint itself refuses the rest.
        """
        if self._role.embedded:
            return None
        least = prepared.prompt_bytes // 8
        return self._misfit(prepared, f"at least {least}", least, self._role.context)

    async def _too_long(self, prepared: Prepared) -> str | None:
        """Why a prompt does not fit the embedded model; counted by the server where it is close."""
        if self._server is None:
            return None
        context = min(self._role.context, CONTEXT_PER_SLOT)
        # A token is at least one byte; the frame is the chat template's.
        frame = 8 * len(prepared.call.messages) + 40
        if prepared.prompt_bytes + frame + prepared.max_tokens <= context:
            return None
        counted: Any = await self._client.post(
            "/chat/completions/input_tokens",
            body={"messages": [dict(message) for message in prepared.call.messages]},
            cast_to=object,
        )
        tokens = int(counted["input_tokens"])
        return self._misfit(prepared, str(tokens), tokens, context)

    def _misfit(self, prepared: Prepared, said: str, tokens: int, context: int) -> str | None:
        if tokens + prepared.max_tokens <= context:
            return None
        return (
            f"the prompt has {said} tokens and the reply may have {prepared.max_tokens}, but the "
            f"{self._role_name}'s context is {context}; it was not sent"
        )

    def _reply(self, prepared: Prepared, completion: ChatCompletion, latency: float) -> Reply:
        usage = completion.usage
        prompt = usage.prompt_tokens if usage else 0
        generated = usage.completion_tokens if usage else 0
        choice = completion.choices[0] if completion.choices else None
        alternatives = _alternatives(choice) if choice and prepared.call.top_logprobs else ()
        status, detail, text = _judged(choice, prepared, alternatives)
        return Reply(
            reply_id=prepared.key,
            status=status,
            text=text,
            detail=detail,
            logprobs=alternatives,
            finish_reason=choice.finish_reason if choice else None,
            prompt_tokens=prompt,
            completion_tokens=generated,
            cost_usd=self._price.cost(prompt, generated) if self._price and usage else None,
            latency_s=latency,
        )

    def _raise_if_general(self, fault: Fault) -> None:
        """Stop the batch where every call would fail in the same way."""
        if not fault.unreachable:
            self._reached = True
        elif not self._reached and self._server is None:
            raise LLMError(
                f"{self._where()}: {fault.detail}; start the endpoint, or correct "
                f"roles.{self._role_name}.base_url ({self._role.base_url})"
            )
        if fault.then == "stop":
            raise LLMError(f"{self._where()}: {fault.detail}; {self._advice(fault)}")
        if fault.then == "call" and fault.status == "refused" and not self._answered:
            self._rejected += 1
            if self._rejected >= _REJECTED_AT_ONCE:
                raise LLMError(
                    f"{self._where()}: the first {self._rejected} requests were refused, the last "
                    f"with {fault.detail}; check roles.{self._role_name} (reading, structured, "
                    "temperature) against what the endpoint supports"
                )

    def _where(self) -> str:
        return f"{self._role_name}: {self._role.model} at {provider_of(self._role)}"

    def _advice(self, fault: Fault) -> str:
        role, name = self._role, self._role_name
        if fault.detail.startswith(("HTTP 401", "HTTP 403")):
            return f"check the key in {role.api_key_env} and what it may use"
        if fault.detail.startswith("HTTP 429"):
            return f"raise the quota of the account that {role.api_key_env} belongs to"
        return (
            f"check roles.{name}.model ({role.model}) and roles.{name}.base_url ({role.base_url})"
        )

    async def _wait(self, fault: Fault, tries: int) -> None:
        backoff = min(_FIRST_WAIT_S * 2 ** (tries - 1), _MOST_BACKOFF_S)
        wait = backoff * random.uniform(0.5, 1.0) if fault.wait_s is None else fault.wait_s
        if fault.then == "wait" and fault.wait_s is not None:
            # The limit is the key's, not the call's: all calls wait.
            self._resume_at = max(self._resume_at, time.monotonic() + wait)
        await asyncio.sleep(wait)

    async def _resumed(self) -> None:
        while (left := self._resume_at - time.monotonic()) > 0:
            await asyncio.sleep(left)

    async def _server_url(self) -> str:
        """URL of the living embedded server."""
        assert self._server is not None  # noqa: S101 (callers have checked; for the type checker)
        return f"{await asyncio.to_thread(self._server.url)}/v1"

    async def _revive(self, url: str) -> None:
        """Restart the embedded server if it died; one call does, the others find it living."""
        async with self._restarting:
            if str(self._client.base_url) == url:
                self._client.base_url = await self._server_url()


def _judged(
    choice: Choice | None, prepared: Prepared, alternatives: tuple[Any, ...]
) -> tuple[Status, str | None, str]:
    """Status, detail and text of a completed call."""
    if choice is None:
        return "refused", "the endpoint returned no choice", ""
    # JSON's escapes can spell half a character, which no file can hold.
    text = (choice.message.content or "").encode(errors="replace").decode()
    if choice.finish_reason == "content_filter":
        return "refused", "the provider's content filter stopped the reply", text
    if choice.message.refusal:
        return "refused", "the model refused", choice.message.refusal
    # Token probabilities are read at the first token, which a limit of one token does not cut.
    if choice.finish_reason == "length" and not alternatives:
        return "truncated", f"the reply was cut at {prepared.max_tokens} tokens", text
    if not text.strip() and not alternatives:
        return "refused", "the reply is empty", ""
    return "ok", None, text


def _alternatives(choice: Choice) -> tuple[tuple[tuple[str, float], ...], ...]:
    """For each token its alternatives, the chosen one included."""
    tokens = (choice.logprobs.content if choice.logprobs else None) or []
    found = []
    for token in tokens:
        listed = [(each.token, each.logprob) for each in token.top_logprobs]
        if token.token not in {name for name, _ in listed}:
            listed.append((token.token, token.logprob))
        found.append(tuple(pair for pair in listed if pair[1] is not None))
    return tuple(found)


def _api_key(role_name: str, role: Role) -> str:
    """The role's key, read now; empty where the endpoint is on this machine and needs none."""
    key = os.environ.get(role.api_key_env, "")
    if role.embedded:
        return ""
    if urlsplit(role.base_url).scheme not in ("http", "https"):
        raise LLMError(
            f"roles.{role_name}.base_url must begin with http:// or https://: {role.base_url!r}"
        )
    if not key and not _is_loopback(role.base_url):
        raise LLMError(
            f"{role_name}: no key for {provider_of(role)}; set the environment variable "
            f"{role.api_key_env} (or roles.{role_name}.api_key_env to the variable that holds it; "
            "any value where the endpoint needs none)"
        )
    return key


def _is_loopback(url: str) -> bool:
    host = urlsplit(url).hostname or ""
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def _quiet_loggers() -> None:
    """Keep the SDK's loggers at warnings: at debug level they write whole prompts."""
    for name in ("openai", "httpx", "httpx2", "httpcore", "httpcore2"):
        logger = logging.getLogger(name)
        logger.setLevel(max(logger.level, logging.WARNING))

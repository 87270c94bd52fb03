"""Makes the request of a call and its role, and the key that the reply is kept by."""

import math
from collections.abc import Collection, Mapping
from dataclasses import dataclass, replace
from typing import Any
from urllib.parse import urlsplit

from resources.llm.types import Call, reply_key
from resources.settings import EMBEDDED, Role, Structured

# llama.cpp lists alternatives before its grammar masks them, so a label may stand deep.
_EMBEDDED_ALTERNATIVES = 40
# OpenAI's and vLLM's limit.
_MOST_ALTERNATIVES = 20
TOOL = "reply"


@dataclass(frozen=True, slots=True)
class PreparedCall:
    """A call as its role asks for it, without the forms that the role does not use.

    ``key`` is the key of its reply; ``prompt_bytes`` are those of the messages' contents in UTF-8.
    """

    key: str
    call: Call
    max_tokens: int
    temperature: float
    prompt_bytes: int

    @property
    def least_prompt_tokens(self) -> int:
        """A lower bound of the prompt's tokens: no text of words has over 8 bytes a token."""
        return self.prompt_bytes // 8

    @property
    def most_prompt_tokens(self) -> int:
        """An upper bound of the prompt's tokens: a third of its bytes, and each message's frame.

        English has 4 to 5 bytes a token, Chinese and Japanese about 3.
        """
        return math.ceil(self.prompt_bytes / 3) + 8 * len(self.call.messages) + 8


def asked_form(role: Role) -> Structured:
    """How a role asks for a reply's form; what an endpoint has instead does not change keys."""
    return role.structured or ("grammar" if role.embedded else "json_schema")


def prepare(call: Call, role: Role) -> PreparedCall:
    """Fit a call to its role; the key follows from what is asked for, and from nothing else."""
    alternatives = call.top_logprobs
    if alternatives is not None:
        alternatives = (
            max(alternatives, _EMBEDDED_ALTERNATIVES)
            if role.embedded
            else min(alternatives, _MOST_ALTERNATIVES)
        )
    form = asked_form(role)
    grammar = call.grammar if form == "grammar" else None
    schema = call.json_schema if form in ("json_schema", "tool") else None
    if (grammar, schema, alternatives) != (call.grammar, call.json_schema, call.top_logprobs):
        call = replace(call, grammar=grammar, json_schema=schema, top_logprobs=alternatives)
    max_tokens = role.max_tokens if call.max_tokens is None else call.max_tokens
    temperature = role.temperature if call.temperature is None else call.temperature
    key = reply_key(
        role.model_label,
        call,
        max_tokens=max_tokens,
        temperature=temperature,
        tool=form == "tool" and schema is not None,
    )
    size = sum(len(message["content"].encode()) for message in call.messages)
    return PreparedCall(key, call, max_tokens, temperature, size)


def request_body(
    prepared: PreparedCall, role: Role, model: str, lacks: Collection[str] = ()
) -> dict[str, Any]:
    """Body of the chat completion request, without keys or headers.

    ``model`` is the name by which the endpoint knows the model, ``lacks`` what the endpoint does
    not have, as names of ``faults.FIELDS``.
    """
    call = prepared.call
    messages = [dict(message) for message in call.messages]
    body: dict[str, Any] = {"model": model, "messages": messages}
    if "temperature" not in lacks:
        body["temperature"] = prepared.temperature
    # OpenAI's newer models know only the newer name, most other servers only the older one.
    newer = (role.api_version is not None or is_openai(role.base_url)) != (
        "max_completion_tokens" in lacks or "max_tokens" in lacks
    )
    body["max_completion_tokens" if newer else "max_tokens"] = prepared.max_tokens
    if call.top_p is not None and "top_p" not in lacks:
        body["top_p"] = call.top_p
    if call.top_logprobs is not None and "logprobs" not in lacks:
        body |= {"logprobs": True, "top_logprobs": call.top_logprobs}
    if call.json_schema is not None:
        body |= held_to(call.json_schema, asked_form(role), lacks)
    if call.grammar is not None and "grammar" not in lacks:
        body["grammar"] = call.grammar
    # A seed matters above temperature 0 only. It comes from the key, so a rerun draws the same.
    if "seed" not in lacks and (prepared.temperature > 0 or role.embedded):
        body["seed"] = int(prepared.key[:7], 16)
    if role.embedded:
        body["cache_prompt"] = True
    return body


def sampling_of(body: Mapping[str, Any]) -> dict[str, Any]:
    """The fields of a request's body that decide how its reply is sampled, but model and prompt.

    A seed shows without its value, as each call has its own. The limit of tokens, which has two
    names among endpoints, shows as ``max_tokens``.
    """
    shown_as = {"max_completion_tokens": "max_tokens"}
    left_out = ("model", "messages", "cache_prompt", "logprobs")
    sampling = {shown_as.get(name, name): body[name] for name in body if name not in left_out}
    return {**sampling, "seed": "by call"} if "seed" in sampling else sampling


def is_openai(base_url: str) -> bool:
    """Whether a URL is OpenAI's own."""
    return urlsplit(base_url).hostname == "api.openai.com"


def provider_of(base_url: str) -> str:
    """Host of an endpoint, or ``embedded``."""
    return EMBEDDED if base_url == EMBEDDED else urlsplit(base_url).hostname or base_url


def held_to(schema: Mapping[str, Any], form: Structured, lacks: Collection[str]) -> dict[str, Any]:
    """Fields that hold a reply to a schema: a response format, else a forced tool call."""
    if form == "json_schema" and "json_schema" not in lacks:
        named_schema = {"name": TOOL, "schema": dict(schema), "strict": True}
        return {"response_format": {"type": "json_schema", "json_schema": named_schema}}
    if "tool" in lacks:
        return {}
    function = {"name": TOOL, "description": "Gives the reply.", "parameters": dict(schema)}
    return {
        "tools": [{"type": "function", "function": function}],
        "tool_choice": {"type": "function", "function": {"name": TOOL}},
    }

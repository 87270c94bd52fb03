"""From a call and its role to the request that is sent, and the key that it is kept by."""

import math
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any
from urllib.parse import urlsplit

from resources.llm.types import Call, reply_key
from resources.settings import EMBEDDED, Role

# llama.cpp lists alternatives before its grammar masks them, so a label may stand deep.
_EMBEDDED_ALTERNATIVES = 40
# OpenAI's and vLLM's limit.
_MOST_ALTERNATIVES = 20
# Bodies of llama.cpp only; the SDK sends them as they are.
EXTRA_FIELDS = ("grammar", "cache_prompt")


@dataclass(frozen=True)
class Prepared:
    """A call as its endpoint will get it.

    Attributes:
        key: Key of its reply in the store.
        call: The call with the role's defaults filled in and without what the endpoint has not.
        max_tokens: Most tokens of the reply.
        temperature: Sampling temperature.
        prompt_bytes: Bytes of the messages' contents in UTF-8.
    """

    key: str
    call: Call
    max_tokens: int
    temperature: float
    prompt_bytes: int

    @property
    def most_prompt_tokens(self) -> int:
        """No fewer than the tokens of the prompt: a third of its bytes, and each message's frame.

        English has 4 to 5 bytes a token, Chinese and Japanese about 3.
        """
        return math.ceil(self.prompt_bytes / 3) + 8 * len(self.call.messages) + 8


def prepare(call: Call, role: Role) -> Prepared:
    """Fit a call to its role; the key follows from what will be sent, and from nothing else."""
    alternatives = call.top_logprobs
    if alternatives is not None:
        alternatives = (
            max(alternatives, _EMBEDDED_ALTERNATIVES)
            if role.embedded
            else min(alternatives, _MOST_ALTERNATIVES)
        )
    structured = role.resolved_structured
    fitted = replace(
        call,
        grammar=call.grammar if structured == "grammar" else None,
        json_schema=call.json_schema if structured == "json_schema" else None,
        top_logprobs=alternatives,
    )
    max_tokens = role.max_tokens if call.max_tokens is None else call.max_tokens
    temperature = role.temperature if call.temperature is None else call.temperature
    key = reply_key(role.model_label, fitted, max_tokens=max_tokens, temperature=temperature)
    size = sum(len(message["content"].encode()) for message in call.messages)
    return Prepared(key, fitted, max_tokens, temperature, size)


def request_body(prepared: Prepared, role: Role) -> dict[str, Any]:
    """Body of the chat completion request, without keys or headers."""
    call = prepared.call
    # OpenAI's newer models know only the newer name, most other servers only the older one.
    limit = "max_completion_tokens" if is_openai(role) else "max_tokens"
    body: dict[str, Any] = {
        "model": role.model,
        "messages": [dict(message) for message in call.messages],
        "temperature": prepared.temperature,
        limit: prepared.max_tokens,
    }
    if call.top_p is not None:
        body["top_p"] = call.top_p
    if call.top_logprobs is not None:
        body |= {"logprobs": True, "top_logprobs": call.top_logprobs}
    if call.json_schema is not None:
        body["response_format"] = _response_format(call.json_schema)
    if call.grammar is not None:
        body["grammar"] = call.grammar
    if role.embedded:
        # The seed matters above temperature 0 only; from the key, so that a rerun draws the same.
        body |= {"cache_prompt": True, "seed": int(prepared.key[:7], 16)}
    return body


def is_openai(role: Role) -> bool:
    """Whether the role is served by OpenAI itself."""
    return urlsplit(role.base_url).hostname == "api.openai.com"


def provider_of(role: Role) -> str:
    """Host of the role's endpoint, or ``embedded``."""
    return EMBEDDED if role.embedded else urlsplit(role.base_url).hostname or role.base_url


def _response_format(schema: Mapping[str, Any]) -> dict[str, Any]:
    named = {"name": "reply", "schema": dict(schema), "strict": True}
    return {"type": "json_schema", "json_schema": named}

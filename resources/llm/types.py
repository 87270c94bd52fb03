"""What is sent to a language model and what comes back."""

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Generic, Literal, TypeVar, get_args

import orjson

Message = Mapping[str, str]
T = TypeVar("T")
Status = Literal["ok", "truncated", "refused", "garbled", "too_long", "failed"]
# A call that failed or did not fit is never kept: it would not be asked again.
KEPT = frozenset(get_args(Status)) - {"failed", "too_long"}


@dataclass(frozen=True, slots=True)
class Call:
    """One chat completion that a stage asks for, whether the store or the provider gives it.

    Attributes:
        messages: Rendered chat messages, ``{"role", "content"}`` each.
        prompt_version: Version of the prompt and its parser; kept with the reply, not in its key.
        max_tokens: Most tokens of the reply; ``None`` means the role's limit.
        temperature: ``None`` means the role's temperature.
        grammar: llama.cpp GBNF grammar that an endpoint with grammars holds the reply to.
        json_schema: JSON schema (an object at its top) that the endpoint holds the reply to, by a
            response format or as the arguments of a forced tool call.
        top_logprobs: How many alternatives of each token come with their log-probabilities.
        sample_index: Which of several replies to the same prompt this is.
        attempt: 0-based; a retry of an unusable reply has the next number and so another key.
    """

    messages: tuple[Message, ...]
    prompt_version: str
    max_tokens: int | None = None
    temperature: float | None = None
    top_p: float | None = None
    grammar: str | None = None
    json_schema: Mapping[str, Any] | None = None
    top_logprobs: int | None = None
    sample_index: int = 0
    attempt: int = 0


@dataclass(frozen=True, slots=True)
class Reply:
    """What came back for one call.

    Attributes:
        reply_id: Key in the reply store: hash of all that determines the reply.
        status: ``ok``; ``truncated`` at the token limit; ``too_long`` (the prompt does not fit the
            role's context and was not sent); ``refused`` (content filter or empty); ``garbled``
            (an answer that is no chat completion); ``failed`` (the provider's error).
        detail: Why the status is not ``ok``, for a person; never holds prompt text or keys.
        logprobs: For each generated token the alternatives as (token, log-probability).
        cost_usd: ``None`` where the model's price is unknown.
        stored: Whether it was read from the store and is not paid for now.
        cached_tokens: How many of the prompt's tokens the provider had in its cache.
        request_id: The provider's id of the request.
    """

    reply_id: str
    status: Status
    text: str = ""
    detail: str | None = None
    logprobs: tuple[tuple[tuple[str, float], ...], ...] = ()
    finish_reason: str | None = None
    prompt_tokens: int = 0
    completion_tokens: int = 0
    cost_usd: float | None = None
    latency_s: float = 0.0
    stored: bool = False
    cached_tokens: int = 0
    request_id: str | None = None


@dataclass(frozen=True)
class Usage:
    """What a stage's calls took; tokens and dollars are those of calls that were sent now.

    Some of the calls were answered from the store, some have no usable reply (``failed``). The cost
    is ``None`` where a price is unknown.
    """

    calls: int = 0
    stored: int = 0
    failed: int = 0
    prompt_tokens: int = 0
    completion_tokens: int = 0
    cost_usd: float | None = 0.0
    seconds: float = 0.0

    def __add__(self, more: "Usage") -> "Usage":
        """Add two usages; the sum's cost is unknown where one of theirs is."""
        known = self.cost_usd is not None and more.cost_usd is not None
        return Usage(
            calls=self.calls + more.calls,
            stored=self.stored + more.stored,
            failed=self.failed + more.failed,
            prompt_tokens=self.prompt_tokens + more.prompt_tokens,
            completion_tokens=self.completion_tokens + more.completion_tokens,
            cost_usd=(self.cost_usd or 0.0) + (more.cost_usd or 0.0) if known else None,
            seconds=self.seconds + more.seconds,
        )


@dataclass(frozen=True)
class Estimate:
    """What a stage's calls would take; tokens, dollars and seconds are those of calls to send.

    Tokens of replies are the most, or the measured mean where there is one. The cost is ``None``
    where the model's price is unknown, ``seconds`` are before any call of the model.
    """

    calls: int
    stored: int
    prompt_tokens: int
    completion_tokens: int
    cost_usd: float | None
    seconds: float | None


@dataclass(frozen=True)
class Outcome(Generic[T]):
    """One item's value after parsing and, where needed, retrying.

    The value is ``None`` where no attempt could be read; ``detail`` says why. The status is ``ok``,
    ``unparsable``, or the last reply's. ``attempts`` counts stored replies too; ``unusable`` has
    every attempt without a value, in order.
    """

    value: T | None
    status: str
    detail: str | None
    attempts: int
    reply: Reply = field(repr=False)
    unusable: tuple["UnusableReply", ...] = field(default=(), repr=False)


@dataclass(frozen=True, slots=True)
class UnusableReply:
    """One attempt (0-based) whose reply could not be used, and why.

    The status is ``unparsable``, or the reply's.
    """

    attempt: int
    status: str
    detail: str | None
    reply: Reply


def reply_key(
    model: str, call: Call, *, max_tokens: int, temperature: float, tool: bool = False
) -> str:
    """Key of a call's reply: SHA-256 (hex) of all that determines it.

    The call's alternatives and forms are those that its role asks for; ``tool`` says that its
    schema is that of a forced tool call. Provider, endpoint and prompt version are left out on
    purpose: failing over to another endpoint or renaming an unchanged prompt costs nothing.
    """
    determined_by: dict[str, Any] = {
        "model": model,
        "messages": call.messages,
        "max_tokens": max_tokens,
        "temperature": temperature,
        "top_p": call.top_p,
        "grammar": call.grammar,
        "json_schema": call.json_schema,
        "top_logprobs": call.top_logprobs,
        "sample_index": call.sample_index,
        "attempt": call.attempt,
    }
    if tool:
        determined_by["tool"] = True
    # orjson writes the same bytes as json.dumps without spaces, so older stores' keys hold.
    return hashlib.sha256(
        orjson.dumps(determined_by, default=dict, option=orjson.OPT_SORT_KEYS)
    ).hexdigest()

"""Reads a reply's parts from the decoded JSON of an endpoint's answer.

It reads plain dicts and not a client library's types: thousands of answers a second come through
here, and building typed objects of each would take longer than all else that is done with it.
"""

import json
import math
from dataclasses import dataclass
from typing import Any

import orjson

from resources.llm.prices import Price
from resources.llm.types import Reply, Status

Alternatives = tuple[tuple[tuple[str, float], ...], ...]

# An answer that is no completion is kept up to so many characters.
RAW_CHARACTERS = 100_000
_NO_COMPLETION = "the endpoint's answer is not a chat completion"
# A larger number is no count of tokens, and not every file could hold it.
_MOST_TOKENS = 2**53
# A float can't be smaller.
_LEAST_LOGPROB = -1e300


@dataclass(frozen=True, slots=True)
class Completion:
    """The parts of a chat completion that a reply needs; see ``Reply``.

    ``text`` always has a UTF-8 encoding. ``logprobs`` are natural logarithms, at most 0, and empty
    unless asked for. Where the provider did not say how many tokens there were (``has_usage``), the
    numbers are 0. ``provider_id`` is its id of the completion.
    """

    status: Status
    detail: str | None
    text: str
    logprobs: Alternatives
    finish_reason: str | None
    prompt_tokens: int
    completion_tokens: int
    has_usage: bool
    provider_id: str | None
    cached_tokens: int = 0

    def reply(
        self,
        key: str,
        price: Price | None,
        *,
        request_id: str | None,
        latency_s: float = 0.0,
        batch: bool = False,
    ) -> Reply:
        """The reply that is kept under a key, priced as a batch's where it was made in one.

        Its request id is the completion's id where the provider gave none for the request.
        """
        cost: float | None = None
        if price and self.has_usage:
            cost = price.cost(
                self.prompt_tokens,
                self.completion_tokens,
                cached_tokens=self.cached_tokens,
                batch=batch,
            )
        return Reply(
            reply_id=key,
            status=self.status,
            text=self.text,
            detail=self.detail,
            logprobs=self.logprobs,
            finish_reason=self.finish_reason,
            prompt_tokens=self.prompt_tokens,
            completion_tokens=self.completion_tokens,
            cost_usd=cost,
            latency_s=latency_s,
            cached_tokens=self.cached_tokens,
            request_id=request_id or self.provider_id,
        )


def decode(body: bytes) -> Any:
    """The value of a JSON body; ``None`` where it is none."""
    try:
        return orjson.loads(body)
    except orjson.JSONDecodeError:
        pass
    try:
        # orjson refuses half a character in JSON's escapes; the reply is good nonetheless.
        return json.loads(body)
    except (ValueError, RecursionError):
        return None


def is_error(answer: Any) -> bool:
    """Whether a decoded answer of status 200 is an error after all, as some gateways send them."""
    return isinstance(answer, dict) and bool(answer.get("error")) and "choices" not in answer


def read_completion(body: Any, *, max_tokens: int, wants_logprobs: bool) -> Completion:
    """Read a chat completion.

    The text is the message's content or, where a function was called, the first call's arguments:
    a forced call is one way to hold a reply to a schema. ``max_tokens`` is the request's limit, for
    the message about a reply that was cut. Token probabilities, where the request asked for them,
    are read at the first tokens, so with them a reply may be cut or blank.

    Raises:
        ValueError: The answer is not a chat completion; the message quotes nothing of it.
    """
    choices = body.get("choices") if isinstance(body, dict) else None
    if not isinstance(choices, list):
        raise ValueError(_NO_COMPLETION)
    finish_reason: str | None = None
    logprobs: Alternatives = ()
    if choices:
        choice = choices[0]
        message = choice.get("message") if isinstance(choice, dict) else None
        if not isinstance(message, dict):
            raise ValueError(_NO_COMPLETION)
        finish_reason = _string(choice.get("finish_reason"))
        if wants_logprobs:
            logprobs = _alternatives(choice.get("logprobs"))
        status, detail, text = _judged(message, finish_reason, max_tokens, bool(logprobs))
    else:
        status, detail, text = "refused", "the endpoint returned no choice", ""
    usage = body.get("usage")
    prompt = completion = None
    cached = 0
    if isinstance(usage, dict):
        prompt = _tokens(usage.get("prompt_tokens"))
        completion = _tokens(usage.get("completion_tokens"))
        details = usage.get("prompt_tokens_details")
        if isinstance(details, dict):
            cached = _tokens(details.get("cached_tokens")) or 0
    return Completion(
        status,
        detail,
        text,
        logprobs,
        finish_reason,
        prompt or 0,
        completion or 0,
        prompt is not None and completion is not None,
        _string(body.get("id")),
        cached,
    )


def encodable(text: str) -> str:
    """Replace each half character by ``?``: JSON can spell them, but no file can hold them."""
    if text.isascii():
        return text
    try:
        text.encode()
    except UnicodeEncodeError:
        return text.encode(errors="replace").decode()
    return text


def _judged(
    message: dict[str, Any], finish_reason: str | None, max_tokens: int, has_logprobs: bool
) -> tuple[Status, str | None, str]:
    """Status, detail and text of a completed call."""
    text = encodable(_text_of(message))
    if finish_reason == "content_filter":
        return "refused", "the provider's content filter stopped the reply", text
    refusal = message.get("refusal")
    if refusal:
        if not isinstance(refusal, str):
            raise ValueError(_NO_COMPLETION)
        return "refused", "the model refused", encodable(refusal)
    if not has_logprobs:
        if finish_reason == "length":
            return "truncated", f"the reply was cut at {max_tokens} tokens", text
        if not text or text.isspace():
            return "refused", "the reply is empty", ""
    return "ok", None, text


def _text_of(message: dict[str, Any]) -> str:
    """Arguments of the first function called, else the content, its parts joined."""
    calls = message.get("tool_calls")
    if calls:
        first = calls[0] if isinstance(calls, list) else None
        function = first.get("function") if isinstance(first, dict) else None
        text = function.get("arguments") if isinstance(function, dict) else None
    else:
        text = message.get("content") or ""
        if isinstance(text, list):
            text = "".join(map(_part, text))
    if not isinstance(text, str):
        raise ValueError(_NO_COMPLETION)
    return text


def _part(part: Any) -> str:
    """Text of a part of the content; empty for parts of other types, such as thoughts."""
    if not isinstance(part, dict):
        raise ValueError(_NO_COMPLETION)
    if part.get("type") != "text":
        return ""
    text = part.get("text")
    if not isinstance(text, str):
        raise ValueError(_NO_COMPLETION)
    return text


def _alternatives(logprobs: Any) -> Alternatives:
    """For each token its alternatives, the chosen one included, as far as they are well-formed.

    A reply without them can still be read as text, so here nothing is raised.
    """
    content = logprobs.get("content") if isinstance(logprobs, dict) else None
    return tuple(map(_alternatives_at, content)) if isinstance(content, list) else ()


def _alternatives_at(position: Any) -> tuple[tuple[str, float], ...]:
    if not isinstance(position, dict):
        return ()
    chosen = position.get("token")
    top = position.get("top_logprobs")
    entries = [entry for entry in top if isinstance(entry, dict)] if isinstance(top, list) else []
    if all(entry.get("token") != chosen for entry in entries):
        entries.append(position)
    return tuple(
        (encodable(token), logprob)
        for entry in entries
        if isinstance(token := entry.get("token"), str)
        and (logprob := _logprob(entry.get("logprob"))) is not None
    )


# isinstance takes JSON's truth values for ints; the exact types tell them apart at no cost.
def _logprob(value: Any) -> float | None:
    is_number = type(value) is float or type(value) is int
    if not is_number or not _LEAST_LOGPROB < value < math.inf:
        return None
    # Rounding can put a certain token above 0; its probability is 1.
    return float(value) if value < 0 else 0.0


def _tokens(value: Any) -> int | None:
    return value if type(value) is int and 0 <= value < _MOST_TOKENS else None


def _string(value: Any) -> str | None:
    return encodable(value) if isinstance(value, str) else None

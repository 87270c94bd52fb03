"""The replies behind verdicts, as they are kept, and whether they were changed since."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from resources.llm.completion import decode, read_completion
from resources.llm.database import storable
from resources.llm.store import ReplyStore
from resources.llm.types import Message, Reply
from resources.llm.upkeep import KeptReply, read_replies


@dataclass(frozen=True)
class Stored:
    """A kept reply.

    Attributes:
        reply: What came back.
        model: The model that replied.
        messages: What it was asked; empty where the request was not kept.
        request: The request's body; empty where it was not kept.
        readings: Status and value (JSON) by prompt version, as the stage read it then.
        changed: What is not as in the answer's body as it came; ``None`` where all is, or where
            the body was dropped.
    """

    reply: Reply
    model: str
    messages: tuple[Message, ...]
    request: Mapping[str, Any]
    readings: Mapping[str, tuple[str, str | None]]
    changed: str | None


def stored_replies(store: ReplyStore, keys: Iterable[str]) -> dict[str, Stored]:
    """Kept replies by key; keys without one are left out."""
    unique_keys = sorted(set(keys))
    replies = store.get_many(unique_keys)
    kept_replies = read_replies(store, unique_keys)
    return {
        key: _stored(reply, kept_replies[key])
        for key, reply in replies.items()
        if key in kept_replies
    }


def _stored(reply: Reply, kept: KeptReply) -> Stored:
    decoded = decode((kept.row["request"] or "").encode())
    request = decoded if isinstance(decoded, dict) else {}
    return Stored(
        reply,
        kept.row["model"],
        tuple(kept.messages),
        request,
        {each["prompt_version"]: (each["status"], each["value"]) for each in kept.readings},
        _changed(reply, kept),
    )


def _changed(reply: Reply, kept: KeptReply) -> str | None:
    if not kept.row["raw"] or reply.status == "garbled":
        return None
    try:
        completion = read_completion(
            decode(kept.row["raw"].encode()), max_tokens=0, wants_logprobs=bool(reply.logprobs)
        )
    except ValueError:
        return None
    parts = {
        "text": (storable(completion.text), reply.text),
        "status": (completion.status, reply.status),
        "token probabilities": (completion.logprobs if reply.logprobs else (), reply.logprobs),
    }
    return ", ".join(name for name, (came, there) in parts.items() if came != there) or None

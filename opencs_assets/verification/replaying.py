"""Judging once more from the kept replies alone, without a call.

The calls are built as judging builds them, from today's questions, answers and prompts. Where a
key has no reply, something that determines the key is not what it was.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Generic, TypeVar

from opencs_assets.verification.stored import Stored
from resources.llm.client import TRIED_AGAIN, outcome_of
from resources.llm.request import PreparedCall, prepare
from resources.llm.types import Call, Outcome, Reply, UnusableReply
from resources.settings import EMBEDDED, Role

Item = TypeVar("Item")
T = TypeVar("T")
Lookup = Callable[[Sequence[str]], Mapping[str, Stored]]


@dataclass(frozen=True)
class Replayed(Generic[T]):
    """What comes of an item by the kept replies.

    Attributes:
        asked: The last call.
        outcome: What was read; ``None`` where the last call has no kept reply.
    """

    asked: PreparedCall
    outcome: Outcome[T] | None


def replay(
    items: Sequence[Item],
    build: Callable[[Item, int, str | None], Call],
    read: Callable[[Reply, Call], T],
    look_up: Lookup,
    role: Role,
    attempts: int,
) -> list[Replayed[T]]:
    """Have each item's value from the kept replies, which ``look_up`` gives by key.

    ``build`` makes the call from item, attempt and why the attempt before had no value; ``role`` is
    the judge as it was asked, at most ``attempts`` times an item.
    """
    replayed: dict[int, Replayed[T]] = {}
    waiting: dict[int, tuple[str | None, tuple[UnusableReply, ...]]] = dict.fromkeys(
        range(len(items)), (None, ())
    )
    for attempt in range(attempts):
        asked = {
            number: prepare(build(items[number], attempt, reason), role)
            for number, (reason, _) in waiting.items()
        }
        kept = look_up([prepared.key for prepared in asked.values()])
        again: dict[int, tuple[str | None, tuple[UnusableReply, ...]]] = {}
        for number, prepared in asked.items():
            stored = kept.get(prepared.key)
            if stored is None:
                replayed[number] = Replayed(prepared, None)
                continue
            earlier = waiting[number][1]
            outcome = outcome_of(stored.reply, prepared.call, read, attempt + 1, earlier)
            replayed[number] = Replayed(prepared, outcome)
            if outcome.status in TRIED_AGAIN:
                again[number] = (outcome.detail, outcome.unusable)
        waiting = again
    return [replayed[number] for number in range(len(items))]


def judge_roles(label: str) -> list[Role]:
    """The judge of a label, in the ways in which it may have been asked.

    Grammars are part of a key where the role is set to use them.
    """
    if label.startswith(f"{EMBEDDED}:"):
        return [Role(), Role(structured="json_schema")]
    base_url = "http://judge"
    return [
        Role(base_url=base_url, model=label),
        Role(base_url=base_url, model=label, structured="grammar"),
    ]

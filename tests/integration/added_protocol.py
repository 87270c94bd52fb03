"""A judge protocol as another package adds one: its facts, prompt and what reads replies."""

from collections.abc import Sequence

from opencs_assets.protocols import words
from opencs_assets.protocols.protocol import PairProtocol
from opencs_assets.protocols.reading import PairReply, labelled, labels_of
from opencs_assets.protocols.tasks import PairTask
from resources.llm.types import Message, Reply


def messages(task: PairTask, reason: str | None) -> tuple[Message, ...]:
    asked = "Who is shorter without saying less? End with [[A]], [[B]], or [[C]] for both."
    return words.system_and_user(asked, words.conversations(task), reason)


def read(reply: Reply, asked: Sequence[Message]) -> PairReply:
    return labelled(labels_of(reply, asked)[-1])


BREVITY = PairProtocol(
    name="brevity",
    reading="generated",
    by_turn=True,
    default_rule="win_or_tie",
    sampling={"max_tokens": 64, "temperature": 0.0},
    messages=messages,
    parse=read,
    parser="last-label",
)

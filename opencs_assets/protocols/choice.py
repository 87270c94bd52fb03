"""``choice``: A, B or a tie, turn by turn, in the way of FastChat but in words of our own."""

from collections.abc import Sequence

from opencs_assets.protocols import words
from opencs_assets.protocols.protocol import PairProtocol
from opencs_assets.protocols.reading import PairReply, labelled, labels_of
from opencs_assets.protocols.tasks import PairTask
from resources.llm.errors import Unparsable
from resources.llm.types import Message, Reply

# Reasons come before the verdict here, and a reply that is cut has none.
_TOKENS = 1024
_ASKED = (
    " First give your reasons in a few sentences. Then, on a last line of its own, write your "
    "verdict: [[A]] if assistant A is better, [[B]] if assistant B is better, [[C]] for a tie."
)
_LAST = " Judge the answers to the last question; what comes before it is context."


def _messages(task: PairTask, reason: str | None) -> tuple[Message, ...]:
    last = _LAST if len(task.asked) > 1 else ""
    system = words.PAIR + _ASKED + last + words.pair_reference(task)
    return words.system_and_user(system, words.conversations(task), reason)


def read_label(reply: Reply, asked: Sequence[Message]) -> PairReply:
    """The one verdict that the reply's own words say.

    Raises:
        Unparsable: They hold none, or several.
    """
    labels = labels_of(reply, asked)
    if len(labels) > 1:
        raise Unparsable("the reply has several verdicts, not one of [[A]], [[B]] and [[C]]")
    return labelled(labels[0])


CHOICE = PairProtocol(
    name="choice",
    reading="generated",
    by_turn=True,
    # FastChat's own rule.
    default_rule="both_agree",
    sampling={"max_tokens": _TOKENS, "temperature": 0.0},
    messages=_messages,
    parse=read_label,
    parser="one-label/no-echo",
)

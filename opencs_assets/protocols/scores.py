"""``scores``: two scores from 1 to 10, of two whole conversations."""

from collections.abc import Sequence

from opencs_assets.protocols import words
from opencs_assets.protocols.protocol import PairProtocol
from opencs_assets.protocols.reading import HIGH, LOW, SCALE, PairReply, own_words, scored
from opencs_assets.protocols.tasks import PairTask
from resources.llm.readings import parse_score_pair
from resources.llm.types import Message, Reply

_ASKED = (
    " On the first line write two scores from 1 to 10, assistant A's and assistant B's, as two "
    "numbers with a space between them; then one or two sentences of reasons."
)


def _messages(task: PairTask, reason: str | None) -> tuple[Message, ...]:
    system = words.PAIR + _ASKED + words.pair_reference(task)
    return words.system_and_user(system, words.conversations(task), reason)


def read_scores(reply: Reply, asked: Sequence[Message]) -> PairReply:
    """The two scores that the reply's own words say; only equal ones are a tie.

    Raises:
        Unparsable: They hold no two scores from 1 to 10.
    """
    return scored(*parse_score_pair(SCALE.sub(" ", own_words(reply.text, asked)), LOW, HIGH))


SCORES = PairProtocol(
    name="scores",
    reading="generated",
    by_turn=False,
    # The rule of two-score reviews.
    default_rule="win_or_tie",
    sampling={"max_tokens": words.SCORE_TOKENS, "temperature": 0.0},
    messages=_messages,
    parse=read_scores,
    parser="scores-1..10/no-echo",
    low=LOW,
    high=HIGH,
)

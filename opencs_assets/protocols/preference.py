"""``preference``: the probability of a label for two whole conversations, as in AlpacaEval.

The prompt is short, since it is made for a small model.
"""

import math
from collections.abc import Sequence

from opencs_assets.protocols import words
from opencs_assets.protocols.protocol import TOP_LOGPROBS, PairProtocol
from opencs_assets.protocols.reading import HIGH, LOW, PairReply, scored
from opencs_assets.protocols.tasks import PairTask
from resources.llm.readings import preference
from resources.llm.types import Message, Reply

_ASKED = (
    "Which assistant answers better: more helpful, relevant and accurate? "
    "Answer with the letter A or B only."
)
_MOST_ODDS = 50.0


def _messages(task: PairTask, _: str | None) -> tuple[Message, ...]:
    return words.user(f"{words.conversations(task)}\n\n{_ASKED}")


def read_preference(reply: Reply, _: Sequence[Message]) -> PairReply:
    """Scores 1 + 9p and 1 + 9(1 - p), with p the probability of ``A`` against ``B``.

    Raises:
        Unparsable: Neither label is among the reply's token probabilities.
    """
    odds = max(-_MOST_ODDS, min(_MOST_ODDS, preference(reply, words.LABELS)))
    share = 1 / (1 + math.exp(-odds))
    return scored(LOW + (HIGH - LOW) * share, LOW + (HIGH - LOW) * (1 - share))


PREFERENCE = PairProtocol(
    name="preference",
    reading="logprobs",
    by_turn=False,
    # A small model's letters follow position nearly always, so that the other rules would call
    # everything a tie; its probabilities tell the two models apart.
    default_rule="sum_of_scores",
    sampling={
        "max_tokens": 1,
        "temperature": 0.0,
        "grammar": 'root ::= "A" | "B"',
        "top_logprobs": TOP_LOGPROBS,
    },
    messages=_messages,
    parse=read_preference,
    parser="log-odds-A-B",
    low=LOW,
    high=HIGH,
)

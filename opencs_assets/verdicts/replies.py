"""What a judge's reply says: a score, two scores, or who is better.

A judge may repeat what it was asked, examples such as ``[[5]]`` and scales such as ``1 to 10``
included, and so may what it judges. Only what stands outside of the repeated words is read; what
can't be read is ``Unparsable``, neither a score nor a tie.
"""

import math
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Literal

from opencs_assets.verdicts.prompts import LABELS
from resources.llm.errors import Unparsable
from resources.llm.readings import expected_number, parse_score, parse_score_pair, preference
from resources.llm.types import Message, Reply
from resources.settings import JudgePromptFamily, PairProtocol, Reading

LOW, HIGH = 1.0, 10.0
# One token must hold the whole rating: 10 would take two.
DIGITS = (1, 9)
# Versions of what reads replies, by protocol and prompts; part of the version of the prompts.
PARSERS = {
    ("single", "own"): "score-1..10/digit-1..9/no-echo",
    ("scores", "own"): "scores-1..10/no-echo",
    ("choice", "own"): "one-label/no-echo",
    ("preference", "own"): "log-odds-A-B",
    ("single", "fastchat"): "fastchat-rating-1..10/no-echo",
    ("choice", "fastchat"): "fastchat-label/no-echo",
}
# Words and marks in a row that are the prompt's, not the judge's; shorter runs occur by chance.
# Marks count by themselves, so that an echo may end within ``"Rating: [[5]]".``.
_ECHO = 20
_TOKEN = re.compile(r"\w+|[^\w\s]")
# "1 to 10", "1 (useless) to 10", "1-10", "between 1 and 10": the scale, not two scores.
_SCALE = re.compile(
    r"(?<![\d.])(?:1\s*(?:\([^)\n]*\)\s*)?(?:to|-|–|—)|between\s+1\s+and)\s*10\b(?!\.\d)"
)
_LABEL = re.compile(r"\[\[([ABC])\]\]")
_BETTER: dict[str, Literal["first", "second", "tie"]] = {"A": "first", "B": "second", "C": "tie"}
# FastChat's one_score_pattern and its backup.
_RATINGS = (re.compile(r"\[\[(\d+\.?\d*)\]\]"), re.compile(r"\[(\d+\.?\d*)\]"))


@dataclass(frozen=True)
class PairReply:
    """What a judge says of two conversations, in the order shown.

    Attributes:
        better: Which one is better.
        first: Score in [1, 10] of the one shown first, where scores were asked for.
        second: Score of the one shown second, likewise.
    """

    better: Literal["first", "second", "tie"]
    first: float | None = None
    second: float | None = None


def read_single(
    reply: Reply,
    asked: Sequence[Message],
    reading: Reading,
    family: JudgePromptFamily = "own",
) -> float:
    """The score in [1, 10].

    Reading ``logprobs``, it is the expected value over the digits 1 to 9, mapped linearly onto
    [1, 10].

    Args:
        reply: The reply.
        asked: The messages that it replies to.
        reading: Whether text or token probabilities are read.
        family: Whose prompt was asked; of FastChat's it is the first ``[[rating]]``, else the
            first ``[rating]``.

    Raises:
        Unparsable: The reply holds no such score.
    """
    if reading == "logprobs":
        low, high = DIGITS
        return LOW + (HIGH - LOW) * (expected_number(reply, low, high) - low) / (high - low)
    own = own_words(reply.text, asked)
    if family == "own":
        return parse_score(_SCALE.sub(" ", own), LOW, HIGH)
    found = next((match for each in _RATINGS if (match := each.search(own))), None)
    if found is None:
        raise Unparsable("the reply has no [[rating]]")
    score = float(found[1])
    if not LOW <= score <= HIGH:
        raise Unparsable(f"the rating is not between {LOW:g} and {HIGH:g}")
    return score


def read_pair(
    reply: Reply,
    asked: Sequence[Message],
    protocol: PairProtocol,
    family: JudgePromptFamily = "own",
) -> PairReply:
    """Who is better, and of ``scores`` and ``preference`` two scores in [1, 10].

    Of ``preference``, with p the probability of ``A`` against ``B``, they are 1 + 9p and
    1 + 9(1 - p).

    Args:
        reply: The reply.
        asked: The messages that it replies to.
        protocol: What was asked for.
        family: Whose prompt was asked; of FastChat's, where several labels stand there, A goes
            before B before the tie, as in its ``run_judge_pair``.

    Raises:
        Unparsable: The reply does not say it.
    """
    if protocol == "preference":
        odds = max(-50.0, min(50.0, preference(reply, LABELS)))
        share = 1 / (1 + math.exp(-odds))
        return _scored(LOW + (HIGH - LOW) * share, LOW + (HIGH - LOW) * (1 - share))
    own = own_words(reply.text, asked)
    if protocol == "scores":
        return _scored(*parse_score_pair(_SCALE.sub(" ", own), LOW, HIGH))
    labels = sorted(set(_LABEL.findall(own)))
    if not labels:
        raise Unparsable("the reply has no [[A]], [[B]] or [[C]]")
    if len(labels) > 1 and family == "own":
        raise Unparsable("the reply has several verdicts, not one of [[A]], [[B]] and [[C]]")
    return PairReply(_BETTER[labels[0]])


def own_words(text: str, asked: Sequence[Message]) -> str:
    """The text with what it repeats of the prompt blanked out.

    Args:
        text: A reply.
        asked: The messages that it replies to.

    Returns:
        The text, in which each run of 20 and more words and marks that stands in a message, too, is
        blank; lines stay.

    Raises:
        Unparsable: Nothing is left.
    """
    tokens = list(_TOKEN.finditer(text))
    echoed = [False] * len(tokens)
    if len(tokens) >= _ECHO:
        known = {run for each in asked for run in _runs(_TOKEN.findall(each["content"]))}
        for start, run in enumerate(_runs([token[0] for token in tokens])):
            if run in known:
                echoed[start : start + _ECHO] = [True] * _ECHO
    if not any(echoed):
        return text
    if all(echoed):
        raise Unparsable("the reply repeats the prompt and says nothing else")
    left = list(text)
    for token, blank in zip(tokens, echoed, strict=True):
        if blank:
            left[token.start() : token.end()] = " " * len(token[0])
    return "".join(left)


def _runs(tokens: list[str]) -> Iterator[tuple[str, ...]]:
    """All runs of ``_ECHO`` tokens, by their first."""
    return zip(*(tokens[at:] for at in range(_ECHO)), strict=False)


def _scored(first: float, second: float) -> PairReply:
    """Only equal scores are a tie."""
    if first == second:
        return PairReply("tie", first, second)
    return PairReply("first" if first > second else "second", first, second)

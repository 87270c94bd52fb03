"""What a judge's reply says, as far as protocols share it: its own words, labels and scores.

A judge may repeat what it was asked, examples such as ``[[5]]`` and scales such as ``1 to 10``
included, and so may what it judges. Only what stands outside of the repeated words is read; what
can't be read is ``Unparsable``, neither a score nor a tie.
"""

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

from resources.llm.errors import Unparsable
from resources.llm.types import Message, Reply

LOW, HIGH = 1.0, 10.0
# "1 to 10", "1 (useless) to 10", "1-10", "between 1 and 10": the scale, not two scores.
SCALE = re.compile(
    r"(?<![\d.])(?:1\s*(?:\([^)\n]*\)\s*)?(?:to|-|–|—)|between\s+1\s+and)\s*10\b(?!\.\d)"
)
# Words and marks in a row that are the prompt's, not the judge's; shorter runs occur by chance.
# Marks count by themselves, so that an echo may end within ``"Rating: [[5]]".``.
_ECHO = 20
_TOKEN = re.compile(r"\w+|[^\w\s]")
_LABEL = re.compile(r"\[\[([ABC])\]\]")

Better = Literal["first", "second", "tie"]
_BETTER: Mapping[str, Better] = {"A": "first", "B": "second", "C": "tie"}


@dataclass(frozen=True)
class PairReply:
    """What a judge says of two conversations, in the order shown: the better, scores in [1, 10]."""

    better: Better
    first: float | None = None
    second: float | None = None


def scored(first: float, second: float) -> PairReply:
    """What two scores say; only equal ones are a tie."""
    if first == second:
        return PairReply("tie", first, second)
    return PairReply("first" if first > second else "second", first, second)


def labels_of(reply: Reply, asked: Sequence[Message]) -> list[str]:
    """The labels A, B and C that stand as ``[[A]]`` in the reply's own words, each once, sorted.

    Raises:
        Unparsable: There is none.
    """
    labels = sorted(set(_LABEL.findall(own_words(reply.text, asked))))
    if not labels:
        raise Unparsable("the reply has no [[A]], [[B]] or [[C]]")
    return labels


def labelled(label: str) -> PairReply:
    """What a label says: A the first, B the second, C a tie."""
    return PairReply(_BETTER[label])


def own_words(text: str, asked: Sequence[Message]) -> str:
    """A reply, in which each run of 20 and more words and marks of the prompt is blank.

    Lines stay.

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

"""What a reply says: numbers and preferences from token probabilities, scores and lists from text.

Pure functions that every stage reads replies with. What can't be read is ``Unparsable`` and
becomes a missing value; no reading ever guesses a score.
"""

import ast
import json
import math
import re
from collections.abc import Iterator, Sequence
from typing import Any

from resources.llm.errors import Unparsable
from resources.llm.types import Reply

__all__ = [
    "Unparsable",
    "expected_number",
    "parse_json_list",
    "parse_score",
    "parse_score_pair",
    "preference",
]

_NUMBER = r"(?<![\w.])[-+]?\d+(?:\.\d+)?(?![\w]|\.\d)"
_OUT_OF = r"\s*(?:/|out of)\s*(\d+(?:\.\d+)?)"
_SCORE_WORD = r"(?:score|rating)"
_BRACKETED = re.compile(rf"\[\[\s*({_NUMBER})\s*\]\]")
_NAMED = re.compile(
    rf"\b{_SCORE_WORD}\b[\"'*]*\s*(?:is|[:=])\s*[\"'*]*\s*({_NUMBER})(?:{_OUT_OF})?", re.IGNORECASE
)
_WHOLE_LINE = re.compile(rf"[\s*\"'(\[]*({_NUMBER})(?:{_OUT_OF})?[\s*\"')\].]*")
_NUMBERS = re.compile(_NUMBER)
_DENOMINATOR = re.compile(_OUT_OF)
_CLOSES = {"[": "]", "{": "}"}


def preference(reply: Reply, labels: tuple[str, str] = ("A", "B")) -> float:
    """Log-odds of the first label against the second: log p(first) - log p(second).

    Read from the first token's alternatives, whose probabilities are summed over the variants of
    a label ("A", " A"). A label that is not listed is at most as likely as the least likely
    alternative that is, and gets that probability: the magnitude is then a lower bound.

    Raises:
        Unparsable: No alternatives, or neither label is among them.
    """
    alternatives = _first_alternatives(reply)
    found = [
        _log_sum([logprob for token, logprob in alternatives if token.strip() == label])
        for label in labels
    ]
    if all(value is None for value in found):
        raise Unparsable(f"neither {labels[0]} nor {labels[1]} is among the likely first tokens")
    least = min(logprob for _, logprob in alternatives)
    first, second = (least if value is None else value for value in found)
    return first - second


def expected_number(reply: Reply, low: int, high: int) -> float:
    """Expected value over the whole numbers in [low, high] that the first token may be.

    Probabilities are renormalized over the numbers that are listed. A number of several tokens is
    not seen: keep to ranges of single digits.

    Raises:
        Unparsable: No alternatives, or no number of the range is among them.
    """
    weights: dict[int, float] = {}
    for token, logprob in _first_alternatives(reply):
        text = token.strip()
        if text.isascii() and text.isdigit() and low <= int(text) <= high:
            weights[int(text)] = weights.get(int(text), 0.0) + math.exp(logprob)
    total = sum(weights.values())
    if total <= 0:
        raise Unparsable(f"no number from {low} to {high} is among the likely first tokens")
    expected = sum(number * weight for number, weight in weights.items()) / total
    return min(max(expected, low), high)


def parse_score(text: str, low: float, high: float) -> float:
    """One score in [low, high] that was written as text.

    Read as, in this order: ``[[7]]``; JSON with ``score`` or ``rating``; ``Score: 7`` or
    ``Rating: 7/10``; the first line that holds a number alone (``7``, ``7/10``). A number within a
    sentence is not a score.

    Raises:
        Unparsable: No score, one out of range, or one out of another maximum.
    """
    bracketed = _BRACKETED.search(text)
    if bracketed:
        return _in_range(float(bracketed[1]), low, high)
    from_json = _json_score(text)
    if from_json is not None:
        return _in_range(from_json, low, high)
    found = _NAMED.search(text) or _number_line(text)
    if found is None:
        raise Unparsable("the reply has no score")
    if found[2] is not None and float(found[2]) != high:
        raise Unparsable(f"the score is out of {found[2]}, not out of {high:g}")
    return _in_range(float(found[1]), low, high)


def parse_score_pair(text: str, low: float, high: float) -> tuple[float, float]:
    """Two scores in [low, high]: the first line that holds exactly two numbers.

    Numbers that stand after a colon are preferred, so that ``Sample 1: 80, Sample 2: 65`` is read
    as 80 and 65; a denominator (``8/10 7/10``) is passed over where it is the range's end.

    Raises:
        Unparsable: No such line, or a score out of range or out of another maximum.
    """
    for line in text.splitlines():
        bare = _without_denominators(line, high)
        numbers = _NUMBERS.findall(bare)
        if len(numbers) != 2:
            numbers = re.findall(rf":\s*[*\"']*\s*({_NUMBER})", bare)
        if len(numbers) == 2:
            first, second = (_in_range(float(number), low, high) for number in numbers)
            return first, second
    raise Unparsable("the reply has no line with two scores")


def parse_json_list(text: str) -> list[Any]:
    """The first JSON list in a text; a single object counts as a list of one.

    Code fences and text around it are passed over, and a list in Python's quotes is read too.

    Raises:
        Unparsable: No list or object, or one that is cut off.
    """
    for start, end in _bracketed_spans(text):
        value = _decoded(text[start:end])
        if isinstance(value, list):
            return value
        if isinstance(value, dict):
            return [value]
    raise Unparsable("the reply has no complete JSON list")


def _first_alternatives(reply: Reply) -> Sequence[tuple[str, float]]:
    if not reply.logprobs or not reply.logprobs[0]:
        raise Unparsable(
            "the endpoint returned no token probabilities; set the role's reading to 'generated'"
        )
    return reply.logprobs[0]


def _log_sum(logprobs: Sequence[float]) -> float | None:
    """Logarithm of the summed probabilities; ``None`` of none."""
    if not logprobs:
        return None
    most = max(logprobs)
    return most + math.log(sum(math.exp(logprob - most) for logprob in logprobs))


def _in_range(value: float, low: float, high: float) -> float:
    if not low <= value <= high:
        raise Unparsable(f"a score is not between {low:g} and {high:g}")
    return value


def _json_score(text: str) -> float | None:
    if "{" not in text:
        return None
    for start, end in _bracketed_spans(text):
        value = _decoded(text[start:end])
        if isinstance(value, dict):
            for name in ("score", "rating"):
                number = value.get(name)
                if isinstance(number, int | float) and not isinstance(number, bool):
                    return float(number)
    return None


def _number_line(text: str) -> re.Match[str] | None:
    matches = (_WHOLE_LINE.fullmatch(line) for line in text.splitlines())
    return next((match for match in matches if match), None)


def _without_denominators(line: str, high: float) -> str:
    for found in _DENOMINATOR.findall(line):
        if float(found) != high:
            raise Unparsable(f"a score is out of {found}, not out of {high:g}")
    return _DENOMINATOR.sub("", line)


def _bracketed_spans(text: str) -> Iterator[tuple[int, int]]:
    """Outermost bracketed stretches, left to right; nothing after one that never closes."""
    position = 0
    while True:
        found = re.compile(r"[\[{]").search(text, position)
        end = _matching_end(text, found.start()) if found else None
        if found is None or end is None:
            return
        yield found.start(), end
        position = end


def _matching_end(text: str, start: int) -> int | None:
    """Position after the bracket that closes the one at ``start``; ``None`` where it is cut off."""
    expected: list[str] = []
    in_string = escaped = False
    for position in range(start, len(text)):
        character = text[position]
        if in_string:
            in_string = escaped or character != '"'
            escaped = character == "\\" and not escaped
        elif character == '"':
            in_string = True
        elif character in _CLOSES:
            expected.append(_CLOSES[character])
        elif expected and character == expected[-1]:
            expected.pop()
            if not expected:
                return position + 1
    return None


def _decoded(text: str) -> Any:
    """The value of JSON, or of a Python literal; ``None`` where it is neither."""
    try:
        return json.loads(text)
    except (ValueError, RecursionError):
        pass
    try:
        return ast.literal_eval(text)
    except (ValueError, SyntaxError, TypeError, MemoryError, RecursionError):
        return None

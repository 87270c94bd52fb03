"""What a reply says: numbers and preferences from token probabilities, scores and lists from text.

Pure functions that every stage reads replies with. What can't be read is ``Unparsable`` and
becomes a missing value; no reading ever guesses a score.
"""

import ast
import json
import math
import re
from collections.abc import Collection, Iterator, Sequence
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
_DIGITS = "0123456789"
# Tokens that need not show in the text: blanks, and marks such as <|im_end|>, </s> and [EOS].
_UNSEEN = re.compile(r"\s*|<[^<>]*>|\[[^\[\]]*\]")
# Most doubt that a reading may leave, as a share of the range: half the distance between the least
# and the greatest expected value.
_MOST_DOUBT = 0.05


def preference(reply: Reply, labels: tuple[str, str] = ("A", "B")) -> float:
    """Log-odds of the first label against the second: log p(first) - log p(second).

    Read from the first token's alternatives, whose probabilities are summed over the variants of
    a label ("A", " A"). Where that token begins both labels ("Sample" of "Sample A" and "Sample
    B"), they are read at the first token that tells them apart. A label that is not listed is at
    most as likely as the least likely alternative that is, and gets that probability: the
    magnitude is then a lower bound.

    Args:
        reply: The reply with its token probabilities.
        labels: The labels, neither of them empty.

    Raises:
        Unparsable: No alternatives, neither label is among them, or the tokens end before they
            tell the labels apart.
    """
    _need_probabilities(reply)
    for written, alternatives, came in _steps(reply):
        meant = _labels_by_token(written, [token for token, _ in alternatives], labels)
        by_label: dict[str, list[float]] = {label: [] for label in labels}
        for token, logprob in alternatives:
            if len(meant[token]) == 1:
                by_label[meant[token][0]].append(logprob)
        found = [_log_sum(logprobs) for logprobs in by_label.values()]
        is_listed = found != [None, None]
        if came is not None and meant[came] == labels and (came.strip() or not is_listed):
            continue
        if not is_listed:
            raise Unparsable(
                f"neither {labels[0]} nor {labels[1]} is among the likely first tokens"
            )
        least = min(logprob for _, logprob in alternatives)
        first, second = (least if value is None else value for value in found)
        return first - second
    raise Unparsable(
        f"the tokens do not tell {labels[0]} from {labels[1]}; labels that begin differently do, "
        "or the reading 'generated'"
    )


def expected_number(reply: Reply, low: int, high: int) -> float:
    """Expected value over the whole numbers in [low, high] that the reply may begin with.

    Probabilities are renormalized over what is listed. Where numbers are of several tokens, the
    generated tokens are followed: each token's alternatives tell how likely the number goes on in
    which way, or ends. A number that begins otherwise ("9", which 90 begins with too) is spread
    over all that it may become. With ranges of single digits the first token tells all.

    Args:
        reply: The reply with its token probabilities.
        low: Least number, at least 0.
        high: Greatest number.

    Raises:
        Unparsable: No alternatives, no number of the range among them, or the expected value is
            not known to within 5 % of the range.
    """
    _need_probabilities(reply)
    weights: dict[tuple[int, ...], float] = {}
    for numbers, weight in _numbers(reply, low, high):
        weights[numbers] = weights.get(numbers, 0.0) + weight
    total = sum(weights.values())
    if total <= 0:
        raise Unparsable(f"no number from {low} to {high} is among the likely first tokens")
    doubt = sum((numbers[-1] - numbers[0]) * weight for numbers, weight in weights.items())
    if doubt / total / 2 > _MOST_DOUBT * (high - low):
        raise Unparsable(
            f"the token probabilities do not tell the numbers from {low} to {high} apart; the "
            "reading 'generated' does, or a range of single digits"
        )
    expected = sum(_mean(numbers) * weight for numbers, weight in weights.items()) / total
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


def _need_probabilities(reply: Reply) -> None:
    if not reply.logprobs or not reply.logprobs[0]:
        raise Unparsable(
            "the endpoint returned no token probabilities; set the role's reading to 'generated'"
        )


def _steps(reply: Reply) -> Iterator[tuple[str, Sequence[tuple[str, float]], str | None]]:
    """Along the generated tokens: what is written before, the alternatives, and which one came.

    Ends after the first token of which is not known which one came.
    """
    path = _generated(reply)
    written = ""
    for position, alternatives in enumerate(reply.logprobs):
        came = path[position] if position < len(path) else None
        yield written, alternatives, came
        if came is None:
            return
        written = _joined(written, came)


def _generated(reply: Reply) -> tuple[str, ...]:
    """The generated tokens, as far as the text tells: the alternatives are not marked.

    Where the text can be made of the listed tokens in several ways ("10" of one token and an end
    mark, or of "1" and "0"), it is the likeliest.
    """
    text = reply.text.lstrip()
    # The likeliest tokens so far, by the length of the text that they make.
    ways: dict[int, tuple[float, tuple[str, ...]]] = {0: (0.0, ())}
    for alternatives in reply.logprobs:
        longer: dict[int, tuple[float, tuple[str, ...]]] = {}
        for length, (likelihood, tokens) in ways.items():
            for token, logprob in alternatives:
                reached = _matched(text, length, token)
                likelier = likelihood + logprob
                if reached is not None and likelier > longer.get(reached, (-math.inf,))[0]:
                    longer[reached] = (likelier, (*tokens, token))
        if not longer:
            break
        ways = longer
    return ways[max(ways)][1]


def _matched(text: str, length: int, token: str) -> int | None:
    """Length of text after a token that comes at ``length``; ``None`` where it can't come there."""
    if length == len(text):
        return length if _UNSEEN.fullmatch(token) else None
    piece = token if length else token.lstrip()
    return length + len(piece) if text.startswith(piece, length) else None


def _joined(written: str, token: str) -> str:
    return written + token if written else token.lstrip()


def _labels_by_token(
    written: str, tokens: Sequence[str], labels: tuple[str, str]
) -> dict[str, tuple[str, ...]]:
    """By token the labels that it completes or that may come of it, after what is written."""
    texts = [_joined(written, token) for token in tokens]
    stripped = [text.strip() for text in texts]
    # No part of a label that is listed as one token is a beginning of it: the tokenizer would have
    # used that token.
    begun = [label for label in labels if label not in stripped]
    initials = {label[0] for label in labels}
    meant: dict[str, tuple[str, ...]] = dict.fromkeys(tokens, ())
    for token, text, word in zip(tokens, texts, stripped, strict=True):
        if not text:
            # Blank before the first word: any label may come.
            meant[token] = labels
            continue
        if text[0] not in initials:
            continue
        # An end mark without text adds nothing to what is written, but ends it.
        fitting = [label for label in begun if label.startswith(text)] if token else []
        if token and word in labels:
            fitting.append(word)
        if written and not fitting and not token[:1].isalnum():
            fitting = [label for label in labels if written.strip() == label]
        meant[token] = labels if len(fitting) == 2 else tuple(fitting)
    return meant


def _numbers(reply: Reply, low: int, high: int) -> Iterator[tuple[tuple[int, ...], float]]:
    """Shares of probability, each with the numbers (ascending) that it may belong to."""
    steps = _steps(reply) if high > 9 else iter([("", reply.logprobs[0], None)])
    share, digits = 1.0, ""
    numbers: tuple[int, ...] = ()
    for position, (written, alternatives, came) in enumerate(steps):
        # Later tokens' probabilities are shares of what is left after the tokens before.
        listed = sum(math.exp(logprob) for _, logprob in alternatives) if position else 1.0
        if listed <= 0:
            break
        weights = _weights(written, alternatives)
        whole = {spelled for spelled, _ in weights}
        followed = None if came is None else _digits(written, came)
        goes_on: tuple[float, str, tuple[int, ...]] | None = None
        for (spelled, ended), weight in weights.items():
            part = share * weight / listed
            possible = _may_become(spelled, low, high, ended=ended, whole=whole)
            is_open = not ended and (len(possible) > 1 or not spelled)
            if is_open and (spelled, ended) == followed:
                goes_on = part, spelled, possible
            elif possible:
                yield possible, part
        if goes_on is None:
            return
        share, digits, numbers = goes_on
    # No later token tells how likely the number ended here; the text may tell that it did.
    rest = reply.text.lstrip()[len(digits) :]
    over = not rest[0].isdigit() if rest else reply.finish_reason == "stop"
    if over:
        numbers = _may_become(digits, low, high, ended=True)
    if numbers:
        yield numbers, share


def _weights(
    written: str, alternatives: Sequence[tuple[str, float]]
) -> dict[tuple[str, bool], float]:
    """Probability by the digits so far and whether they end there."""
    weights: dict[tuple[str, bool], float] = {}
    for token, logprob in alternatives:
        number = _digits(written, token)
        if number is not None:
            # Variants of a token (" 1", "1") are taken to go on alike.
            weights[number] = weights.get(number, 0.0) + math.exp(logprob)
    return weights


def _digits(written: str, token: str) -> tuple[str, bool] | None:
    """The number's digits with a token added, and whether it ends there.

    Args:
        written: The digits before the token.
        token: The token; blank before the first digit adds nothing.

    Returns:
        ``None`` where no number begins with the token.
    """
    if written:
        rest = token.lstrip(_DIGITS)
        return written + token[: len(token) - len(rest)], bool(rest) or not token
    text = token.lstrip()
    digits = text.rstrip()
    if digits.isascii() and digits.isdigit():
        return digits, len(digits) < len(text)
    return ("", False) if token and not text else None


def _may_become(
    digits: str, low: int, high: int, *, ended: bool, whole: Collection[str] = ()
) -> tuple[int, ...]:
    """Numbers in [low, high], ascending, that begin with the digits.

    A tokenizer that has "10" as one token does not spell it "1" and "0", but one that has "10"
    need not have "11": of the longer numbers only those are left out that stand in ``whole``, the
    numbers made by single tokens of the same list.

    Args:
        digits: Decimal digits; none begin no number.
        low: Least number.
        high: Greatest number.
        ended: Whether no digit follows.
        whole: Numbers that the digits surely don't go on to.
    """
    value = digits.lstrip("0") or digits[:1]
    if not value or len(value) > len(str(high)):
        return ()
    number = int(value)
    found = [number] if low <= number <= high else []
    # After a leading zero no number is spelled.
    if ended or digits.startswith("0"):
        return tuple(found)
    least, most = number * 10, number * 10 + 9
    while least <= high:
        longer = range(max(least, low), min(most, high) + 1)
        found += [each for each in longer if str(each) not in whole]
        least, most = least * 10, most * 10 + 9
    return tuple(found)


def _mean(numbers: Sequence[int]) -> float:
    return sum(numbers) / len(numbers)


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

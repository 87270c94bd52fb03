"""Reads replies: numbers and preferences from token probabilities, scores and lists from text.

Every stage reads its replies with these pure functions. A reply that can't be read is
``Unparsable`` and becomes a missing value; no reading ever guesses a score.
"""

import ast
import json
import math
import re
from collections.abc import Collection, Iterator, Sequence
from typing import Any

from resources.llm.errors import Unparsable
from resources.llm.types import Reply

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
_OPENS = re.compile(r"[\[{]")
_CLOSES = {"[": "]", "{": "}"}
_DIGITS = "0123456789"
# These tokens need not show in the text: blanks, and marks such as <|im_end|>, </s> and [EOS].
_UNSEEN = re.compile(r"\s*|<[^<>]*>|\[[^\[\]]*\]")
# A reading may leave this much doubt, as a share of the range: half the distance between the least
# and the greatest value that the expected value may have.
_MOST_DOUBT = 0.05


def preference(reply: Reply, labels: tuple[str, str] = ("A", "B")) -> float:
    """Log-odds of the first label against the second: log p(first) - log p(second).

    The first token's alternatives give the labels' probabilities, which are summed over the
    variants of a label ("A", " A"). Where that token begins both labels ("Sample" of "Sample A" and
    "Sample B"), the first token that tells them apart does. A label that is not listed is at most
    as likely as the least likely alternative that is, and gets that probability: the magnitude is
    then a lower bound. Neither label may be empty.

    Raises:
        Unparsable: No alternatives, neither label is among them, or the tokens end before they
            tell the labels apart.
    """
    _need_probabilities(reply)
    for written, alternatives, chosen in _steps(reply):
        meant = _labels_by_token(written, [token for token, _ in alternatives], labels)
        by_label: dict[str, list[float]] = {label: [] for label in labels}
        for token, logprob in alternatives:
            if len(meant[token]) == 1:
                by_label[meant[token][0]].append(logprob)
        sums = [_log_sum(logprobs) for logprobs in by_label.values()]
        is_listed = sums != [None, None]
        if chosen is not None and meant[chosen] == labels and (chosen.strip() or not is_listed):
            continue
        if not is_listed:
            raise Unparsable(
                f"neither {labels[0]} nor {labels[1]} is among the likely first tokens"
            )
        least = min(logprob for _, logprob in alternatives)
        first, second = (least if value is None else value for value in sums)
        return first - second
    raise Unparsable(
        f"the tokens do not tell {labels[0]} from {labels[1]}; labels that begin differently do, "
        "or the reading 'generated'"
    )


def expected_number(reply: Reply, low: int, high: int) -> float:
    """Expected value over the whole numbers in [low, high] that the reply may begin with.

    Probabilities are renormalized over the listed alternatives. Where numbers have several tokens,
    the generated tokens are followed: each token's alternatives tell how likely the number goes on
    in which way, or ends. The probability of another beginning ("9", with which 90 begins too) is
    spread over all numbers that it may become. In a range of single digits the first token tells
    all. The least number is at least 0.

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
    means = (sum(numbers) / len(numbers) * weight for numbers, weight in weights.items())
    expected = sum(means) / total
    return min(max(expected, low), high)


def parse_score(text: str, low: float, high: float) -> float:
    """One score in [low, high] that was written as text.

    It is read, in this order, as ``[[7]]``; JSON with ``score`` or ``rating``; ``Score: 7`` or
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
    match = _NAMED.search(text) or _number_line(text)
    if match is None:
        raise Unparsable("the reply has no score")
    score, maximum = match.groups()
    if maximum is not None and float(maximum) != high:
        raise Unparsable(f"the score is out of {maximum}, not out of {high:g}")
    return _in_range(float(score), low, high)


def parse_score_pair(text: str, low: float, high: float) -> tuple[float, float]:
    """Two scores in [low, high], of the first line that holds exactly two numbers.

    In a line with other numbers, those after a colon count, so that ``Sample 1: 80, Sample 2: 65``
    is read as 80 and 65. A denominator (``8/10 7/10``) is passed over where it is the range's end.

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
    """Along the generated tokens: the text before, the alternatives, and the one that came.

    The steps end after the first token of which the text does not show which alternative came.
    """
    path = _generated(reply)
    written = ""
    for position, alternatives in enumerate(reply.logprobs):
        chosen = path[position] if position < len(path) else None
        yield written, alternatives, chosen
        if chosen is None:
            return
        written = _joined(written, chosen)


def _generated(reply: Reply) -> tuple[str, ...]:
    """The generated tokens, as far as the text shows which alternatives came.

    Where the text can be made of the listed tokens in several ways ("10" of one token and an end
    mark, or of "1" and "0"), the likeliest way counts.
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
    """By token the labels that it completes or may lead to, after the text before it."""
    texts = [_joined(written, token) for token in tokens]
    stripped = [text.strip() for text in texts]
    # A label that is listed as one token does not begin with a part of it: the tokenizer would have
    # used the whole token.
    begun = [label for label in labels if label not in stripped]
    initials = {label[0] for label in labels}
    meant: dict[str, tuple[str, ...]] = dict.fromkeys(tokens, ())
    for token, text, word in zip(tokens, texts, stripped, strict=True):
        if not text:
            # Any label may follow a blank before the first word.
            meant[token] = labels
            continue
        if text[0] not in initials:
            continue
        # An end mark without text adds nothing to the text before it, but ends it.
        fitting = [label for label in begun if label.startswith(text)] if token else []
        if token and word in labels:
            fitting.append(word)
        if written and not fitting and not token[:1].isalnum():
            fitting = [label for label in labels if written.strip() == label]
        meant[token] = labels if len(fitting) == 2 else tuple(fitting)
    return meant


def _numbers(reply: Reply, low: int, high: int) -> Iterator[tuple[tuple[int, ...], float]]:
    """Shares of probability, each after the numbers (ascending) to which it may belong."""
    steps = _steps(reply) if high > 9 else iter([("", reply.logprobs[0], None)])
    share, digits = 1.0, ""
    numbers: tuple[int, ...] = ()
    for position, (written, alternatives, chosen) in enumerate(steps):
        # A later token's probabilities are shares of the probability that the tokens before left.
        listed = sum(math.exp(logprob) for _, logprob in alternatives) if position else 1.0
        if listed <= 0:
            break
        weights = _weights(written, alternatives)
        whole = {spelled for spelled, _ in weights}
        followed = None if chosen is None else _digits(written, chosen)
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
    # No later token tells how likely the number ended here, but the text may show that it did.
    rest = reply.text.lstrip()[len(digits) :]
    has_ended = not rest[0].isdigit() if rest else reply.finish_reason == "stop"
    if has_ended:
        numbers = _may_become(digits, low, high, ended=True)
    if numbers:
        yield numbers, share


def _weights(
    written: str, alternatives: Sequence[tuple[str, float]]
) -> dict[tuple[str, bool], float]:
    """Probability of the digits so far, by whether the number ends with them."""
    weights: dict[tuple[str, bool], float] = {}
    for token, logprob in alternatives:
        number = _digits(written, token)
        if number is not None:
            # Variants of a token (" 1", "1") count as one, as if they went on alike.
            weights[number] = weights.get(number, 0.0) + math.exp(logprob)
    return weights


def _digits(written: str, token: str) -> tuple[str, bool] | None:
    """The number's digits with a token added, and whether the number ends there.

    A blank before the first digit adds nothing. ``None`` means that no number begins with the
    token.
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
    need not have "11". So the longer numbers leave out only those in ``whole``, which single tokens
    of the same list make. No number begins with an empty text, and ``ended`` says that no further
    digit follows.
    """
    value = digits.lstrip("0") or digits[:1]
    if not value or len(value) > len(str(high)):
        return ()
    number = int(value)
    numbers = [number] if low <= number <= high else []
    # A leading zero is followed by no longer number.
    if ended or digits.startswith("0"):
        return tuple(numbers)
    least, most = number * 10, number * 10 + 9
    while least <= high:
        longer = range(max(least, low), min(most, high) + 1)
        numbers += [number for number in longer if str(number) not in whole]
        least, most = least * 10, most * 10 + 9
    return tuple(numbers)


def _log_sum(logprobs: Sequence[float]) -> float | None:
    """Logarithm of the summed probabilities; ``None`` where there are none."""
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
    for maximum in _DENOMINATOR.findall(line):
        if float(maximum) != high:
            raise Unparsable(f"a score is out of {maximum}, not out of {high:g}")
    return _DENOMINATOR.sub("", line)


def _bracketed_spans(text: str) -> Iterator[tuple[int, int]]:
    """Outermost bracketed spans, left to right, up to one that never closes."""
    position = 0
    while bracket := _OPENS.search(text, position):
        end = _matching_end(text, bracket.start())
        if end is None:
            return
        yield bracket.start(), end
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

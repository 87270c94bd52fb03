"""Merging the verdicts of two orders into one outcome of a question.

A judge prefers what it is shown first, so each pair is judged in both orders. The rules are named,
because they give different numbers. The warehouse counts by the same rules in SQL.
"""

from collections.abc import Callable, Mapping
from typing import Literal

Winner = Literal["a", "b", "tie"]
Result = Literal["win", "lose", "tie", "unparsable"]

DEFAULT_RULE = "win_or_tie"


def both_agree(first: Winner | None, second: Winner | None) -> Result:
    """FastChat's rule: a win only if both orders name the same winner, otherwise a tie.

    Args:
        first: Winner where model a was shown first; ``None`` where it could not be read.
        second: Winner where model b was shown first, swapped back.

    Returns:
        The outcome for model a; ``unparsable`` where an order could not be read.
    """
    if first is None or second is None:
        return "unparsable"
    if first == second and first != "tie":
        return "win" if first == "a" else "lose"
    return "tie"


def win_or_tie(first: Winner | None, second: Winner | None) -> Result:
    """The common rule of two scores: a win if it wins both, or wins one and ties the other.

    Args:
        first: Winner where model a was shown first; ``None`` where it could not be read.
        second: Winner where model b was shown first, swapped back.

    Returns:
        The outcome for model a; ``unparsable`` where an order could not be read.
    """
    if first is None or second is None:
        return "unparsable"
    named = {first, second} - {"tie"}
    if len(named) == 1:
        return "win" if named == {"a"} else "lose"
    return "tie"


RULES: Mapping[str, Callable[[Winner | None, Winner | None], Result]] = {
    "win_or_tie": win_or_tie,
    "both_agree": both_agree,
}

"""Merging the verdicts of two orders into one outcome of a question.

A judge prefers what it is shown first, so each pair is judged in both orders. The rules are named,
because they give different numbers. The warehouse counts by the same rules in SQL.
"""

from collections.abc import Callable, Mapping
from typing import Literal, NamedTuple

from opencs_assets.protocols.protocol import PairProtocol
from opencs_assets.protocols.reading import PairReply
from opencs_assets.protocols.tasks import JudgedQuestion, PairTask, Side
from resources.llm.types import Outcome

Winner = Literal["a", "b", "tie"]
Result = Literal["win", "lose", "tie", "unparsable"]


class Verdict(NamedTuple):
    """One order's verdict, already swapped back; scores are there where they were asked for."""

    winner: Winner
    score_a: float | None = None
    score_b: float | None = None


# From the verdict where model a was shown first, and the one where b was, to the outcome for a.
# It is ``unparsable`` where one of them is ``None``, as it could not be read.
Rule = Callable[[Verdict | None, Verdict | None], Result]


def both_agree(first: Verdict | None, second: Verdict | None) -> Result:
    """FastChat's rule: a win only if both orders name the same winner, otherwise a tie."""
    if first is None or second is None:
        return "unparsable"
    if first.winner == second.winner and first.winner != "tie":
        return "win" if first.winner == "a" else "lose"
    return "tie"


def win_or_tie(first: Verdict | None, second: Verdict | None) -> Result:
    """The common rule of two scores: a win if it wins both, or wins one and ties the other."""
    if first is None or second is None:
        return "unparsable"
    named = {first.winner, second.winner} - {"tie"}
    if len(named) == 1:
        return "win" if named == {"a"} else "lose"
    return "tie"


def sum_of_scores(first: Verdict | None, second: Verdict | None) -> Result:
    """A win if its scores of both orders add up to more.

    What position is worth adds to each model once, and cancels out. With scores from a label's
    probability it is the sign of the difference of the two orders' log-odds. Verdicts without
    scores are ``unparsable``.
    """
    if first is None or second is None:
        return "unparsable"
    if None in (first.score_a, first.score_b, second.score_a, second.score_b):
        return "unparsable"
    a = (first.score_a or 0) + (second.score_a or 0)
    b = (first.score_b or 0) + (second.score_b or 0)
    if a == b:
        return "tie"
    return "win" if a > b else "lose"


RULES: Mapping[str, Rule] = {
    "win_or_tie": win_or_tie,
    "both_agree": both_agree,
    "sum_of_scores": sum_of_scores,
}


def merged_outcomes(
    outcomes: Mapping[PairTask, Outcome[PairReply]], protocol: PairProtocol
) -> dict[JudgedQuestion, list[Result]]:
    """By question, the outcome for model a of each turn, by the protocol's default rule."""
    rule = RULES[protocol.default_rule]
    orders: dict[JudgedQuestion, dict[int, dict[Side, Verdict]]] = {}
    for task, outcome in outcomes.items():
        turns = orders.setdefault(task.question, {}).setdefault(task.turn, {})
        if outcome.value is not None:
            turns[task.shown_first] = swapped_back(outcome.value, task.shown_first)
    return {
        question: [rule(each.get("a"), each.get("b")) for each in turns.values()]
        for question, turns in orders.items()
    }


def swapped_back(reply: PairReply, shown_first: Side) -> Verdict:
    """What is said of the order shown, said of models a and b."""
    second_shown: Side = "b" if shown_first == "a" else "a"
    winners: dict[str, Winner] = {"first": shown_first, "second": second_shown, "tie": "tie"}
    scores = (reply.first, reply.second) if shown_first == "a" else (reply.second, reply.first)
    return Verdict(winners[reply.better], *scores)

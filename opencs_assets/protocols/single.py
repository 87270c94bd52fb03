"""``single``: a score from 1 to 10 of one answer, turn by turn, in the way of MT-Bench.

Where text is read, a number and reasons are asked for; where token probabilities are, one digit.
"""

from collections.abc import Mapping, Sequence

from opencs_assets.protocols import words
from opencs_assets.protocols.protocol import TOP_LOGPROBS, SingleProtocol
from opencs_assets.protocols.reading import HIGH, LOW, SCALE, own_words
from opencs_assets.protocols.tasks import SingleTask
from resources.llm.readings import expected_number, parse_score
from resources.llm.types import Message, Reply
from resources.settings import Reading

# One token must hold the whole rating: 10 would take two.
DIGITS = (1, 9)

_ASKED = (
    "You judge an assistant's answer to a user: is it helpful, relevant, accurate, deep and "
    "detailed enough? Length alone is no merit. On the first line write one score from 1 "
    "(useless) to 10 (excellent), the number only; then one or two sentences of reasons."
)
_LAST = " Judge the last answer; what comes before it is context."
_REFERENCE = " The reference answer is right: mark where the answer departs from it."
_DIGIT = "How good is the {which}, from 1 (useless) to 9 (excellent)? One digit only."


def _shown(task: SingleTask) -> str:
    parts = [
        f"Question: {question}\n\nAnswer: {words.shown_answer(answer)}"
        for question, answer in zip(task.asked, task.answers or (), strict=True)
    ]
    reference = words.last_reference(task.asked, task.references)
    if reference:
        parts.insert(-1, "Reference answer to the last question: " + reference)
    return "\n\n".join(parts)


def _generated_messages(task: SingleTask, reason: str | None) -> tuple[Message, ...]:
    last = _LAST if len(task.asked) > 1 else ""
    reference = _REFERENCE if shows_reference(task) else ""
    return words.system_and_user(_ASKED + last + reference, _shown(task), reason)


def _digit_messages(task: SingleTask, _: str | None) -> tuple[Message, ...]:
    which = "last answer" if len(task.asked) > 1 else "answer"
    return words.user(f"{_shown(task)}\n\n{_DIGIT.format(which=which)}")


def shows_reference(task: SingleTask) -> bool:
    """Whether the judge is shown a reference answer to the last question."""
    return bool(words.last_reference(task.asked, task.references))


def read_score(reply: Reply, asked: Sequence[Message]) -> float:
    """The score in [1, 10] that the reply's own words say.

    Raises:
        Unparsable: They hold none.
    """
    return parse_score(SCALE.sub(" ", own_words(reply.text, asked)), LOW, HIGH)


def read_digit(reply: Reply, _: Sequence[Message]) -> float:
    """The expected value over the digits 1 to 9, mapped linearly onto [1, 10]."""
    low, high = DIGITS
    return LOW + (HIGH - LOW) * (expected_number(reply, low, high) - low) / (high - low)


SINGLE: Mapping[Reading, SingleProtocol] = {
    "generated": SingleProtocol(
        name="single",
        variant="-generated",
        reading="generated",
        by_turn=True,
        sampling={"max_tokens": words.SCORE_TOKENS, "temperature": 0.0},
        messages=_generated_messages,
        parse=read_score,
        parser="score-1..10/digit-1..9/no-echo",
        low=LOW,
        high=HIGH,
        shows_reference=shows_reference,
    ),
    "logprobs": SingleProtocol(
        name="single",
        variant="-logprobs",
        reading="logprobs",
        by_turn=True,
        sampling={
            "max_tokens": 1,
            "temperature": 0.0,
            "grammar": "root ::= [1-9]",
            "top_logprobs": TOP_LOGPROBS,
        },
        messages=_digit_messages,
        parse=read_digit,
        parser="score-1..10/digit-1..9/no-echo",
        low=LOW,
        high=HIGH,
        shows_reference=shows_reference,
    ),
}

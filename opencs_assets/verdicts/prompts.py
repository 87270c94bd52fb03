"""What the judge is shown and asked, in the project's own words.

Where text is read, numbers or a verdict and reasons are asked for; where token probabilities are,
one digit or letter. The latter is short, since it is made for a small model.
"""

from collections.abc import Sequence

from resources.llm.types import Message
from resources.settings import PairProtocol

LABELS = ("A", "B")
NOTHING = "(no words)"

_SINGLE = (
    "You judge an assistant's answer to a user: is it helpful, relevant, accurate, deep and "
    "detailed enough? Length alone is no merit. On the first line write one score from 1 "
    "(useless) to 10 (excellent), the number only; then one or two sentences of reasons."
)
_SINGLE_LAST = " Judge the last answer; what comes before it is context."
_SINGLE_REFERENCE = " The reference answer is right: mark where the answer departs from it."
_PAIR = (
    "You judge two assistants that answered the same user: which is more helpful, relevant, "
    "accurate and detailed? Neither their order nor length alone may count."
)
_SCORES = (
    " On the first line write two scores from 1 to 10, assistant A's and assistant B's, as two "
    "numbers with a space between them; then one or two sentences of reasons."
)
_CHOICE = (
    " First give your reasons in a few sentences. Then, on a last line of its own, write your "
    "verdict: [[A]] if assistant A is better, [[B]] if assistant B is better, [[C]] for a tie."
)
_CHOICE_LAST = " Judge the answers to the last question; what comes before it is context."
_PAIR_REFERENCE = " The reference answers are right: mark where an answer departs from them."
_SINGLE_DIGIT = "How good is the {which}, from 1 (useless) to 9 (excellent)? One digit only."
_PAIR_LETTER = (
    "Which assistant answers better: more helpful, relevant and accurate? "
    "Answer with the letter A or B only."
)


def single_messages(
    questions: Sequence[str],
    answers: Sequence[str],
    references: Sequence[str],
    *,
    generated: bool,
    reason: str | None = None,
) -> tuple[Message, ...]:
    """Ask for the score of the last answer.

    Args:
        questions: What the user asked, up to the turn that is judged.
        answers: The answers to them.
        references: Reference answers to them; the last one is shown, where it is not empty.
        generated: Whether numbers and reasons are asked for, or one digit.
        reason: Why the reply before could not be read.
    """
    parts = [
        f"Question: {question}\n\nAnswer: {_said(answer)}"
        for question, answer in zip(questions, answers, strict=True)
    ]
    reference = last_reference(questions, references)
    if reference:
        parts.insert(-1, "Reference answer to the last question: " + reference)
    shown = "\n\n".join(parts)
    if not generated:
        which = "last answer" if len(answers) > 1 else "answer"
        return _user(f"{shown}\n\n{_SINGLE_DIGIT.format(which=which)}")
    system = (
        _SINGLE
        + (_SINGLE_LAST if len(answers) > 1 else "")
        + (_SINGLE_REFERENCE if reference else "")
    )
    return _system_and_user(system, shown, reason)


def pair_messages(
    protocol: PairProtocol,
    questions: Sequence[str],
    first: Sequence[str],
    second: Sequence[str],
    references: Sequence[str],
    *,
    reason: str | None = None,
) -> tuple[Message, ...]:
    """Ask which of two assistants answered better.

    Args:
        protocol: ``scores`` and ``preference`` ask about the whole conversation, ``choice`` about
            the answers to the last question.
        questions: What the user asked, up to the turn that is judged.
        first: Answers of the assistant that is shown first, as A.
        second: Answers of the other, shown as B.
        references: Reference answers; those that are not empty are shown.
        reason: Why the reply before could not be read.
    """
    parts = [_numbered("Questions", questions)]
    known = any(map(str.strip, references))
    if known:
        parts.append(_numbered("Reference answers", references))
    parts += [
        _numbered(f"Assistant {label}'s answers", [_said(answer) for answer in answers])
        for label, answers in zip(LABELS, (first, second), strict=True)
    ]
    shown = "\n\n".join(parts)
    if protocol == "preference":
        return _user(f"{shown}\n\n{_PAIR_LETTER}")
    last = _CHOICE_LAST if protocol == "choice" and len(questions) > 1 else ""
    asked = _CHOICE if protocol == "choice" else _SCORES
    return _system_and_user(
        _PAIR + asked + last + (_PAIR_REFERENCE if known else ""), shown, reason
    )


def last_reference(questions: Sequence[str], references: Sequence[str]) -> str:
    """Reference of the last question; empty where there is none (files hold empty ones too)."""
    found = references[len(questions) - 1 : len(questions)]
    return found[0] if found and found[0].strip() else ""


def repeated(reason: str) -> str:
    """What a prompt ends with when the reply before could not be read."""
    return f"\n\n(The last reply could not be used: {reason}.)"


def _numbered(title: str, texts: Sequence[str]) -> str:
    lines = [f"{turn}. {text}" for turn, text in enumerate(texts, 1) if text.strip()]
    return "\n".join([f"[{title}]", *lines])


def _said(answer: str) -> str:
    return answer.strip() or NOTHING


def _user(content: str) -> tuple[Message, ...]:
    return ({"role": "user", "content": content},)


def _system_and_user(system: str, shown: str, reason: str | None) -> tuple[Message, ...]:
    repeat = repeated(reason) if reason else ""
    return (
        {"role": "system", "content": system},
        {"role": "user", "content": shown + repeat},
    )

"""Pieces of what the judge is shown, in the project's own words, which protocols share."""

from collections.abc import Sequence

from opencs_assets.protocols.tasks import PairTask
from resources.llm.types import Message

LABELS = ("A", "B")
NOTHING = "(no words)"
# Scores stand before their reasons, so that a reply that is cut still has them.
SCORE_TOKENS = 256
PAIR = (
    "You judge two assistants that answered the same user: which is more helpful, relevant, "
    "accurate and detailed? Neither their order nor length alone may count."
)
_PAIR_REFERENCE = " The reference answers are right: mark where an answer departs from them."


def conversations(task: PairTask) -> str:
    """The questions, the references that are not empty, and both models' answers."""
    parts = [_numbered("Questions", task.asked)]
    if _has_reference(task):
        parts.append(_numbered("Reference answers", task.references))
    parts += [
        _numbered(f"Assistant {label}'s answers", [shown_answer(answer) for answer in answers])
        for label, answers in zip(LABELS, task.shown, strict=True)
    ]
    return "\n\n".join(parts)


def pair_reference(task: PairTask) -> str:
    """What the judge is told of the reference answers; empty where none is shown."""
    return _PAIR_REFERENCE if _has_reference(task) else ""


def last_reference(questions: Sequence[str], references: Sequence[str]) -> str:
    """Reference of the last question; empty where there is none (files hold empty ones too)."""
    last = references[len(questions) - 1 : len(questions)]
    return last[0] if last and last[0].strip() else ""


def shown_answer(answer: str) -> str:
    """An answer as the judge is shown it; an empty one is said to be empty."""
    return answer.strip() or NOTHING


def repeated(reason: str) -> str:
    """What a prompt ends with when the reply before could not be read."""
    return f"\n\n(The last reply could not be used: {reason}.)"


def user(content: str) -> tuple[Message, ...]:
    """One message of the user."""
    return ({"role": "user", "content": content},)


def system_and_user(system: str, shown: str, reason: str | None) -> tuple[Message, ...]:
    """What is asked, then what is shown; at its end why the reply before could not be read."""
    repeat = repeated(reason) if reason else ""
    return (
        {"role": "system", "content": system},
        {"role": "user", "content": shown + repeat},
    )


def _has_reference(task: PairTask) -> bool:
    return any(map(str.strip, task.references))


def _numbered(title: str, texts: Sequence[str]) -> str:
    lines = [f"{turn}. {text}" for turn, text in enumerate(texts, 1) if text.strip()]
    return "\n".join([f"[{title}]", *lines])

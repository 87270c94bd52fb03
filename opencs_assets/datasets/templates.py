"""Prompt templates that published data carries inside the user's turn.

A selection saved as training text often holds the prompt around each question. Left there, training
would apply a second template over it, and the tagger would see the same words in every sample. One
template is one entry in ``TEMPLATES``.
"""

import re
from dataclasses import dataclass
from typing import Final

_ALPACA_TASK = r"Below is an instruction that describes a task"
_ALPACA_REQUEST = r"Write a response that appropriately completes the request\.\s*### Instruction:"
_VICUNA = (
    r"A chat between a curious (?:user|human) and an artificial intelligence assistant\.\s+"
    r"The assistant gives helpful, detailed, and polite answers to the (?:user|human)'s questions\."
)


@dataclass(frozen=True)
class Template:
    """One known prompt template.

    Attributes:
        name: What is recorded in the sample's ``template``.
        head: What the text starts with; the question begins where it ends.
        tail: What the prompt ends with; published sets often lack it.
        separator: What stands between the question and its context, where there is one.
        needs_tail: Whether a text without the tail is left alone, because the head by itself could
            be a person's heading.
    """

    name: str
    head: re.Pattern[str]
    tail: str
    separator: str | None = None
    needs_tail: bool = False

    def inside(self, text: str) -> str | None:
        """Return what the template surrounds, or None where the text is not in this template."""
        text = text.strip()
        start = self.head.match(text)
        if start is None:
            return None
        body = text[start.end() :]
        if body.endswith(self.tail):
            body = body.removesuffix(self.tail)
        elif self.needs_tail:
            return None
        if self.separator is None:
            return body.strip()
        question, _, context = body.partition(self.separator)
        return join_context(question, context)


def _head(pattern: str) -> re.Pattern[str]:
    return re.compile(pattern)


TEMPLATES: Final[tuple[Template, ...]] = (
    # Stanford Alpaca, train.py: PROMPT_DICT; published sets also have it on one line.
    Template("alpaca", _head(rf"{_ALPACA_TASK}\.\s+{_ALPACA_REQUEST}"), "### Response:"),
    Template(
        "alpaca_input",
        _head(
            rf"{_ALPACA_TASK}, paired with an input that provides further context\.\s+"
            rf"{_ALPACA_REQUEST}"
        ),
        "### Response:",
        separator="### Input:",
    ),
    # FastChat, conversation.py: vicuna_v1.1 and the older v0 system prompt.
    Template("vicuna_v1.1", _head(rf"{_VICUNA}\s+USER:"), "ASSISTANT:"),
    Template("vicuna_v0", _head(rf"{_VICUNA}\s+### Human:"), "### Assistant:"),
    Template("human_assistant", _head(r"### Human:"), "### Assistant:", needs_tail=True),
)
"""Every known template. At most one matches a text, since no head begins another."""


def join_context(question: str, context: str) -> str:
    """Return the question and, after a blank line, its context where there is one."""
    return f"{question.strip()}\n\n{context.strip()}".strip()


def strip_template(text: str) -> tuple[str, str | None]:
    """Take a known prompt template off a user's turn.

    A template is recognized only at the beginning of the text, so a question about templates keeps
    its words. A template inside a template is taken off as well, so the result never has one.

    Args:
        text: The user's turn.

    Returns:
        The question, with an ``### Input:`` after a blank line, and the name of the outermost
        template; or the text unchanged and None.
    """
    found: str | None = None
    while True:
        for template in TEMPLATES:
            inner = template.inside(text)
            if inner is not None:
                text, found = inner, found or template.name
                break
        else:
            return text, found

"""Prompt templates that published data carries inside the user's turn.

A selection that was saved as training text often holds the prompt around each question. If it
stayed, training would apply a second template over it, and the tagger would see the same words in
every sample. One template is one entry in ``TEMPLATES``.
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
        name: Value of the sample's ``template``.
        head: The text starts with it, and the question begins where it ends.
        tail: The prompt ends with it, although published sets often lack it.
        separator: It stands between the question and its context, where there is one.
        needs_tail: Whether a text without the tail is left alone, because the head by itself could
            be a person's heading.
    """

    name: str
    head: re.Pattern[str]
    tail: str
    separator: str | None = None
    needs_tail: bool = False

    def inside(self, text: str) -> str | None:
        """Return the text that the template surrounds, or None where the template does not fit."""
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


TEMPLATES: Final[tuple[Template, ...]] = (
    # Stanford Alpaca's train.py has both in PROMPT_DICT; published sets also have it on one line.
    Template("alpaca", re.compile(rf"{_ALPACA_TASK}\.\s+{_ALPACA_REQUEST}"), "### Response:"),
    Template(
        "alpaca_input",
        re.compile(
            rf"{_ALPACA_TASK}, paired with an input that provides further context\.\s+"
            rf"{_ALPACA_REQUEST}"
        ),
        "### Response:",
        separator="### Input:",
    ),
    # FastChat's conversation.py has vicuna_v1.1 and the older system prompt of v0.
    Template("vicuna_v1.1", re.compile(rf"{_VICUNA}\s+USER:"), "ASSISTANT:"),
    Template("vicuna_v0", re.compile(rf"{_VICUNA}\s+### Human:"), "### Assistant:"),
    Template("human_assistant", re.compile(r"### Human:"), "### Assistant:", needs_tail=True),
)
"""Every known template. At most one matches a text, since no head begins another."""


def join_context(question: str, context: str) -> str:
    """Return the question and, after a blank line, its context where there is one."""
    return f"{question.strip()}\n\n{context.strip()}".strip()


def strip_template(text: str) -> tuple[str, str | None]:
    """Take known prompt templates off a user's turn.

    A template is recognized only at the beginning of the text, so a question about templates keeps
    its words. A template inside a template is taken off as well, so the result never has one.

    Returns:
        The question, with an ``### Input:`` after a blank line, and the name of the outermost
        template; or the text unchanged and None.
    """
    outermost: str | None = None
    while True:
        for template in TEMPLATES:
            inner = template.inside(text)
            if inner is not None:
                text, outermost = inner, outermost or template.name
                break
        else:
            return text, outermost

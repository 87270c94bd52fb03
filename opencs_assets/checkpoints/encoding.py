"""Conversations as tokens and labels, rendered by the chat template that inference will use.

The loss is on all assistant turns and on nothing else. Templates seldom mark these, so they are
found by rendering: an assistant turn is what the template adds to the conversation before it with
its generation prompt, up to the end-of-turn token, from which the model learns to stop.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from jinja2.exceptions import TemplateError

from resources.errors import MendableError

IGNORED = -100

Message = Mapping[str, str]


class EncodingError(MendableError):
    """A conversation can't be rendered by the model's chat template; the message says why."""


@dataclass(frozen=True)
class Encoded:
    """One sample as the trainer takes it; some tokens may have been cut at its end (``truncated``).

    The labels are the tokens where the loss is, and ``IGNORED`` elsewhere.
    """

    input_ids: list[int]
    labels: list[int]
    truncated: bool

    @property
    def trainable(self) -> bool:
        """Whether a token of a response is within the limit."""
        return any(label != IGNORED for label in self.labels)


def conversation(system: str | None, messages: Sequence[Message]) -> list[dict[str, str]]:
    """The sample's messages with its system prompt, if any, in front."""
    turns = [{"role": item["role"], "content": item["content"]} for item in messages]
    return [{"role": "system", "content": system}, *turns] if system else turns


def render(tokenizer: Any, messages: Sequence[Message], *, prompt: bool = False) -> str:
    """Render a conversation as text; a ``prompt`` ends with what makes the model answer.

    Raises:
        EncodingError: The template refuses a role, such as a system prompt.
    """
    try:
        text = tokenizer.apply_chat_template(
            list(messages), tokenize=False, add_generation_prompt=prompt
        )
    except TemplateError as error:
        roles = ", ".join(item["role"] for item in messages)
        raise EncodingError(f"the chat template refuses turns of {roles}: {error}") from None
    return str(text)


def refuse_unmarked(tokenizer: Any) -> None:
    """Refuse a template that does not mark where the assistant's turn begins and ends.

    Raises:
        EncodingError: Nothing but white space stands before or behind the assistant's text.
    """
    question, answer = "Which colour has the sky?", "It is blue."
    text = render(
        tokenizer,
        [{"role": "user", "content": question}, {"role": "assistant", "content": answer}],
    )
    before, _, after = text.partition(answer)
    if answer not in text or question not in before:
        raise EncodingError("the chat template leaves out what the user or the assistant says")
    for mark, where in ((before.partition(question)[2], "begins"), (after, "ends")):
        if not mark.strip():
            raise EncodingError(
                f"the chat template does not mark where the assistant's turn {where}, so the "
                "model could not learn to answer and to stop; name another `chat_template` for "
                "the base model in experiments.yaml"
            )


def response_spans(tokenizer: Any, messages: Sequence[Message]) -> list[tuple[int, int]]:
    """Character ranges of the assistant turns in the rendered conversation.

    A range begins after the generation prompt and ends after the end-of-turn token, where the
    template has one; white space that the template puts behind it is no part of the answer.

    Raises:
        EncodingError: The template renders a turn differently once others follow, so that
            training and inference would not see the same text.
    """
    whole = render(tokenizer, messages)
    spans = []
    for index, message in enumerate(messages):
        if message["role"] != "assistant":
            continue
        before = render(tokenizer, messages[:index], prompt=True)
        through = render(tokenizer, messages[: index + 1])
        if not through.startswith(before) or not whole.startswith(through):
            raise EncodingError(
                f"the chat template renders message {index} otherwise at inference than in a "
                "whole conversation; use a template that only appends"
            )
        spans.append((len(before), _end_of_turn(through, len(before), tokenizer.eos_token)))
    return spans


def _end_of_turn(text: str, start: int, eos: str | None) -> int:
    at = text.rfind(eos, start) if eos else -1
    if eos and at >= start and not text[at + len(eos) :].strip():
        return at + len(eos)
    return len(text)


def encode(tokenizer: Any, messages: Sequence[Message], max_length: int) -> Encoded:
    """Tokenize a conversation with a fast tokenizer, and mark the responses.

    A conversation that is too long is cut at its end: the prompt stays whole, and the model does
    not learn to stop where the text was cut.

    Raises:
        EncodingError: The template can't render it.
    """
    spans = response_spans(tokenizer, messages)
    text = render(tokenizer, messages)
    tokens = tokenizer(text, add_special_tokens=False, return_offsets_mapping=True)
    ids: list[int] = tokens["input_ids"]
    # A token that begins before a response and ends in it is one that inference never generates.
    labels = [
        token if any(start <= begin and end <= stop for start, stop in spans) else IGNORED
        for token, (begin, end) in zip(ids, tokens["offset_mapping"], strict=True)
    ]
    return Encoded(ids[:max_length], labels[:max_length], truncated=len(ids) > max_length)

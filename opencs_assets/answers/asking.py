"""Prompts and replies of a checkpoint, whatever runs it."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from jinja2.exceptions import TemplateError

from opencs_assets.answers.store import Row
from resources.launcher.job import JobError, prepare_models

TOO_LONG = "too_long"


@dataclass(frozen=True)
class AnswerPrompt:
    """One turn as the model sees it: its tokens, and the columns of its row that are known."""

    row: Row
    ids: list[int]


@dataclass(frozen=True)
class GeneratedReply:
    """The model's reply to one prompt; its ``tokens`` are counted without the end-of-turn token.

    ``finish_reason`` is ``stop``, or ``length`` where the reply was cut at the limit; an endpoint
    may give another one, such as ``content_filter``.
    """

    text: str
    tokens: int
    finish_reason: str


Answered = list[tuple[AnswerPrompt, GeneratedReply]]


class Answerer(Protocol):
    """A checkpoint that answers, here or at an endpoint.

    Prompt and answer may take ``context`` tokens together.
    """

    context: int

    def tokens(self, messages: Sequence[Mapping[str, str]]) -> list[int]:
        """The conversation as tokens, by the checkpoint's chat template."""

    def answer(
        self, prompts: Sequence[AnswerPrompt], max_new_tokens: int, note: Callable[[str], None]
    ) -> Iterator[Answered]:
        """Answer prompts, and yield some as they are finished, in any order."""


def conversation(turns: Sequence[str], answers: Sequence[str]) -> list[dict[str, str]]:
    """The messages of the turn that follows the answered ones, these included."""
    messages = []
    for text, answer in zip(turns, answers, strict=False):
        messages.append({"role": "user", "content": text})
        messages.append({"role": "assistant", "content": answer})
    return [*messages, {"role": "user", "content": turns[len(answers)]}]


class Renderer:
    """A checkpoint's tokenizer and chat template, which training used byte for byte."""

    def __init__(self, folder: Path) -> None:
        prepare_models()
        from transformers import AutoTokenizer

        self.tokenizer = AutoTokenizer.from_pretrained(folder)

    def tokens(self, messages: Sequence[Mapping[str, str]]) -> list[int]:
        """The conversation as tokens, with the opening of the answer.

        Raises:
            JobError: The template refuses it.
        """
        try:
            text = self.tokenizer.apply_chat_template(
                list(messages), tokenize=False, add_generation_prompt=True
            )
        except (TemplateError, ValueError) as error:
            raise JobError(f"the checkpoint's chat template can't be used: {error}") from None
        # The template has already written the special tokens that it wants.
        ids: list[int] = self.tokenizer(text, add_special_tokens=False)["input_ids"]
        return ids

    def text(self, ids: Sequence[int]) -> str:
        """Tokens as text, without special tokens and surrounding blanks."""
        decoded: str = self.tokenizer.decode(list(ids), skip_special_tokens=True)
        return decoded.strip()

    def stops(self, of_model: int | Sequence[int] | None) -> set[int]:
        """Tokens that end an answer: the model's own, and the one that training put there."""
        own = [of_model] if of_model is None or isinstance(of_model, int) else of_model
        return {int(token) for token in (*own, self.tokenizer.eos_token_id) if token is not None}

"""What a model is asked and what it says, whatever runs it."""

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
    """One turn that the model is asked.

    Attributes:
        row: The answer's row, without what comes from the answer.
        ids: The prompt's tokens.
    """

    row: Row
    ids: list[int]


@dataclass(frozen=True)
class GeneratedReply:
    """What the model said to one prompt.

    Attributes:
        text: The answer.
        tokens: Its tokens, without the end-of-turn token.
        finish_reason: ``stop``; ``length`` where it was cut at the limit; from an endpoint also
            what it says, such as ``content_filter``.
    """

    text: str
    tokens: int
    finish_reason: str


Answered = list[tuple[AnswerPrompt, GeneratedReply]]


class Answerer(Protocol):
    """A checkpoint that answers, here or at an endpoint.

    Attributes:
        context: Tokens that prompt and answer may take together.
    """

    context: int

    def tokens(self, messages: Sequence[Mapping[str, str]]) -> list[int]:
        """The conversation as tokens, by the checkpoint's chat template."""

    def answer(
        self, prompts: Sequence[AnswerPrompt], max_new_tokens: int, note: Callable[[str], None]
    ) -> Iterator[Answered]:
        """Answer prompts; yields some as they are finished, in any order."""


class Renderer:
    """A checkpoint's tokenizer and chat template, which training used byte for byte.

    Args:
        folder: The checkpoint's folder.
    """

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
        # The template has written what it wants of special tokens.
        ids: list[int] = self.tokenizer(text, add_special_tokens=False)["input_ids"]
        return ids

    def text(self, ids: Sequence[int]) -> str:
        """Tokens as text, without special tokens and surrounding blanks."""
        decoded: str = self.tokenizer.decode(list(ids), skip_special_tokens=True)
        return decoded.strip()

    def stops(self, own: int | Sequence[int] | None) -> set[int]:
        """Tokens that end an answer.

        Args:
            own: The model's, from its generation config; the tokenizer's, which training put
                behind answers, is added.
        """
        given = [own] if own is None or isinstance(own, int) else list(own)
        return {int(token) for token in (*given, self.tokenizer.eos_token_id) if token is not None}

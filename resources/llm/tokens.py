"""Counts the tokens of a prompt, where the model's tokenizer is known."""

import importlib
import re
from collections.abc import Sequence
from functools import cache
from typing import Any

from resources.llm.completion import encodable

# Three tokens and its role, which is one more, frame each message.
_PER_MESSAGE = 4
# Every reply begins with three tokens.
_PER_PROMPT = 3
# A family's name may be followed by a size or use, a date, and what fine-tuning adds.
_VARIANT = r"(?:[-:].*)?"
_ENCODINGS = {
    "o200k_base": re.compile(
        rf"(?:ft:)?(?:gpt-4o|chatgpt-4o|gpt-4\.[15]|gpt-5(?:\.\d+)?|o[134]){_VARIANT}"
    ),
    "cl100k_base": re.compile(rf"(?:ft:)?(?:gpt-4|gpt-3\.5-turbo|gpt-35-turbo){_VARIANT}"),
}


class TokenCounter:
    """Counts the tokens of prompts to one model, named as its endpoint knows it.

    It knows OpenAI's chat models from gpt-3.5-turbo on, dated and fine-tuned ones included. Their
    vocabularies come with the package bpe-openai; nothing is downloaded. ``count`` can be asked
    where the model's tokenizer is ``known``.
    """

    def __init__(self, model: str) -> None:
        self._model = model
        known = (encoding for encoding, names in _ENCODINGS.items() if names.fullmatch(model))
        self._encoding = next(known, None)
        self.known = self._encoding is not None

    def count(self, texts: Sequence[str]) -> int:
        """Tokens of the prompt whose messages have these texts, the chat's frame included.

        Words of the vocabulary's own, such as ``<|endoftext|>``, count as the plain text that
        they are in a message; half a character counts as what it is replaced by when it is sent.

        Raises:
            ValueError: The model's tokenizer is not known.
        """
        if self._encoding is None:
            raise ValueError(f"the tokenizer of {self._model} is not known")
        count = _tokenizer(self._encoding).count
        tokens: int = sum(count(encodable(text)) for text in texts)
        return _PER_PROMPT + _PER_MESSAGE * len(texts) + tokens


@cache
def _tokenizer(encoding: str) -> Any:
    # Imported where it is needed: the package loads for most of a second. Its Encoding class is
    # passed over: it refuses texts of a million characters, and has no gpt-4 and no gpt-5.
    return importlib.import_module("bpe_openai._bindings").tokenizer_for_encoding(encoding)

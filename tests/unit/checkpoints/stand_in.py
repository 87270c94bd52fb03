"""A stand-in for a tokenizer of transformers that shows all it does."""

import re
from collections.abc import Mapping, Sequence
from typing import Any

from jinja2 import Environment
from jinja2.exceptions import TemplateError

TAGGED = (
    "{% for m in messages %}<{{ m['role'] }}>{{ m['content'] }}</s>{% endfor %}"
    "{% if add_generation_prompt %}<assistant>{% endif %}"
)


class Pieces:
    """Renders a Jinja template, and takes what a pattern finds in the text as the tokens.

    A token's number is that of its first character in the text; a special token stands before all
    where nothing else is said.
    """

    def __init__(
        self,
        template: str = TAGGED,
        pieces: str = r"</?\w+>|\s*[^\s<]+|\s+",
        eos: str | None = "</s>",
    ) -> None:
        self.eos_token = eos
        self.pieces = re.compile(pieces)
        environment = Environment(autoescape=False)
        environment.globals["raise_exception"] = self._refuse
        self.template = environment.from_string(template)

    def _refuse(self, text: str) -> None:
        raise TemplateError(text)

    def apply_chat_template(
        self, messages: Sequence[Mapping[str, str]], tokenize: bool, add_generation_prompt: bool
    ) -> str:
        return self.template.render(messages=messages, add_generation_prompt=add_generation_prompt)

    def __call__(self, text: str, add_special_tokens: bool = True, **_: Any) -> dict[str, Any]:
        spans = [(0, 0)] * add_special_tokens
        spans += [found.span() for found in self.pieces.finditer(text)]
        return {"input_ids": [start for start, _ in spans], "offset_mapping": spans}

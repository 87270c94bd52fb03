"""Chat templates: a base model's own, a file of the user's, or one of the package by name.

The template that training used is stored in the checkpoint, and inference renders with it alone.
"""

import json
from pathlib import Path

from resources.errors import MendableError

PACKAGED = Path(__file__).resolve().parent / "chat_templates"

TEMPLATE_FILE = "chat_template.jinja"


class TemplateError(MendableError):
    """A model has no chat template that can be used; the message says what to do."""


def chat_template(folder: Path) -> str:
    """The chat template of a model's folder, as its tokenizer would load it.

    Raises:
        TemplateError: It has none, so that there is no one way to render a conversation.
    """
    own = folder / TEMPLATE_FILE
    if own.is_file():
        return own.read_text(encoding="utf-8")
    config = folder / "tokenizer_config.json"
    template = (
        json.loads(config.read_text(encoding="utf-8")).get("chat_template")
        if config.is_file()
        else None
    )
    if isinstance(template, list):
        template = next((item["template"] for item in template if item["name"] == "default"), None)
    if not isinstance(template, str) or not template:
        raise TemplateError(
            f"model {folder} has no chat template; name one for the base model in "
            f"experiments.yaml, as in `chat_template: {names()[0]}` (the package has "
            f"{', '.join(names())}; a .jinja file of yours will do)"
        )
    return template


def declared_template(declared: str | None, base_model: Path, home: Path) -> str:
    """The template that a base model is trained with.

    ``declared`` is the name of a packaged template or a file relative to the home; where it is
    ``None``, the model's own template is taken.

    Raises:
        TemplateError: There is no such template.
    """
    if declared is None:
        return chat_template(base_model)
    own = home / declared
    for path in (PACKAGED / f"{declared}.jinja", own):
        if path.is_file():
            return path.read_text(encoding="utf-8")
    raise TemplateError(
        f"there is no chat template {declared!r}: neither the package's ({', '.join(names())}) "
        f"nor the file {own}"
    )


def names() -> list[str]:
    """Names of the package's templates."""
    return sorted(path.stem for path in PACKAGED.glob("*.jinja"))

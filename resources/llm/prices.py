"""What a model's tokens cost."""

import re
import tomllib
from dataclasses import dataclass
from importlib.resources import files
from pathlib import Path
from typing import Any

from resources.llm.errors import LLMError
from resources.settings import EMBEDDED

_DATE = re.compile(r"-\d{4}-\d{2}-\d{2}$")


@dataclass(frozen=True)
class Price:
    """US dollars per million tokens of prompt (``input``) and reply (``output``)."""

    input: float
    output: float

    def cost(self, prompt_tokens: int, completion_tokens: int) -> float:
        """Dollars for one call."""
        return (prompt_tokens * self.input + completion_tokens * self.output) / 1e6


def price_of(model_label: str, home: Path) -> Price | None:
    """The price of a model; ``None`` where it is not known.

    Args:
        model_label: ``Role.model_label``; the embedded model is free.
        home: The home, whose ``prices.toml`` wins over the packaged one.

    Raises:
        LLMError: A price file is not usable; the message names file and model.
    """
    if model_label.startswith(f"{EMBEDDED}:"):
        return Price(0.0, 0.0)
    packaged = files("resources.llm").joinpath("prices.toml").read_text("utf-8")
    prices = _prices(packaged, "the packaged prices.toml")
    own = home / "prices.toml"
    if own.exists():
        prices |= _prices(own.read_text("utf-8"), str(own))
    return prices.get(model_label) or prices.get(_DATE.sub("", model_label))


def _prices(text: str, where: str) -> dict[str, Price]:
    try:
        models = tomllib.loads(text)["models"]
        return {name: _price(entry, name, where) for name, entry in models.items()}
    except tomllib.TOMLDecodeError as error:
        raise LLMError(f"{where} is not valid TOML: {error}") from None
    except (KeyError, AttributeError):
        raise LLMError(f"{where} has no [models] table of prices") from None


def _price(entry: Any, name: str, where: str) -> Price:
    if isinstance(entry, dict) and set(entry) == {"input", "output"}:
        values = (entry["input"], entry["output"])
        if all(isinstance(value, int | float) and value >= 0 for value in values):
            return Price(float(values[0]), float(values[1]))
    raise LLMError(
        f"{where}: models.{name} must be {{ input = …, output = … }}, dollars per million tokens"
    )

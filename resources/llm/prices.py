"""What a model's tokens cost."""

import math
import re
import tomllib
from collections.abc import Collection
from dataclasses import dataclass
from datetime import date, datetime
from importlib.resources import files
from pathlib import Path
from typing import Any

from resources.llm.errors import LLMError
from resources.settings import EMBEDDED

_DATE = re.compile(r"-\d{4}-\d{2}-\d{2}$")
_PACKAGED = "the packaged prices.toml"
_NEEDED = {"input", "output"}
_OPTIONAL = {"cached_input", "batch"}
# OpenAI's batch API costs half, and the packaged file holds the models that it serves.
_OPENAI_BATCH = 0.5
_NO_DISCOUNT = 1.0


@dataclass(frozen=True)
class Price:
    """What a model's tokens cost.

    Attributes:
        input: Dollars per million tokens of prompt.
        output: Dollars per million tokens of reply.
        cached_input: Dollars per million tokens of prompt that the provider had in its cache;
            ``None``: they cost as much as the others.
        batch: Factor in [0, 1] on the price of a call that is sent in a batch.
    """

    input: float
    output: float
    cached_input: float | None = None
    batch: float = _NO_DISCOUNT

    @property
    def is_free(self) -> bool:
        """Whether no call costs anything."""
        return self.input == self.output == 0

    def cost(
        self,
        prompt_tokens: int,
        completion_tokens: int,
        *,
        cached_tokens: int = 0,
        batch: bool = False,
    ) -> float:
        """Dollars for one call.

        Args:
            prompt_tokens: Tokens of the prompt, the cached ones included.
            completion_tokens: Tokens of the reply.
            cached_tokens: Tokens of the prompt that were read from the provider's cache; what is
                beyond the prompt is not counted.
            batch: Whether the call was sent in a batch.
        """
        cached = min(cached_tokens, prompt_tokens)
        each_cached = self.input if self.cached_input is None else self.cached_input
        prompt = (prompt_tokens - cached) * self.input + cached * each_cached
        dollars = (prompt + completion_tokens * self.output) / 1e6
        return dollars * self.batch if batch else dollars


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
    packaged = _models(_packaged(), _PACKAGED)
    prices = _prices(packaged, _PACKAGED, packaged)
    own = home / "prices.toml"
    if own.exists():
        prices |= _prices(_models(_read(own), str(own)), str(own), packaged)
    return prices.get(model_label) or prices.get(_undated(model_label))


def prices_as_of(home: Path) -> date:
    """The day that the prices were looked up on.

    Args:
        home: The home; its ``prices.toml`` tells, where it has an ``as_of``, else the packaged one.

    Raises:
        LLMError: A price file is not usable or its ``as_of`` is not a date.
    """
    own = home / "prices.toml"
    told = _as_of(_read(own), str(own)) if own.exists() else None
    told = told or _as_of(_packaged(), _PACKAGED)
    if told is None:
        raise LLMError(f"{_PACKAGED} has no as_of, the date of its prices")
    return told


def _packaged() -> dict[str, Any]:
    return _parsed(files("resources.llm").joinpath("prices.toml").read_bytes(), _PACKAGED)


def _read(path: Path) -> dict[str, Any]:
    return _parsed(path.read_bytes(), str(path))


def _parsed(content: bytes, where: str) -> dict[str, Any]:
    try:
        return tomllib.loads(content.decode())
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise LLMError(f"{where} is not valid TOML: {error}") from None


def _models(table: dict[str, Any], where: str) -> dict[str, Any]:
    models = table.get("models")
    if not isinstance(models, dict):
        raise LLMError(f"{where} has no [models] table of prices")
    return models


def _as_of(table: dict[str, Any], where: str) -> date | None:
    told = table.get("as_of")
    # A datetime is a date to Python, but not one day everywhere.
    if told is not None and (not isinstance(told, date) or isinstance(told, datetime)):
        raise LLMError(f"{where}: as_of must be a date without quotes, such as 2025-11-01")
    return told


def _prices(models: dict[str, Any], where: str, batch_served: Collection[str]) -> dict[str, Price]:
    prices = {}
    for name, entry in models.items():
        served = name in batch_served or _undated(name) in batch_served
        prices[name] = _price(entry, name, where, _OPENAI_BATCH if served else _NO_DISCOUNT)
    return prices


def _price(entry: Any, name: str, where: str, batch: float) -> Price:
    if isinstance(entry, dict) and _NEEDED <= set(entry) <= _NEEDED | _OPTIONAL:
        values = {"batch": batch} | entry
        if all(map(_is_amount, values.values())) and values["batch"] <= 1:
            return Price(**{key: float(value) for key, value in values.items()})
    raise LLMError(
        f"{where}: models.{name} must be {{ input = …, output = … }}, dollars per million tokens; "
        "cached_input = … and batch = … (a factor from 0 to 1) may be added"
    )


def _is_amount(value: Any) -> bool:
    # A truth value is an int to Python.
    is_number = isinstance(value, int | float) and not isinstance(value, bool)
    return is_number and 0 <= value < math.inf


def _undated(model: str) -> str:
    return _DATE.sub("", model)

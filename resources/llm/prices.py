"""Prices of models' tokens: the home's own prices, else those that genai-prices lists."""

import math
import re
import tomllib
from dataclasses import dataclass, field
from datetime import UTC, date, datetime, timedelta
from importlib.metadata import version
from pathlib import Path
from typing import Any

from resources.llm.errors import LLMError
from resources.settings import Role

_DATE = re.compile(r"-\d{4}-\d{2}-\d{2}$")
_NEEDED = {"input", "output"}
_OPTIONAL = {"cached_input", "batch"}
# OpenAI's batch API costs half, for all models of OpenAI.
_OPENAI_BATCH = 0.5
_NO_DISCOUNT = 1.0


@dataclass(frozen=True)
class Price:
    """A model's price, in dollars per million tokens, as a file or package (``source``) lists it.

    Tokens that the provider had in its cache cost as much as the others where ``cached_input`` is
    ``None``. ``batch`` is a factor in [0, 1] on the price of a call that is sent in a batch.
    """

    input: float
    output: float
    cached_input: float | None = None
    batch: float = _NO_DISCOUNT
    source: str = field(default="", compare=False)

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

        The prompt's tokens include the cached ones; more cached tokens than these do not count.
        """
        cached = min(cached_tokens, prompt_tokens)
        cached_input = self.input if self.cached_input is None else self.cached_input
        prompt = (prompt_tokens - cached) * self.input + cached * cached_input
        dollars = (prompt + completion_tokens * self.output) / 1e6
        return dollars * self.batch if batch else dollars


def price_of(role: Role, home: Path) -> Price | None:
    """The price of a role's model; ``None`` where it is not known.

    Prices of the home's ``prices.toml`` win, whatever the endpoint. A listed price holds at its
    provider's own URL only, as whoever serves a model of that name elsewhere asks for another one
    or for none; a role whose endpoints differ in price has none either.

    Raises:
        LLMError: The home's price file is not usable; the message names file and model.
    """
    if role.embedded:
        return Price(0.0, 0.0)
    own = own_prices(home)
    if price := own.get(role.model) or own.get(_DATE.sub("", role.model)):
        return price
    listed = {
        _listed_price(place.model or role.model, place.base_url, role.context)
        for place in role.places
    }
    return listed.pop() if len(listed) == 1 else None


def own_prices(home: Path) -> dict[str, Price]:
    """The prices of the home's ``prices.toml``, by the model's name.

    Raises:
        LLMError: The file is not usable; the message names the entry.
    """
    path = home / "prices.toml"
    if not path.exists():
        return {}
    try:
        table = tomllib.loads(path.read_bytes().decode())
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise LLMError(f"{path} is not valid TOML: {error}") from None
    models = table.get("models")
    if not isinstance(models, dict):
        raise LLMError(f"{path} has no [models] table of prices")
    as_of = table.get("as_of")
    # A datetime is a date to Python, but not one day everywhere.
    if as_of is not None and (not isinstance(as_of, date) or isinstance(as_of, datetime)):
        raise LLMError(f"{path}: as_of must be a date without quotes, such as 2025-11-01")
    source = f"{path.name} as of {as_of}" if as_of else path.name
    return {name: _own_price(entry, name, path, source) for name, entry in models.items()}


def _own_price(entry: Any, name: str, path: Path, source: str) -> Price:
    if isinstance(entry, dict) and _NEEDED <= set(entry) <= _NEEDED | _OPTIONAL:
        values = {"batch": _batch_factor(name)} | entry
        if all(map(_is_amount, values.values())) and values["batch"] <= 1:
            return Price(**{key: float(value) for key, value in values.items()}, source=source)
    raise LLMError(
        f"{path}: models.{name} must be {{ input = …, output = … }}, dollars per million tokens; "
        "cached_input = … and batch = … (a factor from 0 to 1) may be added"
    )


def _is_amount(value: Any) -> bool:
    # A truth value is an int to Python.
    is_number = isinstance(value, int | float) and not isinstance(value, bool)
    return is_number and 0 <= value < math.inf


def _listed(model: str, **provider: Any) -> Any:
    """The entry of genai-prices for a provider's model; ``None`` where it has none."""
    # The package is imported late, as its table takes a quarter of a second to load.
    from genai_prices import Usage, calc_price

    try:
        return calc_price(Usage(), model, **provider).model
    except LookupError:
        return None


def _listed_price(model: str, url: str, context: int) -> Price | None:
    """The listed price of a model at a URL, where tokens always cost the same."""
    if not (listed := _listed(model, provider_api_url=url)):
        return None
    now = datetime.now(UTC)
    rates, *later = (listed.get_prices(now + timedelta(hours=hour)) for hour in range(24))
    prompt, reply = _flat(rates.input_mtok, context), _flat(rates.output_mtok, context)
    changes = rates.requests_kcount is not None or any(other != rates for other in later)
    if prompt is None or reply is None or changes:
        return None
    cached = _flat(rates.cache_read_mtok, context)
    source = f"genai-prices {version('genai-prices')}"
    return Price(prompt, reply, cached, _batch_factor(model), source)


def _flat(rate: Any, context: int) -> float | None:
    """A rate that is the same for all prompts that fit into the context."""
    if any(tier.start < context for tier in getattr(rate, "tiers", ())):
        return None
    rate = getattr(rate, "base", rate)
    return None if rate is None else float(rate)


def _batch_factor(model: str) -> float:
    return _OPENAI_BATCH if _listed(model, provider_id="openai") else _NO_DISCOUNT

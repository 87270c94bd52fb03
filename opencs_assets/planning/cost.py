"""The cost of work in calls, tokens, dollars and GPU hours, counted in one way for all plans.

An unknown price or size stays visible: it is ``None`` as a number and a word in a row.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from resources.llm.client import LLMClient
from resources.llm.types import Estimate

UNKNOWN_PRICE = "unknown price"
ON_GPU = "GPU hours"


def times(estimate: Estimate, count: float) -> Estimate:
    """An estimate multiplied by a count."""
    return Estimate(
        round(estimate.calls * count),
        round(estimate.stored * count),
        round(estimate.prompt_tokens * count),
        round(estimate.completion_tokens * count),
        None if estimate.cost_usd is None else estimate.cost_usd * count,
        None if estimate.seconds is None else estimate.seconds * count,
    )


def total(parts: Sequence[Estimate]) -> Estimate:
    """The sum of estimates; a price or time is unknown if that of a part with calls is."""
    costs = [part.cost_usd for part in parts if part.calls]
    seconds = [part.seconds for part in parts if part.calls]
    return Estimate(
        sum(part.calls for part in parts),
        sum(part.stored for part in parts),
        sum(part.prompt_tokens for part in parts),
        sum(part.completion_tokens for part in parts),
        None if None in costs else sum(filter(None, costs)),
        None if None in seconds else sum(filter(None, seconds)),
    )


def dollars(amount: float | None) -> float | str:
    """Dollars for a row, rounded to cents."""
    return UNKNOWN_PRICE if amount is None else round(amount, 2)


@dataclass(frozen=True)
class StageCost:
    """The cost of one stage's calls.

    Attributes:
        stage: Asset that makes the calls.
        role: Role that is called; empty for the answers of checkpoints.
        model: Model of the role.
        estimate: Calls, tokens, dollars and seconds.
        assumed: Assumptions of the estimate, for a person; empty where everything is counted.
    """

    stage: str
    role: str
    model: str
    estimate: Estimate
    assumed: str = ""

    @classmethod
    def of(cls, client: LLMClient, estimate: Estimate, *assumed: str) -> "StageCost":
        """The cost of a client's stage."""
        reasons = "; ".join(filter(None, assumed))
        return cls(client.stage, client.role_name, client.model_label, estimate, reasons)

    def row(self) -> dict[str, Any]:
        """A flat record with dollars rounded to cents."""
        return {
            "stage": self.stage,
            "model": self.model,
            "calls": self.estimate.calls,
            "stored": self.estimate.stored,
            "tokens_in": self.estimate.prompt_tokens,
            "tokens_out": self.estimate.completion_tokens,
            "dollars": dollars(self.estimate.cost_usd) if self.role else ON_GPU,
            "basis": "assumed" if self.assumed else "counted",
        }


@dataclass(frozen=True)
class GpuHours:
    """GPU hours of a base model's experiments.

    Attributes:
        base_model: The base model.
        trainings: How many trainings are to be made.
        training_hours: GPU hours of the trainings; ``None`` where the model's size is unknown.
        answered: How many of the models are to answer.
        answering_hours: GPU hours of answering; ``None`` where the model's size is unknown.
        basis: Source of the hours.
    """

    base_model: str
    trainings: int
    training_hours: float | None
    answered: int
    answering_hours: float | None
    basis: str

    @property
    def total(self) -> float | None:
        """All GPU hours."""
        if self.training_hours is None or self.answering_hours is None:
            return None
        return self.training_hours + self.answering_hours

    def row(self, usd_per_hour: float | None) -> dict[str, Any]:
        """A flat record, with dollars where a GPU hour has a price."""

        def hours(amount: float | None) -> float | str:
            return "unknown" if amount is None else round(amount, 1)

        return {
            "base_model": self.base_model,
            "trainings": self.trainings,
            "training_gpu_hours": hours(self.training_hours),
            "answerings": self.answered,
            "answering_gpu_hours": hours(self.answering_hours),
            "dollars": dollars(gpu_dollars(self.total, usd_per_hour)),
            "basis": self.basis,
        }


def gpu_dollars(hours: float | None, usd_per_hour: float | None) -> float | None:
    """Dollars of GPU hours; no hours cost nothing, whatever their price."""
    if hours == 0:
        return 0.0
    return None if hours is None or usd_per_hour is None else hours * usd_per_hour


@dataclass(frozen=True)
class GridCost:
    """All that a grid takes.

    Attributes:
        runs: Runs by family.
        calls: Calls by stage.
        hours: GPU hours by base model.
        assumptions: The assumptions, as sentences.
        usd_per_hour: Price of a GPU hour, where it is set.
    """

    runs: Mapping[str, int]
    calls: tuple[StageCost, ...]
    hours: tuple[GpuHours, ...]
    assumptions: tuple[str, ...]
    usd_per_hour: float | None

    def totals(self) -> dict[str, Any]:
        """Sums of the known parts, with the models whose price or size is unknown."""
        paid = [stage for stage in self.calls if stage.role]
        hours = sum(row.total for row in self.hours if row.total is not None)
        price = gpu_dollars(hours, self.usd_per_hour)
        return {
            "runs": sum(self.runs.values()),
            "calls": sum(stage.estimate.calls for stage in paid),
            "stored": sum(stage.estimate.stored for stage in paid),
            "call_dollars": round(sum(stage.estimate.cost_usd or 0.0 for stage in paid), 2),
            "models_of_unknown_price": sorted(
                {stage.model for stage in paid if stage.estimate.cost_usd is None}
            ),
            "gpu_hours": round(hours, 1),
            "models_of_unknown_size": [row.base_model for row in self.hours if row.total is None],
            "gpu_dollars": None if price is None else round(price, 2),
        }

    def summary(self) -> str:
        """All totals in one line for a person, unknown prices and sizes included."""
        sums = self.totals()
        calls = f"{sums['calls']:,} calls ({sums['stored']:,} stored) for "
        paid = f"${sums['call_dollars']:,.2f}"
        if sums["models_of_unknown_price"]:
            paid += f" and the unknown price of {', '.join(sums['models_of_unknown_price'])}"
        hours = f"{sums['gpu_hours']:,} GPU hours"
        if sums["models_of_unknown_size"]:
            hours += f" without {', '.join(sums['models_of_unknown_size'])}"
        price = sums["gpu_dollars"]
        if price is None:
            hours += " of unknown price (training.gpu_usd_per_hour is not set)"
        elif price:
            hours += f" for ${price:,.2f}"
        return f"In all: {sums['runs']:,} runs, {calls}{paid}, {hours}"

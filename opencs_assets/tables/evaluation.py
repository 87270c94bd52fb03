"""Tables of what is declared, in experiments and in code, for the warehouse."""

import polars as pl

from opencs_assets.tables.columns import BENCHMARK, PROTOCOL
from resources.schema import Column, Table

_BUDGET = {
    "budget_unit": Column(
        pl.String,
        "Unit of the recipe's budget: epochs, steps or tokens; null of outside models",
        nullable=True,
    ),
    "budget": Column(pl.Float64, "The budget in that unit", nullable=True),
}

DECLARED_MODELS = Table(
    "declared_models",
    (),
    ("model",),
    {
        "model": Column(pl.String, "Experiment or outside model"),
        "is_outside": Column(pl.Boolean, "It is not trained here"),
        "selector": Column(pl.String, "Selector of the experiment", nullable=True),
        "refined": Column(pl.Boolean, "It is trained on the refined subset", nullable=True),
        "base_model": Column(pl.String, "Base model of the experiment", nullable=True),
        "recipe": Column(pl.String, "Name of its recipe", nullable=True),
        **_BUDGET,
    },
)

DECLARED_MATCHUPS = Table(
    "declared_matchups",
    (),
    ("matchup",),
    {
        "matchup": Column(pl.String, "Matchup"),
        "model_a": Column(pl.String, "First side"),
        "model_b": Column(pl.String, "Second side"),
        "benchmark": BENCHMARK,
        "parity": Column(pl.String, "epochs, steps, tokens, or declared"),
    },
)

JUDGE_PROTOCOLS = Table(
    "judge_protocols",
    (),
    ("protocol",),
    {
        "protocol": PROTOCOL,
        "by_turn": Column(pl.Boolean, "Each turn is judged, and not the whole conversation"),
        "default_rule": Column(
            pl.String,
            "Rule that merges the verdicts of two orders by default; null for single answers",
            nullable=True,
        ),
        "low": Column(
            pl.Float64, "Lowest score; null where the protocol gives no score", nullable=True
        ),
        "high": Column(
            pl.Float64, "Highest score; null where the protocol gives no score", nullable=True
        ),
        "unanswered": Column(
            pl.List(pl.String), "Finish reasons of turns without an answer, which are not judged"
        ),
    },
)

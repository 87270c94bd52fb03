"""What is declared, as tables that results are told apart and checked by."""

import polars as pl

from opencs_assets.config.experiments import Experiments
from opencs_assets.protocols.registry import protocol_facts
from opencs_assets.tables.evaluation import DECLARED_MATCHUPS, DECLARED_MODELS, JUDGE_PROTOCOLS
from opencs_assets.tables.lake import Lake


def prepare_lake(url: str) -> None:
    """Make what every build reads: zero-row files, and what the judge protocols are by now.

    Raises:
        LakeError: The lake can't be read or written.
    """
    lake = Lake(url)
    lake.ensure_schemas()
    facts = protocol_facts()
    written = lake.find(JUDGE_PROTOCOLS.name, {})
    if written is None or not written.equals(facts):
        lake.write(JUDGE_PROTOCOLS.name, facts, {})


def declared_models(experiments: Experiments) -> pl.DataFrame:
    """Every experiment with its recipe's budget, and every outside model (``DECLARED_MODELS``)."""
    rows = []
    for name, experiment in experiments.experiments.items():
        unit, amount = experiments.recipes[experiment.recipe].budget
        rows.append(
            {
                "model": name,
                "is_outside": False,
                "selector": experiment.selector,
                "refined": experiments.selectors[experiment.selector].refine,
                "base_model": experiment.base_model,
                "recipe": experiment.recipe,
                "budget_unit": unit,
                "budget": amount,
            }
        )
    rows += [{"model": name, "is_outside": True} for name in experiments.outside_models]
    return pl.DataFrame(rows, schema=DECLARED_MODELS.schema)


def declared_matchups(experiments: Experiments) -> pl.DataFrame:
    """Every matchup, its sides and the budget in which they are equal (``DECLARED_MATCHUPS``)."""
    rows = [
        {
            "matchup": name,
            "model_a": matchup.model_a,
            "model_b": matchup.model_b,
            "benchmark": matchup.benchmark,
            "parity": matchup.parity,
        }
        for name, matchup in experiments.matchups.items()
    ]
    return pl.DataFrame(rows, schema=DECLARED_MATCHUPS.schema)

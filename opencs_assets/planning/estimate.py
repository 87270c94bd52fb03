"""Estimates of the calls of tagging and scoring a dataset, made before anything is paid for."""

import contextlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace

import polars as pl

from opencs_assets.config.profiles import (
    CANDIDATES_PER_CHOICE,
    Constants,
    MethodError,
    resolve_constants,
)
from opencs_assets.planning.cost import UNKNOWN_PRICE, StageCost, times
from opencs_assets.planning.stage_calls import comparison_calls, score_calls, tag_calls
from opencs_assets.scores import pairing
from opencs_assets.scores.rounds import kept_calls
from opencs_assets.tables.lake import Lake
from opencs_assets.tables.scores import SCORE_COMPARISONS
from resources.llm.client import LLMClient
from resources.llm.types import Estimate
from resources.settings import Settings

# Gives the client of a role for a stage.
Client = Callable[[str, str], LLMClient]
# The role that each stage calls.
STAGES: Mapping[str, str] = {
    "open_tags": "tagger",
    "contrastive_scores": "scorer",
    "whole_set_scores": "scorer",
    "single_scores": "scorer",
}
COMPARISONS_OF = {
    "contrastive_scores": "score_comparisons",
    "whole_set_scores": "whole_set_comparisons",
}


def estimate_dataset(
    samples: pl.DataFrame,
    settings: Settings,
    client: Client,
    dataset: str,
    *,
    is_whole: bool = True,
    stages: Sequence[str] = tuple(STAGES),
) -> list[StageCost]:
    """Estimate the calls of tagging and scoring from the prompts that would be sent.

    The numbers of calls for tagging, single scoring and comparing the whole set are exact, and so
    are those for comparisons within clusters, where the clusters are known. Without clusters, five
    candidates a choice, the longest samples, give an upper estimate. A budget for comparisons
    replaces these numbers. Retries of unreadable replies are not counted.

    Args:
        samples: Rows of ``raw_dataset``.
        settings: The home's settings.
        client: Gives the client of a role for a stage.
        dataset: The dataset, whose clusters and comparisons may be in the lake.
        is_whole: Whether these are all its samples, so that the clusters in the lake are theirs.
        stages: Assets of ``STAGES`` whose calls are estimated.
    """
    constants = resolve_constants(settings.profile, settings.method, samples.height)
    lake = Lake(settings.lake)
    clustered = lake.find("sample_clusters", {"dataset": dataset}) if is_whole else None
    within = _longest(samples, constants) if clustered is None else clustered
    compared = {
        "contrastive_scores": (pairing.candidates(within, constants), constants.quota.value),
        "whole_set_scores": (pairing.whole_set(samples), constants.k.value),
    }
    costs = []
    for stage in STAGES:
        if stage not in stages:
            continue
        with client(STAGES[stage], stage) as opened:
            if stage == "open_tags":
                estimate = opened.estimate(tag_calls(opened, samples))
            elif stage == "single_scores":
                criteria = settings.method.single_criteria
                estimate = opened.estimate(score_calls(opened, samples, criteria))
            else:
                scored, cut = compared[stage]
                planned = pairing.comparisons(scored, samples, constants)
                estimate = opened.estimate(comparison_calls(opened, samples, planned))
                stored = kept_comparisons(lake, dataset, stage)
                # A run refuses a budget that is too small before its first call. The estimate then
                # is that of comparing without a budget.
                with contextlib.suppress(MethodError):
                    estimate = within_budget(estimate, constants, scored, cut, stored)
            is_assumed = stage == "contrastive_scores" and clustered is None
            assumed = "as many candidates as five a choice" if is_assumed else ""
            costs.append(StageCost.of(opened, estimate, assumed))
    return costs


def _longest(samples: pl.DataFrame, constants: Constants) -> pl.DataFrame:
    """Five candidates a choice, which are the longest samples, in clusters of equal size."""
    return (
        samples.sort(pl.col("response").str.len_chars(), descending=True)
        .head(CANDIDATES_PER_CHOICE * constants.k.value)
        .select(
            "sample_id",
            cluster=pl.int_range(pl.len()) % constants.clusters.value,
            is_candidate=True,
            is_primary=True,
        )
    )


def kept_comparisons(lake: Lake, dataset: str, stage: str = "contrastive_scores") -> pl.DataFrame:
    """The stored comparisons of a dataset's stage; none before it was materialized."""
    comparisons = lake.find(COMPARISONS_OF[stage], {"dataset": dataset})
    return SCORE_COMPARISONS.empty() if comparisons is None else comparisons


def within_budget(
    unlimited: Estimate, constants: Constants, scored: pl.DataFrame, cut: int, kept: pl.DataFrame
) -> Estimate:
    """The estimate of the comparisons that the budget of the constants, if any, allows.

    The result is an upper bound, since rounds end early where cuts are stable.

    Args:
        unlimited: The estimate of comparing each candidate with two others.
        constants: The constants, with the budget in calls or dollars.
        scored: ``cluster`` and ``sample_id`` of the candidates.
        cut: How many samples of a cluster are to be chosen.
        kept: The stored rows of ``score_comparisons``.

    Raises:
        MethodError: The budget is less than the first round takes.
    """
    new = unlimited.calls - unlimited.stored
    limits = [] if constants.comparisons is None else [constants.comparisons]
    if constants.comparisons_usd is not None and unlimited.cost_usd:
        limits.append(int(constants.comparisons_usd / (unlimited.cost_usd / new)))
    if not limits:
        return unlimited
    most = min(limits)
    stored, is_all = kept_calls(scored, cut, kept, most)
    if is_all:
        return Estimate(stored, stored, 0, 0, 0.0, 0.0)
    if not new:
        # The price of a call is unknown where the estimate has no new call.
        return Estimate(most, stored, 0, 0, None, None)
    return replace(times(unlimited, (most - stored) / new), calls=most, stored=stored)


def estimate_table(costs: Sequence[StageCost]) -> str:
    """The estimate as a Markdown table, in which unknown prices and times are marked."""
    lines = [
        "| stage | model | calls | stored | tokens in | tokens out | dollars | minutes |",
        "| --- | --- | ---: | ---: | ---: | ---: | ---: | ---: |",
    ]
    for cost in costs:
        estimate = cost.estimate
        dollars = UNKNOWN_PRICE if estimate.cost_usd is None else f"{estimate.cost_usd:.2f}"
        minutes = "unknown" if estimate.seconds is None else f"{estimate.seconds / 60:.1f}"
        lines.append(
            f"| {cost.stage} | {cost.model} | {estimate.calls:,} | {estimate.stored:,} | "
            f"{estimate.prompt_tokens:,} | {estimate.completion_tokens:,} | {dollars} | {minutes} |"
        )
    return "\n".join(lines)

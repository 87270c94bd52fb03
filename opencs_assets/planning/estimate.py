"""What tagging and scoring a dataset would take, before anything is paid for."""

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
# Role that is asked by each stage.
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

    Tagging, single scoring and comparing the whole set are exact in number; so are the comparisons
    within clusters, where the clusters are known. Otherwise as many candidates as five a choice,
    the longest samples, are taken: an upper estimate. With a budget for comparisons, it is the
    number. Retries of unreadable replies are not counted.

    Args:
        samples: Rows of ``raw_dataset``.
        settings: The home's settings.
        client: Gives the client of a role for a stage.
        dataset: The dataset, whose clusters and comparisons may be in the lake.
        is_whole: Whether these are all its samples, so that its clusters are those of them.
        stages: Assets whose calls are estimated; of those in ``STAGES``.
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
                asked = pairing.comparisons(scored, samples, constants)
                estimate = opened.estimate(comparison_calls(opened, samples, asked))
                kept = kept_comparisons(lake, dataset, stage)
                # A budget that is too small is refused by the run, before it asks anything; what
                # comparing takes without it is still worth knowing.
                with contextlib.suppress(MethodError):
                    estimate = within_budget(estimate, constants, scored, cut, kept)
            is_assumed = stage == "contrastive_scores" and clustered is None
            assumed = "as many candidates as five a choice" if is_assumed else ""
            costs.append(StageCost.of(opened, estimate, assumed))
    return costs


def _longest(samples: pl.DataFrame, constants: Constants) -> pl.DataFrame:
    """As many candidates as five a choice, the longest samples, in clusters of one size."""
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
    """The comparisons that a stage has made of a dataset; none before it was materialized."""
    kept = lake.find(COMPARISONS_OF[stage], {"dataset": dataset})
    return SCORE_COMPARISONS.empty() if kept is None else kept


def within_budget(
    unlimited: Estimate, constants: Constants, scored: pl.DataFrame, cut: int, kept: pl.DataFrame
) -> Estimate:
    """The comparisons that a budget lets be made, at the size and price of those estimated.

    New calls are at most so many, since rounds end early where cuts are stable.

    Args:
        unlimited: What comparing each candidate with two others would take.
        constants: What the budget is, if there is any.
        scored: ``cluster`` and ``sample_id`` of the candidates.
        cut: How many of a cluster are to be chosen.
        kept: Rows of ``score_comparisons`` that are kept.

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
        # Without a new call among those estimated there is nothing to tell the price from.
        return Estimate(most, stored, 0, 0, None, None)
    return replace(times(unlimited, (most - stored) / new), calls=most, stored=stored)


def estimate_table(costs: Sequence[StageCost]) -> str:
    """The estimate as a Markdown table, unknown prices and times said to be unknown."""
    lines = [
        "| stage | model | calls | stored | tokens in | tokens out | dollars | minutes |",
        "| --- | --- | ---: | ---: | ---: | ---: | ---: | ---: |",
    ]
    for each in costs:
        took = each.estimate
        dollars = UNKNOWN_PRICE if took.cost_usd is None else f"{took.cost_usd:.2f}"
        minutes = "unknown" if took.seconds is None else f"{took.seconds / 60:.1f}"
        lines.append(
            f"| {each.stage} | {each.model} | {took.calls:,} | {took.stored:,} | "
            f"{took.prompt_tokens:,} | {took.completion_tokens:,} | {dollars} | {minutes} |"
        )
    return "\n".join(lines)

"""What tagging and scoring a dataset would take, before anything is paid for."""

import contextlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import dagster as dg
import polars as pl

from opencs_assets.config.profiles import (
    CANDIDATES_PER_CHOICE,
    Constants,
    MethodError,
    resolve_constants,
)
from opencs_assets.open_tags import tagging
from opencs_assets.scores import contrast, pairing, single
from opencs_assets.scores.rounds import kept_calls
from opencs_assets.tables.lake import Lake
from opencs_assets.tables.scores import SCORE_COMPARISONS
from opencs_assets.wiring.failures import clear_failures
from opencs_assets.wiring.home import Home
from opencs_assets.wiring.jobs import DATASET
from opencs_assets.wiring.partitions import Partitions
from resources.llm.client import LLMClient
from resources.llm.resource import LLMResource
from resources.llm.types import Call, Estimate
from resources.settings import Settings

STAGES = ("open_tags", "contrastive_scores", "whole_set_scores", "single_scores")
COMPARISONS_OF = {
    "contrastive_scores": "score_comparisons",
    "whole_set_scores": "whole_set_comparisons",
}


@dataclass(frozen=True)
class StageEstimate:
    """What one stage's calls would take.

    Attributes:
        stage: Asset that asks.
        role: Role that is asked.
        model: Its model.
        estimate: Calls, tokens, dollars, seconds.
    """

    stage: str
    role: str
    model: str
    estimate: Estimate

    def row(self) -> dict[str, Any]:
        """The estimate as a flat record."""
        return {
            "stage": self.stage,
            "role": self.role,
            "model": self.model,
            **vars(self.estimate),
        }


def estimate_dataset(
    samples: pl.DataFrame,
    settings: Settings,
    client: Callable[[str, str], LLMClient],
    clustered: pl.DataFrame | None = None,
    kept: Callable[[str], pl.DataFrame] = lambda stage: SCORE_COMPARISONS.empty(),
    stages: Sequence[str] = STAGES,
) -> list[StageEstimate]:
    """Estimate the calls of tagging and scoring from the prompts that would be sent.

    Tagging, single scoring and comparing the whole set are exact in number; so are the comparisons
    within clusters, where the clusters are known. Otherwise as many candidates as five a choice,
    the longest samples, are taken: an upper estimate. With a budget for comparisons, it is the
    number. Retries of unreadable replies are not counted.

    Args:
        samples: Rows of ``raw_dataset``.
        settings: The home's settings.
        client: Gives the client of a role for a stage.
        clustered: Rows of ``sample_clusters`` of these samples, where there are any.
        kept: Gives the comparisons that are kept of a stage; used with a budget.
        stages: Assets whose calls are estimated; of those in ``STAGES``.
    """
    constants = resolve_constants(settings.profile, settings.method, samples.height)
    texts = {
        sample: (instruction, response)
        for sample, instruction, response in samples.select(
            "sample_id", "instruction", "response"
        ).iter_rows()
    }
    longest = (
        clustered
        if clustered is not None
        else samples.sort(pl.col("response").str.len_chars(), descending=True)
        .head(CANDIDATES_PER_CHOICE * constants.k.value)
        .select(
            "sample_id",
            cluster=pl.int_range(pl.len()) % constants.clusters.value,
            is_candidate=True,
            is_primary=True,
        )
    )
    asked = {
        "contrastive_scores": pairing.candidates(longest, constants),
        "whole_set_scores": pairing.whole_set(samples),
    }

    def tags(opened: LLMClient) -> Sequence[Call]:
        form: tagging.Form = "compact" if opened.structured == "grammar" else "explained"
        return [tagging.build_call(each, 0, None, form) for each in tagging.queries(samples)]

    def pairs(opened: LLMClient) -> Sequence[Call]:
        return [
            contrast.build_call(each, texts, opened.reading, 0, None)
            for each in pairing.comparisons(asked[opened.stage], samples, constants)
        ]

    def singles(opened: LLMClient) -> Sequence[Call]:
        return [
            single.build_call(instruction, response, criterion, opened.reading, 0, None)
            for criterion in settings.method.single_criteria
            for instruction, response in texts.values()
        ]

    found = []
    for stage, role, calls in (
        ("open_tags", "tagger", tags),
        ("contrastive_scores", "scorer", pairs),
        ("whole_set_scores", "scorer", pairs),
        ("single_scores", "scorer", singles),
    ):
        if stage not in stages:
            continue
        with client(role, stage) as opened:
            estimate = opened.estimate(calls(opened))
            if stage in asked:
                cut = (constants.k if stage == "whole_set_scores" else constants.quota).value
                # A budget that is too small is refused by the run, before it asks anything; what
                # comparing takes without it is still worth knowing.
                with contextlib.suppress(MethodError):
                    estimate = within_budget(estimate, constants, asked[stage], cut, kept(stage))
            found.append(StageEstimate(stage, role, opened.model_label, estimate))
    return found


def known_clusters(lake: Lake, dataset: str) -> pl.DataFrame | None:
    """Rows of ``sample_clusters`` of a dataset, ``None`` where there are none yet."""
    where = {"dataset": dataset}
    return lake.read("sample_clusters", where) if lake.exists("sample_clusters", where) else None


def kept_comparisons(lake: Lake, dataset: str, stage: str = "contrastive_scores") -> pl.DataFrame:
    """The comparisons that a stage has made of a dataset; none before it was materialized."""
    table, where = COMPARISONS_OF[stage], {"dataset": dataset}
    return lake.read(table, where) if lake.exists(table, where) else SCORE_COMPARISONS.empty()


def within_budget(
    found: Estimate, constants: Constants, scored: pl.DataFrame, cut: int, kept: pl.DataFrame
) -> Estimate:
    """The comparisons that a budget lets be made, at the size and price of those estimated.

    Args:
        found: What comparing each candidate with two others would take.
        constants: What the budget is, if there is any.
        scored: ``cluster`` and ``sample_id`` of the candidates.
        cut: How many of a cluster are to be chosen.
        kept: Rows of ``score_comparisons`` that are kept.

    Returns:
        The estimate; new calls are at most so many, since rounds end early where cuts are stable.

    Raises:
        MethodError: The budget is less than the first round takes.
    """
    new = found.calls - found.stored
    limits = [] if constants.comparisons is None else [constants.comparisons]
    if constants.comparisons_usd is not None and found.cost_usd:
        limits.append(int(constants.comparisons_usd / (found.cost_usd / new)))
    if not limits:
        return found
    most = min(limits)
    stored, is_all = kept_calls(scored, cut, kept, most)
    if is_all:
        return Estimate(stored, stored, 0, 0, 0.0, 0.0)
    # Without a new call among those estimated there is nothing to tell the price from.
    times = (most - stored) / new if new else None
    return Estimate(
        most,
        stored,
        round(found.prompt_tokens * (times or 0)),
        round(found.completion_tokens * (times or 0)),
        None if times is None or found.cost_usd is None else found.cost_usd * times,
        None if times is None or found.seconds is None else found.seconds * times,
    )


def estimate_table(stages: Sequence[StageEstimate]) -> str:
    """The estimate as a Markdown table, unknown prices and times said to be unknown."""
    lines = [
        "| stage | model | calls | stored | tokens in | tokens out | dollars | minutes |",
        "| --- | --- | ---: | ---: | ---: | ---: | ---: | ---: |",
    ]
    for each in stages:
        found = each.estimate
        dollars = "unknown price" if found.cost_usd is None else f"{found.cost_usd:.2f}"
        minutes = "unknown" if found.seconds is None else f"{found.seconds / 60:.1f}"
        lines.append(
            f"| {each.stage} | {each.model} | {found.calls:,} | {found.stored:,} | "
            f"{found.prompt_tokens:,} | {found.completion_tokens:,} | {dollars} | {minutes} |"
        )
    return "\n".join(lines)


def build_estimate_assets(partitions: Partitions) -> list[dg.AssetsDefinition]:
    """The asset ``cost_estimate``: materializing it makes no call."""

    @dg.asset(
        partitions_def=partitions.dataset,
        deps=["raw_dataset"],
        description=(
            "What tagging and scoring the dataset would take: calls, tokens, dollars, time. "
            "Makes no call."
        ),
        kinds={"python"},
        owners=["team:data"],
        group_name="datasets",
        tags=DATASET.tags,
        code_version="1",
    )
    def cost_estimate(
        context: dg.AssetExecutionContext, home: Home, llm: LLMResource
    ) -> dg.MaterializeResult:
        settings = home.settings()
        dataset = context.partition_key
        with clear_failures():
            lake, where = Lake(settings.lake), {"dataset": dataset}
            stages = estimate_dataset(
                lake.read("raw_dataset", where),
                settings,
                lambda role, stage: llm.client(
                    role, stage=stage, dataset=dataset, ask_endpoints=False
                ),
                known_clusters(lake, dataset),
                lambda stage: kept_comparisons(lake, dataset, stage),
            )
        return dg.MaterializeResult(
            metadata={
                "estimate": dg.MetadataValue.md(estimate_table(stages)),
                "calls": sum(each.estimate.calls for each in stages),
                "stored": sum(each.estimate.stored for each in stages),
            }
        )

    return [cost_estimate]

"""What tagging and scoring a dataset would take, before anything is paid for."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import dagster as dg
import polars as pl

from opencs_assets.failures import clear_failures
from opencs_assets.open_tags import tagging
from opencs_assets.partitions import Partitions
from opencs_assets.profiles import CANDIDATES_PER_CHOICE, resolve_constants
from opencs_assets.scores import contrast, pairing, single
from resources.home import Home
from resources.lake import Lake
from resources.llm.client import LLMClient
from resources.llm.resource import LLMResource
from resources.llm.types import Call, Estimate
from resources.settings import Settings


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
) -> list[StageEstimate]:
    """Estimate the calls of tagging and scoring from the prompts that would be sent.

    Tagging and single scoring are exact in number. Which samples will be candidates is known only
    after clustering: as many as five a choice, the longest ones, are taken, so the comparisons are
    an upper estimate. Retries of unreadable replies are not counted.

    Args:
        samples: Rows of ``raw_dataset``.
        settings: The home's settings.
        client: Gives the client of a role for a stage.
    """
    constants = resolve_constants(settings.profile, settings.method, samples.height)
    texts = {
        sample: (instruction, response)
        for sample, instruction, response in samples.select(
            "sample_id", "instruction", "response"
        ).iter_rows()
    }
    longest = (
        samples.sort(pl.col("response").str.len_chars(), descending=True)
        .head(CANDIDATES_PER_CHOICE * constants.k.value)
        .select(
            "sample_id",
            cluster=pl.int_range(pl.len()) % constants.clusters.value,
            is_candidate=True,
            is_primary=True,
        )
    )
    asked = pairing.comparisons(longest, samples, constants)

    def tags(opened: LLMClient) -> Sequence[Call]:
        form: tagging.Form = "compact" if opened.structured == "grammar" else "explained"
        return [tagging.build_call(each, 0, None, form) for each in tagging.queries(samples)]

    def pairs(opened: LLMClient) -> Sequence[Call]:
        return [contrast.build_call(each, texts, opened.reading, 0, None) for each in asked]

    def singles(opened: LLMClient) -> Sequence[Call]:
        return [
            single.build_call(instruction, response, opened.reading, 0, None)
            for instruction, response in texts.values()
        ]

    found = []
    for stage, role, calls in (
        ("open_tags", "tagger", tags),
        ("contrastive_scores", "scorer", pairs),
        ("single_scores", "scorer", singles),
    ):
        with client(role, stage) as opened:
            found.append(
                StageEstimate(stage, role, opened.model_label, opened.estimate(calls(opened)))
            )
    return found


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
        code_version="1",
    )
    def cost_estimate(
        context: dg.AssetExecutionContext, home: Home, llm: LLMResource
    ) -> dg.MaterializeResult:
        settings = home.settings()
        dataset = context.partition_key
        with clear_failures():
            stages = estimate_dataset(
                Lake(settings.lake).read("raw_dataset", {"dataset": dataset}),
                settings,
                lambda role, stage: llm.client(
                    role, stage=stage, dataset=dataset, ask_endpoints=False
                ),
            )
        return dg.MaterializeResult(
            metadata={
                "estimate": dg.MetadataValue.md(estimate_table(stages)),
                "calls": sum(each.estimate.calls for each in stages),
                "stored": sum(each.estimate.stored for each in stages),
            }
        )

    return [cost_estimate]

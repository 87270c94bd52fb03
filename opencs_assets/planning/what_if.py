"""Which samples other settings would choose, and what they would cost, without a call."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from pydantic import ValidationError

from opencs_assets.clusters.kmeans import Floats
from opencs_assets.config.profiles import Constants, resolve_constants
from opencs_assets.planning.estimate import Client, kept_comparisons, within_budget
from opencs_assets.planning.rerun import KeptScores, Reruns
from opencs_assets.planning.stage_calls import comparison_calls
from opencs_assets.tables.lake import Lake
from resources.llm.types import Estimate
from resources.settings import Method, Settings, SettingsError


@dataclass(frozen=True)
class WhatIf:
    """The result of a change of settings.

    Attributes:
        constants: The constants with the change.
        candidates: How many candidates would be compared.
        estimate: The comparisons that scoring would make; ``stored`` ones cost nothing.
        uncompared: How many candidates are in no stored comparison of their cluster.
        now: The subset of the present settings, chosen anew from the stored tables.
        then: The subset with the change, chosen from the stored tables.
    """

    constants: Constants
    candidates: int
    estimate: Estimate
    uncompared: int
    now: frozenset[str]
    then: frozenset[str]

    def row(self) -> dict[str, Any]:
        """The answer as a flat record."""
        estimate, shared = self.estimate, len(self.now & self.then)
        return {
            "alpha": self.constants.alpha.value,
            "clusters": self.constants.clusters.value,
            "quota": self.constants.quota.value,
            "k": self.constants.k.value,
            "seed": self.constants.seed,
            "candidates": self.candidates,
            "comparisons": estimate.calls,
            "new_calls": estimate.calls - estimate.stored,
            "dollars": estimate.cost_usd,
            "minutes": None if estimate.seconds is None else round(estimate.seconds / 60, 1),
            "uncompared": self.uncompared,
            "chosen": len(self.then),
            "chosen_now_too": shared,
            "jaccard": round(shared / (len(self.now | self.then) or 1), 3),
        }


def what_if(
    dataset: str,
    settings: Settings,
    change: Mapping[str, Any],
    embed: Callable[[Sequence[str]], Floats],
    client: Client,
) -> WhatIf:
    """Choose anew with other settings of ``method``, from the stored tags and comparisons.

    The dataset must have its ``open_tags``, but need not have comparisons.

    Raises:
        LakeError: The dataset has no tags yet.
        MethodError: Nothing is left with these settings.
        SettingsError: A value is out of its range.
    """
    try:
        changed = Method.model_validate({**settings.method.model_dump(), **change})
    except ValidationError as error:
        first = error.errors(include_input=False, include_url=False)[0]
        raise SettingsError(f"method.{first['loc'][0]}: {first['msg']}") from None
    lake, where = Lake(settings.lake), {"dataset": dataset}
    samples = lake.read("raw_dataset", where)
    reruns = Reruns(
        KeptScores.of(
            settings,
            dataset,
            samples,
            lake.read("open_tags", where),
            kept_comparisons(lake, dataset),
            embed,
        )
    )
    now = resolve_constants(settings.profile, settings.method, samples.height)
    then = resolve_constants(settings.profile, changed, samples.height)
    chosen = reruns.run(then)
    with client("scorer", "contrastive_scores") as scorer:
        calls = comparison_calls(scorer, samples, reruns.comparisons(then))
        unlimited = scorer.estimate(calls)
    return WhatIf(
        constants=then,
        candidates=chosen.scored.height,
        estimate=within_budget(
            unlimited, then, chosen.scored, then.quota.value, reruns.kept_scores.comparisons
        ),
        uncompared=chosen.missing,
        now=reruns.run(now).chosen,
        then=chosen.chosen,
    )

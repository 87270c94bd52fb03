"""The argument and the result of every stage's ``build_stage``."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import dagster as dg

from opencs_assets.config.experiments import Experiments
from opencs_assets.wiring.jobs import Family
from opencs_assets.wiring.partitions import Partitions
from resources.settings import Settings

Families = Mapping[str, tuple[Family, frozenset[dg.AssetKey]]]


@dataclass(frozen=True)
class Declared:
    """A home's settings, experiments and partitions when the definitions are loaded."""

    settings: Settings
    experiments: Experiments
    partitions: Partitions


def _no_sensors(_: Families) -> Sequence[dg.SensorDefinition]:
    return ()


@dataclass(frozen=True)
class Stage:
    """A stage's definitions.

    Each asset is tagged with its family. ``sensors`` makes the stage's sensors when all families'
    assets are known.
    """

    assets: Sequence[dg.AssetsDefinition]
    checks: Sequence[Any] = ()
    sensors: Callable[[Families], Sequence[dg.SensorDefinition]] = _no_sensors

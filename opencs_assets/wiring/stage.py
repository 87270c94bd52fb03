"""What a stage offers, and what it is told: the form of every stage's ``build_stage``."""

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
    """What a home declares.

    Attributes:
        settings: Its settings as they are when the definitions are loaded.
        experiments: Its experiments and matchups.
        partitions: The partition families that are made from them.
    """

    settings: Settings
    experiments: Experiments
    partitions: Partitions


def _no_sensors(_: Families) -> Sequence[dg.SensorDefinition]:
    return ()


@dataclass(frozen=True)
class Stage:
    """What a stage offers.

    Attributes:
        assets: Its assets, each tagged with its family.
        checks: Its checks.
        sensors: Makes its sensors, once it is known which assets are in which family.
    """

    assets: Sequence[dg.AssetsDefinition]
    checks: Sequence[Any] = ()
    sensors: Callable[[Families], Sequence[dg.SensorDefinition]] = _no_sensors

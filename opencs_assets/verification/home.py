"""Verifying a home: all that is published, derived anew from what is kept."""

from collections.abc import Collection
from typing import get_args

from opencs_assets.config.experiments import load_experiments
from opencs_assets.tables.lake import Lake
from opencs_assets.verification.findings import Findings, Layer
from opencs_assets.verification.imported import check_imported
from opencs_assets.verification.judged import Judged
from opencs_assets.verification.marts import check_marts, check_protocols
from resources.llm.store import ReplyStore
from resources.settings import Settings
from resources.warehouse import HOW_TO_BUILD


def verify_home(settings: Settings, layers: Collection[Layer] = get_args(Layer)) -> Findings:
    """Derive every verdict and every published number anew, and name what differs.

    Makes no call, and changes nothing that is kept.

    Args:
        settings: The home's settings.
        layers: What is looked at: verdicts that were judged here, imported ones, and the marts.

    Raises:
        ExperimentsError: What is declared can't be used.
        StoreError: The reply store can't be read.
        BenchmarkError: A benchmark's file, by which imports are read, can't be used.
        VerdictFileError: What was said about imported files can't be read.
        DbtError: The warehouse can't be built anew.
        WarehouseError: The warehouse can't be read.
    """
    findings = Findings()
    lake = Lake(settings.lake)
    if "judged" in layers:
        with ReplyStore(settings.replies) as store:
            Judged(lake, store, settings, load_experiments(settings.home), findings).check()
    if "imported" in layers:
        check_imported(lake, settings.home, findings)
    if "marts" in layers and settings.warehouse.exists():
        check_protocols(lake, findings)
        check_marts(settings.lake, settings.warehouse, findings)
    elif "marts" in layers:
        findings.note(f"there is no warehouse yet; build it: {HOW_TO_BUILD}")
    return findings

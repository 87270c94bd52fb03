"""Verifying a home: all that is published, derived anew from what is kept."""

from opencs_assets.experiments import load_experiments
from opencs_assets.verification.findings import Findings
from opencs_assets.verification.judged import Judged
from resources.lake import Lake
from resources.llm.store import ReplyStore
from resources.settings import Settings


def verify_home(settings: Settings) -> Findings:
    """Derive every verdict and every published number anew, and name what differs.

    Makes no call and writes nothing.

    Args:
        settings: The home's settings.

    Raises:
        ExperimentsError: What is declared can't be used.
        StoreError: The reply store can't be read.
        WarehouseError: There is no warehouse, or it can't be read.
    """
    findings = Findings()
    lake = Lake(settings.lake)
    with ReplyStore(settings.replies) as store:
        Judged(lake, store, settings, load_experiments(settings.home), findings).check()
    return findings

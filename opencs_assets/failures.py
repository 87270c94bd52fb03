"""Errors that a person can mend, told as one clear message and not retried."""

from collections.abc import Iterator
from contextlib import contextmanager

import dagster as dg

from opencs_assets.benchmarks.errors import BenchmarkError
from opencs_assets.checkpoints.provenance import BaseModelError
from opencs_assets.datasets.errors import DatasetError
from opencs_assets.experiments import ExperimentsError
from opencs_assets.profiles import MethodError
from opencs_assets.provenance import ProvenanceError
from opencs_assets.schemas import SchemaError
from opencs_assets.selection.choice import SelectionError
from opencs_assets.selection.pins import PinsError
from opencs_assets.subset import SubsetError
from opencs_assets.verdicts.importing.errors import VerdictFileError
from resources.lake import LakeError
from resources.llm.errors import LLMError
from resources.models import ModelError
from resources.settings import SettingsError

MENDABLE = (
    BaseModelError,
    BenchmarkError,
    DatasetError,
    ExperimentsError,
    LakeError,
    LLMError,
    MethodError,
    ModelError,
    PinsError,
    ProvenanceError,
    SchemaError,
    SelectionError,
    SettingsError,
    SubsetError,
    VerdictFileError,
)


@contextmanager
def clear_failures() -> Iterator[None]:
    """Turn an error that a retry can't mend into a failure with its message alone."""
    try:
        yield
    except MENDABLE as error:
        raise dg.Failure(description=str(error), allow_retries=False) from error

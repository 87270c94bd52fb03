"""The Dagster instance of a home: the one that command line, UI and sensors share."""

import os
from pathlib import Path

import dagster as dg

from resources.settings import load_settings


def open_instance(home: Path) -> dg.DagsterInstance:
    """The home's Dagster instance; sets ``DAGSTER_HOME`` so that child processes find it too."""
    folder = load_settings(home).instance
    os.environ["DAGSTER_HOME"] = str(folder)
    os.environ["OPENCS_HOME"] = str(home)
    return dg.DagsterInstance.from_config(str(folder))

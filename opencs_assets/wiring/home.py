"""The home as a Dagster resource, so that assets read settings when they run."""

from pathlib import Path

import dagster as dg

from opencs_assets.config.experiments import Experiments, load_experiments
from resources.settings import Settings, load_settings


class Home(dg.ConfigurableResource):
    """The folder that everything lives under."""

    path: str

    @property
    def folder(self) -> Path:
        """The home as a path."""
        return Path(self.path)

    def settings(self) -> Settings:
        """The home's settings as they are now."""
        return load_settings(self.path)

    def experiments(self) -> Experiments:
        """The experiments that are declared now."""
        return load_experiments(self.folder)

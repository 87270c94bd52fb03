"""A home: preparing one, and the Dagster resource by which assets read its settings."""

from pathlib import Path

import dagster as dg

from opencs_assets.config.experiments import Experiments, load_experiments
from opencs_assets.tables.lake import Lake
from resources.instance import prepare_folders
from resources.settings import Settings, load_settings


def prepare_home(home: Path | str | None = None) -> Settings:
    """Make the folders of a home, its Dagster configuration and the lake's zero-row files.

    Does nothing to what is there already, but for a Dagster configuration that an earlier release
    put there and nobody has changed since: it becomes this release's.

    Raises:
        HomeError: A folder can't be made or written to.
        SettingsError: The home's settings are not usable.
    """
    settings = prepare_folders(home)
    Lake(settings.lake).ensure_schemas()
    return settings


class Home(dg.ConfigurableResource):
    """The folder that everything lives under.

    Attributes:
        path: The home.
    """

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

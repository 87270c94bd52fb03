"""Preparing a home: its folders, and a zero-row file for each table of its lake."""

from pathlib import Path

from opencs_assets.tables.lake import Lake
from resources.home import prepare_folders
from resources.settings import Settings


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

"""A home's folders, and the configuration of its Dagster instance."""

import hashlib
import os
from pathlib import Path

from resources.errors import MendableError
from resources.files import write_whole
from resources.settings import Settings, load_settings

# SHA-256 of the configurations that earlier releases put into homes. Such a configuration gives way
# to this release's; one that somebody has edited stays.
_EARLIER_CONFIGS = {
    "016a6cd3e6feba947e42a54a84bb56fb92d9baacefa025feb38fa6388e6b5091",
    "a1d76485ba21ab1f37dcec0cdee8548c1890336360f43c06400d275ecf38f3c7",
}
CONFIG = Path(__file__).resolve().parent.parent / "deploy" / "laptop" / "dagster.yaml"
FOLDERS = ("landing", "landing/verdicts", "lake", "llm", "checkpoints", "answers", "dagster")


class HomeError(MendableError):
    """The home can't be used; the message says which folder and what to do."""


def prepare_folders(home: Path | str | None = None) -> Settings:
    """Make the folders of a home and its Dagster configuration.

    What is there already stays as it is. One thing changes: a Dagster configuration that an earlier
    release put there, and that nobody has edited, becomes this release's.

    Raises:
        HomeError: A folder can't be made or written to.
        SettingsError: The home's settings are not usable.
    """
    settings = load_settings(home)
    try:
        for name in FOLDERS:
            (settings.home / name).mkdir(parents=True, exist_ok=True)
        if settings.dagster_home is None:
            _configure(settings.home / "dagster" / "dagster.yaml")
        probe = settings.home / f".write-{os.getpid()}"
        probe.touch()
        probe.unlink()
    except OSError as error:
        raise HomeError(
            f"OPENCS_HOME {settings.home} can't be used: {error.strerror} ({error.filename}). "
            "Make the folder writable, or set OPENCS_HOME to one that is."
        ) from None
    return settings


def _configure(config: Path) -> None:
    if config.exists():
        content = hashlib.sha256(config.read_bytes()).hexdigest()
        if content not in _EARLIER_CONFIGS:
            return
    write_whole(config, CONFIG.read_bytes())

"""Check settings.toml and experiments.yaml, then put them into the home.

``python install_settings.py FROM HOME``, run by the chart's job with the image's own code, so that
settings which this version can't use fail the upgrade and leave the home as it was. What a person
must do stands on the last line.
"""

import os
import shutil
import sys
import tempfile
from pathlib import Path

from opencs_assets.config.experiments import FURTHER, load_experiments
from opencs_assets.protocols.registry import refuse_misfits
from opencs_assets.tables.home import prepare_home
from resources.errors import OpenCSError
from resources.files import write_whole
from resources.home import HomeError
from resources.settings import load_settings

FILES = ("settings.toml", "experiments.yaml")


def install(source: Path, home: Path) -> None:
    """Check both files of a folder, put them into a home, and make the home's folders.

    Raises:
        OpenCSError: A setting or an experiment is not usable; nothing was changed.
        HomeError: The home can't be written to.
    """
    with tempfile.TemporaryDirectory() as folder:
        trial = Path(folder)
        for name in FILES:
            shutil.copyfile(source / name, trial / name)
        # The new files may refer to experiments that the home has beside them.
        if (home / FURTHER).is_dir():
            shutil.copytree(home / FURTHER, trial / FURTHER)
        settings = load_settings(trial)
        refuse_misfits(settings, settings.roles.judge.resolved_reading)
        load_experiments(trial)
    try:
        home.mkdir(parents=True, exist_ok=True)
        for name in FILES:
            write_whole(home / name, (source / name).read_bytes())
    except OSError as error:
        raise HomeError(
            f"{home} can't be written to: {error.strerror} ({error.filename}). The volume must be "
            f"writable by group {os.getgid()}; see the chart's values `home` and `user`."
        ) from None
    prepare_home(home)


if __name__ == "__main__":
    try:
        install(Path(sys.argv[1]), Path(sys.argv[2]))
    except OpenCSError as failure:
        sys.exit(f"settings were not installed: {failure}")

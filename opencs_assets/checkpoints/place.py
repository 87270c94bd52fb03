"""Where a training works and where its checkpoint goes: a folder here, or object storage.

The work folder stands beside the checkpoint under a name made of the provenance, so that whoever
is asked for the same checkpoint again finds the states that a stopped training left. With object
storage the work folder is on the trainer's own disk, and each complete state is copied up.
"""

import shutil
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from opencs_assets.checkpoints.states import (
    COMPLETE,
    PREFIX,
    State,
    latest,
    remove_incomplete,
)
from opencs_assets.checkpoints.templates import TEMPLATE_FILE, TemplateError, chat_template
from resources.launcher.job import JobError
from resources.provenance import MARKER, SHORT, ProvenanceError
from resources.remote import RemoteFolder, is_url, marker_at, verify_at

WORK = ".training-"
LAUNCH = "launch"


class TrainingPlace:
    """The places of one training.

    Args:
        output: The checkpoint: a path or an fsspec URL.
        provenance: Hash of all that determines it.
        scratch: Folder for the work where the output is remote; unset: the temporary one.
    """

    def __init__(self, output: str, provenance: str, scratch: str | None) -> None:
        self.output = output
        self.provenance = provenance
        self.remote = RemoteFolder(output) if is_url(output) else None
        name = f"{WORK}{provenance[:SHORT]}"
        parent = Path(output).parent
        self.lock = parent / ".training.lock"
        if self.remote:
            parent = Path(scratch or tempfile.gettempdir()) / "opencs"
            self.lock = parent / f"{provenance[:SHORT]}.lock"
        self.folder = parent / name
        self._kept = RemoteFolder(f"{output.rsplit('/', 1)[0]}/{name}") if self.remote else None

    @property
    def made(self) -> Path:
        """Folder that the weights are saved into before the checkpoint is published."""
        return self.folder / "checkpoint"

    @property
    def states(self) -> Path:
        """Folder of the training states."""
        return self.folder / "states"

    def stored(self) -> Mapping[str, Any] | None:
        """The result of a whole checkpoint of this provenance, if it is there.

        Raises:
            JobError: The checkpoint of something else is there.
        """
        return stored(self.output, self.provenance)

    def restore(self) -> State | None:
        """The last complete state, fetched from object storage where this disk has none."""
        self.states.mkdir(parents=True, exist_ok=True)
        remove_incomplete(self.states)
        here = latest(self.states)
        if self._kept:
            steps = {
                int(each.name.removeprefix(PREFIX)): each
                for each in self._kept.folders()
                if each.name.startswith(PREFIX) and each.read_json(COMPLETE)
            }
            last = max(steps, default=-1)
            if last > (here.step if here else -1):
                steps[last].pull(self.states / steps[last].name)
                here = latest(self.states)
        return here

    def keep(self, state: Path, most: int) -> None:
        """Copy a complete state up, and remove the older ones there beyond ``most``."""
        if not self._kept:
            return
        RemoteFolder(f"{self._kept.url}/{state.name}").push(state, COMPLETE)
        older = sorted(
            (each for each in self._kept.folders() if each.name.startswith(PREFIX)),
            key=lambda each: int(each.name.removeprefix(PREFIX)),
        )
        for each in older[:-most]:
            each.remove()

    def begin_anew(self, launch: str) -> None:
        """Forget all states, but for those of the same launch.

        Args:
            launch: Name of the launch; empty: none is the same.
        """
        kept = self._kept.read_text(LAUNCH) if self._kept else None
        file = self.folder / LAUNCH
        if launch and launch in (kept, file.read_text() if file.exists() else None):
            return
        self.clear()
        if launch:
            self.folder.mkdir(parents=True, exist_ok=True)
            file.write_text(launch)
            if self._kept:
                self._kept.write_text(LAUNCH, launch)

    def clear(self) -> None:
        """Remove the work folder and all states."""
        shutil.rmtree(self.folder, ignore_errors=True)
        if self._kept:
            self._kept.remove()

    def publish(self) -> None:
        """Make the saved checkpoint the output, whole or not at all, and remove the work."""
        if self.remote:
            self.remote.push(self.made, MARKER)
        else:
            output = Path(self.output)
            if output.exists():
                output.rename(self.folder / "replaced")
            self.made.rename(output)
        self.clear()

    def others(self) -> list[Path]:
        """Work folders beside this one that nobody works in.

        None with object storage: there all trainings share one folder for their work, and others
        may be running.
        """
        if self.remote:
            return []
        return [
            each
            for each in self.folder.parent.glob(f"{WORK}*")
            if each.is_dir() and each != self.folder
        ]


def stored(output: str, provenance: str) -> Mapping[str, Any] | None:
    """The result of a whole checkpoint of a provenance, if it is there.

    Args:
        output: The checkpoint: a path or an fsspec URL.
        provenance: Hash of all that determines it.

    Raises:
        JobError: The whole checkpoint of something else is there.
    """
    try:
        found = marker_at(output)
    except ProvenanceError:
        return None
    if found.provenance != provenance:
        raise JobError(
            f"{output} holds another checkpoint: it was made from {found.provenance[:SHORT]}, "
            f"this one would be {provenance[:SHORT]}; move that folder away"
        )
    try:
        return dict(verify_at(output, provenance).result)
    except ProvenanceError:
        return None


def stored_template(output: str) -> str:
    """The chat template of a checkpoint here or in object storage.

    Raises:
        TemplateError: It has none.
    """
    if not is_url(output):
        return chat_template(Path(output))
    found = RemoteFolder(output).read_text(TEMPLATE_FILE)
    if found is None:
        raise TemplateError(f"{output} has no {TEMPLATE_FILE}; materialize the checkpoint again")
    return found

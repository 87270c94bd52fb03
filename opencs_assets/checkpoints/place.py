"""Where a training works and where its checkpoint goes: a folder here, or object storage.

The work folder stands beside the checkpoint under a name made of the provenance, so that the next
training of the same checkpoint finds the states that a stopped one left. With object storage the
work folder is on the trainer's own disk, and each complete state is copied there.
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
    step_of,
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
        self._remote_work = (
            RemoteFolder(f"{output.rsplit('/', 1)[0]}/{name}") if self.remote else None
        )

    @property
    def made(self) -> Path:
        """Folder that the weights are saved into before the checkpoint is published."""
        return self.folder / "checkpoint"

    @property
    def states(self) -> Path:
        """Folder of the training states."""
        return self.folder / "states"

    def restore(self) -> State | None:
        """The last complete state, fetched from object storage where this disk has none."""
        self.states.mkdir(parents=True, exist_ok=True)
        remove_incomplete(self.states)
        here = latest(self.states)
        complete = [state for state in self._remote_states() if state.read_json(COMPLETE)]
        if complete and step_of(complete[-1].name) > (here.step if here else -1):
            complete[-1].pull(self.states / complete[-1].name)
            here = latest(self.states)
        return here

    def keep(self, state: Path, most: int) -> None:
        """Copy a complete state to object storage, and keep only the last ``most`` there."""
        if not self._remote_work:
            return
        RemoteFolder(f"{self._remote_work.url}/{state.name}").push(state, COMPLETE)
        for older in self._remote_states()[:-most]:
            older.remove()

    def _remote_states(self) -> list[RemoteFolder]:
        """The folders of states in object storage, the earliest first."""
        folders = self._remote_work.folders() if self._remote_work else ()
        states = [folder for folder in folders if folder.name.startswith(PREFIX)]
        return sorted(states, key=lambda folder: step_of(folder.name))

    def begin_anew(self, launch: str) -> None:
        """Forget all states, unless the launch of this name left them; an empty one left none."""
        remote = self._remote_work.read_text(LAUNCH) if self._remote_work else None
        file = self.folder / LAUNCH
        if launch and launch in (remote, file.read_text() if file.exists() else None):
            return
        self.clear()
        if launch:
            self.folder.mkdir(parents=True, exist_ok=True)
            file.write_text(launch)
            if self._remote_work:
                self._remote_work.write_text(LAUNCH, launch)

    def clear(self) -> None:
        """Remove the work folder and all states."""
        shutil.rmtree(self.folder, ignore_errors=True)
        if self._remote_work:
            self._remote_work.remove()

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

        With object storage there are none: all trainings share one folder for their work, and
        others may be running.
        """
        if self.remote:
            return []
        folders = self.folder.parent.glob(f"{WORK}*")
        return [folder for folder in folders if folder.is_dir() and folder != self.folder]


def stored(output: str, provenance: str) -> Mapping[str, Any] | None:
    """The result of a whole checkpoint of a provenance, if it is at the output's path or URL.

    Raises:
        JobError: The whole checkpoint of something else is there.
    """
    try:
        marker = marker_at(output)
    except ProvenanceError:
        return None
    if marker.provenance != provenance:
        raise JobError(
            f"{output} holds another checkpoint: it was made from {marker.provenance[:SHORT]}, "
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
    template = RemoteFolder(output).read_text(TEMPLATE_FILE)
    if template is None:
        raise TemplateError(f"{output} has no {TEMPLATE_FILE}; materialize the checkpoint again")
    return template

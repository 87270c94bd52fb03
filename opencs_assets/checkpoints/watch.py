"""What watches a training: the loss curve, SIGTERM, and the callback that keeps the states."""

import math
import signal
import threading
import time
from collections.abc import Mapping
from contextlib import ExitStack
from pathlib import Path
from typing import Any

from opencs_assets.checkpoints import states
from opencs_assets.checkpoints.place import TrainingPlace
from resources.errors import InternalError
from resources.launcher.job import Channel, JobError
from resources.progress import Reporter
from resources.settings import TrainingSettings

REPORT_EVERY_S = 30.0
# Unless the settings say how often, states are so far apart: a short training is soon done again.
STATE_EVERY_S = 60.0


class AllDoneError(InternalError):
    """The trainer would take one more step, though its state is that of the last step."""


class StopRequest:
    """Whether SIGTERM came, for all processes of a training at the same step.

    It handles the process's SIGTERM while it is entered; in a thread, where no handler can be set,
    SIGTERM is left alone.
    """

    def __init__(self) -> None:
        self.received = False
        self._previous: Any = None

    def __enter__(self) -> "StopRequest":
        if threading.current_thread() is threading.main_thread():
            self._previous = signal.signal(signal.SIGTERM, self._hear)
        return self

    def __exit__(self, *_: object) -> None:
        if self._previous is not None:
            signal.signal(signal.SIGTERM, self._previous)

    def _hear(self, *_: Any) -> None:
        self.received = True

    def agreed(self) -> bool:
        """Whether any process got SIGTERM; every process must call this at the same step."""
        return any_process(self.received)


def any_process(here: bool) -> bool:
    """Whether something holds in any process; every process must call this at the same step."""
    import torch
    from torch import distributed

    if not (distributed.is_available() and distributed.is_initialized()):
        return here
    device = "cuda" if distributed.get_backend() == "nccl" else "cpu"
    flag = torch.tensor([int(here)], device=device)
    distributed.all_reduce(flag, op=distributed.ReduceOp.MAX)
    return bool(flag.item())


class LossCurve:
    """The loss curve (``log``), and tokens and seconds so far, all of them kept with each state.

    The tokens are those of all processes, padding left out; the seconds before a stop count. A row
    of the log has the tokens so far, and their speed since the row before.
    """

    def __init__(self, notes: Mapping[str, Any] | None = None) -> None:
        notes = notes or {}
        self.log: list[dict[str, Any]] = list(notes.get("log", []))
        self.tokens = self._before = int(notes.get("tokens", 0))
        self.seconds = self._spent = float(notes.get("seconds", 0.0))
        self._start = time.monotonic()

    def begin(self) -> None:
        """Start the clock."""
        self._start = time.monotonic()

    def add(self, step: int, steps: int, logs: Mapping[str, Any]) -> dict[str, Any]:
        """Add the trainer's log of a step, and return the curve's new row.

        Raises:
            JobError: The loss or the gradient is no finite number.
        """
        seconds = self._spent + time.monotonic() - self._start
        tokens = self._before + int(logs["num_tokens"])
        spent = seconds - self.seconds
        row = {
            "step": step,
            "loss": float(logs["loss"]),
            "learning_rate": float(logs["learning_rate"]),
            "grad_norm": float(logs.get("grad_norm") or 0.0),
            "tokens": tokens,
            "tokens_per_second": (tokens - self.tokens) / spent if spent > 0 else 0.0,
        }
        self.tokens, self.seconds = tokens, seconds
        for name in ("loss", "grad_norm"):
            if not math.isfinite(row[name]):
                raise JobError(
                    f"{name} is {row[name]} at step {step} of {steps}; lower the recipe's "
                    "learning_rate, or train without bf16"
                )
        self.log.append(row)
        return row

    def notes(self) -> dict[str, Any]:
        """The notes of a state, from which a later process goes on."""
        return {"log": self.log, "tokens": self.tokens, "seconds": self.seconds}


def watcher(
    curve: LossCurve,
    steps: int,
    place: TrainingPlace,
    settings: TrainingSettings,
    stop: StopRequest,
    channel: Channel,
) -> Any:
    """The trainer's callback, which fills the curve, keeps states and stops when asked to.

    A function makes it, because its base class must not be imported before the job was checked.
    """
    from torch import distributed
    from transformers import TrainerCallback

    class Watch(TrainerCallback):  # type: ignore[misc]
        def __init__(self) -> None:
            self.shown = ExitStack()
            self.progress: Reporter | None = None
            self.reported = self.saved = time.monotonic()
            self.stopped = False

        def on_train_begin(self, args: Any, state: Any, control: Any, **_: Any) -> None:
            curve.begin()
            if state.global_step >= steps:
                raise AllDoneError
            if state.is_world_process_zero:
                reporter = Reporter("training", steps, unit="steps")
                self.progress = self.shown.enter_context(reporter)
                self.progress.advance(int(state.global_step), stored=int(state.global_step))

        def on_step_end(self, args: Any, state: Any, control: Any, **_: Any) -> None:
            if control.should_save and settings.save_every_steps is None:
                is_due = time.monotonic() - self.saved >= STATE_EVERY_S
                control.should_save = any_process(is_due)
            if stop.agreed() and state.global_step < steps:
                self.stopped = True
                control.should_log = control.should_save = control.should_training_stop = True
            if self.progress:
                self.progress.advance(note=f"loss {curve.log[-1]['loss']:.3f}" if curve.log else "")

        def on_log(
            self, args: Any, state: Any, control: Any, logs: Mapping[str, Any], **_: Any
        ) -> None:
            if "loss" not in logs or "num_tokens" not in logs:
                return
            row = curve.add(int(state.global_step), steps, logs)
            now = time.monotonic()
            if now - self.reported > REPORT_EVERY_S or row["step"] == steps:
                self.reported = now
                channel.say(
                    f"step {row['step']} of {steps}: loss {row['loss']:.4f}, learning rate "
                    f"{row['learning_rate']:.3g}, gradient norm {row['grad_norm']:.3g}, "
                    f"{row['tokens_per_second']:.0f} tokens/s"
                )

        def on_save(self, args: Any, state: Any, control: Any, **_: Any) -> None:
            self.saved = time.monotonic()
            # Each process writes its part; the state is complete when the last one has.
            if distributed.is_available() and distributed.is_initialized():
                distributed.barrier()
            if not state.is_world_process_zero:
                return
            folder = Path(args.output_dir) / f"{states.PREFIX}{state.global_step}"
            states.seal(folder, {**curve.notes(), "world_size": args.world_size})
            # The state before this one must stand until this one is whole, so it goes only now.
            states.keep_last(folder.parent, settings.keep_states)
            place.keep(folder, settings.keep_states)

    return Watch()

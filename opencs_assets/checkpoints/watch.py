"""What is watched while training: the loss curve, SIGTERM, a loss that is no number, the states."""

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
# Between two states, where nobody said how often: a short training is soon done again.
STATE_EVERY_S = 60.0


class AllDoneError(InternalError):
    """The state that the trainer went on from is of the last step; it would take one more."""


class StopRequest:
    """Whether SIGTERM came, for all processes of a training at the same step.

    A handler of the process while it is entered; in a thread, where there can be none, SIGTERM is
    left alone.
    """

    def __init__(self) -> None:
        self.asked = False
        self._previous: Any = None

    def __enter__(self) -> "StopRequest":
        if threading.current_thread() is threading.main_thread():
            self._previous = signal.signal(signal.SIGTERM, self._hear)
        return self

    def __exit__(self, *_: object) -> None:
        if self._previous is not None:
            signal.signal(signal.SIGTERM, self._previous)

    def _hear(self, *_: Any) -> None:
        self.asked = True

    def agreed(self) -> bool:
        """Whether any process was asked; every process must call this at the same step."""
        return any_process(self.asked)


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
    """The loss curve and the counts beside it, kept with each state.

    Attributes:
        log: Logged steps: step, loss, learning_rate, grad_norm, tokens (so far) and
            tokens_per_second (since the step before).
        tokens: Tokens seen, padding left out, over all processes.
        seconds: Seconds of training, those before a stop included.
    """

    def __init__(self, kept: Mapping[str, Any] | None = None) -> None:
        kept = kept or {}
        self.log: list[dict[str, Any]] = list(kept.get("log", []))
        self.tokens = self._before = int(kept.get("tokens", 0))
        self.seconds = self._spent = float(kept.get("seconds", 0.0))
        self._start = time.monotonic()

    def begin(self) -> None:
        """Start the clock."""
        self._start = time.monotonic()

    def add(self, step: int, steps: int, logs: Mapping[str, Any]) -> dict[str, Any]:
        """Take in what the trainer logged at a step.

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
        bad = [name for name in ("loss", "grad_norm") if not math.isfinite(row[name])]
        if bad:
            raise JobError(
                f"{bad[0]} is {row[bad[0]]} at step {step} of {steps}; lower the recipe's "
                "learning_rate, or train without bf16"
            )
        self.log.append(row)
        return row

    def kept(self) -> dict[str, Any]:
        """What a later process goes on from."""
        return {"log": self.log, "tokens": self.tokens, "seconds": self.seconds}


def watcher(
    curve: LossCurve,
    steps: int,
    place: TrainingPlace,
    settings: TrainingSettings,
    stop: StopRequest,
    channel: Channel,
) -> Any:
    """The trainer's callback.

    Made by a function, because its base class must not be imported before the job was checked.

    Args:
        curve: Filled while training.
        steps: Steps of the whole training.
        place: Where the states go.
        settings: The home's ``training`` settings.
        stop: Asked after each step.
        channel: Told where the training is.
    """
    from torch import distributed
    from transformers import TrainerCallback

    class Watch(TrainerCallback):  # type: ignore[misc]
        def __init__(self) -> None:
            self.shown = ExitStack()
            self.progress: Reporter | None = None
            self.reported = self.kept = time.monotonic()
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
                due = time.monotonic() - self.kept >= STATE_EVERY_S
                control.should_save = any_process(due)
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
            self.kept = time.monotonic()
            # Each process writes its part; the state is complete when the last one has.
            if distributed.is_available() and distributed.is_initialized():
                distributed.barrier()
            if not state.is_world_process_zero:
                return
            folder = Path(args.output_dir) / f"{states.PREFIX}{state.global_step}"
            states.seal(folder, {**curve.kept(), "world_size": args.world_size})
            # Only now: the state before must stand until this one is whole.
            states.keep_last(folder.parent, settings.keep_states)
            place.keep(folder, settings.keep_states)

    return Watch()

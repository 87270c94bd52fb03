"""Fine-tune a base model on a subset: ``python -m opencs_assets.checkpoints.train job.json``.

Runs anywhere, with or without Dagster. The job file holds:

- ``samples``: Parquet file of the subset in the order of choice (sample_id, system, messages);
- ``base_model``: folder of the base model, in Hugging Face's form;
- ``output``: folder that the checkpoint is moved to once it is whole;
- ``recipe``: an experiment's recipe; ``fields``: what the checkpoint's provenance is the hash of;
- ``force``: train again where a whole checkpoint of this provenance is already there.
"""

import ctypes
import math
import os
import resource
import shutil
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import polars as pl
from filelock import FileLock

from opencs_assets.checkpoints.encoding import Encoded, EncodingError, conversation, encode
from opencs_assets.checkpoints.provenance import (
    BaseModelError,
    base_model_identity,
    chat_template,
    checkpoint_fields,
    template_hash,
)
from opencs_assets.checkpoints.recipe import optimizer_steps
from opencs_assets.experiments import Recipe
from opencs_assets.external import Channel, Job, JobError, Progress, cores, prepare_models, run_job
from opencs_assets.provenance import ProvenanceError, content_hash, verify, write_marker

MAX_LOG_ROWS = 1000
SAY_EVERY_S = 60.0
SCRATCH = ".training-"
# Parameters of glibc's mallopt (malloc.h).
M_TRIM_THRESHOLD, M_MMAP_MAX = -1, -4


@dataclass(frozen=True)
class Prepared:
    """The subset as the trainer takes it.

    Attributes:
        encoded: Samples with a response token within the length limit, in the subset's order.
        truncated: How many of them were cut.
        dropped: Ids of samples without a response token within the limit.
    """

    encoded: list[Encoded]
    truncated: int
    dropped: list[str]


def main(arguments: Sequence[str] | None = None) -> int:
    """Do the job that the file on the command line describes; returns the exit status."""
    return run_job(work, sys.argv[1:] if arguments is None else arguments)


def work(job: Job, channel: Channel) -> dict[str, Any]:
    """Train, or reuse what is there; see the module's docstring for the job.

    Returns:
        The marker's ``result`` with ``reused``.

    Raises:
        JobError: The subset is empty or has no usable sample, the base model can't be used, or
            the loss is no longer finite.
    """
    samples, recipe, base_model, output = _checked(job)
    output.parent.mkdir(parents=True, exist_ok=True)
    # Two runs of one experiment would train the same weights twice: the second waits and reuses.
    with FileLock(output.parent / ".training.lock"):
        provenance = content_hash(job["fields"])
        if not job.get("force"):
            try:
                return {**verify(output, provenance).result, "reused": True}
            except ProvenanceError:
                pass
        # Whoever holds the lock knows that nobody else is writing here.
        for leftover in output.parent.glob(f"{SCRATCH}*"):
            shutil.rmtree(leftover, ignore_errors=True)
        scratch = Path(tempfile.mkdtemp(prefix=SCRATCH, dir=output.parent))
        try:
            made = scratch / "checkpoint"
            result = train(samples, recipe, base_model, made, channel)
            write_marker(made, provenance, job["fields"], result)
            if output.exists():
                output.rename(scratch / "replaced")
            made.rename(output)
        finally:
            shutil.rmtree(scratch, ignore_errors=True)
    return {**result, "reused": False}


def _checked(job: Job) -> tuple[pl.DataFrame, Recipe, Path, Path]:
    """Read the job, and refuse what can be refused before anything heavy is imported."""
    recipe = Recipe.model_validate(job["recipe"])
    samples = pl.read_parquet(job["samples"])
    base_model, output = Path(job["base_model"]), Path(job["output"])
    if not samples.height:
        raise JobError(f"the subset for {output.parent} is empty; materialize its selector first")
    try:
        fields = checkpoint_fields(
            samples, recipe, base_model_identity(base_model), chat_template(base_model)
        )
    except BaseModelError as error:
        raise JobError(str(error)) from None
    wrong = [name for name, value in fields.items() if job["fields"].get(name) != value]
    if wrong:
        raise JobError(
            f"the job for {output} was made from other inputs: {', '.join(wrong)} differ from "
            "what is here; materialize the checkpoint again"
        )
    return samples, recipe, base_model, output


def prepare(samples: pl.DataFrame, tokenizer: Any, max_length: int) -> Prepared:
    """Encode the whole subset; every row is either trained on or counted as dropped.

    Args:
        samples: ``sample_id``, ``system`` and ``messages`` in the order of choice.
        tokenizer: The base model's tokenizer.
        max_length: Most tokens of a sample.

    Raises:
        JobError: The chat template can't render a sample, or no sample is left.
    """
    encoded, dropped = [], []
    for row in samples.iter_rows(named=True):
        try:
            sample = encode(tokenizer, conversation(row["system"], row["messages"]), max_length)
        except EncodingError as error:
            raise JobError(f"sample {row['sample_id']}: {error}") from None
        if sample.trainable:
            encoded.append(sample)
        else:
            dropped.append(row["sample_id"])
    if not encoded:
        raise JobError(
            f"none of the {samples.height} samples has a response within max_length {max_length}; "
            "raise the recipe's max_length"
        )
    return Prepared(encoded, sum(sample.truncated for sample in encoded), dropped)


def train(
    samples: pl.DataFrame, recipe: Recipe, base_model: Path, folder: Path, channel: Channel
) -> dict[str, Any]:
    """Fine-tune and save a whole checkpoint.

    Args:
        samples: The subset, in the order of choice.
        recipe: How to train.
        base_model: The base model's folder.
        folder: Folder to save into; made here.
        channel: Told where the work is.

    Returns:
        Counts, losses, times and the loss curve; see the table ``checkpoint``.

    Raises:
        JobError: See ``work``.
    """
    prepare_models()
    _keep_memory()
    # Heavy, and only after everything cheap was checked.
    import torch
    from transformers import AutoConfig, AutoModelForCausalLM, AutoTokenizer

    torch.set_num_threads(cores())
    template = chat_template(base_model)
    tokenizer = AutoTokenizer.from_pretrained(base_model)
    prepared = prepare(samples, tokenizer, recipe.max_length)
    steps = optimizer_steps(recipe, samples.height)
    channel.say(
        f"training on {len(prepared.encoded)} samples for {steps} steps "
        f"({prepared.truncated} cut at {recipe.max_length} tokens, "
        f"{len(prepared.dropped)} without a response within them)"
    )
    stored = AutoConfig.from_pretrained(base_model).dtype or torch.float32
    model = AutoModelForCausalLM.from_pretrained(base_model, dtype=torch.float32)
    start = time.monotonic()
    state, log, tokens = _fit(model, tokenizer, prepared, recipe, steps, folder, channel)
    seconds = time.monotonic() - start
    model.to(stored).save_pretrained(folder)
    # A fresh one: the trainer sets special tokens on the tokenizer that it is given.
    AutoTokenizer.from_pretrained(base_model).save_pretrained(folder)
    if chat_template(folder) != template:
        raise JobError(f"the tokenizer of {base_model} does not save its chat template unchanged")
    return {
        "template_hash": template_hash(template),
        "samples": len(prepared.encoded),
        "truncated_samples": prepared.truncated,
        "dropped_samples": len(prepared.dropped),
        "dropped_ids": prepared.dropped,
        "epochs": float(state.epoch),
        "steps": int(state.global_step),
        "tokens": tokens,
        "first_loss": log[0]["loss"],
        "final_loss": log[-1]["loss"],
        "train_seconds": seconds,
        "peak_memory_mb": _peak_memory_mb(),
        "log": log,
    }


def _fit(
    model: Any,
    tokenizer: Any,
    prepared: Prepared,
    recipe: Recipe,
    steps: int,
    folder: Path,
    channel: Channel,
) -> tuple[Any, list[dict[str, Any]], int]:
    """Run the trainer; returns its state, the loss curve and the tokens seen without padding."""
    import torch
    from datasets import Dataset
    from transformers.trainer_callback import PrinterCallback
    from trl import SFTConfig, SFTTrainer

    arguments = SFTConfig(
        output_dir=str(folder),
        max_steps=steps,
        learning_rate=recipe.learning_rate,
        lr_scheduler_type=recipe.lr_schedule,
        warmup_steps=recipe.warmup_ratio,
        weight_decay=recipe.weight_decay,
        adam_beta1=recipe.adam_beta1,
        adam_beta2=recipe.adam_beta2,
        neftune_noise_alpha=recipe.neftune_alpha or None,
        per_device_train_batch_size=recipe.per_device_batch_size,
        gradient_accumulation_steps=recipe.gradient_accumulation,
        activation_checkpointing=recipe.gradient_checkpointing,
        bf16=recipe.bf16,
        seed=recipe.seed,
        use_cpu=not torch.cuda.is_available(),
        # The samples are encoded and cut already (encoding.py); the trainer must not do it again.
        dataset_kwargs={"skip_prepare_dataset": True},
        max_length=recipe.max_length,
        packing=False,
        eval_strategy="no",
        save_strategy="no",
        report_to="none",
        disable_tqdm=True,
        logging_strategy="steps",
        logging_steps=math.ceil(steps / MAX_LOG_ROWS),
        logging_first_step=True,
        # The default hides a loss that is not a number behind the mean of the others.
        logging_nan_inf_filter=False,
    )
    dataset = Dataset.from_list(
        [{"input_ids": sample.input_ids, "labels": sample.labels} for sample in prepared.encoded]
    )
    watch = _watch(steps, channel)
    trainer = SFTTrainer(
        model=model,
        args=arguments,
        train_dataset=dataset,
        processing_class=tokenizer,
        callbacks=[watch],
    )
    trainer.remove_callback(PrinterCallback)
    trainer.train()
    return trainer.state, watch.log, watch.tokens


def _watch(steps: int, channel: Channel) -> Any:
    """A callback that keeps the loss curve, shows progress, and stops at a loss that is no number.

    Made by a function, because its base class must not be imported before the job was checked.
    """
    from transformers import TrainerCallback

    class Watch(TrainerCallback):  # type: ignore[misc]
        def __init__(self) -> None:
            self.log: list[dict[str, Any]] = []
            self.tokens = 0
            self.progress = Progress("training", steps, "steps")
            self.said = time.monotonic()

        def on_step_end(self, args: Any, state: Any, control: Any, **_: Any) -> None:
            note = f"loss {self.log[-1]['loss']:.3f}" if self.log else ""
            self.progress.advance(note=note)
            if time.monotonic() - self.said > SAY_EVERY_S:
                self.said = time.monotonic()
                channel.say(f"step {state.global_step} of {steps} · {note}")

        def on_log(
            self, args: Any, state: Any, control: Any, logs: Mapping[str, Any], **_: Any
        ) -> None:
            if "loss" not in logs:
                return
            row = {
                "step": int(state.global_step),
                "loss": float(logs["loss"]),
                "learning_rate": float(logs["learning_rate"]),
                "grad_norm": float(logs["grad_norm"]),
            }
            bad = [name for name in ("loss", "grad_norm") if not math.isfinite(row[name])]
            if bad:
                raise JobError(
                    f"{bad[0]} is {row[bad[0]]} at step {row['step']} of {steps}; lower the "
                    "recipe's learning_rate, or train without bf16"
                )
            self.log.append(row)
            self.tokens = int(logs["num_tokens"])

    return Watch()


def _keep_memory() -> None:
    """Have glibc keep freed memory, and ask for huge pages.

    Each step frees and takes again tensors of many MB; handing these back to the kernel made page
    faults a third of the processor time of training on a CPU.
    """
    os.environ.setdefault("THP_MEM_ALLOC_ENABLE", "1")
    if sys.platform != "linux":
        return
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    if mallopt is not None:
        mallopt(M_MMAP_MAX, 0)
        mallopt(M_TRIM_THRESHOLD, -1)


def _peak_memory_mb() -> float:
    """Peak resident memory of this process, in MB."""
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak / 1e6 if sys.platform == "darwin" else peak / 1e3


if __name__ == "__main__":
    sys.exit(main())

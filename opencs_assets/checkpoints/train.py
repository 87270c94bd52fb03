"""Fine-tune a base model on a subset: ``python -m opencs_assets.checkpoints.train job.json``.

Runs anywhere, with or without Dagster. The job file holds:

- ``samples``: Parquet file of the subset in the order of choice (sample_id, system, messages);
- ``base_model``: folder of the base model, in Hugging Face's form;
- ``chat_template``: the template to train with and to store in the checkpoint;
- ``output``: folder, or URL in object storage, where the checkpoint will be once it is whole;
- ``recipe``: an experiment's recipe; ``fields``: what the checkpoint's provenance is the hash of;
- ``settings``: the home's ``training`` settings;
- ``processes``, ``nodes``: processes on a node (one a device) and nodes; each is 1 if missing;
- ``force``: train again where a whole checkpoint of this provenance is already there;
- ``launch``: names the launch, so that a forced one begins anew once and not in each of its pods.

A training keeps its state now and then, and when SIGTERM tells it to stop; the same job started
again goes on from the last complete state and ends in the same weights.
"""

import errno
import json
import math
import os
import shutil
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import polars as pl
from filelock import FileLock
from pydantic import ValidationError

from opencs_assets.checkpoints import workers
from opencs_assets.checkpoints.encoding import (
    Encoded,
    EncodingError,
    conversation,
    encode,
    refuse_unmarked,
)
from opencs_assets.checkpoints.place import TrainingPlace, stored
from opencs_assets.checkpoints.provenance import (
    PACKAGES,
    BaseModelError,
    base_model_identity,
    checkpoint_fields,
    context_length,
)
from opencs_assets.checkpoints.states import latest, remove_incomplete
from opencs_assets.checkpoints.templates import chat_template
from opencs_assets.checkpoints.training import PreparedSubset, Training
from opencs_assets.config.recipes import (
    Recipe,
    RecipeError,
    accumulation,
    held_out_rows,
    optimizer_steps,
    steps_for_tokens,
)
from resources.cores import cores
from resources.launcher.job import (
    Channel,
    Job,
    JobError,
    StoppedError,
    prepare_models,
    read_table,
    run_job,
)
from resources.provenance import content_hash, package_versions, write_marker
from resources.settings import TrainingSettings

# A training state has so many bytes a parameter: the weight and AdamW's two moments in float32.
STATE_BYTES = 12
# The specification of safetensors allows headers of so many bytes.
LARGEST_HEADER = 100_000_000
NEEDED = ("samples", "base_model", "chat_template", "output", "recipe", "fields")
# Where a file can't be written, PyTorch and safetensors raise no OSError, but an error with one of
# these in its message.
UNWRITTEN = ("os error 28", "os error 122", "os error 27", "PytorchStreamWriter", "unexpected pos")
FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
# The first of several nodes may take so long to save the checkpoint; the others wait for it.
PUBLISHED_WITHIN_S, PUBLISHED_POLL_S = 1800.0, 2.0


def main(arguments: Sequence[str] | None = None) -> int:
    """Do the job that the file on the command line describes; returns the exit status."""
    return run_job(work, sys.argv[1:] if arguments is None else arguments)


def work(job: Job, channel: Channel) -> dict[str, Any]:
    """Train, or reuse what is there; see the module's docstring for the job.

    Returns:
        The marker's ``result`` with ``reused``.

    Raises:
        JobError: The subset is empty or has no usable sample, the base model can't be used, the
            loss is no longer finite, or the disk is full.
        StoppedError: SIGTERM came; the state is kept.
    """
    training = read_training(job)
    place = training.place
    here = workers.world(training.processes, training.nodes, os.environ)
    place.lock.parent.mkdir(parents=True, exist_ok=True)
    if here.node:
        return _help_first_node(training, job, here, channel)
    # Two runs of one experiment would train the same weights twice: the second waits and reuses.
    with FileLock(place.lock):
        stored_result = _usable_result(training)
        if stored_result is not None:
            return {**stored_result, "reused": True}
        if training.force:
            place.begin_anew(training.launch)
        _clear_other_work(place, channel)
        _refuse_small_disk(training)
        # Files of a process that was killed while it saved would be taken for parts of this one.
        shutil.rmtree(place.made, ignore_errors=True)
        try:
            result = {**_trained(training, job, here, channel), "launch": training.launch}
            write_marker(place.made, place.provenance, training.fields, result)
            place.publish()
        except OSError as error:
            raise _plain_error(error, place) from None
        finally:
            # Half a state would only take the room that the next try needs.
            remove_incomplete(place.states)
            if latest(place.states) is None:
                shutil.rmtree(place.folder, ignore_errors=True)
    return {**result, "reused": False}


def _usable_result(training: Training) -> Mapping[str, Any] | None:
    """The result of the whole checkpoint that is there, unless another is to be made."""
    result = stored(training.place.output, training.place.provenance)
    if result is None or not training.force:
        return result
    # A forced training reuses only what another process of the same launch made.
    return result if training.launch and result.get("launch") == training.launch else None


def _help_first_node(
    training: Training, job: Job, here: workers.World, channel: Channel
) -> dict[str, Any]:
    """Train on a node other than the first one, which saves the checkpoint.

    A first node that does not finish stops this one too, so that both meet again.
    """
    if _usable_result(training) is None:
        _trained(training, job, here, channel)
    ends = time.monotonic() + PUBLISHED_WITHIN_S
    while _usable_result(training) is None:
        if time.monotonic() > ends:
            raise StoppedError("the first node did not save the checkpoint")
        time.sleep(PUBLISHED_POLL_S)
    return {}


def _trained(training: Training, job: Job, here: workers.World, channel: Channel) -> dict[str, Any]:
    # DeepSpeed needs a world, even where it has one process only.
    if here.size == 1 and not training.recipe.zero:
        return train(training, channel)
    # The workers read the samples that this process has read, wherever it got them. They are not
    # written to the work folder, which the first node may be about to clear.
    with tempfile.TemporaryDirectory(prefix="opencs-workers-") as folder:
        samples = Path(folder) / "samples.parquet"
        training.samples.write_parquet(samples)
        file = Path(folder) / "job.json"
        file.write_text(json.dumps({**job, "samples": str(samples)}), encoding="utf-8")
        return workers.run(file, here, channel)


def read_training(job: Job) -> Training:
    """Read the job, and refuse what can be refused before anything heavy is imported.

    Raises:
        JobError: An input of the job is not there, does not fit the others, or has changed since
            the job was made.
    """
    missing = [name for name in NEEDED if name not in job]
    if missing:
        raise JobError(f"the job has no {', '.join(missing)}; it needs {', '.join(NEEDED)}")
    try:
        recipe = Recipe.model_validate(job["recipe"])
        settings = TrainingSettings.model_validate(job.get("settings") or {})
    except ValidationError as error:
        part = "recipe" if error.title == Recipe.__name__ else "training"
        raise JobError(
            f"{part} of the job for {job['output']} can't be used: "
            + "; ".join(
                f"{'.'.join(map(str, fault['loc'])) or 'it'}: {fault['msg']}"
                for fault in error.errors(include_input=False, include_url=False)
            )
        ) from None
    try:
        samples = read_table(job["samples"])
    except (OSError, pl.exceptions.PolarsError) as error:
        raise JobError(f"the samples {job['samples']} can't be read: {error}") from None
    base_model, template = Path(job["base_model"]), str(job["chat_template"])
    processes, nodes = int(job.get("processes") or 1), int(job.get("nodes") or 1)
    if not samples.height:
        raise JobError(f"the subset for {job['output']} is empty; materialize its selector first")
    try:
        fields = checkpoint_fields(samples, recipe, base_model_identity(base_model), template)
        accumulation(recipe, processes * nodes)
    except (BaseModelError, RecipeError) as error:
        raise JobError(str(error)) from None
    wrong = [name for name, value in fields.items() if job["fields"].get(name) != value]
    if wrong:
        raise JobError(
            f"the job for {job['output']} was made from other inputs: {', '.join(wrong)} differ "
            "from what is here; materialize the checkpoint again"
        )
    context = context_length(base_model)
    if context is not None and recipe.max_length > context:
        raise JobError(
            f"max_length {recipe.max_length} is more than the {context} tokens that {base_model} "
            "can see; lower it in the recipe"
        )
    scratch = str(settings.scratch) if settings.scratch else None
    return Training(
        samples,
        recipe,
        base_model,
        template,
        settings,
        fields,
        TrainingPlace(str(job["output"]), content_hash(dict(fields)), scratch),
        processes,
        nodes,
        bool(job.get("force")),
        str(job.get("launch") or ""),
    )


def _clear_other_work(place: TrainingPlace, channel: Channel) -> None:
    """Remove the work folders beside this one that hold no state, and report the others."""
    for other in place.others():
        if any((other / place.states.name).glob("*")):
            channel.say(
                f"{other} holds the state of another training that was not finished; remove it if "
                "nobody will go on with that"
            )
        else:
            shutil.rmtree(other, ignore_errors=True)


def _refuse_small_disk(training: Training) -> None:
    """Refuse a disk that has no room for the states and the checkpoint."""
    files = list(training.base_model.glob("*.safetensors"))
    weights = sum(path.stat().st_size for path in files)
    place = training.place
    place.folder.mkdir(parents=True, exist_ok=True)
    already = sum(path.stat().st_size for path in place.folder.rglob("*") if path.is_file())
    state = 0 if training.recipe.adapter else STATE_BYTES * sum(map(_parameters, files))
    kept_states = training.settings.keep_states * state
    # A state is whole before the oldest one goes; the checkpoint is written beside the kept states.
    needed = kept_states + max(state, weights) - already
    free = shutil.disk_usage(place.folder).free
    if free < needed:
        raise JobError(
            f"{place.folder} has {free / 1e9:.1f} GB free, and training {training.base_model} "
            f"takes about {needed / 1e9:.1f} GB there; make room, or put the checkpoints elsewhere "
            "with training.checkpoints_url"
        )


def _parameters(safetensors: Path) -> int:
    """The number of parameters in the header of a file of weights; 0 where it can't be read."""
    with safetensors.open("rb") as file:
        size = int.from_bytes(file.read(8), "little")
        try:
            header = json.loads(file.read(min(size, LARGEST_HEADER)))
            header.pop("__metadata__", None)
            return sum(math.prod(tensor["shape"]) for tensor in header.values())
        except (ValueError, KeyError, TypeError, AttributeError):
            return 0


def _plain_error(error: Exception, place: TrainingPlace) -> Exception:
    """The error itself, or one with a remedy where it means that the disk is full."""
    is_full = isinstance(error, OSError) and error.errno in FULL
    if not is_full and not any(part in str(error) for part in UNWRITTEN):
        return error
    state = latest(place.states)
    rest = f"the state of step {state.step} is kept" if state else "no state is kept"
    return JobError(
        f"the disk of {place.folder} is full "
        f"({shutil.disk_usage(place.folder).free / 1e9:.1f} GB free); {rest}. Make room and start "
        "the training again"
    )


def prepare(samples: pl.DataFrame, tokenizer: Any, recipe: Recipe) -> PreparedSubset:
    """Encode the whole subset; every row is trained on, held out, or counted as dropped.

    Raises:
        JobError: The chat template marks no turns or can't render a sample, or no sample is left.
    """
    held_out_ids = _held_out(samples, recipe)
    encoded: list[Encoded] = []
    held_out: list[Encoded] = []
    dropped: list[str] = []
    truncated = 0
    try:
        refuse_unmarked(tokenizer)
    except EncodingError as error:
        raise JobError(str(error)) from None
    for row in samples.iter_rows(named=True):
        try:
            sample = encode(
                tokenizer, conversation(row["system"], row["messages"]), recipe.max_length
            )
        except EncodingError as error:
            raise JobError(f"sample {row['sample_id']}: {error}") from None
        if not sample.trainable or (sample.truncated and recipe.overlong == "drop"):
            dropped.append(row["sample_id"])
            continue
        truncated += sample.truncated
        (held_out if row["sample_id"] in held_out_ids else encoded).append(sample)
    if not encoded:
        raise JobError(
            f"none of the {samples.height} samples can be trained on: each has no response "
            f"within max_length {recipe.max_length}, or is dropped or held out by the recipe; "
            "raise the recipe's max_length"
        )
    return PreparedSubset(encoded, held_out, truncated, dropped)


def _held_out(samples: pl.DataFrame, recipe: Recipe) -> set[str]:
    """The ids that are held out, drawn with the seed whatever the order of choice is."""
    count = held_out_rows(recipe, samples.height)
    shuffled = sorted(samples["sample_id"], key=lambda key: content_hash([recipe.seed, key]))
    return set(shuffled[:count])


def train(training: Training, channel: Channel) -> dict[str, Any]:
    """Fine-tune and save a whole checkpoint; every process of a training does this at once.

    Returns:
        Counts, losses, times and the loss curve; see the table ``checkpoint``.

    Raises:
        JobError: See ``work``.
        StoppedError: SIGTERM came; the state is kept.
    """
    from opencs_assets.checkpoints import fit

    fit.prepare_process(training.recipe)
    prepare_models()
    # These imports are heavy, so they come after all checks that are cheap.
    import torch
    from safetensors import SafetensorError
    from transformers import AutoTokenizer

    torch.set_num_threads(cores(int(os.environ.get("LOCAL_WORLD_SIZE", "1"))))
    recipe, rows = training.recipe, training.samples.height
    tokenizer = AutoTokenizer.from_pretrained(training.base_model)
    tokenizer.chat_template = training.template
    prepared = prepare(training.samples, tokenizer, recipe)
    tokens = sum(len(sample.input_ids) for sample in prepared.encoded)
    steps = optimizer_steps(recipe, rows) or steps_for_tokens(recipe, len(prepared.encoded), tokens)
    channel.say(
        f"training on {len(prepared.encoded)} samples for {steps} steps "
        f"({prepared.truncated} cut at {recipe.max_length} tokens, {len(prepared.dropped)} "
        f"dropped, {len(prepared.held_out)} held out)"
    )
    try:
        outcome = fit.fit(training, tokenizer, prepared, steps, channel)
    except (OSError, RuntimeError, SafetensorError) as error:
        raise _plain_error(error, training.place) from None
    if fit.first_process():
        # The trainer has set special tokens on its own tokenizer, so a fresh one is saved.
        saved = AutoTokenizer.from_pretrained(training.base_model)
        saved.chat_template = training.template
        saved.save_pretrained(training.place.made)
        if chat_template(training.place.made) != training.template:
            raise JobError(
                f"the tokenizer of {training.base_model} does not save the chat template unchanged"
            )
    return {
        "template_hash": content_hash(training.template),
        "samples": len(prepared.encoded),
        "truncated_samples": prepared.truncated,
        "dropped_samples": len(prepared.dropped),
        "dropped_ids": prepared.dropped,
        "held_out_samples": len(prepared.held_out),
        "packages": package_versions(PACKAGES),
        **outcome,
    }


if __name__ == "__main__":
    sys.exit(main())

"""Fine-tuning: what ``train.py`` adds to the time of a step of TRL's own trainer.

A small model of random weights is trained on the sample dataset, on the CPU, by the platform's job
and by a plain ``SFTTrainer`` with the same samples, steps, batch, length, seed and number of kept
states. Runs alternate, so that whatever else the machine does falls on both; step times are medians
and both must come to the same losses.
"""

import json
import statistics
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any

from tests.benchmarks import side
from tests.benchmarks.answers import SAMPLE, _folder
from tests.benchmarks.tags import Row

STEPS = 40
ROUNDS = 3
# Of the steps that compile and warm up, the first are left out of the median.
WARM_UP = 5
LENGTH, BATCH, PER_DEVICE = 96, 4, 2
STATES = 10
MOST_OVERHEAD = 0.03
# TRL's default; the platform logs each step.
LOG_EVERY = 10
SIZES = {
    "hidden_size": 128,
    "intermediate_size": 384,
    "num_hidden_layers": 4,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
}


@dataclass(frozen=True)
class Trained:
    """What a run came to.

    Attributes:
        step_s: Median seconds of a step.
        loop_s: Seconds of the whole loop, kept states included, without loading and saving.
        losses: Mean loss of each ``LOG_EVERY`` steps.
    """

    step_s: float
    loop_s: float
    losses: list[float]


def all_rows() -> Iterator[Row]:
    """The rows, measured in one go."""
    ours, plain = [], []
    for _ in range(ROUNDS):
        ours.append(side.measure(__name__, "by_the_job", STEPS))
        plain.append(side.measure(__name__, "by_trl", STEPS))
    apart = max(
        abs(one - other)
        for a, b in zip(ours, plain, strict=True)
        for one, other in zip(a.result.losses, b.result.losses, strict=True)
    )
    equal = "yes" if apart < 1e-4 else "NO"
    told = f"{equal}; last losses {ours[0].result.losses[-1]:.4f}, {plain[0].result.losses[-1]:.4f}"
    size = f"{STEPS} steps of {BATCH} samples, at most {LENGTH} tokens"
    for name, of, target in (
        ("a step of training (plain SFTTrainer)", lambda run: run.step_s, True),
        ("the whole loop with kept states (the same)", lambda run: run.loop_s, False),
    ):
        rounds = [of(a.result) / of(b.result) - 1 for a, b in zip(ours, plain, strict=True)]
        here, there = _middle(ours, of), _middle(plain, of)
        overhead = here.seconds / there.seconds - 1
        spread = ", ".join(f"{each:+.1%}" for each in rounds)
        yield Row(
            name,
            size,
            here,
            there,
            f"{told}; overhead {overhead:+.1%} (by round {spread})",
            f"<= {MOST_OVERHEAD:.0%} overhead" if target else "",
            overhead <= MOST_OVERHEAD if target else None,
        )


def _middle(runs: list[side.Side], of: Callable[[Trained], float]) -> side.Side:
    seconds = statistics.median(of(run.result) for run in runs)
    return side.Side(runs[0].result, seconds, max(run.megabytes for run in runs))


def _trained(seconds: list[float], loop_s: float, losses: list[float]) -> Trained:
    return Trained(statistics.median(seconds[WARM_UP:]), loop_s, losses)


def _model(folder: Path) -> Path:
    """A small model of random weights with the embedded model's tokenizer."""
    import torch
    from transformers import AutoTokenizer, LlamaConfig, LlamaForCausalLM

    tokenizer = AutoTokenizer.from_pretrained(_folder())
    torch.manual_seed(0)
    config = LlamaConfig(
        vocab_size=len(tokenizer),
        max_position_embeddings=2048,
        tie_word_embeddings=True,
        bos_token_id=tokenizer.bos_token_id,
        eos_token_id=tokenizer.eos_token_id,
        pad_token_id=tokenizer.pad_token_id,
        **SIZES,
    )
    LlamaForCausalLM(config).save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder


def _samples() -> Any:
    """The sample dataset, as a subset's conversations."""
    from opencs_assets.datasets.canonical import read_dataset

    found = read_dataset(SAMPLE).samples
    return found.select("sample_id", "system", "messages")


def _recipe(steps: int) -> Any:
    from opencs_assets.config.recipes import Recipe

    return Recipe(
        steps=steps,
        batch_size=BATCH,
        per_device_batch_size=PER_DEVICE,
        learning_rate=1e-3,
        max_length=LENGTH,
        neftune_alpha=5,
    )


def by_the_job(steps: int) -> Callable[[], Trained]:
    """The platform's job, as ``python -m opencs_assets.checkpoints.train`` does it."""
    from opencs_assets.checkpoints import fit
    from opencs_assets.checkpoints.job import training_job
    from opencs_assets.checkpoints.templates import chat_template
    from opencs_assets.checkpoints.train import work
    from resources.launcher.job import Channel, prepare_models
    from resources.settings import TrainingSettings

    # In the order in which the job does it: before torch.
    recipe = _recipe(steps)
    fit.prepare_process(recipe)
    prepare_models()
    folder = Path(tempfile.mkdtemp())
    model = _model(folder / "model")
    job = training_job(_samples(), recipe, model, chat_template(model), str(folder / "made"))
    job.samples.write_parquet(folder / "samples.parquet")
    # As many states as the other side keeps.
    settings = TrainingSettings(save_every_steps=-(-steps // STATES))
    content = {**job.as_json(settings, force=False), "samples": str(folder / "samples.parquet")}

    def run() -> Trained:
        made = work(json.loads(json.dumps(content)), Channel())
        log = made["log"]
        seen = [row["tokens"] for row in log]
        seconds = [
            (now - before) / row["tokens_per_second"]
            for row, before, now in zip(log, [0, *seen], seen, strict=False)
        ]
        losses = [
            statistics.fmean(row["loss"] for row in log[at : at + LOG_EVERY])
            for at in range(0, steps, LOG_EVERY)
        ]
        return _trained(seconds, made["train_seconds"], losses)

    return run


def by_trl(steps: int) -> Callable[[], Trained]:
    """TRL's trainer as its documentation has it, on the same tokens."""
    from resources.cores import cores
    from resources.launcher.job import prepare_models

    # For both sides alike: it sets how waiting threads behave.
    prepare_models()
    import torch
    from datasets import Dataset
    from transformers import AutoModelForCausalLM, AutoTokenizer, TrainerCallback
    from trl import SFTConfig, SFTTrainer

    from opencs_assets.checkpoints.train import prepare

    torch.set_num_threads(cores())
    folder = Path(tempfile.mkdtemp())
    place = _model(folder / "model")
    recipe = _recipe(steps)
    tokenizer = AutoTokenizer.from_pretrained(place)
    encoded = prepare(_samples(), tokenizer, recipe).encoded
    rows = [{"input_ids": each.input_ids, "labels": each.labels} for each in encoded]
    ends: list[float] = []

    class Clock(TrainerCallback):
        def on_train_begin(self, args, state, control, **_) -> None:
            ends.append(time.monotonic())

        def on_step_end(self, args, state, control, **_) -> None:
            ends.append(time.monotonic())

    def run() -> Trained:
        trainer = SFTTrainer(
            model=AutoModelForCausalLM.from_pretrained(place, dtype=torch.float32),
            args=SFTConfig(
                output_dir=str(folder / "states"),
                max_steps=steps,
                learning_rate=recipe.learning_rate,
                weight_decay=recipe.weight_decay,
                adam_beta1=recipe.adam_beta1,
                adam_beta2=recipe.adam_beta2,
                neftune_noise_alpha=recipe.neftune_alpha,
                per_device_train_batch_size=PER_DEVICE,
                gradient_accumulation_steps=BATCH // PER_DEVICE,
                activation_checkpointing=False,
                bf16=False,
                seed=recipe.seed,
                use_cpu=True,
                max_length=LENGTH,
                dataset_kwargs={"skip_prepare_dataset": True},
                logging_steps=LOG_EVERY,
                save_steps=-(-steps // STATES),
                save_total_limit=2,
                report_to="none",
                disable_tqdm=True,
            ),
            train_dataset=Dataset.from_list(rows),
            processing_class=tokenizer,
            callbacks=[Clock()],
        )
        trainer.train()
        losses = [row["loss"] for row in trainer.state.log_history if "loss" in row]
        seconds = [after - before for before, after in pairwise(ends)]
        return _trained(seconds, ends[-1] - ends[0], losses)

    return run

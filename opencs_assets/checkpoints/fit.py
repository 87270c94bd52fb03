"""The fine-tuning itself, by TRL's trainer with DeepSpeed and PEFT."""

import ctypes
import math
import os
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from opencs_assets.checkpoints import metering, states
from opencs_assets.checkpoints.encoding import Encoded
from opencs_assets.checkpoints.packing import keeps_apart, packed_batch
from opencs_assets.checkpoints.training import PreparedSubset, Training
from opencs_assets.checkpoints.watch import AllDoneError, LossCurve, StopRequest, watcher
from opencs_assets.config.recipes import Recipe, accumulation
from resources.launcher.job import Channel, JobError, StoppedError
from resources.settings import TrainingSettings

MAX_LOG_ROWS = 1000
STATES_A_TRAINING = 10
# Parameters of glibc's mallopt (malloc.h).
M_TRIM_THRESHOLD, M_MMAP_MAX = -1, -4


def prepare_process(recipe: Recipe) -> None:
    """Set what libraries read from the environment when they are imported."""
    _keep_memory()
    import torch

    if not torch.cuda.is_available():
        os.environ["DS_ACCELERATOR"] = "cpu"
        if recipe.zero:
            # DeepSpeed would compile its kernel for shared memory at first use, and a process that
            # is killed meanwhile leaves a lock for which all later trainings would wait. Without
            # it, DeepSpeed communicates on CPUs by gloo alone.
            import deepspeed.ops

            deepspeed.ops.__compatible_ops__["deepspeed_shm_comm"] = False
    if recipe.deterministic:
        # cuBLAS is deterministic only with this setting.
        os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")


def first_process() -> bool:
    """Whether this is the process that saves for all that train together."""
    return os.environ.get("RANK", "0") == "0"


def fit(
    training: Training, tokenizer: Any, prepared: PreparedSubset, steps: int, channel: Channel
) -> dict[str, Any]:
    """Train from the last complete state, or from the start, and save the weights.

    ``steps`` are those of the whole training; special tokens may be set on the tokenizer.

    Returns:
        The columns of the table ``checkpoint`` that the training itself fills.

    Raises:
        JobError: The loss is no longer finite, or the kept state can't be used.
        StoppedError: SIGTERM came; the state is kept.
    """
    import torch
    from transformers.trainer_callback import PrinterCallback
    from trl import SFTTrainer

    recipe, place = training.recipe, training.place
    world = int(os.environ.get("WORLD_SIZE", "1"))
    begun = place.restore() if first_process() else None
    _wait_for_first(world, recipe)
    begun = begun or states.latest(place.states)
    _refuse_different_states(begun, world)
    _refuse_another_world(begun, world, recipe)
    arguments = _arguments(training, steps, world)
    model, stored = _model(training)
    packing = recipe.packing and _packing_is_exact(model, prepared.encoded, recipe, channel)
    flops = metering.model_flops(
        model,
        sum(len(sample.input_ids) for sample in prepared.encoded) / len(prepared.encoded),
        trained=recipe.adapter is None,
    )
    if begun:
        channel.say(f"going on from the state of step {begun.step} of {steps}")
    curve = LossCurve(begun.notes if begun else None)
    with StopRequest() as stop:
        watch = watcher(curve, steps, place, training.settings, stop, channel)
        trainer = SFTTrainer(
            model=model,
            args=arguments,
            train_dataset=_dataset(prepared.encoded),
            eval_dataset=_dataset(prepared.held_out) if prepared.held_out else None,
            processing_class=tokenizer,
            peft_config=_adapter(recipe),
            data_collator=_collate_packed if packing else None,
            callbacks=[watch],
        )
        trainer.remove_callback(PrinterCallback)
        _run_trainer(trainer, watch, begun, steps, training, channel)
        held_out_loss = float(trainer.evaluate()["eval_loss"]) if prepared.held_out else None
    _save(trainer, training, stored)
    return {
        "held_out_loss": held_out_loss,
        "packed": packing,
        "epochs": float(trainer.state.epoch),
        "steps": int(trainer.state.global_step),
        "peak_memory_mb": metering.peak_memory_mb(),
        "resumed_from_step": begun.step if begun else None,
        **training_figures(
            curve,
            world,
            flops,
            training.settings,
            metering.device_name(),
            on_gpu=torch.cuda.is_available(),
        ),
    }


def _run_trainer(
    trainer: Any,
    watch: Any,
    begun: states.State | None,
    steps: int,
    training: Training,
    channel: Channel,
) -> None:
    """Train until all steps are done; what ends the training before is raised with its remedy."""
    import torch

    folder = training.place.states
    try:
        with watch.shown:
            trainer.train(resume_from_checkpoint=str(begun.folder) if begun else None)
    except AllDoneError:
        channel.say("all steps are done; the checkpoint is only saved")
    except JobError as error:
        raise JobError(f"{error}{_last_good(folder)}") from None
    except torch.OutOfMemoryError:
        raise JobError(
            f"the device's memory ran out after step {trainer.state.global_step} of {steps}; "
            "use a smaller per_device_batch_size, gradient_checkpointing, a shorter "
            f"max_length, a higher zero, or an adapter{_last_good(folder)}"
        ) from None
    if watch.stopped:
        raise StoppedError(
            f"stopped at step {trainer.state.global_step} of {steps}; the state is kept in {folder}"
        )


def training_figures(
    curve: LossCurve,
    world: int,
    flops: float | None,
    settings: TrainingSettings,
    device: str,
    *,
    on_gpu: bool,
) -> dict[str, Any]:
    """What a training took and how its loss went, as columns of the table ``checkpoint``.

    ``world`` devices trained together, and one token takes so many floating-point operations
    (``flops``), where they are known. Only the hours of GPUs count.
    """
    peak = metering.peak_tflops(device, settings.peak_tflops)
    speed = curve.tokens / curve.seconds if curve.seconds else 0.0
    hours = world * curve.seconds / 3600 if on_gpu else 0.0
    price = settings.gpu_usd_per_hour
    return {
        "tokens": curve.tokens,
        "first_loss": curve.log[0]["loss"],
        "final_loss": curve.log[-1]["loss"],
        "train_seconds": curve.seconds,
        "tokens_per_second": speed,
        "mfu": speed * flops / (world * peak * 1e12) if flops and peak else None,
        "device": device,
        "devices": world,
        "gpu_hours": hours,
        "cost_usd": hours * price if price is not None and hours else None,
        "log": curve.log,
    }


def _wait_for_first(world: int, recipe: Recipe) -> None:
    """Let the first process look after the states before the others read them."""
    if world == 1 and not recipe.zero:
        return
    import torch
    from accelerate import PartialState
    from torch import distributed

    on_gpu = torch.cuda.is_available()
    if recipe.zero:
        import deepspeed

        # ZeRO-3 splits the model among all processes as it is read, and DeepSpeed knows only from
        # here how many there are.
        deepspeed.init_distributed("nccl" if on_gpu else "gloo", auto_mpi_discovery=False)
    PartialState(cpu=not on_gpu)
    distributed.barrier()


def _refuse_different_states(begun: states.State | None, world: int) -> None:
    """Refuse to go on where the processes see different states, for they would wait for ever."""
    if world == 1:
        return
    from torch import distributed

    steps: list[int | None] = [None] * world
    distributed.all_gather_object(steps, begun.step if begun else None)
    if len(set(steps)) > 1:
        raise JobError(
            f"the nodes of this training do not see the same state (steps {steps}); let "
            "training.scratch be a folder that all of them share, or begin anew with --force"
        )


def _refuse_another_world(begun: states.State | None, world: int, recipe: Recipe) -> None:
    if begun and recipe.zero and begun.notes.get("world_size") != world:
        raise JobError(
            f"the state of step {begun.step} in {begun.folder} was written by "
            f"{begun.notes.get('world_size')} processes, and ZeRO can go on with as many only, not "
            f"{world}; train with as many, or begin anew with --force"
        )


def _last_good(folder: Path) -> str:
    state = states.latest(folder)
    return f". The state of step {state.step} is kept in {state.folder}" if state else ""


def _arguments(training: Training, steps: int, world: int) -> Any:
    import torch
    from trl import SFTConfig

    recipe, settings = training.recipe, training.settings
    log_every = math.ceil(steps / MAX_LOG_ROWS)
    save_every = settings.save_every_steps or math.ceil(steps / STATES_A_TRAINING)
    return SFTConfig(
        output_dir=str(training.place.states),
        max_steps=steps,
        learning_rate=recipe.learning_rate,
        # The plain "constant" of transformers leaves the warm-up out.
        lr_scheduler_type=recipe.lr_schedule.replace("constant", "constant_with_warmup"),
        warmup_steps=recipe.warmup_ratio,
        weight_decay=recipe.weight_decay,
        adam_beta1=recipe.adam_beta1,
        adam_beta2=recipe.adam_beta2,
        max_grad_norm=recipe.max_grad_norm,
        neftune_noise_alpha=recipe.neftune_alpha or None,
        per_device_train_batch_size=recipe.per_device_batch_size,
        per_device_eval_batch_size=recipe.per_device_batch_size,
        gradient_accumulation_steps=accumulation(recipe, world),
        activation_checkpointing=recipe.gradient_checkpointing,
        bf16=recipe.bf16,
        seed=recipe.seed,
        full_determinism=recipe.deterministic,
        use_cpu=not torch.cuda.is_available(),
        deepspeed=_deepspeed(recipe) if recipe.zero else None,
        # The samples are encoded and cut already (encoding.py); the trainer must not do it again.
        dataset_kwargs={"skip_prepare_dataset": True},
        max_length=recipe.max_length,
        packing=False,
        eval_strategy="no",
        save_strategy="steps",
        # A state is kept at a step that was logged, so that its curve is whole.
        save_steps=math.ceil(save_every / log_every) * log_every,
        # Older states are removed by the watcher, once the new one is whole.
        save_total_limit=None,
        report_to=list(settings.report_to) or "none",
        run_name=training.place.provenance[:16],
        disable_tqdm=True,
        logging_strategy="steps",
        logging_steps=log_every,
        logging_first_step=True,
        # The default hides a loss that is not a number behind the mean of the others.
        logging_nan_inf_filter=False,
    )


def _deepspeed(recipe: Recipe) -> dict[str, Any]:
    """DeepSpeed's configuration; ``auto`` is filled in by the trainer from its own arguments."""
    stage: dict[str, Any] = {"stage": recipe.zero, "overlap_comm": False}
    offloaded = ("optimizer", "param") if recipe.zero == 3 else ("optimizer",)
    if recipe.offload:
        stage |= {f"offload_{each}": {"device": "cpu", "pin_memory": True} for each in offloaded}
    if recipe.zero == 3:
        stage |= {
            "stage3_gather_16bit_weights_on_model_save": True,
            "stage3_max_live_parameters": 1e9,
            "stage3_prefetch_bucket_size": "auto",
            "stage3_param_persistence_threshold": "auto",
        }
    return {
        "zero_optimization": stage,
        "bf16": {"enabled": recipe.bf16},
        "gradient_clipping": "auto",
        "gradient_accumulation_steps": "auto",
        "train_micro_batch_size_per_gpu": "auto",
        "train_batch_size": "auto",
        # PyTorch's AdamW is used where DeepSpeed's own kernels can't be built.
        "zero_allow_untested_optimizer": True,
        "zero_force_ds_cpu_optimizer": False,
    }


def _model(training: Training) -> tuple[Any, Any]:
    """The base model as it is trained, and the dtype that the checkpoint is saved in."""
    import torch
    from transformers import AutoConfig, AutoModelForCausalLM

    recipe = training.recipe
    stored = AutoConfig.from_pretrained(training.base_model).dtype or torch.float32
    options: dict[str, Any] = {"dtype": torch.float32, "attn_implementation": recipe.attention}
    if recipe.adapter and recipe.adapter.kind == "qlora":
        options |= {"dtype": torch.bfloat16, "quantization_config": _four_bits(recipe)}
    try:
        model = AutoModelForCausalLM.from_pretrained(training.base_model, **options)
    except (ValueError, ImportError) as error:
        if "attention" not in str(error):
            raise
        raise JobError(
            f"{training.base_model} can't be trained with the recipe's attention "
            f"{recipe.attention}: {str(error).splitlines()[0]}; name another one, such as eager"
        ) from None
    model.config.use_cache = False
    return model, torch.bfloat16 if recipe.bf16 else stored


def _four_bits(recipe: Recipe) -> Any:
    import torch
    from transformers import BitsAndBytesConfig

    try:
        import bitsandbytes  # noqa: F401
    except ImportError:
        raise JobError(
            "qlora needs the package bitsandbytes, which is not installed here; "
            "`deploy/install.sh .venv --extra qlora` installs it, or use the adapter `lora`"
        ) from None
    return BitsAndBytesConfig(
        load_in_4bit=True,
        bnb_4bit_quant_type="nf4",
        bnb_4bit_use_double_quant=True,
        bnb_4bit_compute_dtype=torch.bfloat16 if recipe.bf16 else torch.float32,
    )


def _adapter(recipe: Recipe) -> Any:
    if recipe.adapter is None:
        return None
    from peft import LoraConfig

    adapter = recipe.adapter
    targets = adapter.targets if adapter.targets == "all-linear" else list(adapter.targets)
    return LoraConfig(
        task_type="CAUSAL_LM",
        r=adapter.r,
        lora_alpha=adapter.alpha,
        lora_dropout=adapter.dropout,
        target_modules=targets,
    )


def _packing_is_exact(model: Any, samples: list[Encoded], recipe: Recipe, channel: Channel) -> bool:
    if recipe.zero == 3:
        channel.say("packing is off: with ZeRO-3 it can't be tried before training")
        return False
    if recipe.per_device_batch_size == 1:
        return False
    is_exact, losses = keeps_apart(model, samples, bf16=recipe.bf16)
    if not is_exact:
        channel.say(f"packing is off: packed samples see each other in this model ({losses})")
    return is_exact


def _collate_packed(rows: list[Mapping[str, Any]]) -> dict[str, Any]:
    return packed_batch(
        [Encoded(list(row["input_ids"]), list(row["labels"]), truncated=False) for row in rows]
    )


def _dataset(samples: list[Encoded]) -> Any:
    from datasets import Dataset

    return Dataset.from_list(
        [{"input_ids": sample.input_ids, "labels": sample.labels} for sample in samples]
    )


def _save(trainer: Any, training: Training, stored: Any) -> None:
    """Save the weights as one model of plain safetensors, whatever they were spread over."""
    recipe, folder = training.recipe, training.place.made
    if recipe.zero == 3:
        # Every process takes part in gathering the weights; the first one gets them.
        weights = trainer.accelerator.get_state_dict(trainer.deepspeed)
    if not first_process():
        return
    model = trainer.accelerator.unwrap_model(trainer.model)
    if recipe.zero == 3:
        weights = {name: weight.to(stored) for name, weight in weights.items()}
        model.config.dtype = stored
        model.config.use_cache = True
        model.save_pretrained(folder, state_dict=weights)
        return
    if recipe.adapter:
        model = _merged(model, training, stored)
    model.config.use_cache = True
    model.to(stored).save_pretrained(folder)


def _merged(model: Any, training: Training, stored: Any) -> Any:
    """The base model with the adapter's weights added; one of 4 bits is read again in full."""
    if training.recipe.adapter and training.recipe.adapter.kind == "lora":
        return model.merge_and_unload()
    from peft import PeftModel
    from transformers import AutoModelForCausalLM

    adapter = training.place.folder / "adapter"
    model.save_pretrained(adapter)
    base = AutoModelForCausalLM.from_pretrained(training.base_model, dtype=stored)
    return PeftModel.from_pretrained(base, adapter).merge_and_unload()


def _keep_memory() -> None:
    """Have glibc keep freed memory, and ask for huge pages.

    Each step frees tensors of many MB and allocates them again. When glibc handed these back to the
    kernel, page faults took a third of the processor time of training on a CPU.
    """
    os.environ.setdefault("THP_MEM_ALLOC_ENABLE", "1")
    if sys.platform != "linux":
        return
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    if mallopt is not None:
        mallopt(M_MMAP_MAX, 0)
        mallopt(M_TRIM_THRESHOLD, -1)

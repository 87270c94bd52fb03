"""Recipes: how a base model is fine-tuned, and how the result answers.

A recipe does not depend on machines: ``batch_size`` is the number of samples of an optimizer step
however many devices share it, so that one recipe means the same steps on two CPU cores and on
eight GPUs. Every value is typed and checked when it is read; an unknown key is an error.
"""

import math
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field, model_validator

from resources.errors import MendableError

Budget = Literal["epochs", "steps", "tokens"]
# The published runs made 15 passes over 1,000 samples.
PUBLISHED_EPOCHS = 15.0


class RecipeError(MendableError):
    """A recipe does not fit the machines; the message says which value and what to change."""


class _Strict(BaseModel):
    # Defaults are validated because recipes are hashed: a float's default 15 must become the 15.0
    # that a job file gives back.
    model_config = ConfigDict(extra="forbid", frozen=True, validate_default=True)


class Adapter(_Strict):
    """Low-rank adaptation instead of training all weights; merged into them at the end.

    Attributes:
        kind: ``lora``, or ``qlora``: the base model's weights in 4 bits (NF4) while training.
        r: Rank.
        alpha: Scale; the update counts alpha / r.
        dropout: Dropout before the adapter.
        targets: Modules that get one; ``all-linear``: every linear layer but the head.
    """

    kind: Literal["lora", "qlora"] = "lora"
    r: int = Field(16, ge=1)
    alpha: float = Field(32, gt=0)
    dropout: float = Field(0.0, ge=0, lt=1)
    targets: tuple[str, ...] | Literal["all-linear"] = "all-linear"


class Recipe(_Strict):
    """How a checkpoint is trained and how it answers; defaults are the published values.

    Exactly one of ``epochs``, ``steps`` and ``tokens`` is the budget; 15 epochs where none is set.

    Attributes:
        epochs: Passes over the subset.
        steps: Optimizer steps.
        tokens: Tokens to see, padding left out; rounded up to whole steps.
        batch_size: Samples of an optimizer step, over all devices.
        per_device_batch_size: Samples of a forward pass on one device.
        learning_rate: Peak learning rate.
        lr_schedule: Schedule after warm-up.
        warmup_ratio: Share of the steps spent warming up.
        weight_decay: AdamW's weight decay.
        adam_beta1: AdamW's first beta.
        adam_beta2: AdamW's second beta.
        max_grad_norm: Gradients are scaled down to this norm; 0 is off.
        neftune_alpha: Noise on the embeddings (NEFTune); 0 is off.
        max_length: Tokens of a sample.
        overlong: What becomes of a longer one: ``cut`` at the end of the conversation, or
            ``drop``; both are counted.
        packing: Put the samples of a forward pass one after the other instead of padding them to
            one length. Steps and losses stay the same, as samples do not see each other. This is
            tried with the model before training; if samples would see each other, packing is off
            and the log says so.
        held_out: Share of the subset that is not trained on but evaluated in the end; 0 is none.
        adapter: Train low-rank adapters; unset: all weights.
        zero: DeepSpeed's ZeRO stage; 0 is plain data parallelism.
        offload: Keep optimizer state (and with stage 3 the weights) in the CPU's memory.
        gradient_checkpointing: Recompute activations instead of keeping them.
        bf16: Train and keep the checkpoint in bfloat16.
        attention: Attention kernel by transformers' name.
        deterministic: Only deterministic algorithms, so that a resumed run on a GPU gives the
            same weights; on a CPU it does anyway.
        seed: Seed of order, noise and dropout.
        max_new_tokens: Most tokens of an answer; unset: the benchmark's own, 512.
        generation_batch_size: Questions generated at once.
    """

    epochs: float | None = Field(None, gt=0)
    steps: int | None = Field(None, ge=1)
    tokens: int | None = Field(None, ge=1)
    batch_size: int = Field(256, ge=1)
    per_device_batch_size: int = Field(2, ge=1)
    learning_rate: float = Field(1e-5, gt=0)
    lr_schedule: Literal["linear", "cosine", "constant"] = "linear"
    warmup_ratio: float = Field(0.0, ge=0, lt=1)
    weight_decay: float = Field(0.1, ge=0)
    adam_beta1: float = Field(0.9, ge=0, lt=1)
    adam_beta2: float = Field(0.95, ge=0, lt=1)
    max_grad_norm: float = Field(1.0, ge=0)
    neftune_alpha: float = Field(15, ge=0)
    max_length: int = Field(2048, ge=16)
    overlong: Literal["cut", "drop"] = "cut"
    packing: bool = False
    held_out: float = Field(0.0, ge=0, lt=1)
    adapter: Adapter | None = None
    zero: Literal[0, 1, 2, 3] = 0
    offload: bool = False
    gradient_checkpointing: bool = False
    bf16: bool = False
    attention: Literal["sdpa", "eager", "flash_attention_2"] = "sdpa"
    deterministic: bool = False
    seed: int = Field(0, ge=0, lt=2**31)
    max_new_tokens: int | None = Field(None, ge=1)
    generation_batch_size: int = Field(12, ge=1)

    @model_validator(mode="before")
    @classmethod
    def _one_budget(cls, fields: Any) -> Any:
        if not isinstance(fields, dict):
            return fields
        named = [name for name in ("epochs", "steps", "tokens") if fields.get(name) is not None]
        if len(named) > 1:
            raise ValueError(f"{' and '.join(named)} are both budgets; give one")
        return fields if named else {**fields, "epochs": PUBLISHED_EPOCHS}

    @model_validator(mode="after")
    def _fit_together(self) -> "Recipe":
        if self.batch_size % self.per_device_batch_size:
            raise ValueError(
                f"batch_size {self.batch_size} is no multiple of per_device_batch_size "
                f"{self.per_device_batch_size}"
            )
        if self.offload and not self.zero:
            raise ValueError("offload is DeepSpeed's; set zero to 1, 2 or 3 with it")
        if self.adapter and self.zero == 3:
            raise ValueError(
                "an adapter can't be merged into weights that ZeRO-3 has split; it needs little "
                "memory anyway: use zero 0, 1 or 2 with it"
            )
        return self

    @property
    def budget(self) -> tuple[Budget, float]:
        """Unit and amount of the training budget."""
        if self.steps is not None:
            return "steps", float(self.steps)
        if self.tokens is not None:
            return "tokens", float(self.tokens)
        return "epochs", float(self.epochs or PUBLISHED_EPOCHS)


def accumulation(recipe: Recipe, devices: int) -> int:
    """Forward passes of each device in one optimizer step, which all nodes' devices share.

    Raises:
        RecipeError: The batch can't be shared evenly.
    """
    once = recipe.per_device_batch_size * devices
    if recipe.batch_size % once:
        raise RecipeError(
            f"batch_size {recipe.batch_size} can't be shared by {devices} devices with "
            f"per_device_batch_size {recipe.per_device_batch_size}: it must be a multiple of "
            f"{once}; change one of them, or the number of devices"
        )
    return recipe.batch_size // once


def held_out_rows(recipe: Recipe, rows: int) -> int:
    """Samples of a subset that are held out."""
    return math.floor(recipe.held_out * rows)


def steps_an_epoch(recipe: Recipe, rows: int) -> int:
    """Optimizer steps of one pass over a subset of so many samples, before any is dropped."""
    return math.ceil((rows - held_out_rows(recipe, rows)) / recipe.batch_size)


def optimizer_steps(recipe: Recipe, rows: int) -> int | None:
    """Optimizer steps for a subset of so many samples; ``None`` where the budget is in tokens.

    Samples that must be dropped still count, so that two subsets of one size are trained for the
    same number of steps.
    """
    if recipe.steps is not None:
        return recipe.steps
    if recipe.tokens is not None:
        return None
    return max(1, math.ceil((recipe.epochs or PUBLISHED_EPOCHS) * steps_an_epoch(recipe, rows)))


def steps_for_tokens(recipe: Recipe, trained: int, tokens_an_epoch: int) -> int:
    """Optimizer steps after which a budget in tokens is reached.

    Args:
        recipe: A recipe with ``tokens``.
        trained: Samples that are trained on, without those held out or dropped.
        tokens_an_epoch: Tokens of one pass over these.
    """
    share = (recipe.tokens or 0) / max(1, tokens_an_epoch)
    return max(1, math.ceil(share * math.ceil(trained / recipe.batch_size)))

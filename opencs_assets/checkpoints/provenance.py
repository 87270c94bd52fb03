"""What determines a checkpoint's weights, as one hash."""

import json
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import polars as pl

from opencs_assets.config.recipes import Recipe, optimizer_steps
from resources.errors import MendableError
from resources.provenance import content_hash, file_hash

CODE_VERSION = "2"
# Their versions are written beside the weights, but are no part of the hash: whoever asks for a
# checkpoint need not have the packages that its trainer has.
PACKAGES = ("torch", "transformers", "trl", "peft", "deepspeed", "accelerate", "tokenizers")
IDENTITY_FILES = (
    "config.json",
    "generation_config.json",
    "tokenizer.json",
    "tokenizer.model",
    "tokenizer_config.json",
    "special_tokens_map.json",
    "chat_template.jinja",
)
WEIGHTS = ("*.safetensors", "*.safetensors.index.json")
# GPT-2's architecture has the second name.
CAUSAL = ("ForCausalLM", "LMHeadModel")
# These settings say how answers are made or change only speed and memory, and not the weights.
NOT_OF_THE_WEIGHTS = frozenset({"max_new_tokens", "generation_batch_size"})
SHA256 = re.compile(r"[0-9a-f]{64}")


class BaseModelError(MendableError):
    """The base model can't be trained; the message names it and says what to do."""


def base_model_identity(folder: Path) -> dict[str, str]:
    """The hash of each file that makes the base model what it is, by the file's name.

    Raises:
        BaseModelError: The folder is missing, lacks a config or safetensors weights, or holds no
            causal language model.
    """
    weights = sorted({path for pattern in WEIGHTS for path in folder.glob(pattern)})
    if not (folder / "config.json").is_file() or not weights:
        raise BaseModelError(
            f"base model {folder} has no config.json with *.safetensors beside it; name a folder "
            "in Hugging Face's form with safetensors weights"
        )
    _refuse_other_kinds(folder)
    present = [folder / name for name in IDENTITY_FILES if (folder / name).is_file()]
    return {path.name: _identity(path) for path in [*present, *weights]}


def _refuse_other_kinds(folder: Path) -> None:
    config = _config(folder)
    kinds = config.get("architectures") or []
    if not any(str(kind).endswith(CAUSAL) for kind in kinds):
        raise BaseModelError(
            f"base model {folder} is no causal language model: its config.json names "
            f"{', '.join(map(str, kinds)) or 'no architecture'}; fine-tuning needs one that "
            "ends in ForCausalLM"
        )


def context_length(folder: Path) -> int | None:
    """Most tokens that the model can see, where its config says so."""
    length = _config(folder).get("max_position_embeddings")
    return int(length) if isinstance(length, int) else None


def _config(folder: Path) -> Mapping[str, Any]:
    path = folder / "config.json"
    try:
        config = json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise BaseModelError(f"{path} is not valid JSON: {error}") from None
    if not isinstance(config, dict):
        raise BaseModelError(f"{path} must hold one JSON object")
    return config


def _identity(path: Path) -> str:
    """A file's SHA-256; the hub's cache names large files by it, which saves reading them."""
    blob = path.resolve()
    known = path.is_symlink() and blob.parent.name == "blobs" and SHA256.fullmatch(blob.name)
    return blob.name if known else file_hash(path)


def subset_hash(samples: pl.DataFrame) -> str:
    """Hash of the subset's ids and contents in the order of choice."""
    return content_hash(samples.select("sample_id", "system", "messages").rows())


def training_fields(recipe: Recipe, rows: int) -> dict[str, Any]:
    """The recipe's settings that determine the weights trained on a subset of so many rows.

    Only the budget that counts is kept, so that a setting without effect does not make another
    checkpoint. ``steps`` are added where they are known without the samples.
    """
    fields = recipe.model_dump(exclude=set(NOT_OF_THE_WEIGHTS))
    for unit in ("epochs", "steps", "tokens"):
        if unit != recipe.budget[0]:
            del fields[unit]
    if recipe.lr_schedule == "constant" and recipe.warmup_ratio:
        # Weights that were trained before this schedule warmed up are others.
        fields["warms_up"] = True
    steps = optimizer_steps(recipe, rows)
    return fields if steps is None else {**fields, "steps": steps}


def checkpoint_fields(
    samples: pl.DataFrame, recipe: Recipe, identity: dict[str, str], template: str
) -> dict[str, Any]:
    """All that determines the weights; its ``content_hash`` is the checkpoint's provenance.

    ``samples`` is the subset with its conversations, ``identity`` the base model's
    (``base_model_identity``).
    """
    return {
        "subset": subset_hash(samples),
        "rows": samples.height,
        "base_model": identity,
        "recipe": training_fields(recipe, samples.height),
        "template": content_hash(template),
        "code": CODE_VERSION,
    }

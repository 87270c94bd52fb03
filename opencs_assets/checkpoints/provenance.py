"""What determines a checkpoint's weights, as one hash."""

import json
from pathlib import Path
from typing import Any

import polars as pl

from opencs_assets.checkpoints.recipe import training_fields
from opencs_assets.experiments import Recipe
from opencs_assets.provenance import content_hash, file_hash, package_versions

CODE_VERSION = "1"
PACKAGES = ("torch", "transformers", "trl")
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


class BaseModelError(ValueError):
    """The base model can't be trained; the message names it and says what to do."""


def base_model_identity(folder: Path) -> dict[str, str]:
    """Hash of each file that makes the base model what it is, whatever its folder is called.

    Args:
        folder: Folder in Hugging Face's form.

    Raises:
        BaseModelError: There is no such folder, or no config or safetensors weights in it.
    """
    weights = sorted({path for pattern in WEIGHTS for path in folder.glob(pattern)})
    if not (folder / "config.json").is_file() or not weights:
        raise BaseModelError(
            f"base model {folder} has no config.json with *.safetensors beside it; name a folder "
            "in Hugging Face's form with safetensors weights"
        )
    present = [folder / name for name in IDENTITY_FILES if (folder / name).is_file()]
    return {path.name: file_hash(path) for path in [*present, *weights]}


def chat_template(folder: Path) -> str:
    """The chat template of a model's folder, as its tokenizer would load it.

    Args:
        folder: Folder in Hugging Face's form.

    Raises:
        BaseModelError: It has none, so that there is no one way to render a conversation.
    """
    own = folder / "chat_template.jinja"
    if own.is_file():
        return own.read_text(encoding="utf-8")
    config = folder / "tokenizer_config.json"
    template = (
        json.loads(config.read_text(encoding="utf-8")).get("chat_template")
        if config.is_file()
        else None
    )
    if isinstance(template, list):
        template = next((item["template"] for item in template if item["name"] == "default"), None)
    if not isinstance(template, str) or not template:
        raise BaseModelError(
            f"model {folder} has no chat template; put the one to train with into its "
            "chat_template.jinja"
        )
    return template


def subset_hash(samples: pl.DataFrame) -> str:
    """Hash of the subset's ids and contents in order.

    Args:
        samples: ``sample_id``, ``system`` and ``messages`` in the order of choice.
    """
    return content_hash(samples.select("sample_id", "system", "messages").rows())


def template_hash(template: str) -> str:
    """Hash of a chat template's text."""
    return content_hash(template)


def checkpoint_fields(
    samples: pl.DataFrame,
    recipe: Recipe,
    identity: dict[str, str],
    template: str,
) -> dict[str, Any]:
    """All that determines the weights; its ``content_hash`` is the checkpoint's provenance.

    Args:
        samples: The subset with its conversations, in the order of choice.
        recipe: The experiment's recipe.
        identity: See ``base_model_identity``.
        template: The base model's chat template.
    """
    return {
        "subset": subset_hash(samples),
        "rows": samples.height,
        "base_model": identity,
        "recipe": training_fields(recipe, samples.height),
        "template": template_hash(template),
        "code": CODE_VERSION,
        "packages": package_versions(PACKAGES),
    }

"""A tiny model of random weights with the embedded model's tokenizer: a test takes seconds."""

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import polars as pl
import pytest

from opencs_assets.checkpoints.job import TrainingJob, training_job
from opencs_assets.checkpoints.templates import chat_template
from opencs_assets.recipes import Recipe
from opencs_assets.schemas import MESSAGES
from resources.models import embedded_base_model
from resources.settings import Training

CONTEXT = 512
NO_SETTINGS = Training()
FAST = Recipe(
    epochs=2,
    learning_rate=1e-3,
    max_length=96,
    per_device_batch_size=2,
    batch_size=4,
    neftune_alpha=5,
    max_new_tokens=12,
)


@pytest.fixture(scope="session")
def tiny_model(models_dir: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    os.environ["HF_HUB_OFFLINE"] = "1"
    import torch
    from transformers import AutoTokenizer, LlamaConfig, LlamaForCausalLM

    folder = tmp_path_factory.mktemp("tiny")
    tokenizer = AutoTokenizer.from_pretrained(embedded_base_model(models_dir))
    torch.manual_seed(0)
    config = LlamaConfig(
        vocab_size=len(tokenizer),
        hidden_size=64,
        intermediate_size=128,
        num_hidden_layers=2,
        num_attention_heads=4,
        num_key_value_heads=2,
        max_position_embeddings=CONTEXT,
        tie_word_embeddings=True,
        bos_token_id=tokenizer.bos_token_id,
        eos_token_id=tokenizer.eos_token_id,
        pad_token_id=tokenizer.pad_token_id,
    )
    LlamaForCausalLM(config).save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder


def subset_of(pairs: list[tuple[str, str]]) -> pl.DataFrame:
    return pl.DataFrame(
        {
            "sample_id": [f"s{place}" for place in range(len(pairs))],
            "system": [None] * len(pairs),
            "messages": [
                [{"role": "user", "content": ask}, {"role": "assistant", "content": say}]
                for ask, say in pairs
            ],
        },
        schema={"sample_id": pl.String, "system": pl.String, "messages": MESSAGES},
    )


@pytest.fixture(scope="session")
def samples_of() -> Callable[[list[tuple[str, str]]], pl.DataFrame]:
    """Makes a subset of pairs of question and answer."""
    return subset_of


@pytest.fixture(scope="session")
def fast() -> Recipe:
    """The recipe that jobs have where nothing else is said."""
    return FAST


@pytest.fixture(scope="session")
def samples() -> pl.DataFrame:
    """Ten samples, one of them longer than the limit."""
    pairs = [(f"Say number {place}.", f"It is {place}. " * place) for place in range(1, 10)]
    return subset_of([*pairs, ("Count.", " ".join(str(number) for number in range(200)))])


MakeJob = Callable[..., tuple[TrainingJob, dict[str, Any]]]


@pytest.fixture
def make_job(tiny_model: Path, samples: pl.DataFrame, tmp_path: Path) -> MakeJob:
    """Makes a training job and the content of its job file."""

    def make(
        rows: pl.DataFrame = samples,
        *,
        force: bool = False,
        where: str = "d/e",
        settings: Training = NO_SETTINGS,
        model: Path = tiny_model,
        folder: str | None = None,
        **recipe: Any,
    ) -> tuple[TrainingJob, dict[str, Any]]:
        own = {"steps", "tokens", "epochs"} & recipe.keys()
        values = FAST.model_dump(exclude={"epochs"} if own else None)
        resolved = Recipe.model_validate({**values, **recipe})
        place = f"{folder or tmp_path / 'checkpoints'}/{where}"
        job = training_job(rows, resolved, model, chat_template(model), place)
        file = tmp_path / f"{job.provenance[:8]}.parquet"
        rows.write_parquet(file)
        return job, {**job.as_json(settings, force=force), "samples": str(file)}

    return make

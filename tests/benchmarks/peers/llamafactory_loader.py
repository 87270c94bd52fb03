"""Load an exported subset with LLaMA-Factory's own loader and with Hugging Face ``datasets``.

Every dataset of ``dataset_info.json`` goes the way of a training: the arguments are parsed, the
files loaded, converted and tokenized by LLaMA-Factory. What comes out is compared with
``samples.parquet``, read without either of them.
"""

import contextlib
import json
import sys
import tempfile
from collections.abc import Callable, Iterator
from importlib.machinery import ModuleSpec
from pathlib import Path
from types import ModuleType
from typing import Any

import pyarrow.parquet as pq
from datasets import get_dataset_config_names, load_dataset
from tokenizers import Tokenizer, decoders, models, pre_tokenizers
from transformers import PreTrainedTokenizerFast

# LLaMA-Factory imports torchaudio at once but uses it for sound alone, and the builds that a
# registry has want the libraries of a GPU.
sys.modules["torchaudio"] = ModuleType("torchaudio")
sys.modules["torchaudio"].__spec__ = ModuleSpec("torchaudio", None)

from llamafactory.data import get_dataset, get_template_and_fix_tokenizer  # noqa: E402
from llamafactory.data.loader import _get_merged_dataset  # noqa: E402
from llamafactory.extras.constants import IGNORE_INDEX  # noqa: E402
from llamafactory.hparams import get_train_args  # noqa: E402

PARQUET = "samples.parquet"
END = "<end>"
# Longer than any sample in bytes, so that none is cut.
CUTOFF = 2**30


def byte_tokenizer() -> PreTrainedTokenizerFast:
    """A token for every byte: it needs no file, and its texts come back as they were."""
    vocabulary = {byte: i for i, byte in enumerate(sorted(pre_tokenizers.ByteLevel.alphabet()))}
    tokenizer = Tokenizer(models.BPE(vocabulary, []))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    return PreTrainedTokenizerFast(tokenizer_object=tokenizer, eos_token=END, pad_token=END)


def conversations(folder: Path) -> list[dict[str, Any]]:
    table = pq.read_table(folder / PARQUET, columns=["system", "messages"])
    return table.to_pylist()


def texts_of(row: dict[str, Any]) -> tuple[str, list[tuple[str, str]]]:
    """The system prompt and the turns of a row that LLaMA-Factory has converted."""
    messages = [*row["_prompt"], *row["_response"]]
    return row["_system"], [(message["role"], message["content"]) for message in messages]


def decoded(row: dict[str, Any], tokenizer: PreTrainedTokenizerFast) -> tuple[str, str]:
    """What a model would read of a tokenized row, and what it would be trained to write."""
    trained = [token for token in row["labels"] if token != IGNORE_INDEX]
    return tokenizer.decode(row["input_ids"]), tokenizer.decode(trained)


def trained(folder: Path, name: str, samples: list[dict[str, Any]]) -> dict[str, Any]:
    """What LLaMA-Factory makes of a dataset before a training, beside the samples."""
    with tempfile.TemporaryDirectory() as output:
        model_args, data_args, training_args, finetuning_args, _ = get_train_args(
            {
                # A name only: nothing is loaded for it.
                "model_name_or_path": "none",
                "stage": "sft",
                "do_train": True,
                "dataset": name,
                "dataset_dir": str(folder),
                "template": "empty",
                "cutoff_len": CUTOFF,
                "output_dir": output,
                "report_to": "none",
            }
        )
    stage = finetuning_args.stage
    aligned = _get_merged_dataset(data_args.dataset, model_args, data_args, training_args, stage)
    wanted = [
        (sample["system"], [(turn["role"], turn["content"]) for turn in sample["messages"]])
        for sample in samples
    ]
    different = differing(map(texts_of, aligned), wanted)
    if different is not None:
        return {"rows": len(aligned), "note": f"row {different} differs"}
    tokenizer = byte_tokenizer()
    template = get_template_and_fix_tokenizer(tokenizer, data_args)
    tokenized = get_dataset(
        template, model_args, data_args, training_args, stage=stage, tokenizer=tokenizer
    )["train_dataset"]
    texts = [
        (
            system + "".join(text for _, text in turns),
            "".join(text for role, text in turns if role == "assistant"),
        )
        for system, turns in wanted
    ]
    different = differing((decoded(row, tokenizer) for row in tokenized), texts)
    if different is not None:
        return {"rows": len(aligned), "note": f"row {different} differs when tokenized"}
    return {"rows": len(aligned), "equal": True}


def differing(found: Iterator[Any], wanted: list[Any]) -> int | None:
    """The first row in which they differ, or that only one of them has."""
    found = list(found)
    for number, (one, other) in enumerate(zip(found, wanted, strict=False)):
        if one != other:
            return number
    return None if len(found) == len(wanted) else min(len(found), len(wanted))


def counted(folder: Path, config: str, samples: list[dict[str, Any]]) -> dict[str, Any]:
    """The rows of one of the card's configurations."""
    rows = len(load_dataset(str(folder), config, split="train"))
    return {"rows": rows, "equal": rows == len(samples), "note": "rows only"}


def counted_file(folder: Path, file: str, samples: list[dict[str, Any]]) -> dict[str, Any]:
    rows = len(load_dataset("parquet", data_files=str(folder / file), split="train"))
    return {"rows": rows, "equal": rows == len(samples), "note": "rows only"}


def tried(what: Callable[..., dict[str, Any]], loader: str, *args: Any) -> dict[str, Any]:
    """The row of the table; one that a loader refuses says why, and the others go on."""
    row = {"loader": loader, "dataset": args[1], "rows": 0, "equal": False, "note": ""}
    try:
        return row | what(*args)
    except Exception as error:
        return row | {"note": f"{type(error).__name__}: {error}"[:300]}


def main() -> None:
    folder = Path(sys.argv[1])
    samples = conversations(folder)
    names = json.loads((folder / "dataset_info.json").read_text("utf-8"))
    # The loaders print, too; the last line is to be ours.
    with contextlib.redirect_stdout(sys.stderr):
        rows = [tried(trained, "LLaMA-Factory", folder, name, samples) for name in names]
        configs = get_dataset_config_names(str(folder))
        rows += [tried(counted, "datasets", folder, config, samples) for config in configs]
        rows.append(tried(counted_file, "datasets", folder, PARQUET, samples))
    print(json.dumps({"peer": "LLaMA-Factory", "samples": len(samples), "rows": rows}), flush=True)


if __name__ == "__main__":
    main()

"""A subset as files that other programs load: Alpaca, ShareGPT, OpenAI, Parquet, and a card.

The folder is a dataset of Hugging Face ``datasets`` (its configurations stand in the card) and of
LLaMA-Factory (``dataset_info.json``).
"""

import hashlib
import io
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import yaml

from opencs_assets.tables.selection import SUBSET_EXPORTS
from resources.files import SHARED, write_whole

ALPACA, SHAREGPT, OPENAI, PARQUET = (
    "alpaca.json",
    "sharegpt.json",
    "openai.jsonl",
    "samples.parquet",
)
DATASET_INFO, CARD = "dataset_info.json", "README.md"
_FROM = {"user": "human", "assistant": "gpt"}


@dataclass(frozen=True)
class Card:
    """The text of a dataset card besides the numbers.

    Attributes:
        dataset: Name of the dataset.
        selector: Name of the selector.
        license: Licence of the dataset as a Hugging Face identifier, or ``unknown``.
        facts: Label and text of the lines under *How it was chosen*.
        notes: Caveats, under *To be known*.
    """

    dataset: str
    selector: str
    license: str
    facts: Sequence[tuple[str, str]]
    notes: Sequence[str]


def export_subset(
    folder: Path, subset: pl.DataFrame, content: pl.DataFrame, card: Card
) -> pl.DataFrame:
    """Write the files of a subset, each moved into place when it is whole.

    Args:
        folder: Folder of the files; made if it is not there.
        subset: Rows of ``selected_subset``.
        content: The conversations in the same order (``subset_content``).
        card: The text of the card.

    Returns:
        One row a file (schema ``SUBSET_EXPORTS``).

    Raises:
        OSError: The folder can't be written.
    """
    folder.mkdir(parents=True, exist_ok=True)
    rows = content.to_dicts()
    name = f"{card.dataset}_{card.selector}"
    written = {
        ALPACA: _json([_alpaca(row) for row in rows]),
        SHAREGPT: _json([_sharegpt(row) for row in rows]),
        OPENAI: "".join(_line(row) for row in rows).encode(),
        PARQUET: _parquet(subset, content),
        DATASET_INFO: _json(dataset_info(name)),
        CARD: _card_text(card, subset, content).encode(),
    }
    for file, data in written.items():
        write_whole(folder / file, data, SHARED)
    return pl.DataFrame(
        [
            {
                "file": file,
                "path": str(folder / file),
                "rows": len(rows) if file in (ALPACA, SHAREGPT, OPENAI, PARQUET) else None,
                "bytes": len(data),
                "sha256": hashlib.sha256(data).hexdigest(),
            }
            for file, data in written.items()
        ],
        schema=SUBSET_EXPORTS.schema,
    )


def dataset_info(name: str) -> dict[str, Any]:
    """The content of ``dataset_info.json``: to LLaMA-Factory, each format is a dataset."""
    roles = {"role_tag": "role", "content_tag": "content"}
    roles |= {"user_tag": "user", "assistant_tag": "assistant", "system_tag": "system"}
    return {
        name: {
            "file_name": ALPACA,
            "columns": {
                "prompt": "instruction",
                "query": "input",
                "response": "output",
                "system": "system",
                "history": "history",
            },
        },
        f"{name}_sharegpt": {
            "file_name": SHAREGPT,
            "formatting": "sharegpt",
            "columns": {"messages": "conversations", "system": "system"},
        },
        f"{name}_openai": {
            "file_name": OPENAI,
            "formatting": "sharegpt",
            "columns": {"messages": "messages"},
            "tags": roles,
        },
        f"{name}_parquet": {
            "file_name": PARQUET,
            "formatting": "sharegpt",
            "columns": {"messages": "messages", "system": "system"},
            "tags": roles,
        },
    }


def _alpaca(row: Mapping[str, Any]) -> dict[str, Any]:
    """The last turn is the instruction and its output; the turns before are the history."""
    texts = [message["content"] for message in row["messages"]]
    *history, (instruction, output) = zip(texts[::2], texts[1::2], strict=True)
    return {
        "instruction": instruction,
        "input": "",
        "output": output,
        "system": row["system"] or "",
        "history": [list(turn) for turn in history],
    }


def _sharegpt(row: Mapping[str, Any]) -> dict[str, Any]:
    return {
        "id": row["sample_id"],
        "conversations": [
            {"from": _FROM[message["role"]], "value": message["content"]}
            for message in row["messages"]
        ],
        "system": row["system"] or "",
    }


def _line(row: Mapping[str, Any]) -> str:
    system = [{"role": "system", "content": row["system"]}] if row["system"] else []
    return json.dumps({"messages": [*system, *row["messages"]]}, ensure_ascii=False) + "\n"


def _parquet(subset: pl.DataFrame, content: pl.DataFrame) -> bytes:
    choices = subset.select("rank", "sample_id", "cluster", "score", "reason", "pinned")
    table = content.join(choices, on="sample_id", how="left", maintain_order="left")
    buffer = io.BytesIO()
    table.with_columns(pl.col("system").fill_null("")).write_parquet(buffer)
    return buffer.getvalue()


def _json(value: Any) -> bytes:
    return (json.dumps(value, ensure_ascii=False, indent=2) + "\n").encode()


def _card_text(card: Card, subset: pl.DataFrame, content: pl.DataFrame) -> str:
    length = content["response"].str.len_chars().to_numpy()
    head = yaml.safe_dump(
        {
            "license": card.license,
            "pretty_name": f"{card.dataset}, chosen by {card.selector}",
            "task_categories": ["text-generation"],
            "tags": ["instruction-tuning", "opencs"],
            "size_categories": [_size_category(content.height)],
            # Parquet is left out: `datasets` reads all configurations as it reads the first.
            "configs": [
                {"config_name": "alpaca", "data_files": ALPACA, "default": True},
                {"config_name": "sharegpt", "data_files": SHAREGPT},
                {"config_name": "openai", "data_files": OPENAI},
            ],
        },
        sort_keys=False,
        allow_unicode=True,
    )
    lines = [
        "---",
        head.rstrip(),
        "---",
        "",
        f"# {card.dataset}, chosen by {card.selector}",
        "",
        f"{content.height:,} samples, chosen by the OpenCS platform (published as TACOS, "
        "arXiv 2507.03673).",
        "",
        "## How it was chosen",
        "",
        *[f"- {label}: {text}" for label, text in card.facts],
        "",
        "## What is in it",
        "",
        f"- Samples: {content.height:,}; kept by hand: {int(subset['pinned'].sum()):,}",
        f"- Clusters: {subset['cluster'].drop_nulls().n_unique():,}",
        f"- Characters of a response: mean {np.mean(length):,.0f}, median {np.median(length):,.0f}",
        f"- Several turns: {int((content['messages'].list.len() > 2).sum()):,}",
        "",
        f"The same samples as `{ALPACA}`, `{SHAREGPT}`, `{OPENAI}` and `{PARQUET}` (which also has "
        f"the reason of each choice); `{DATASET_INFO}` describes them to LLaMA-Factory.",
    ]
    if card.notes:
        lines += ["", "## To be known", "", *[f"- {note}" for note in card.notes]]
    return "\n".join(lines) + "\n"


def _size_category(rows: int) -> str:
    for most, name in ((1_000, "n<1K"), (10_000, "1K<n<10K"), (100_000, "10K<n<100K")):
        if rows < most:
            return name
    return "100K<n<1M" if rows < 1_000_000 else "n>1M"

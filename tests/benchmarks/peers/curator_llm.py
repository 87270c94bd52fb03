"""Bespoke Curator's online OpenAI backend, with its cache."""

import argparse
import os
from pathlib import Path
from typing import Any

import litellm
from bespokelabs import curator
from workload import MODEL, measure

# The tokenizer that Curator would otherwise download.
TOKENIZERS = Path(litellm.__file__).parent / "litellm_core_utils" / "tokenizers"
os.environ["TIKTOKEN_CACHE_DIR"] = str(TOKENIZERS)


class Asker(curator.LLM):
    def prompt(self, row: dict[str, Any]) -> str:
        return row["prompt"]

    def parse(self, row: dict[str, Any], response: str) -> dict[str, Any]:
        return {"prompt": row["prompt"], "reply": response}


def run(args: argparse.Namespace, prompts: list[str]) -> int:
    asker = Asker(
        model_name=MODEL,
        backend="openai",
        backend_params={
            "base_url": f"{args.url}/v1",
            "max_concurrent_requests": args.concurrency,
            # Without a limit to keep to, it would take a low one.
            "max_requests_per_minute": args.rpm or 10_000_000,
            "max_tokens_per_minute": 10_000_000_000,
            "require_all_responses": False,
        },
    )
    response = asker([{"prompt": prompt} for prompt in prompts], working_dir=args.state)
    return sum(reply is not None for reply in response.dataset["reply"])


if __name__ == "__main__":
    measure("Curator", run)

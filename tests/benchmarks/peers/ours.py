"""Our client, as a stage uses it: every reply is in the store before it is seen."""

import argparse
import os
from pathlib import Path

from workload import KEY, MODEL, measure

from resources.llm.client import LLMClient
from resources.llm.store import ReplyStore
from resources.llm.types import Call
from resources.settings import Role


def ask_all(args: argparse.Namespace, prompts: list[str]) -> int:
    os.environ["OPENAI_API_KEY"] = KEY
    home = Path(args.state)
    # Nothing is told of limits or of how many requests to have in flight: it finds out.
    client = LLMClient(
        role_name="tagger",
        role=Role(base_url=f"{args.url}/v1", model=MODEL),
        store=ReplyStore(home / "replies.sqlite"),
        home=home,
        models=home,
        stage="open_tags",
    )
    calls = (
        Call(({"role": "user", "content": prompt},), "v1", max_tokens=64) for prompt in prompts
    )
    with client:
        return sum(
            reply.status == "ok" for _, reply in client.stream(calls, label="x", total=len(prompts))
        )


if __name__ == "__main__":
    measure("opencs", ask_all)

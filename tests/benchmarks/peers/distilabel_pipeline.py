"""A distilabel pipeline of one task, with its cache."""

import argparse

from distilabel.models import OpenAILLM
from distilabel.pipeline import Pipeline
from distilabel.steps import LoadDataFromDicts
from distilabel.steps.tasks import TextGeneration
from workload import KEY, MODEL, measure


def run(args: argparse.Namespace, prompts: list[str]) -> int:
    with Pipeline(name="peer", cache_dir=args.state) as pipeline:
        load = LoadDataFromDicts(
            data=[{"instruction": prompt} for prompt in prompts], batch_size=args.concurrency
        )
        # A batch is what is in flight at once.
        ask = TextGeneration(
            llm=OpenAILLM(model=MODEL, base_url=f"{args.url}/v1", api_key=KEY),
            input_batch_size=args.concurrency,
        )
        load >> ask
    rows = pipeline.run(use_cache=True)["default"]["train"]
    return sum(text is not None for text in rows["generation"])


if __name__ == "__main__":
    measure("distilabel", run)

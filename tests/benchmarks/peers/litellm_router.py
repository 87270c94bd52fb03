"""LiteLLM's router with a semaphore and ``asyncio.gather``.

Its disk cache is on where a state must outlive the process; without it the router is faster.
"""

import argparse
import asyncio

import litellm
from workload import KEY, MODEL, measure


async def ask_all(args: argparse.Namespace, prompts: list[str]) -> int:
    if args.durable:
        litellm.cache = litellm.Cache(type="disk", disk_cache_dir=args.state)
    deployment = {"model": f"openai/{MODEL}", "api_base": f"{args.url}/v1", "api_key": KEY}
    if args.rpm:
        deployment["rpm"] = args.rpm
    router = litellm.Router(
        model_list=[{"model_name": "peer", "litellm_params": deployment}],
        default_max_parallel_requests=args.concurrency,
        cache_responses=args.durable,
    )
    semaphore = asyncio.Semaphore(args.concurrency)

    async def ask(prompt: str) -> str | None:
        async with semaphore:
            completion = await router.acompletion(
                model="peer", messages=[{"role": "user", "content": prompt}]
            )
        return completion.choices[0].message.content

    replies = await asyncio.gather(*map(ask, prompts), return_exceptions=True)
    return sum(isinstance(reply, str) for reply in replies)


if __name__ == "__main__":
    measure("LiteLLM router", lambda args, prompts: asyncio.run(ask_all(args, prompts)))

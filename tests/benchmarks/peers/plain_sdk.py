"""The plain way: ``AsyncOpenAI``, a semaphore and ``asyncio.gather``, the SDK's own retries."""

import argparse
import asyncio
import sys

from openai import AsyncOpenAI, DefaultAioHttpClient
from workload import KEY, MODEL, measure

AIOHTTP = "--aiohttp" in sys.argv


async def ask_all(args: argparse.Namespace, prompts: list[str]) -> int:
    semaphore = asyncio.Semaphore(args.concurrency)
    transport = DefaultAioHttpClient() if AIOHTTP else None
    async with AsyncOpenAI(base_url=f"{args.url}/v1", api_key=KEY, http_client=transport) as client:

        async def ask(prompt: str) -> str | None:
            async with semaphore:
                completion = await client.chat.completions.create(
                    model=MODEL, messages=[{"role": "user", "content": prompt}]
                )
            return completion.choices[0].message.content

        replies = await asyncio.gather(*map(ask, prompts), return_exceptions=True)
    return sum(isinstance(reply, str) for reply in replies)


if __name__ == "__main__":
    if AIOHTTP:
        sys.argv.remove("--aiohttp")
    measure(
        "openai SDK, aiohttp" if AIOHTTP else "openai SDK",
        lambda args, prompts: asyncio.run(ask_all(args, prompts)),
    )

"""An OpenAI-compatible judge that scores answers by what stands in them, as a process of its own.

``quality=7`` in an answer is its score; ``mumble`` makes the reply unreadable, ``stutter`` only the
first time. Of several turns the last is scored alone, and all of them in a pair, where the answer
shown first is scored two points higher if both say ``sway``.

Run: ``python verdict_judge.py``; the first line on stdout is the base URL.
"""

import re
import socket
import time
import uuid

import orjson
from aiohttp import web

QUALITY = re.compile(r"quality=(\d+)")
MUMBLED = "Both are what they are."


def reply(prompt: str, system: str) -> str:
    """What the judge says."""
    if "mumble" in prompt or ("stutter" in prompt and "could not be used" not in prompt):
        return MUMBLED
    found = [int(each) for each in QUALITY.findall(prompt)]
    if "two scores" not in system:
        return f"{found[-1]}\nAs one can see."
    half = len(found) // 2
    first, second = (round(sum(part) / half) for part in (found[:half], found[half:]))
    if prompt.count("sway") >= 2:
        first = min(10, first + 2)
    return f"{first} {second}\nAs one can see."


async def chat(request: web.Request) -> web.Response:
    body = orjson.loads(await request.read())
    messages = body["messages"]
    text = reply(messages[-1]["content"], messages[0]["content"])
    message = {"role": "assistant", "content": text, "refusal": None}
    choice = {"index": 0, "finish_reason": "stop", "message": message, "logprobs": None}
    answer = {
        "id": f"chatcmpl-{uuid.uuid4().hex}",
        "object": "chat.completion",
        "created": int(time.time()),
        "model": body["model"],
        "choices": [choice],
        "usage": {"prompt_tokens": 100, "completion_tokens": 10, "total_tokens": 110},
    }
    return web.Response(body=orjson.dumps(answer), content_type="application/json")


def main() -> None:
    app = web.Application(client_max_size=1 << 24)
    app.router.add_post("/v1/chat/completions", chat)
    listener = socket.create_server(("127.0.0.1", 0))
    print(f"http://127.0.0.1:{listener.getsockname()[1]}", flush=True)
    web.run_app(app, sock=listener, print=None)


if __name__ == "__main__":
    main()

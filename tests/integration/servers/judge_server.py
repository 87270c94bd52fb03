"""An OpenAI-compatible server that scores and refines as it is told to, as a process of its own.

A sample's quality stands in its response (``quality=73``). ``POST /configure`` says how to answer:
``{"mode": "honest"}``, ``first`` (the one shown first is always better), ``equal``, ``refuse``,
``foreign`` (another language, no scores), or ``blind`` (comparisons cannot be read where the sample
shown first has an odd quality). ``GET /stats`` counts calls; ``POST /reset`` forgets them.

Run: ``python judge_server.py``; the first line on stdout is the base URL.
"""

import re
import socket
import time
import uuid
from typing import Any

import orjson
from aiohttp import web

QUALITY = re.compile(r"quality=(\d+)")
REFUSAL = "I'm sorry, but I can't help with that."
FOREIGN = "两个样本都很好，我无法给出分数。"
# Words that a refined text takes.
NEEDED_TOKENS = 150


class Judge:
    def __init__(self) -> None:
        self.mode = "honest"
        self.calls = 0
        self.prompts: list[str] = []

    async def chat(self, request: web.Request) -> web.Response:
        body = orjson.loads(await request.read())
        prompt = body["messages"][-1]["content"]
        self.calls += 1
        self.prompts.append(prompt)
        text, ended = self.reply(body["messages"][0]["content"], prompt, body)
        message = {"role": "assistant", "content": text, "refusal": None}
        choice = {"index": 0, "finish_reason": ended, "message": message, "logprobs": None}
        answer = {
            "id": f"chatcmpl-{uuid.uuid4().hex}",
            "object": "chat.completion",
            "created": int(time.time()),
            "model": body["model"],
            "choices": [choice],
            "usage": {"prompt_tokens": 100, "completion_tokens": 10, "total_tokens": 110},
        }
        return web.Response(body=orjson.dumps(answer), content_type="application/json")

    def reply(self, system: str, prompt: str, body: dict[str, Any]) -> tuple[str, str]:
        if "<better>" in system:
            return self.refined(system, prompt, body)
        found = [int(each) for each in QUALITY.findall(prompt)]
        if self.mode == "refuse":
            return REFUSAL, "stop"
        if self.mode == "foreign":
            return FOREIGN, "stop"
        if len(found) == 1:
            return f"{found[0] / 20:.1f}\nIt is what it is.", "stop"
        first, second = found
        if self.mode == "blind" and first % 2:
            return "Both are fine.", "stop"
        if self.mode == "first":
            first, second = 90, 20
        if self.mode == "equal":
            first = second = 50
        return f"{first} {second}\nAs one can see.", "stop"

    def refined(self, system: str, prompt: str, body: dict[str, Any]) -> tuple[str, str]:
        if "never=refine" in prompt:
            return REFUSAL, "stop"
        room = body.get("max_tokens") or body.get("max_completion_tokens")
        if "long=yes" in prompt and room < NEEDED_TOKENS:
            return "<better>This was cut in the mid", "length"
        part = "response" if "Improve the response" in system else "instruction"
        # What the second question shows as the response tells that the first was answered before.
        shown = prompt.split("[Response]\n", 1)[1].split("\n\n(The last reply")[0]
        return f"<better>better {part}, having seen: {shown}</better>", "stop"

    async def configure(self, request: web.Request) -> web.Response:
        self.mode = orjson.loads(await request.read())["mode"]
        return web.json_response({})

    async def stats(self, request: web.Request) -> web.Response:
        return web.json_response({"calls": self.calls, "prompts": self.prompts})

    async def reset(self, request: web.Request) -> web.Response:
        self.calls, self.prompts = 0, []
        return web.json_response({})


def main() -> None:
    judge = Judge()
    app = web.Application(client_max_size=1 << 24)
    app.router.add_post("/v1/chat/completions", judge.chat)
    app.router.add_post("/configure", judge.configure)
    app.router.add_get("/stats", judge.stats)
    app.router.add_post("/reset", judge.reset)
    listener = socket.create_server(("127.0.0.1", 0))
    print(f"http://127.0.0.1:{listener.getsockname()[1]}", flush=True)
    web.run_app(app, sock=listener, print=None)


if __name__ == "__main__":
    main()

"""A server of checkpoints and chat models that tells what it was asked, as a process of its own.

``/v1/models`` and ``/v1/completions`` are those of vLLM: prompts are tokens, the answer tells the
prompt's length, temperature and seed. ``/v1/chat/completions`` answers with the number of messages,
and where there is a system message as a judge: the conversation shown first is better.

``POST /configure`` sets ``model``, ``root``, ``context`` (as in ``/v1/models``), ``extra`` (tokens
that it adds to prompts), ``reason`` and ``text`` of each answer, and ``faults`` (statuses of the
next requests; 0 cuts the connection). ``GET /asked`` tells the bodies that were answered.

Run: ``python answer_server.py``; the first line on stdout is the base URL.
"""

import json
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Lock
from typing import Any

FIRST: dict[str, Any] = {
    "model": "d/e",
    "root": None,
    "context": 512,
    "extra": 0,
    "reason": "stop",
    "text": None,
    "faults": [],
}
config = dict(FIRST)
asked: list[dict[str, Any]] = []
lock = Lock()


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def log_message(self, *_: Any) -> None:
        """Say nothing."""

    def do_GET(self) -> None:
        if self.path == "/asked":
            self.reply(200, asked)
        elif self.path == "/v1/models":
            card = {"id": config["model"], "object": "model", "max_model_len": config["context"]}
            if config["root"]:
                card["root"] = config["root"]
            self.reply(200, {"object": "list", "data": [card]})
        else:
            self.reply(404, {"error": "no such page"})

    def do_POST(self) -> None:
        body = json.loads(self.rfile.read(int(self.headers["content-length"])))
        if self.path == "/configure":
            asked.clear()
            config.update({**FIRST, **body})
            self.reply(200, {})
            return
        with lock:
            fault = config["faults"].pop(0) if config["faults"] else 200
        if fault == 0:
            self.close_connection = True
            return
        if fault != 200:
            self.reply(fault, {"error": {"message": f"told to say {fault}", "code": fault}})
            return
        with lock:
            asked.append(body)
        self.reply(200, (completion if self.path == "/v1/completions" else chat)(body))

    def reply(self, status: int, body: Any) -> None:
        text = json.dumps(body).encode()
        self.send_response(status)
        self.send_header("content-type", "application/json")
        self.send_header("content-length", str(len(text)))
        self.end_headers()
        self.wfile.write(text)


def usage(prompt: int) -> dict[str, int]:
    return {"prompt_tokens": prompt, "completion_tokens": 4, "total_tokens": prompt + 4}


def completion(body: dict[str, Any]) -> dict[str, Any]:
    prompt = len(body["prompt"]) + config["extra"]
    text = f" {len(body['prompt'])} at {body['temperature']} by {body['seed']}"
    text = text if config["text"] is None else config["text"]
    choice = {"index": 0, "text": text, "finish_reason": config["reason"], "logprobs": None}
    return {"object": "text_completion", "choices": [choice], "usage": usage(prompt)}


def chat(body: dict[str, Any]) -> dict[str, Any]:
    messages = body["messages"]
    judges = messages[0]["role"] == "system"
    text = "9 2\nThe first is better." if judges else f"message {len(messages)}"
    if config["text"] is not None and not judges:
        text = config["text"]
    message = {"role": "assistant", "content": text}
    reason = "stop" if judges else config["reason"]
    choice = {"index": 0, "message": message, "finish_reason": reason, "logprobs": None}
    return {"object": "chat.completion", "choices": [choice], "usage": usage(10)}


def main() -> None:
    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    print(f"http://127.0.0.1:{server.server_port}", flush=True)
    server.serve_forever()


if __name__ == "__main__":
    main()

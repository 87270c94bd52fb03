"""An OpenAI-compatible judge of answers that tells what it was asked, as a process of its own.

An answer's worth stands in it (``worth=7``); of several turns the last one counts. A prompt with
two assistants gets two scores, or ``[[A]]``, ``[[B]]`` or ``[[C]]`` where it names these; one with
a single answer gets its score. ``POST /configure`` sets ``mode`` (``honest``, ``first``: the one
shown first is better, ``echo``: the prompt and nothing else, ``mute``: no verdict), ``delay`` in
seconds and ``without`` (parameters that get a 400), and forgets what was asked. ``GET /asked``
tells the bodies that were answered, in their order.

Run: ``python verdict_server.py``; the first line on stdout is the base URL.
"""

import json
import re
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Lock
from typing import Any

FIRST: dict[str, Any] = {"mode": "honest", "delay": 0.0, "without": []}
config = dict(FIRST)
asked: list[dict[str, Any]] = []
lock = Lock()


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def log_message(self, *_: Any) -> None:
        """Say nothing."""

    def do_GET(self) -> None:
        with lock:
            self.reply(200, list(asked))

    def do_POST(self) -> None:
        body = json.loads(self.rfile.read(int(self.headers["content-length"])))
        if self.path == "/configure":
            with lock:
                asked.clear()
                config.update({**FIRST, **body})
            self.reply(200, {})
            return
        time.sleep(config["delay"])
        refused = next((name for name in config["without"] if name in body), None)
        if refused:
            message = f"Unsupported parameter: '{refused}' is not supported with this model."
            self.reply(400, {"error": {"message": message, "param": refused}})
            return
        with lock:
            asked.append(body)
        text = said("\n".join(message["content"] for message in body["messages"]))
        choice = {
            "index": 0,
            "finish_reason": "stop",
            "message": {"role": "assistant", "content": text},
            "logprobs": None,
        }
        usage = {"prompt_tokens": 100, "completion_tokens": 10, "total_tokens": 110}
        self.reply(200, {"object": "chat.completion", "choices": [choice], "usage": usage})

    def reply(self, status: int, body: Any) -> None:
        text = json.dumps(body).encode()
        self.send_response(status)
        self.send_header("content-type", "application/json")
        self.send_header("content-length", str(len(text)))
        self.end_headers()
        self.wfile.write(text)


def said(prompt: str) -> str:
    if config["mode"] == "echo":
        return prompt
    if config["mode"] == "mute":
        return "Both have their merits."
    worths = [float(each) for each in re.findall(r"worth=([\d.]+)", prompt)]
    if not worths:
        # Not about answers: the platform looks what this endpoint can do.
        return "Zebra."
    chooses = "[[A]]" in prompt
    if not chooses and "two scores" not in prompt:
        return f"Rating: [[{worths[-1]:g}]]"
    # Each assistant's last answer: both have as many.
    first, second = worths[len(worths) // 2 - 1], worths[-1]
    if config["mode"] == "first":
        first, second = 9, 2
    if not chooses:
        return f"{first:g} {second:g}\nAs one sees."
    label = "C" if first == second else "A" if first > second else "B"
    return f"As one sees.\n[[{label}]]"


def main() -> None:
    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    print(f"http://127.0.0.1:{server.server_port}", flush=True)
    server.serve_forever()


if __name__ == "__main__":
    main()

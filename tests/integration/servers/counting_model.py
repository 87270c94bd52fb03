"""An OpenAI-compatible model that remembers its calls, as a process of its own.

Replies follow from the prompt alone: tags, one score or two scores, in the form that the prompt
asks for. ``POST /configure`` sets ``latency`` in seconds; ``POST /reset`` forgets the calls. ``GET
/calls`` lists them in the order of their coming: ``prompt`` (hash of model and messages), ``began``
and ``answered`` in seconds of the machine's monotonic clock; ``answered`` is null where the asker
was gone or still waits. ``GET /count`` is their number.

Run: ``python counting_model.py``; the first line on stdout is the base URL.
"""

import hashlib
import json
import select
import socket
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Lock
from typing import Any

TAGS = ("arithmetic", "biology", "cooking", "debugging", "history", "poetry writing")
config = {"latency": 0.1}
calls: list[dict[str, Any]] = []
lock = Lock()


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def log_message(self, *_: Any) -> None:
        """Say nothing."""

    def do_GET(self) -> None:
        with lock:
            answer = len(calls) if self.path == "/count" else [dict(call) for call in calls]
        self.reply(answer)

    def do_POST(self) -> None:
        body = json.loads(self.rfile.read(int(self.headers["content-length"])))
        if self.path == "/configure":
            config.update(body)
            self.reply({})
        elif self.path == "/reset":
            with lock:
                calls.clear()
            self.reply({})
        else:
            self.complete(body)

    def complete(self, body: dict[str, Any]) -> None:
        asked = json.dumps([body["model"], body["messages"]], sort_keys=True)
        digest = hashlib.sha256(asked.encode()).hexdigest()
        call = {"prompt": digest, "began": time.monotonic(), "answered": None}
        with lock:
            calls.append(call)
        time.sleep(config["latency"])
        if self.asker_is_gone():
            self.close_connection = True
            return
        # Counted before it is sent: whoever got a reply finds it counted.
        call["answered"] = time.monotonic()
        text = reply_text(body["messages"][0]["content"], digest)
        message = {"role": "assistant", "content": text, "refusal": None}
        choice = {"index": 0, "finish_reason": "stop", "message": message, "logprobs": None}
        usage = {"prompt_tokens": 100, "completion_tokens": 10, "total_tokens": 110}
        answer = {"id": f"chatcmpl-{digest[:24]}", "object": "chat.completion", "created": 0}
        self.reply({**answer, "model": body["model"], "choices": [choice], "usage": usage})

    def asker_is_gone(self) -> bool:
        """Whether the other side closed the connection, as the system does for a killed process."""
        readable, _, _ = select.select([self.connection], [], [], 0)
        try:
            return bool(readable) and not self.connection.recv(1, socket.MSG_PEEK)
        except OSError:
            return True

    def reply(self, body: Any) -> None:
        text = json.dumps(body).encode()
        try:
            self.send_response(200)
            self.send_header("content-type", "application/json")
            self.send_header("content-length", str(len(text)))
            self.end_headers()
            self.wfile.write(text)
        except OSError:
            self.close_connection = True


def reply_text(system: str, digest: str) -> str:
    """What the model says: by the prompt's words in form, by its hash in content."""
    numbers = bytes.fromhex(digest)
    if "JSON list" in system:
        first, second = numbers[0] % len(TAGS), numbers[1] % (len(TAGS) - 1)
        others = [tag for place, tag in enumerate(TAGS) if place != first]
        return json.dumps([TAGS[first], others[second]])
    if "two scores" in system or "two numbers" in system:
        high = 100 if "100" in system else 10
        return f"{1 + numbers[0] % high} {1 + numbers[1] % high}\nAs one can see."
    # Within every scale that a stage asks for.
    return f"{1 + numbers[0] % 5}\nAs one can see."


class Server(ThreadingHTTPServer):
    daemon_threads = True
    request_queue_size = 128

    def handle_error(self, *_: Any) -> None:
        """Say nothing: that an asker is killed is what this server is for."""


def main() -> None:
    server = Server(("127.0.0.1", 0), Handler)
    print(f"http://127.0.0.1:{server.server_port}", flush=True)
    server.serve_forever()


if __name__ == "__main__":
    main()

"""What the small HTTP servers here have in common: each stands for a model, and says what it got.

A server is a script with a child of ``Stub`` that answers bodies; its first line on stdout is its
base URL. ``POST /configure`` sets values of its ``config``, the others as at first, and forgets
what was asked. ``GET /asked`` gives the bodies that were answered, in their order, ``GET /count``
their number. Every other POST is a question.
"""

import json
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Lock
from typing import Any, ClassVar


class RefusedError(Exception):
    """The answer is an error with this status; 0 cuts the connection instead."""

    def __init__(self, status: int, **error: Any) -> None:
        self.status, self.error = status, error


class Stub(BaseHTTPRequestHandler):
    """Answers questions; the process has one server, whose state stands in the class."""

    protocol_version = "HTTP/1.1"
    # An answer leaves in one piece: the second would wait until the first is acknowledged.
    wbufsize = -1
    first: ClassVar[dict[str, Any]] = {}
    config: ClassVar[dict[str, Any]]
    asked: ClassVar[list[Any]] = []
    lock: ClassVar[Lock] = Lock()

    def answer(self, body: dict[str, Any]) -> Any:
        """The answer to a question, or a ``RefusedError``."""
        raise NotImplementedError

    def question(self, body: dict[str, Any]) -> Any:
        """Answer, and remember what was answered."""
        answered = self.answer(body)
        with self.lock:
            self.asked.append(body)
        return answered

    def page(self) -> Any:
        """What a GET of any other path gives."""
        raise RefusedError(404, message="no such page")

    def do_GET(self) -> None:
        with self.lock:
            known = {"/asked": list(self.asked), "/count": len(self.asked)}
        self._reply(lambda: known[self.path] if self.path in known else self.page())

    def do_POST(self) -> None:
        body = json.loads(self.rfile.read(int(self.headers["content-length"])))
        self._reply(lambda: (self._configure if self.path == "/configure" else self.question)(body))

    def _configure(self, values: dict[str, Any]) -> dict[str, Any]:
        with self.lock:
            self.asked.clear()
            self.config.update({**self.first, **values})
        return {}

    def _reply(self, answer: Any) -> None:
        status = 200
        try:
            body = answer()
        except RefusedError as refused:
            status, body = refused.status, {"error": refused.error}
        if status == 0:
            self.close_connection = True
            return
        text = json.dumps(body).encode()
        self.send_response(status)
        self.send_header("content-type", "application/json")
        self.send_header("content-length", str(len(text)))
        self.end_headers()
        self.wfile.write(text)

    def log_message(self, *_: Any) -> None:
        """Say nothing."""


class Server(ThreadingHTTPServer):
    """A server that nobody's end disturbs."""

    daemon_threads = True
    request_queue_size = 128

    def handle_error(self, *_: Any) -> None:
        """Say nothing: some tests kill those who ask."""


def completion(
    body: dict[str, Any],
    text: str,
    reason: str = "stop",
    prompt_tokens: int = 100,
    completion_tokens: int = 10,
) -> dict[str, Any]:
    """A chat completion as OpenAI's API gives it."""
    message = {"role": "assistant", "content": text, "refusal": None}
    return {
        "id": "chatcmpl-test",
        "object": "chat.completion",
        "created": 0,
        "model": body["model"],
        "choices": [{"index": 0, "finish_reason": reason, "message": message, "logprobs": None}],
        "usage": {
            "prompt_tokens": prompt_tokens,
            "completion_tokens": completion_tokens,
            "total_tokens": prompt_tokens + completion_tokens,
        },
    }


def serve(stub: type[Stub]) -> None:
    """Serve on a free port until the process is ended."""
    stub.config = dict(stub.first)
    server = Server(("127.0.0.1", 0), stub)
    print(f"http://127.0.0.1:{server.server_port}", flush=True)
    server.serve_forever()

"""An OpenAI-compatible server with scripted faults, as a process of its own.

A prompt says what goes wrong with it: ``fault=429x2`` is answered 429 twice and then well. Every
request is counted. ``GET /stats`` tells what was received, ``POST /reset`` forgets it.

Run: ``python openai_faults.py --latency 0.05``; the first line on stdout is the base URL.
"""

import argparse
import json
import re
import socket
import threading
import time
from collections import Counter
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

FAULT = re.compile(r"fault=(\w+?)(?:x(\d+))?(?:\s|$)")
TOO_LONG = (
    "This model's maximum context length is 8192 tokens. However, your messages resulted in "
    "9000 tokens."
)
ERRORS: dict[str, tuple[int, dict[str, str], dict[str, Any]]] = {
    "429": (429, {"Retry-After": "0.2"}, {"message": "Rate limit reached", "code": "rate_limit"}),
    "quota": (429, {}, {"message": "You exceeded your quota", "code": "insufficient_quota"}),
    "500": (500, {}, {"message": "The server had an error"}),
    "503": (503, {}, {"message": "Overloaded"}),
    "401": (401, {}, {"message": "Incorrect API key provided: sk-tes***tkey, see your keys"}),
    "403": (403, {}, {"message": "Your project may not use this model"}),
    "404": (404, {}, {"message": "The model `m` does not exist", "code": "model_not_found"}),
    "toolong": (400, {}, {"message": TOO_LONG, "code": "context_length_exceeded"}),
    "filter": (400, {}, {"message": "The prompt was filtered", "code": "content_filter"}),
    "malformed": (400, {}, {"message": "Unknown parameter: 'grammar'"}),
}


class Server(ThreadingHTTPServer):
    daemon_threads = True
    request_queue_size = 128

    def __init__(self, latency: float) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.latency = latency
        self.lock = threading.Lock()
        self.reset()

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Clients that are killed close their connections; that is no error here."""

    def reset(self) -> None:
        self.prompts: Counter[str] = Counter()
        self.answered: Counter[str] = Counter()
        self.in_flight = self.most_in_flight = 0
        self.bodies: list[dict[str, Any]] = []


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: Server

    def setup(self) -> None:
        super().setup()
        self.connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)

    def do_GET(self) -> None:
        server = self.server
        with server.lock:
            stats = {
                "requests": sum(server.prompts.values()),
                "prompts": server.prompts,
                "answered": server.answered,
                "most_in_flight": server.most_in_flight,
                "bodies": server.bodies[-5:],
            }
        self.answer(200, stats)

    def do_POST(self) -> None:
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])) or "{}")
        if self.path == "/reset":
            self.server.reset()
            self.answer(200, {})
            return
        prompt = body["messages"][-1]["content"]
        with self.server.lock:
            self.server.prompts[prompt] += 1
            self.server.bodies.append(body)
            times = self.server.prompts[prompt]
            self.server.in_flight += 1
            self.server.most_in_flight = max(self.server.most_in_flight, self.server.in_flight)
        try:
            time.sleep(self.server.latency)
            self.respond(prompt, body, times)
        finally:
            with self.server.lock:
                self.server.in_flight -= 1

    def respond(self, prompt: str, body: dict[str, Any], times: int) -> None:
        found = FAULT.search(prompt)
        fault = found[1] if found and times <= int(found[2] or 1_000_000) else None
        if fault in ERRORS:
            status, headers, error = ERRORS[fault]
            self.answer(status, {"error": error}, headers)
        elif fault == "quote":
            self.answer(400, {"error": {"message": f"can't parse: {prompt}"}})
        elif fault == "slow":
            time.sleep(5)
            self.answer(200, completion(prompt, body))
        elif fault == "reset":
            self.close_connection = True
            self.connection.shutdown(socket.SHUT_RDWR)
        elif fault == "html":
            self.send(200, b"<html>a proxy's page</html>", {"Content-Type": "text/html"})
        elif fault == "badjson":
            self.send(200, b'{"choices": [', {"Content-Type": "application/json"})
        else:
            with self.server.lock:
                self.server.answered[prompt] += 1
            self.answer(200, completion(prompt, body, fault))

    def answer(self, status: int, body: Any, headers: dict[str, str] | None = None) -> None:
        data = json.dumps(body).encode()
        self.send(status, data, {"Content-Type": "application/json", **(headers or {})})

    def send(self, status: int, data: bytes, headers: dict[str, str]) -> None:
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name, value)
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)

    def log_message(self, format: str, *args: Any) -> None:
        pass


def completion(prompt: str, body: dict[str, Any], fault: str | None = None) -> dict[str, Any]:
    text = {"empty": "", "notjson": "no list here", "length": '["cut'}.get(
        fault or "", json.dumps([f"reply to {len(prompt)} bytes"])
    )
    finish = {"length": "length", "stopped": "content_filter"}.get(fault or "", "stop")
    choice: dict[str, Any] = {
        "index": 0,
        "finish_reason": finish,
        "message": {"role": "assistant", "content": text},
    }
    if body.get("logprobs"):
        top = [{"token": "A", "logprob": -0.2}, {"token": "B", "logprob": -1.7}]
        choice["logprobs"] = {"content": [{**top[0], "top_logprobs": top}]}
    return {
        "id": "c",
        "object": "chat.completion",
        "created": 0,
        "model": body["model"],
        "choices": [] if fault == "nochoice" else [choice],
        "usage": {"prompt_tokens": 1000, "completion_tokens": 100, "total_tokens": 1100},
    }


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--latency", type=float, default=0.0)
    server = Server(parser.parse_args().latency)
    print(f"http://127.0.0.1:{server.server_address[1]}", flush=True)
    server.serve_forever()


if __name__ == "__main__":
    main()

"""An OpenAI-compatible server as a process of its own, with limits and scripted faults.

A prompt says what goes wrong with it: ``fault=429x2`` is answered 429 twice and then well,
``fault=429`` always so. The endpoint's properties (``Config``) are command-line options, and
``POST /configure`` changes them at run time. ``GET /stats`` tells what was received, ``POST
/reset`` forgets it, with files and batches, and fills the rate limits' buckets; it does not change
the configuration. A line of a batch counts under ``batched``, and, if it got a completion, in
what is told of answers as well; all else is about requests to the chat routes.

Run: ``python openai_server.py --latency 0.05``; the first line on stdout is the base URL.
"""

import argparse
import asyncio
import contextlib
import re
import socket
import ssl
import struct
import sys
import time
import uuid
from collections import Counter, deque
from collections.abc import Awaitable, Callable, Iterable
from dataclasses import asdict, dataclass, field, fields
from typing import Any, NamedTuple

import orjson
import trustme
import uvloop
from aiohttp import web

CHAT = "/v1/chat/completions"
FAULT = re.compile(r"fault=(\w+?)(?:x(\d+))?(?:\s|$)")
AZURE = re.compile(r"/openai/deployments/([^/]+)/chat/completions")
LITERAL = re.compile(r'\s*root\s*::=\s*"((?:[^"\\]|\\.)*)"\s*')
PROMPT_TOKENS, COMPLETION_TOKENS = 1000, 100
LARGEST_BODY = 512 << 20


@dataclass
class Config:
    """What kind of endpoint this is."""

    latency: float = 0.0  # seconds a request takes once it has a slot
    slots: int = 0  # most requests served at once; the others wait in their order; 0: no limit
    queue: int | None = None  # most that may wait; the others get 503; None: no limit
    rpm: float = 0.0  # requests per minute; 0: no limit
    tpm: float = 0.0  # tokens per minute; 0: no limit
    depth_s: float = 1.0  # seconds of the rate that a limit's bucket holds
    headers: bool = False  # send x-ratelimit-*; remaining is what the bucket holds now
    retry_after: bool = False  # a refusal for the rate carries Retry-After
    without: list[str] = field(default_factory=list)  # features and parameters that get 400
    ignores: list[str] = field(default_factory=list)  # features that change nothing
    keys: list[str] = field(default_factory=list)  # accepted API keys; empty: all, or none
    models: list[str] = field(default_factory=lambda: ["gpt-4o-mini", "gpt-4o", "m"])  # listed
    batch_delay: float = 0.0  # seconds from a batch's creation to its end
    batch_mode: str = "ok"  # or "expire", "fail_validation", "partial"


class Outcome(NamedTuple):
    status: int
    data: bytes
    headers: dict[str, str] = {}
    content_type: str = "application/json"


def error(
    status: int,
    message: str,
    code: str | None = None,
    kind: str = "invalid_request_error",
    param: str | None = None,
    headers: dict[str, str] | None = None,
) -> Outcome:
    body = {"error": {"message": message, "type": kind, "param": param, "code": code}}
    return Outcome(status, orjson.dumps(body), headers or {})


WRONG_KEY = error(
    401, "Incorrect API key provided: sk-tes***tkey, see your keys", "invalid_api_key"
)
OVERLOADED = error(503, "The server is overloaded", kind="server_error")
NOT_FOUND = error(404, "Resource not found", "404")
BROKEN = error(500, "The server had an error", kind="server_error")
TOO_LONG = (
    "This model's maximum context length is 8192 tokens. However, your messages resulted in "
    "9000 tokens."
)
ERRORS = {
    "429": error(
        429, "Rate limit reached", "rate_limit", "requests", headers={"Retry-After": "0.2"}
    ),
    "429bare": error(429, "Rate limit reached", "rate_limit", "requests"),
    "quota": error(429, "You exceeded your quota", "insufficient_quota", "insufficient_quota"),
    "500": BROKEN,
    "502": Outcome(502, b"<html>Bad Gateway</html>", content_type="text/html"),
    "503": error(503, "Overloaded", kind="server_error"),
    "401": WRONG_KEY,
    "403": error(403, "Your project may not use this model"),
    "404": error(404, "The model `m` does not exist", "model_not_found"),
    "toolong": error(400, TOO_LONG, "context_length_exceeded", param="messages"),
    "filter": error(400, "The prompt was filtered", "content_filter", param="prompt"),
    "malformed": error(400, "Unknown parameter: 'grammar'", param="grammar"),
    "html": Outcome(200, b"<html>a proxy's page</html>", content_type="text/html"),
    "badjson": Outcome(200, b'{"choices": ['),
}
# Words of real endpoints; what is not here is told as an unknown parameter.
WITHOUT = {
    "seed": error(400, "Unrecognized request argument supplied: seed", param="seed"),
    "logprobs": error(
        400, "You are not allowed to request logprobs from this model", param="logprobs"
    ),
    "json_schema": error(
        400,
        "Invalid parameter: 'response_format' of type 'json_schema' is not supported with this "
        "model.",
        param="response_format",
    ),
    "tools": error(400, "'tools' is not supported with this model.", param="tools"),
    "max_tokens": error(
        400,
        "Unsupported parameter: 'max_tokens' is not supported with this model. Use "
        "'max_completion_tokens' instead.",
        "unsupported_parameter",
        param="max_tokens",
    ),
    "temperature": error(
        400,
        "Unsupported value: 'temperature' does not support this value with this model. Only the "
        "default (1) value is supported.",
        "unsupported_value",
        param="temperature",
    ),
}


def uses(body: dict[str, Any], feature: str) -> bool:
    """Whether a request asks for a feature, or has a parameter of that name."""
    if feature == "json_schema":
        return (body.get("response_format") or {}).get("type") == "json_schema"
    if feature == "temperature":
        return body.get("temperature") not in (None, 1)
    if feature == "logprobs":
        return bool(body.get("logprobs") or body.get("top_logprobs"))
    return body.get(feature) is not None


def prompt_of(body: dict[str, Any]) -> str:
    content = body["messages"][-1].get("content")
    if isinstance(content, list):
        return "".join(part.get("text", "") for part in content)
    return content or ""


class Slots:
    """At most ``size`` are served at once; the others wait in their order.

    Who waited starts when the one before was due to end, not when the event loop came to it: full
    slots serve exactly ``size / latency`` requests per second as long as the processor keeps up.
    """

    def __init__(self) -> None:
        self.size = self.taken = 0
        self.waiting: deque[asyncio.Future[float]] = deque()

    def free(self) -> bool:
        return self.size == 0 or self.taken < self.size

    async def take(self) -> float:
        """Wait for a slot; returns when its time began."""
        if self.free() and not self.waiting:
            self.taken += 1
            return time.monotonic()
        turn: asyncio.Future[float] = asyncio.get_running_loop().create_future()
        self.waiting.append(turn)
        try:
            return await turn
        except asyncio.CancelledError:
            if not turn.cancelled():
                self.leave(time.monotonic())
            elif turn in self.waiting:
                self.waiting.remove(turn)
            raise

    def leave(self, due: float) -> None:
        self.taken -= 1
        self.admit(due)

    def admit(self, start: float) -> None:
        while self.waiting and self.free():
            turn = self.waiting.popleft()
            if not turn.done():
                self.taken += 1
                turn.set_result(start)


class Bucket:
    """A token bucket that starts full; what is larger than it takes all of it, and a debt."""

    def __init__(self, per_minute: float, depth_s: float) -> None:
        self.per_minute, self.rate = per_minute, per_minute / 60
        self.size = self.level = self.rate * depth_s
        self.at = time.monotonic()

    def seconds_until(self, amount: float) -> float:
        """Seconds until ``amount`` may be taken; 0 if it may now."""
        now = time.monotonic()
        self.level = min(self.size, self.level + (now - self.at) * self.rate)
        self.at = now
        return max(0.0, (min(amount, self.size) - self.level) / self.rate)

    def headers(self, what: str) -> dict[str, str]:
        return {
            f"x-ratelimit-limit-{what}": str(round(self.per_minute)),
            f"x-ratelimit-remaining-{what}": str(max(0, int(self.level))),
            f"x-ratelimit-reset-{what}": duration((self.size - self.level) / self.rate),
        }


def duration(seconds: float) -> str:
    """Seconds as OpenAI's headers write them: ``120ms``, ``1.2s``, ``6m0s``."""
    if seconds < 1:
        return f"{round(seconds * 1000)}ms"
    minutes, rest = divmod(round(seconds, 3), 60)
    hours, minutes = divmod(int(minutes), 60)
    head = f"{hours}h{minutes}m" if hours else f"{minutes}m" if minutes else ""
    return f"{head}{rest:.3f}".rstrip("0").rstrip(".") + "s"


class Stats:
    """What was received; ``light`` keeps hashes of the prompts instead of the prompts."""

    def __init__(self, light: bool) -> None:
        self.light = light
        self.prompts: Counter[str] = Counter()
        self.answered: Counter[str] = Counter()
        self.batched: Counter[str] = Counter()
        self.seen: set[int] = set()
        self.seen_answered: set[int] = set()
        self.requests = self.answers = self.refused = self.overloaded = 0
        self.in_flight = self.most_in_flight = 0
        self.batches_created = self.files_uploaded = 0
        self.bodies: deque[dict[str, Any]] = deque(maxlen=5)
        self.request_headers: Any = {}
        self.first_at: float | None = None
        self.last_at: float | None = None
        self.answered_at: float | None = None

    def receive(self, request: web.BaseRequest, body: dict[str, Any], prompt: str) -> None:
        self.last_at = time.monotonic()
        self.first_at = self.first_at or self.last_at
        self.requests += 1
        self.bodies.append(body)
        self.request_headers = request.headers
        if self.light:
            self.seen.add(hash(prompt))
        else:
            self.prompts[prompt] += 1

    def answer(self, prompt: str) -> None:
        self.answered_at = time.monotonic()
        self.answers += 1
        if self.light:
            self.seen_answered.add(hash(prompt))
        else:
            self.answered[prompt] += 1

    def as_dict(self) -> dict[str, Any]:
        headers = {name.lower(): value for name, value in self.request_headers.items()}
        used = [name for name in ("authorization", "api-key") if headers.pop(name, None)]
        distinct = len(self.seen if self.light else self.prompts)
        distinct_answered = len(self.seen_answered if self.light else self.answered)
        return {
            "requests": self.requests,
            "repeats": self.requests - distinct,
            "answers": self.answers,
            "answer_repeats": self.answers - distinct_answered,
            "refused": self.refused,
            "overloaded": self.overloaded,
            "most_in_flight": self.most_in_flight,
            "first_at": self.first_at,
            "last_at": self.last_at,
            "answered_at": self.answered_at,
            "batches_created": self.batches_created,
            "files_uploaded": self.files_uploaded,
            "headers": headers,
            "auth": used[0] if used else None,
            "bodies": list(self.bodies),
            "prompts": self.prompts,
            "answered": self.answered,
            "batched": self.batched,
        }


class Endpoint:
    """The server's state and its routes."""

    def __init__(self, config: Config, light: bool) -> None:
        self.config, self.light = config, light
        self.slots = Slots()
        self.serial = 0
        self.prefix = uuid.uuid4().hex[:16]
        self.tasks: set[asyncio.Task[None]] = set()
        self.stats = Stats(light)
        self.reset()
        self.configure()

    def reset(self) -> None:
        in_flight = self.stats.in_flight
        self.stats = Stats(self.light)
        self.stats.in_flight = self.stats.most_in_flight = in_flight
        self.faults: Counter[str] = Counter()
        self.files: dict[str, dict[str, Any]] = {}
        self.contents: dict[str, bytes] = {}
        self.batches: dict[str, dict[str, Any]] = {}
        for task in self.tasks:
            task.cancel()
        self.fill_buckets()

    def configure(self) -> None:
        self.slots.size = self.config.slots
        self.slots.admit(time.monotonic())
        self.fill_buckets()

    def fill_buckets(self) -> None:
        config = self.config
        self.requests = Bucket(config.rpm, config.depth_s) if config.rpm else None
        self.tokens = Bucket(config.tpm, config.depth_s) if config.tpm else None

    def new_id(self, kind: str) -> str:
        self.serial += 1
        return f"{kind}{self.prefix}{self.serial:016x}"

    async def handle(self, request: web.BaseRequest) -> web.StreamResponse:
        if request.path == CHAT and request.method == "POST":
            return await self.chat(request, None)
        path, method = request.path, request.method
        if path == "/stats":
            return self.send(ok(self.stats.as_dict()))
        if path == "/reset":
            self.reset()
            return self.send(ok({}))
        if path == "/configure":
            return self.send(await self.change(request))
        if deployment := AZURE.fullmatch(path):
            return await self.chat(request, deployment[1])
        if not self.knows_key(request):
            return self.send(WRONG_KEY)
        match [method, *path.strip("/").split("/")]:
            case ["GET", "v1", "models"]:
                outcome = ok(
                    {
                        "object": "list",
                        "data": [
                            {"id": name, "object": "model", "created": 0, "owned_by": "test"}
                            for name in self.config.models
                        ],
                    }
                )
            case ["POST", "v1", "files"]:
                outcome = await self.upload(request)
            case ["GET", "v1", "files"]:
                purpose = request.query.get("purpose")
                found = [f for f in self.files.values() if purpose in (None, f["purpose"])]
                outcome = page(found, request, 10_000)
            case ["GET", "v1", "files", name, "content"] if name in self.files:
                outcome = Outcome(200, self.contents[name], {}, "application/octet-stream")
            case ["POST", "v1", "batches"]:
                outcome = self.create_batch(orjson.loads(await request.read()))
            case ["GET", "v1", "batches"]:
                outcome = page(self.batches.values(), request, 20)
            case ["GET", "v1", "batches", name] if name in self.batches:
                outcome = ok(self.batches[name])
            case _:
                outcome = error(404, f"Invalid URL or unknown id ({method} {path})")
        return self.send(outcome)

    def send(self, outcome: Outcome, headers: dict[str, str] | None = None) -> web.Response:
        status, data, more, content_type = outcome
        all_headers = {"Content-Type": content_type, "x-request-id": self.new_id("req_"), **more}
        if headers:
            all_headers.update(headers)
        return web.Response(body=data, status=status, headers=all_headers)

    def knows_key(self, request: web.BaseRequest) -> bool:
        if not self.config.keys:
            return True
        bearer = request.headers.get("Authorization", "").removeprefix("Bearer ")
        return bool({bearer, request.headers.get("api-key")} & set(self.config.keys))

    async def change(self, request: web.BaseRequest) -> Outcome:
        changes = orjson.loads(await request.read())
        if unknown := changes.keys() - {known.name for known in fields(Config)}:
            return error(400, f"no such setting: {', '.join(sorted(unknown))}")
        for name, value in changes.items():
            setattr(self.config, name, value)
        self.configure()
        return ok(asdict(self.config))

    async def chat(self, request: web.BaseRequest, deployment: str | None) -> web.StreamResponse:
        data = await request.read()
        try:
            body = orjson.loads(data)
            prompt = prompt_of(body)
        except (ValueError, KeyError, IndexError, AttributeError, TypeError):
            unread = error(400, "We could not parse the JSON body of your request.")
            return self.send(unread, self.rate_headers())
        stats, slots = self.stats, self.slots
        stats.receive(request, body, prompt)
        if deployment is not None:
            if "api-version" not in request.query:
                return self.send(NOT_FOUND)
            if "api-key" not in request.headers:
                return self.send(error(401, "Access denied: no api-key header", "401"))
            body.setdefault("model", deployment)
        if not self.knows_key(request):
            return self.send(WRONG_KEY)
        if "model" not in body:
            return self.send(error(400, "you must provide a model parameter"))
        wait = self.rate()
        headers = self.rate_headers()
        if wait:
            stats.refused += 1
            if self.config.retry_after:
                headers["Retry-After"] = f"{wait:.3f}"
            refusal = error(429, "Rate limit reached", "rate_limit_exceeded", "requests")
            return self.send(refusal, headers)
        most = self.config.queue
        if most is not None and not slots.free() and len(slots.waiting) >= most:
            stats.overloaded += 1
            return self.send(OVERLOADED, headers)
        stats.in_flight += 1
        stats.most_in_flight = max(stats.most_in_flight, stats.in_flight)
        try:
            due, fault = await slots.take(), None
            try:
                if delay := self.config.latency:
                    now = time.monotonic()
                    due = max(due, now - delay) + delay
                    await asyncio.sleep(due - now)
                fault = self.fault(prompt)
                if fault in BREAKS:
                    return await BREAKS[fault](request)
                if fault == "slow":
                    await asyncio.sleep(5)
                return self.send(self.outcome(prompt, body, fault), headers)
            finally:
                now = time.monotonic()
                slots.leave(now if fault else min(due, now))
        finally:
            # A reset between the two has carried the number over.
            self.stats.in_flight -= 1

    def rate(self) -> float:
        """Seconds until the limits let this request pass; 0: it has passed, and is counted."""
        if self.requests is None and self.tokens is None:
            return 0.0
        asked = [(self.requests, 1), (self.tokens, PROMPT_TOKENS + COMPLETION_TOKENS)]
        needs = [(bucket, need) for bucket, need in asked if bucket is not None]
        wait = max(bucket.seconds_until(need) for bucket, need in needs)
        if not wait:
            for bucket, need in needs:
                bucket.level -= need
        return wait

    def rate_headers(self) -> dict[str, str]:
        headers: dict[str, str] = {}
        if self.config.headers:
            for bucket, what in ((self.requests, "requests"), (self.tokens, "tokens")):
                if bucket is not None:
                    headers.update(bucket.headers(what))
        return headers

    def fault(self, prompt: str) -> str | None:
        """What goes wrong with this request; each call counts as one time."""
        if "fault=" not in prompt or not (found := FAULT.search(prompt)):
            return None
        self.faults[prompt] += 1
        return found[1] if self.faults[prompt] <= int(found[2] or sys.maxsize) else None

    def outcome(self, prompt: str, body: dict[str, Any], fault: str | None) -> Outcome:
        for feature in self.config.without:
            if uses(body, feature):
                unknown = error(400, f"Unknown parameter: '{feature}'.", param=feature)
                return WITHOUT.get(feature, unknown)
        if fault is not None:
            if fault in ERRORS:
                return ERRORS[fault]
            if fault == "quote":
                return error(400, f"can't parse: {prompt}")
            if fault in BREAKS:
                return BROKEN
        self.stats.answer(prompt)
        return ok(self.completion(prompt, body, fault))

    def completion(self, prompt: str, body: dict[str, Any], fault: str | None) -> dict[str, Any]:
        text = f"reply to {len(prompt)} bytes"
        message: dict[str, Any] = {"role": "assistant", "content": f'["{text}"]', "refusal": None}
        choice = {"index": 0, "finish_reason": "stop", "message": message, "logprobs": None}
        self.obey(body, text, choice)
        if fault is not None:
            spoil(choice, fault)
        return {
            "id": self.new_id("chatcmpl-"),
            "object": "chat.completion",
            "created": int(time.time()),
            "model": body["model"],
            "system_fingerprint": "fp_test",
            "choices": [] if fault == "nochoice" else [choice],
            "usage": {
                "prompt_tokens": PROMPT_TOKENS,
                "completion_tokens": COMPLETION_TOKENS,
                "total_tokens": PROMPT_TOKENS + COMPLETION_TOKENS,
            },
        }

    def obey(self, body: dict[str, Any], text: str, choice: dict[str, Any]) -> None:
        """Give the choice the form that the request asks for."""
        message, ignores = choice["message"], self.config.ignores

        def asked(feature: str) -> bool:
            return uses(body, feature) and feature not in ignores

        if asked("json_schema"):
            schema = body["response_format"]["json_schema"].get("schema", {})
            message["content"] = orjson.dumps(example(schema, text, schema)).decode()
        if asked("grammar") and (literal := LITERAL.fullmatch(body["grammar"])):
            message["content"] = orjson.loads(f'"{literal[1]}"')
        wanted = body.get("tool_choice")
        if asked("tools") and isinstance(wanted, dict):
            name = wanted["function"]["name"]
            functions = [tool["function"] for tool in body["tools"]]
            schema = next(each for each in functions if each["name"] == name).get("parameters", {})
            arguments = orjson.dumps(example(schema, text, schema)).decode()
            call = {"name": name, "arguments": arguments}
            message["content"] = None
            message["tool_calls"] = [
                {"id": self.new_id("call_"), "type": "function", "function": call}
            ]
            # As OpenAI: a call that the request names ends with "stop".
            choice["finish_reason"] = "stop"
        if asked("logprobs"):
            top = [
                {"token": "A", "logprob": -0.2, "bytes": [65]},
                {"token": "B", "logprob": -1.7, "bytes": [66]},
            ]
            choice["logprobs"] = {"content": [{**top[0], "top_logprobs": top}], "refusal": None}

    async def upload(self, request: web.BaseRequest) -> Outcome:
        form = await request.post()
        sent = form.get("file")
        if not isinstance(sent, web.FileField) or form.get("purpose") != "batch":
            return error(400, "a file with purpose=batch is needed", param="purpose")
        self.stats.files_uploaded += 1
        return ok(self.add_file(sent.file.read(), sent.filename, "batch"))

    def add_file(self, content: bytes, filename: str, purpose: str) -> dict[str, Any]:
        name = self.new_id("file-")
        self.contents[name] = content
        self.files[name] = {
            "id": name,
            "object": "file",
            "bytes": len(content),
            "created_at": int(time.time()),
            "filename": filename,
            "purpose": purpose,
            "status": "processed",
        }
        return self.files[name]

    def create_batch(self, body: dict[str, Any]) -> Outcome:
        source = body.get("input_file_id")
        if source not in self.files:
            return error(400, f"No such File object: {source}", param="input_file_id")
        if body.get("endpoint") != CHAT:
            return error(400, "Invalid value for 'endpoint'.", param="endpoint")
        if body.get("completion_window") != "24h":
            return error(400, "Invalid value for 'completion_window'.", param="completion_window")
        now = int(time.time())
        moments = ("in_progress", "finalizing", "completed", "failed", "expired")
        batch: dict[str, Any] = {
            "id": self.new_id("batch_"),
            "object": "batch",
            "endpoint": CHAT,
            "errors": None,
            "input_file_id": source,
            "completion_window": "24h",
            "status": "validating",
            "output_file_id": None,
            "error_file_id": None,
            "created_at": now,
            "expires_at": now + 86_400,
            **{f"{moment}_at": None for moment in (*moments, "cancelling", "cancelled")},
            "request_counts": {"total": 0, "completed": 0, "failed": 0},
            "metadata": body.get("metadata"),
        }
        self.batches[batch["id"]] = batch
        self.stats.batches_created += 1
        task = asyncio.create_task(self.run_batch(batch, self.contents[source]))
        self.tasks.add(task)
        task.add_done_callback(self.tasks.discard)
        return ok(batch)

    async def run_batch(self, batch: dict[str, Any], content: bytes) -> None:
        """The batch's life."""
        mode, delay = self.config.batch_mode, self.config.batch_delay
        await asyncio.sleep(0)
        lines, errors = read_lines(content)
        if mode == "fail_validation":
            message = "The provided model is not supported by the Batch API."
            errors = [problem("model_not_found", 1, message, "body.model")]
        if errors:
            batch["errors"] = {"object": "list", "data": errors}
            enter(batch, "failed")
            return
        batch["request_counts"]["total"] = len(lines)
        enter(batch, "in_progress")
        await asyncio.sleep(delay)
        ran = len(lines) // 2 if mode == "expire" else len(lines)
        done, failed = await self.run_lines(lines[:ran], every_third_fails=mode == "partial")
        failed += [{**line_of(line), "response": None, "error": EXPIRED} for line in lines[ran:]]
        batch["request_counts"].update(completed=len(done), failed=len(failed))
        for kind, results in (("output", done), ("error", failed)):
            if results:
                # In no order, as the real one's: only the custom_id tells which line is which.
                data = b"\n".join(orjson.dumps(result) for result in reversed(results)) + b"\n"
                file = self.add_file(data, f"{batch['id']}_{kind}.jsonl", "batch_output")
                batch[f"{kind}_file_id"] = file["id"]
        enter(batch, "expired" if mode == "expire" else "completed")

    async def run_lines(
        self, lines: list[dict[str, Any]], every_third_fails: bool
    ) -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
        done: list[dict[str, Any]] = []
        failed: list[dict[str, Any]] = []
        for number, line in enumerate(lines, start=1):
            body = line["body"]
            prompt = prompt_of(body)
            self.stats.batched[prompt] += 1
            outcome = BROKEN
            if not every_third_fails or number % 3:
                outcome = self.outcome(prompt, body, self.fault(prompt))
            try:
                reply = orjson.loads(outcome.data)
            except ValueError:
                outcome, reply = BROKEN, orjson.loads(BROKEN.data)
            response = {
                "status_code": outcome.status,
                "request_id": self.new_id("req_"),
                "body": reply,
            }
            kept = done if outcome.status == 200 else failed
            kept.append({**line_of(line), "response": response, "error": None})
            if number % 500 == 0:
                await asyncio.sleep(0)
        return done, failed


EXPIRED = {
    "code": "batch_expired",
    "message": "This request could not be executed before the batch ended.",
}


def ok(body: Any) -> Outcome:
    return Outcome(200, orjson.dumps(body))


def page(items: Iterable[dict[str, Any]], request: web.BaseRequest, limit: int) -> Outcome:
    """One page, the newest first, as OpenAI's lists."""
    newest = list(items)[::-1]
    if after := request.query.get("after"):
        names = [item["id"] for item in newest]
        newest = newest[names.index(after) + 1 :] if after in names else []
    shown = newest[: int(request.query.get("limit", limit))]
    return ok(
        {
            "object": "list",
            "data": shown,
            "first_id": shown[0]["id"] if shown else None,
            "last_id": shown[-1]["id"] if shown else None,
            "has_more": len(newest) > len(shown),
        }
    )


def enter(batch: dict[str, Any], status: str) -> None:
    batch["status"] = status
    batch[f"{status}_at"] = int(time.time())


def line_of(line: dict[str, Any]) -> dict[str, Any]:
    return {"id": f"batch_req_{uuid.uuid4().hex}", "custom_id": line["custom_id"]}


def problem(code: str, line: int, message: str, param: str | None) -> dict[str, Any]:
    return {"code": code, "line": line, "message": message, "param": param}


def read_lines(content: bytes) -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
    """A batch file's lines, and what is wrong with them."""
    lines: list[dict[str, Any]] = []
    errors: list[dict[str, Any]] = []
    names: set[str] = set()
    for number, data in enumerate(content.splitlines(), start=1):
        try:
            line = orjson.loads(data)
            name, url, body = line["custom_id"], line["url"], line["body"]
            if "model" not in body or not isinstance(prompt_of(body), str):
                raise ValueError("no request")
        except (ValueError, KeyError, IndexError, AttributeError, TypeError):
            message = "This line is not parseable as valid JSON."
            errors.append(problem("invalid_json_line", number, message, None))
            continue
        if url != CHAT or line.get("method") != "POST":
            message = "The URL provided for this request does not match the batch's endpoint."
            errors.append(problem("invalid_url", number, message, "url"))
        if name in names:
            message = f"The custom_id '{name}' for this request is a duplicate of another request."
            errors.append(problem("duplicate_custom_id", number, message, "custom_id"))
        names.add(name)
        lines.append(line)
    if not lines and not errors:
        errors.append(problem("empty_file", 1, "The batch input file is empty.", None))
    return lines, errors


def spoil(choice: dict[str, Any], fault: str) -> None:
    """Faults that are in the reply itself."""
    message = choice["message"]
    texts = {"empty": "", "notjson": "no list here", "length": '["cut', "null": None}
    if fault in texts:
        message["content"] = texts[fault]
    if fault == "refusal":
        message["content"], message["refusal"] = None, "I'm sorry, I can't help with that."
    finish = {"length": "length", "stopped": "content_filter"}
    choice["finish_reason"] = finish.get(fault, choice["finish_reason"])


def example(schema: Any, text: str, root: Any) -> Any:
    """A value that fits a simple JSON schema, with ``text`` in its strings."""
    if not isinstance(schema, dict):
        return text
    if "$ref" in schema:
        target = root
        for part in schema["$ref"].removeprefix("#").strip("/").split("/"):
            target = target[part] if part else target
        return example(target, text, root)
    for choices in ("anyOf", "oneOf", "allOf"):
        if choices in schema:
            return example(schema[choices][0], text, root)
    if "const" in schema:
        return schema["const"]
    if "enum" in schema:
        return schema["enum"][0]
    kind = schema.get("type", "object" if "properties" in schema else "string")
    match kind[0] if isinstance(kind, list) else kind:
        case "object":
            properties = schema.get("properties", {})
            return {name: example(part, text, root) for name, part in properties.items()}
        case "array":
            item = example(schema.get("items", {"type": "string"}), text, root)
            return [item] * min(schema.get("minItems", 1) or 1, schema.get("maxItems", 1_000))
        case "integer" | "number":
            return schema.get("minimum", schema.get("maximum", 1))
        case "boolean":
            return True
        case "null":
            return None
    return text[: schema.get("maxLength", len(text))]


async def abort(request: web.BaseRequest) -> web.StreamResponse:
    transport = request.transport
    if transport is not None:
        linger = struct.pack("ii", 1, 0)  # a close that sends RST
        transport.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, linger)
        transport.abort()
    return web.Response()


def stream(length: int | None) -> web.StreamResponse:
    response = web.StreamResponse(headers={"Content-Type": "application/json"})
    if length is None:
        response.enable_chunked_encoding()
    else:
        response.content_length = length
    return response


async def break_off(request: web.BaseRequest) -> web.StreamResponse:
    half = b'{"id": "c", "object": "chat.completion", "choices": [{"index": 0, "mess'
    response = stream(2 * len(half))
    await response.prepare(request)
    await response.write(half)
    if request.transport is not None:
        request.transport.close()
    return response


async def hang(request: web.BaseRequest) -> web.StreamResponse:
    await asyncio.Event().wait()
    return web.Response()


async def stop_after_headers(request: web.BaseRequest) -> web.StreamResponse:
    await stream(1000).prepare(request)
    return await hang(request)


async def drip(request: web.BaseRequest) -> web.StreamResponse:
    response = stream(None)
    await response.prepare(request)
    while True:
        await response.write(b" ")
        await asyncio.sleep(0.2)


# Faults that are in the connection.
BREAKS: dict[str | None, Callable[[web.BaseRequest], Awaitable[web.StreamResponse]]] = {
    "reset": abort,
    "midbody": break_off,
    "hang": hang,
    "headersonly": stop_after_headers,
    "endless": drip,
}


async def serve(config: Config, light: bool, tls: ssl.SSLContext | None) -> None:
    endpoint = Endpoint(config, light)
    loop = asyncio.get_running_loop()

    def make_request(
        message: Any, payload: Any, protocol: Any, writer: Any, task: Any
    ) -> web.BaseRequest:
        return web.BaseRequest(
            message, payload, protocol, writer, task, loop, client_max_size=LARGEST_BODY
        )

    # A client that is gone gives back its slot.
    server = web.Server(
        endpoint.handle, request_factory=make_request, handler_cancellation=True, access_log=None
    )
    listener = await loop.create_server(server, "127.0.0.1", 0, backlog=4096, ssl=tls)
    scheme = "https" if tls else "http"
    print(f"{scheme}://127.0.0.1:{listener.sockets[0].getsockname()[1]}", flush=True)
    await listener.serve_forever()


def certificate(authority_path: str | None) -> ssl.SSLContext:
    """A certificate for this machine; its authority's is written to the path."""
    authority = trustme.CA()
    if authority_path is not None:
        authority.cert_pem.write_to_path(authority_path)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert("127.0.0.1", "localhost").configure_cert(context)
    return context


def listed(text: str) -> list[str]:
    return [name for name in text.split(",") if name]


def main() -> None:
    parser = argparse.ArgumentParser(description="An OpenAI-compatible server for tests")
    kinds: dict[str, Any] = {"slots": int, "queue": int, "batch_mode": str}
    for known in fields(Config):
        option = f"--{known.name.replace('_', '-')}"
        if known.type is bool:
            parser.add_argument(option, action=argparse.BooleanOptionalAction)
        elif known.type == list[str]:
            parser.add_argument(option, type=listed, metavar="A,B")
        else:
            parser.add_argument(option, type=kinds.get(known.name, float))
    parser.add_argument("--light", action="store_true", help="count, but keep no prompts")
    parser.add_argument("--tls", action="store_true")
    parser.add_argument("--ca", metavar="FILE", help="where to write the authority's certificate")
    given = {name: value for name, value in vars(parser.parse_args()).items() if value is not None}
    light, tls = given.pop("light"), given.pop("tls")
    authority_path = given.pop("ca", None)
    context = certificate(authority_path) if tls else None
    with contextlib.suppress(KeyboardInterrupt):
        uvloop.run(serve(Config(**given), light, context))


if __name__ == "__main__":
    main()

"""A checkpoint that answers at an endpoint, such as vLLM in the cluster.

The prompt is rendered here by the checkpoint's own template and sent as tokens to the completions
endpoint, so that no template or tokenizer of the server's comes between. What the server would take
from the checkpoint's generation config (penalties, cut-offs) is switched off in each request.
"""

import os
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any

import httpx

from opencs_assets.answers.asking import Answered, AnswerPrompt, GeneratedReply, Renderer
from resources.errors import PassingError
from resources.http import BusyError, ask, status_of
from resources.launcher.job import JobError

TRIES = 8
FIRST_WAIT_S = 0.5
MOST_WAIT_S = 60.0
SHOWN_CHARACTERS = 300
# Nothing but the temperature shapes the distribution, whatever the server's defaults are.
PLAIN_SAMPLING: Mapping[str, Any] = {
    "top_p": 1.0,
    "top_k": -1,
    "min_p": 0.0,
    "repetition_penalty": 1.0,
    "presence_penalty": 0.0,
    "frequency_penalty": 0.0,
}


class EndpointError(PassingError):
    """The endpoint failed in a way that a repeat of the job may mend; answers so far are kept."""


@dataclass(frozen=True)
class ServingPlace:
    """Where a checkpoint is served, such as ``http://vllm:8000/v1``, and by which name.

    ``api_key_env`` is the variable that holds the key, if one is needed. At most ``concurrency``
    requests are in flight at once, each for ``timeout_s`` seconds.
    """

    base_url: str
    model: str
    api_key_env: str | None
    concurrency: int
    timeout_s: float


class ServedModel:
    """A checkpoint served at an endpoint; its folder gives the tokenizer and the template.

    Raises:
        JobError: There is no key, or the endpoint serves no such model or another checkpoint.
        EndpointError: The endpoint can't be reached.
    """

    def __init__(self, place: ServingPlace, folder: Path, say: Callable[[str], None]) -> None:
        self._place = place
        self._say = say
        self._stopped = threading.Event()
        headers = {}
        if place.api_key_env:
            key = os.environ.get(place.api_key_env)
            if not key:
                raise JobError(
                    f"no key for {place.base_url}: set the environment variable {place.api_key_env}"
                )
            headers["authorization"] = f"Bearer {key}"
        limits = httpx.Limits(max_connections=place.concurrency)
        self._http = httpx.Client(headers=headers, timeout=place.timeout_s, limits=limits)
        served = self._served()
        self._verify(served, folder)
        self._renderer = Renderer(folder)
        self._stops = sorted(self._renderer.stops(_own_stops(folder)))
        self.context = int(served.get("max_model_len") or _context(folder))

    def tokens(self, messages: Sequence[Mapping[str, str]]) -> list[int]:
        """The conversation as tokens, by the checkpoint's chat template."""
        return self._renderer.tokens(messages)

    def answer(
        self, prompts: Sequence[AnswerPrompt], max_new_tokens: int, note: Callable[[str], None]
    ) -> Iterator[Answered]:
        """Have prompts answered, many at once; the server makes the batches.

        Raises:
            JobError: The endpoint refuses, or does not answer with what was asked for.
            EndpointError: The endpoint keeps failing.
        """
        with ThreadPoolExecutor(self._place.concurrency, "answer") as pool:
            pending: dict[Future[GeneratedReply], AnswerPrompt] = {
                pool.submit(self._complete, prompt, max_new_tokens): prompt for prompt in prompts
            }
            try:
                while pending:
                    done, _ = wait(pending, return_when=FIRST_COMPLETED)
                    note(f"{min(len(pending), self._place.concurrency)} at once")
                    failed = [future for future in done if future.exception()]
                    answered = [
                        (pending.pop(future), future.result())
                        for future in done
                        if not future.exception()
                    ]
                    if answered:
                        yield answered
                    for future in failed:
                        future.result()
            finally:
                self._stopped.set()
                pool.shutdown(wait=True, cancel_futures=True)
                self._stopped.clear()

    def _served(self) -> Mapping[str, Any]:
        """The endpoint's own entry for the model in its list of models."""
        answer = self._send("GET", "/models", None)
        listed = answer.get("data") if isinstance(answer, dict) else None
        models = [model for model in listed or [] if isinstance(model, dict) and "id" in model]
        for model in models:
            if model["id"] == self._place.model:
                return model
        known = ", ".join(str(model["id"]) for model in models) or "none"
        raise JobError(
            f"{self._place.base_url} serves no model {self._place.model!r} (it serves: {known}); "
            "correct `model` under `endpoints` of experiments.yaml, or start the server with "
            f"--served-model-name {self._place.model}"
        )

    def _verify(self, served: Mapping[str, Any], folder: Path) -> None:
        """Refuse a server that names another folder than the checkpoint's (its name is a hash)."""
        root = served.get("root")
        if not isinstance(root, str) or root == self._place.model:
            self._say(
                f"{self._place.base_url} does not say which folder it serves as "
                f"{self._place.model}; it is taken at its word"
            )
        elif PurePosixPath(root).name != folder.name:
            raise JobError(
                f"{self._place.base_url} serves {root} as {self._place.model}, and not the "
                f"checkpoint {folder}; restart it with that folder"
            )

    def _complete(self, prompt: AnswerPrompt, max_new_tokens: int) -> GeneratedReply:
        body = {
            "model": self._place.model,
            "prompt": prompt.ids,
            "max_tokens": max_new_tokens,
            "temperature": prompt.row["temperature"],
            "seed": prompt.row["seed"],
            "stop_token_ids": self._stops,
            "n": 1,
            "stream": False,
            **PLAIN_SAMPLING,
        }
        completion = self._send("POST", "/completions", body)
        try:
            choice = completion["choices"][0]
            text, reason = str(choice["text"]), str(choice["finish_reason"])
            usage = completion["usage"]
            prompt_tokens = int(usage["prompt_tokens"])
            answer_tokens = int(usage["completion_tokens"])
        except (KeyError, IndexError, TypeError, ValueError):
            raise JobError(
                f"{self._place.base_url}: the answer is no completion with `choices` and `usage`: "
                f"{str(completion)[:SHOWN_CHARACTERS]}"
            ) from None
        if prompt_tokens != len(prompt.ids):
            raise JobError(
                f"{self._place.base_url} read {prompt_tokens} tokens of a prompt of "
                f"{len(prompt.ids)}: it does not take the prompt as it is sent, or has another "
                "tokenizer"
            )
        # Servers also count the token that ended the answer.
        return GeneratedReply(text.strip(), max(answer_tokens - (reason == "stop"), 0), reason)

    def _send(self, method: str, path: str, body: Mapping[str, Any] | None) -> Any:
        """The JSON answer to one request; a failure that may pass is tried again after a wait."""
        url = self._place.base_url.rstrip("/") + path

        def wait(pause: float, _reason: str) -> bool:
            return self._stopped.wait(pause)

        try:
            answer = ask(
                lambda: self._http.request(method, url, json=body),
                wait,
                tries=TRIES,
                first_s=FIRST_WAIT_S,
                longest_s=MOST_WAIT_S,
            )
        except (httpx.UnsupportedProtocol, httpx.InvalidURL) as error:
            raise JobError(f"{url}: {error}; check base_url") from None
        except BusyError as error:
            raise EndpointError(f"{url}: {error}; answers so far are kept") from None
        if answer.status_code != 200:
            raise JobError(f"{url}: {status_of(answer)}")
        try:
            return answer.json()
        except ValueError:
            raise JobError(f"{url}: the answer is not JSON; check base_url") from None


def _own_stops(folder: Path) -> int | list[int] | None:
    from transformers import AutoConfig, GenerationConfig

    config = GenerationConfig if (folder / "generation_config.json").exists() else AutoConfig
    stops: int | list[int] | None = getattr(config.from_pretrained(folder), "eos_token_id", None)
    return stops


def _context(folder: Path) -> int:
    from transformers import AutoConfig

    return int(AutoConfig.from_pretrained(folder).max_position_embeddings)

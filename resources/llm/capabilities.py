"""Finds out once what an endpoint can do beyond plain chat, remembers it and tells a person.

An endpoint that refuses a field of a request by name is asked again without it. One that accepts
and ignores a field shows that at a small question whose right answer only the field brings.
"""

import asyncio
import time
from collections import Counter
from collections.abc import Awaitable, Callable, Mapping
from typing import Any

import orjson

from resources.llm.completion import read_completion
from resources.llm.coordination import Coordination
from resources.llm.faults import ConnectionLost, HttpAnswer, NoConnection
from resources.llm.request import held_to, is_openai

Ask = Callable[[dict[str, Any]], Awaitable[HttpAnswer]]
_WORD = "zebra"
_SCHEMA = {
    "type": "object",
    "properties": {"word": {"type": "string", "enum": [_WORD]}},
    "required": ["word"],
    "additionalProperties": False,
}
_PROBES: dict[str, dict[str, Any]] = {
    "json_schema": held_to(_SCHEMA, "json_schema", ()),
    "tool": held_to(_SCHEMA, "tool", ()),
    "grammar": {"grammar": f'root ::= "{_WORD}"'},
    "logprobs": {"logprobs": True, "top_logprobs": 2},
}
_INSTEAD = {
    "json_schema": "a tool call or the prompt's words hold replies to their form",
    "tool": "the prompt's words alone hold replies to their form",
    "grammar": "the prompt's words alone hold replies to their form",
    "logprobs": "scores are read from the generated text",
    "seed": "a repeated call may be answered differently",
    "temperature": "the endpoint's own temperature is used",
    "top_p": "the endpoint's own top_p is used",
    "max_tokens": "max_completion_tokens is sent",
    "max_completion_tokens": "max_tokens is sent",
}
# A server may be updated, so what it can do is not remembered for longer.
_REMEMBERED_S = 30 * 86_400.0
# An endpoint whose answers tell nothing is not asked before every call.
_MOST_PROBES = 3


class Capabilities:
    """The features that one endpoint has for one model, named as the endpoint knows it.

    ``say`` takes a line for a person. The embedded server's features are known from the start.
    """

    def __init__(
        self,
        shared: Coordination,
        base_url: str,
        model: str,
        say: Callable[[str], None],
        *,
        embedded: bool = False,
    ) -> None:
        self._shared = shared
        self._name = f"{base_url} {model}"
        self._where = f"{model} at {base_url}"
        self._model = model
        self._say = say
        self._asking = asyncio.Lock()
        self._has: dict[str, bool] = {}
        self._probes: Counter[str] = Counter()
        if embedded:
            self._has = dict.fromkeys(_INSTEAD, True)
        elif is_openai(base_url):
            self._has = {
                **dict.fromkeys(("json_schema", "tool", "logprobs"), True),
                "grammar": False,
            }
        known = {} if embedded else shared.known(self._name)
        if time.time() - known.get("asked_at", 0.0) < _REMEMBERED_S:
            self._has |= known.get("has", {})
        self.lacks = frozenset(name for name, has in self._has.items() if not has)

    @property
    def has(self) -> Mapping[str, bool]:
        """Whether the endpoint has each feature that is known so far."""
        return dict(self._has)

    def forget(self) -> None:
        """Forget the features, so that users that begin from now on ask again."""
        self._shared.forget_endpoint(self._name)

    async def learn_forms(self, ask: Ask, *, schema: bool, grammar: bool) -> None:
        """Find out how a reply can be held to a schema or a grammar; asks at most once."""
        if schema:
            await self._learn("json_schema", ask)
            if not self._has.get("json_schema", True):
                await self._learn("tool", ask)
        if grammar:
            await self._learn("grammar", ask)

    async def learn_logprobs(self, ask: Ask) -> bool:
        """Find out whether token probabilities are given; asks at most once."""
        await self._learn("logprobs", ask)
        return self._has.get("logprobs", True)

    async def miss(self, feature: str) -> None:
        """Note that the endpoint refused a feature."""
        await self._know(feature, False)

    async def _learn(self, feature: str, ask: Ask) -> None:
        if feature in self._has:
            return
        async with self._asking:
            if feature not in self._has and self._probes[feature] < _MOST_PROBES:
                self._probes[feature] += 1
                has = await self._probe(feature, ask)
                if has is not None:
                    await self._know(feature, has)

    async def _probe(self, feature: str, ask: Ask) -> bool | None:
        """Whether the endpoint has a feature; ``None`` where its answer does not tell."""
        # The request asks for nothing else, not even a limit of tokens: models differ in that.
        body = {
            "model": self._model,
            "messages": [{"role": "user", "content": "Name an animal, in one word."}],
            **_PROBES[feature],
        }
        try:
            answer = await ask(body)
        except (TimeoutError, NoConnection, ConnectionLost):
            return None
        if answer.status in (400, 415, 422, 501):
            return False
        if answer.status != 200:
            return None
        try:
            completion = read_completion(
                orjson.loads(answer.body), max_tokens=0, wants_logprobs=feature == "logprobs"
            )
        except ValueError:
            return None
        if feature == "logprobs":
            return bool(completion.logprobs)
        return _WORD in completion.text

    async def _know(self, feature: str, has: bool) -> None:
        is_news = not has and self._has.get(feature) is not False
        self._has[feature] = has
        self.lacks = frozenset(name for name, has in self._has.items() if not has)
        known = {"has": self._has, "asked_at": time.time()}
        await asyncio.to_thread(self._shared.remember, self._name, known)
        if is_news:
            self._say(f"{self._where} has no {feature}: {_INSTEAD[feature]}")

"""What an endpoint can do: asked once, remembered, told to a person."""

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

import orjson
import pytest

from resources.llm import capabilities
from resources.llm.capabilities import Capabilities
from resources.llm.coordination import Coordination
from resources.llm.faults import ConnectionLost, HttpAnswer, NoConnection

URL = "https://llm.example/v1"


@pytest.fixture
def shared(tmp_path):
    with Coordination(f"sqlite:///{tmp_path / 'replies.sqlite'}") as opened:
        yield opened


def completion(text: str, **more: Any) -> HttpAnswer:
    choice = {"message": {"content": text}, "finish_reason": "stop", **more}
    return HttpAnswer(200, {}, orjson.dumps({"choices": [choice]}))


def refusal(status: int) -> HttpAnswer:
    return HttpAnswer(status, {}, orjson.dumps({"error": {"message": "no"}}))


class Endpoint:
    """Answers by the feature that is asked for; counts what it was asked."""

    def __init__(self, **answers: HttpAnswer | Exception) -> None:
        self.answers = answers
        self.asked: list[str] = []

    async def __call__(self, body: dict[str, Any]) -> HttpAnswer:
        fields = {
            "response_format": "json_schema",
            "tools": "tool",
            "grammar": "grammar",
            "logprobs": "logprobs",
        }
        feature = next(name for field, name in fields.items() if field in body)
        self.asked.append(feature)
        await asyncio.sleep(0)
        answer = self.answers[feature]
        if isinstance(answer, Exception):
            raise answer
        return answer


def learn(found: Capabilities, ask: Callable[[dict[str, Any]], Awaitable[HttpAnswer]]) -> bool:
    async def all_of_it() -> bool:
        await found.learn_forms(ask, schema=True, grammar=True)
        return await found.learn_logprobs(ask)

    return asyncio.run(all_of_it())


LOGPROBS = {"content": [{"token": "A", "logprob": -0.1, "top_logprobs": []}]}
TOOL_CALL = {
    "message": {"tool_calls": [{"function": {"arguments": '{"word": "zebra"}'}}]},
    "finish_reason": "tool_calls",
}


def test_what_is_there_is_found_and_not_asked_again(shared):
    lines: list[str] = []
    endpoint = Endpoint(
        json_schema=completion('{"word": "zebra"}'),
        grammar=completion("zebra"),
        logprobs=completion("Dog", logprobs=LOGPROBS),
    )
    found = Capabilities(shared, URL, "m", lines.append)
    assert learn(found, endpoint)
    assert learn(found, endpoint)
    assert endpoint.asked == ["json_schema", "grammar", "logprobs"]
    assert found.lacks == frozenset()
    # Another process asks nothing at all.
    again = Endpoint()
    assert learn(Capabilities(shared, URL, "m", lines.append), again)
    assert again.asked == []
    assert lines == []


def test_fields_that_are_refused_or_ignored_are_missing(shared):
    lines: list[str] = []
    endpoint = Endpoint(
        json_schema=refusal(400),
        tool=HttpAnswer(200, {}, orjson.dumps({"choices": [TOOL_CALL]})),
        grammar=completion("Dog"),
        logprobs=completion("Dog"),
    )
    found = Capabilities(shared, URL, "m", lines.append)
    assert not learn(found, endpoint)
    assert found.lacks == {"json_schema", "grammar", "logprobs"}
    assert len(lines) == 3
    assert "m at https://llm.example/v1 has no json_schema" in lines[0]
    # It is remembered, and told only once.
    assert Capabilities(shared, URL, "m", lines.append).lacks == found.lacks
    assert len(lines) == 3


def test_another_model_at_the_same_endpoint_is_asked_anew(shared):
    everything = Endpoint(
        json_schema=completion("zebra"), grammar=completion("zebra"), logprobs=completion("Dog")
    )
    learn(Capabilities(shared, URL, "m", print), everything)
    learn(Capabilities(shared, URL, "another", print), everything)
    assert len(everything.asked) == 6


@pytest.mark.parametrize(
    "answer",
    [refusal(429), refusal(500), HttpAnswer(200, {}, b'"no completion"'), TimeoutError(),
     NoConnection("refused"), ConnectionLost("closed")],
    ids=["429", "500", "garbled", "deadline", "no connection", "connection lost"],
)  # fmt: skip
def test_an_answer_that_does_not_tell_is_not_taken_for_one(shared, answer):
    endpoint = Endpoint(json_schema=answer, grammar=answer, logprobs=answer)
    found = Capabilities(shared, URL, "m", print)
    # Until it is known, the endpoint is taken to have it.
    assert learn(found, endpoint)
    assert found.lacks == frozenset()
    assert "has" not in shared.known(f"{URL} m")


def test_calls_that_come_at_once_ask_once(shared):
    endpoint = Endpoint(json_schema=completion("zebra"))
    found = Capabilities(shared, URL, "m", print)

    async def many() -> None:
        await asyncio.gather(
            *(found.learn_forms(endpoint, schema=True, grammar=False) for _ in range(50))
        )

    asyncio.run(many())
    assert endpoint.asked == ["json_schema"]


def test_what_a_call_finds_missing_is_remembered(shared):
    lines: list[str] = []
    found = Capabilities(shared, URL, "m", lines.append)
    asyncio.run(found.miss("seed"))
    asyncio.run(found.miss("seed"))
    assert found.lacks == {"seed"}
    assert len(lines) == 1
    assert Capabilities(shared, URL, "m", lines.append).lacks == {"seed"}


def test_it_is_asked_again_after_a_while_or_on_demand(shared, monkeypatch):
    found = Capabilities(shared, URL, "m", print)
    asyncio.run(found.miss("seed"))
    now = capabilities.time.time()
    monkeypatch.setattr(capabilities.time, "time", lambda: now + 31 * 86_400)
    assert Capabilities(shared, URL, "m", print).lacks == frozenset()
    monkeypatch.setattr(capabilities.time, "time", lambda: now)
    assert Capabilities(shared, URL, "m", print).lacks == {"seed"}
    found.forget()
    assert Capabilities(shared, URL, "m", print).lacks == frozenset()


def test_what_is_known_is_not_asked(shared):
    nothing = Endpoint()
    assert learn(Capabilities(shared, "embedded", "m", print, embedded=True), nothing)
    openai = Capabilities(shared, "https://api.openai.com/v1", "gpt-4o", print)
    assert learn(openai, nothing)
    assert openai.lacks == {"grammar"}
    assert nothing.asked == []


def test_an_endpoint_that_tells_nothing_is_not_asked_before_every_call(shared):
    endpoint = Endpoint(json_schema=refusal(500))
    found = Capabilities(shared, URL, "m", print)

    async def many() -> None:
        await asyncio.gather(
            *(found.learn_forms(endpoint, schema=True, grammar=False) for _ in range(50))
        )

    asyncio.run(many())
    assert len(endpoint.asked) <= 3

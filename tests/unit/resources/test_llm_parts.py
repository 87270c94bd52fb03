"""Prices, requests, faults, estimates of size: the client's pure parts."""

import httpx
import openai
import pytest
from hypothesis import given
from hypothesis import strategies as st

from resources.llm.errors import LLMError
from resources.llm.faults import fault_of
from resources.llm.prices import Price, price_of
from resources.llm.request import prepare, provider_of, request_body
from resources.llm.types import Call
from resources.settings import Role

OPENAI = Role(base_url="https://api.openai.com/v1", model="gpt-4o-mini")
VLLM = Role(base_url="http://vllm:8000/v1", model="m")
EMBEDDED = Role()


def call(text: str = "hello", **more: object) -> Call:
    return Call(({"role": "user", "content": text},), "v1", **more)  # type: ignore[arg-type]


def test_prices(tmp_path):
    assert price_of("gpt-4o-mini", tmp_path) == Price(0.15, 0.60)
    assert price_of("gpt-4o-2024-08-06", tmp_path) == price_of("gpt-4o", tmp_path)
    assert price_of("gpt-4o-2024-05-13", tmp_path) == Price(5.0, 15.0)
    assert price_of("embedded:smollm2-135m-instruct", tmp_path) == Price(0.0, 0.0)
    assert price_of("unheard-of", tmp_path) is None
    assert Price(2.5, 10).cost(1_000_000, 100_000) == pytest.approx(3.5)


def test_own_prices_win(tmp_path):
    (tmp_path / "prices.toml").write_text(
        '[models]\n"gpt-4o" = { input = 1, output = 2 }\nown = { input = 0, output = 0 }\n'
    )
    assert price_of("gpt-4o", tmp_path) == Price(1, 2)
    assert price_of("own", tmp_path) == Price(0, 0)
    assert price_of("gpt-4o-mini", tmp_path) == Price(0.15, 0.60)


@pytest.mark.parametrize(
    "text",
    ["models = [", "x = 1", "models = 3", '[models]\na = { input = 1 }', "[models]\na = 3",
     '[models]\na = { input = -1, output = 0 }'],
)  # fmt: skip
def test_a_price_file_that_cannot_be_used_is_named(tmp_path, text):
    (tmp_path / "prices.toml").write_text(text)
    with pytest.raises(LLMError, match=r"prices\.toml"):
        price_of("gpt-4o", tmp_path)


def test_the_request_fits_the_endpoint():
    asked = call(grammar="g", json_schema={"type": "object"}, top_logprobs=30, top_p=0.9)
    body = request_body(prepare(asked, OPENAI), OPENAI)
    assert body["max_completion_tokens"] == OPENAI.max_tokens
    assert body["top_logprobs"] == 20
    assert body["response_format"]["type"] == "json_schema"
    assert not {"grammar", "cache_prompt", "seed", "max_tokens"} & body.keys()
    body = request_body(prepare(asked, VLLM), VLLM)
    assert body["max_tokens"] == VLLM.max_tokens
    assert not {"grammar", "response_format"} & body.keys()
    body = request_body(prepare(asked, EMBEDDED), EMBEDDED)
    assert body["grammar"] == "g"
    assert body["top_logprobs"] == 40
    assert body["cache_prompt"] is True
    assert "response_format" not in body


def test_the_key_follows_from_what_determines_the_reply():
    first = prepare(call(), VLLM).key
    same = [
        prepare(call(grammar="not had here"), VLLM),
        prepare(Call(call().messages, "another version"), VLLM),
        prepare(call(temperature=0.0, max_tokens=1024), VLLM),
        prepare(call(), Role(base_url="http://other/v1", model="m", concurrency=9)),
    ]
    assert {each.key for each in same} == {first}
    other = [
        prepare(call("hello!"), VLLM),
        prepare(call(attempt=1), VLLM),
        prepare(call(sample_index=1), VLLM),
        prepare(call(temperature=0.5), VLLM),
        prepare(call(max_tokens=5), VLLM),
        prepare(call(top_logprobs=5), VLLM),
        prepare(call(), Role(base_url="http://vllm/v1", model="n")),
    ]
    assert len({first, *(each.key for each in other)}) == len(other) + 1


@given(st.text(max_size=200))
def test_the_bound_on_prompt_tokens_grows_with_the_text(text):
    size = prepare(call(text), VLLM)
    assert size.most_prompt_tokens >= len(text) / 3
    assert prepare(call(text + "abc"), VLLM).most_prompt_tokens > size.most_prompt_tokens


def test_providers():
    assert [provider_of(role) for role in (OPENAI, VLLM, EMBEDDED)] == [
        "api.openai.com", "vllm", "embedded",
    ]  # fmt: skip


def status_error(status: int, message: object, code: str | None = None, **headers: str):
    response = httpx.Response(
        status, headers=headers, request=httpx.Request("POST", "http://host/v1")
    )
    return openai.APIStatusError("", response=response, body={"message": message, "code": code})


def classify(error: Exception, prompt: str = "the prompt's own words", key: str = "secret-key"):
    messages = [{"role": "user", "content": prompt}]
    return fault_of(error, key=key, messages=messages, timeout_s=1)


@pytest.mark.parametrize(
    ("status", "message", "then", "reply_status"),
    [
        (429, "Rate limit", "wait", "failed"),
        (500, "error", "retry", "failed"),
        (529, "overloaded", "retry", "failed"),
        (408, "timeout", "retry", "failed"),
        (401, "bad key", "stop", "failed"),
        (404, "no such model", "stop", "failed"),
        (400, "This model's maximum context length is 10 tokens", "call", "too_long"),
        (400, "request exceeds the available context size", "call", "too_long"),
        (400, "triggered our content management policy", "call", "refused"),
        (422, "unprocessable", "call", "refused"),
    ],
)
def test_faults(status, message, then, reply_status):
    fault = classify(status_error(status, message))
    assert (fault.then, fault.status) == (then, reply_status)
    assert fault.detail == f"HTTP {status}: {message}"


def test_retry_after_as_number_and_date():
    seconds = {"retry-after": "7"}
    assert classify(status_error(429, "slow", **seconds)).wait_s == 7
    date = {"retry-after": "Wed, 21 Oct 2015 07:28:00 GMT"}
    assert classify(status_error(429, "slow", **date)).wait_s == 0
    far = {"retry-after": "86400"}
    assert classify(status_error(429, "slow", **far)).wait_s == 300
    none = {"retry-after": "soon"}
    assert classify(status_error(429, "slow", **none)).wait_s is None


@pytest.mark.parametrize(
    "message",
    [
        "key secret-key is wrong",
        "Incorrect API key provided: sk-proj-abcd***wxyz.",
        "Bearer abcdefghijkl is not valid",
    ],
)
def test_keys_are_never_told(message):
    detail = classify(status_error(401, message)).detail
    assert "***" in detail
    assert not {"secret-key", "sk-proj-abcd***wxyz", "abcdefghijkl"} & set(detail.split())


@given(st.text(min_size=30, max_size=200), st.integers(0, 5), st.text(max_size=20))
def test_a_message_that_quotes_the_prompt_is_left_out(prompt, cut, before):
    echoed = " ".join(prompt.split())
    detail = classify(status_error(400, before + prompt[cut:]), prompt).detail
    if len(echoed) >= 40:
        assert echoed[8:38] not in detail


def test_a_body_that_is_no_error_object_is_not_shown():
    response = httpx.Response(502, request=httpx.Request("POST", "http://host/v1"))
    error = openai.APIStatusError("<html>", response=response, body="<html>")
    assert classify(error).detail == "HTTP 502"

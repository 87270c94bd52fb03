"""Prices, requests, faults, estimates of size: the client's pure parts."""

import json
from importlib.metadata import version
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from resources.llm.errors import LLMError
from resources.llm.faults import HttpAnswer, NoConnection, fault_of_answer, fault_of_error
from resources.llm.prices import Price, price_of
from resources.llm.request import prepare, provider_of, request_body, sampling_of
from resources.llm.types import Call
from resources.settings import Role

OPENAI = Role(base_url="https://api.openai.com/v1", model="gpt-4o-mini")
VLLM = Role(base_url="http://vllm:8000/v1", model="m")
EMBEDDED = Role()
KEY_OF_THE_FIRST_RELEASE = "8328368175d6315c22fc6562e83811f5d7b667754b34582ef1e42daa0df3c2ff"


def call(text: str = "hello", **more: object) -> Call:
    return Call(({"role": "user", "content": text},), "v1", **more)  # type: ignore[arg-type]


def price(model: str, home: Path, url: str = OPENAI.base_url, **role: object) -> Price | None:
    return price_of(Role(base_url=url, model=model, **role), home)  # type: ignore[arg-type]


def test_listed_prices(tmp_path):
    assert price("gpt-4o-mini", tmp_path) == Price(0.15, 0.60, 0.075, 0.5)
    assert price("gpt-4o-2024-08-06", tmp_path) == price("gpt-4o", tmp_path)
    assert price("gpt-4o-2024-05-13", tmp_path) == Price(5.0, 15.0, batch=0.5)
    assert price("unheard-of", tmp_path) is None
    assert price_of(EMBEDDED, tmp_path) == Price(0.0, 0.0)
    claude = price("claude-sonnet-4-5", tmp_path, "https://api.anthropic.com/v1")
    # The batch API that calls are sent by is OpenAI's.
    assert claude == Price(3.0, 15.0, 0.3, batch=1.0)
    assert Price(2.5, 10).cost(1_000_000, 100_000) == pytest.approx(3.5)


@pytest.mark.parametrize(
    "url", ["http://127.0.0.1:8000/v1", "http://vllm:8000/v1", "https://llm.example.com/v1"]
)
def test_whoever_serves_a_model_of_that_name_asks_for_another_price(tmp_path, url):
    assert price("gpt-4o", tmp_path, url) is None
    assert price("gpt-oss-20b", tmp_path, url) is None
    assert price("gpt-4o", tmp_path, endpoints=({"base_url": url},)) is None
    (tmp_path / "prices.toml").write_text('[models]\n"gpt-4o" = { input = 1, output = 2 }\n')
    assert price("gpt-4o", tmp_path, url) == Price(1, 2, batch=0.5)
    assert price("gpt-4o", tmp_path, endpoints=({"base_url": url},)) == Price(1, 2, batch=0.5)


def test_endpoints_at_one_price_have_it(tmp_path):
    azure = {"base_url": "https://team.openai.azure.com", "api_version": "2024-10-21"}
    assert price("gpt-4o", tmp_path, endpoints=(azure,)) == price("gpt-4o", tmp_path)
    dearer = azure | {"model": "gpt-4"}
    assert price("gpt-4o", tmp_path, endpoints=(dearer,)) is None


def test_a_price_that_changes_within_a_stage_is_unknown(tmp_path):
    # From 272,000 tokens of prompt on, all of them cost more.
    assert price("gpt-5.5", tmp_path) == Price(5.0, 30.0, 0.5, 0.5)
    assert price("gpt-5.5", tmp_path, context=400_000) is None
    # By the hour of the day, and by the number of calls.
    assert price("deepseek-v4-pro", tmp_path, "https://api.deepseek.com/v1") is None
    assert price("sonar", tmp_path, "https://api.perplexity.ai") is None


def test_what_is_cached_or_sent_in_a_batch_costs_less():
    cheap = Price(2.0, 10.0, cached_input=0.5, batch=0.5)
    assert cheap.cost(1_000_000, 0, cached_tokens=400_000) == pytest.approx(1.2 + 0.2)
    assert cheap.cost(1_000_000, 100_000, cached_tokens=400_000, batch=True) == pytest.approx(1.2)
    # More than the whole prompt can't have been cached.
    assert cheap.cost(10, 0, cached_tokens=99) == cheap.cost(10, 0, cached_tokens=10)
    plain = Price(2.0, 10.0)
    assert plain.cost(1000, 10, cached_tokens=1000, batch=True) == plain.cost(1000, 10)


def test_own_prices_win(tmp_path):
    (tmp_path / "prices.toml").write_text(
        '[models]\n"gpt-4o" = { input = 1, output = 2 }\nown = { input = 0, output = 0 }\n'
        '"gpt-4o-2024-11-20" = { input = 1, output = 2, cached_input = 0, batch = 0.25 }\n'
    )
    # A batch is OpenAI's, whoever wrote down the price.
    assert price("gpt-4o", tmp_path) == Price(1, 2, batch=0.5)
    assert price("gpt-4o-2024-08-06", tmp_path) == Price(1, 2, batch=0.5)
    assert price("gpt-4o-2024-11-20", tmp_path) == Price(1, 2, 0, 0.25)
    assert price("own", tmp_path) == Price(0, 0)
    assert price("gpt-4o-mini", tmp_path) == Price(0.15, 0.60, 0.075, 0.5)


@pytest.mark.parametrize(
    "text",
    ["models = [", "x = 1", "models = 3", '[models]\na = { input = 1 }', "[models]\na = 3",
     '[models]\na = { input = -1, output = 0 }', '[models]\na = { input = true, output = 0 }',
     '[models]\na = { input = inf, output = nan }',
     '[models]\na = { input = 1, output = 1, cached_input = "0" }',
     '[models]\na = { input = 1, output = 1, batch = 50 }',
     '[models]\na = { input = 1, output = 1, cached = 0 }'],
)  # fmt: skip
def test_a_price_file_that_cannot_be_used_is_named(tmp_path, text):
    (tmp_path / "prices.toml").write_text(text)
    with pytest.raises(LLMError, match=r"prices\.toml"):
        price("gpt-4o", tmp_path)


def test_a_price_file_that_is_no_text_is_named(tmp_path):
    (tmp_path / "prices.toml").write_bytes(b"\xff\xfe[\x00m\x00")
    with pytest.raises(LLMError, match=r"prices\.toml is not valid TOML"):
        price("gpt-4o", tmp_path)


def test_a_price_says_whose_it_is(tmp_path):
    assert price("gpt-4o", tmp_path).source == f"genai-prices {version('genai-prices')}"
    own = tmp_path / "prices.toml"
    own.write_text("[models]\nown = { input = 1, output = 2 }\n")
    assert price("own", tmp_path).source == "prices.toml"
    own.write_text("as_of = 2024-02-29\n" + own.read_text())
    assert price("own", tmp_path).source == "prices.toml as of 2024-02-29"


@pytest.mark.parametrize("as_of", ['"2025-11-01"', "2025-11-01T00:00:00Z", "2025", "false"])
def test_prices_of_no_date_are_named(tmp_path, as_of):
    (tmp_path / "prices.toml").write_text(f"as_of = {as_of}\n[models]\n")
    with pytest.raises(LLMError, match=r"prices\.toml: as_of must be a date"):
        price("gpt-4o", tmp_path)


def body_of(asked: Call, role: Role, lacks: tuple[str, ...] = ()) -> dict[str, object]:
    return request_body(prepare(asked, role), role, role.model, lacks)


def test_the_request_fits_the_endpoint():
    asked = call(grammar="g", json_schema={"type": "object"}, top_logprobs=30, top_p=0.9)
    body = body_of(asked, OPENAI)
    assert body["max_completion_tokens"] == OPENAI.max_tokens
    assert body["top_logprobs"] == 20
    assert body["response_format"]["type"] == "json_schema"
    assert not {"grammar", "cache_prompt", "max_tokens"} & body.keys()
    body = body_of(asked, VLLM)
    assert body["max_tokens"] == VLLM.max_tokens
    assert "grammar" not in body
    body = body_of(asked, EMBEDDED)
    assert body["grammar"] == "g"
    assert body["top_logprobs"] == 40
    assert body["cache_prompt"] is True
    assert "response_format" not in body


def test_what_an_endpoint_lacks_is_not_sent():
    asked = call(json_schema={"type": "object"}, top_logprobs=5, top_p=0.9, temperature=0.7)
    assert "tools" in body_of(asked, VLLM, ("json_schema",))
    assert not {"tools", "response_format"} & body_of(asked, VLLM, ("json_schema", "tool")).keys()
    assert "logprobs" not in body_of(asked, VLLM, ("logprobs",))
    assert "seed" in body_of(asked, VLLM)
    assert "seed" not in body_of(asked, VLLM, ("seed",))
    assert not {"temperature", "top_p"} & body_of(asked, VLLM, ("temperature", "top_p")).keys()
    assert "max_completion_tokens" in body_of(asked, VLLM, ("max_tokens",))
    assert "max_tokens" in body_of(asked, OPENAI, ("max_completion_tokens",))


def test_the_key_follows_from_what_determines_the_reply():
    first = prepare(call(), VLLM).key
    same = [
        prepare(call(grammar="not had here"), VLLM),
        prepare(Call(call().messages, "another version"), VLLM),
        prepare(call(temperature=0.0, max_tokens=1024), VLLM),
        prepare(call(), Role(base_url="http://other/v1", model="m", concurrency=9)),
    ]
    assert {each.key for each in same} == {first}
    schema = call(json_schema={"type": "object"})
    other = [
        prepare(call("hello!"), VLLM),
        prepare(call(attempt=1), VLLM),
        prepare(call(sample_index=1), VLLM),
        prepare(call(temperature=0.5), VLLM),
        prepare(call(max_tokens=5), VLLM),
        prepare(call(top_logprobs=5), VLLM),
        prepare(call(), Role(base_url="http://vllm/v1", model="n")),
        prepare(schema, VLLM),
        prepare(schema, Role(base_url="http://vllm/v1", model="m", structured="tool")),
    ]
    assert len({first, *(each.key for each in other)}) == len(other) + 1


def test_keys_are_those_of_the_first_release():
    """Changing how a key is made would pay for every reply again."""
    asked = Call(
        (
            {"role": "system", "content": "Grüße 漢字 \U0001f600 \x1f"},
            {"role": "user", "content": "x"},
        ),
        "v1",
        max_tokens=7,
        temperature=0.6,
        top_p=0.8,
        json_schema={"type": "object", "b": [1, 2.5], "a": None},
        sample_index=2,
        attempt=1,
    )
    assert prepare(asked, OPENAI).key == KEY_OF_THE_FIRST_RELEASE


@given(st.text(max_size=200))
def test_the_bound_on_prompt_tokens_grows_with_the_text(text):
    size = prepare(call(text), VLLM)
    assert size.most_prompt_tokens >= len(text) / 3
    assert prepare(call(text + "abc"), VLLM).most_prompt_tokens > size.most_prompt_tokens


def test_providers():
    assert [provider_of(role.base_url) for role in (OPENAI, VLLM, EMBEDDED)] == [
        "api.openai.com", "vllm", "embedded",
    ]  # fmt: skip


def classify(
    status: int,
    message: object,
    prompt: str = "the prompt's own words",
    key: str = "secret-key",
    sent: tuple[str, ...] = (),
    **headers: str,
):
    body = {"error": {"message": message}}
    answer = HttpAnswer(status, headers, json.dumps(body).encode())
    messages = [{"role": "user", "content": prompt}]
    return fault_of_answer(answer, body, key=key, messages=messages, sent=sent)


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
    fault = classify(status, message)
    assert (fault.then, fault.status) == (then, reply_status)
    assert fault.detail == f"HTTP {status}: {message}"
    assert fault.lacks is None


@pytest.mark.parametrize(
    ("message", "sent", "lacks"),
    [
        ("Unknown parameter: 'response_format.json_schema'", ("response_format",), "json_schema"),
        ("'tools' is not supported by this model", ("tools", "tool_choice"), "tool"),
        ("Extra inputs are not permitted: grammar", ("grammar",), "grammar"),
        ("logprobs are not supported here", ("logprobs", "top_logprobs"), "logprobs"),
        ("Unrecognized request argument supplied: seed", ("seed",), "seed"),
        (
            "Unsupported parameter: 'max_tokens' is not supported with this model. Use "
            "'max_completion_tokens' instead.",
            ("max_tokens",),
            "max_tokens",
        ),
        ("Unsupported value: 'temperature' does not support 0.6", ("temperature",), "temperature"),
        # What was not sent can't be what is not supported.
        ("Unrecognized request argument supplied: seed", ("temperature",), None),
        ("The seed of your question is fine, but the answer is not", ("seed",), None),
    ],
)
def test_what_an_endpoint_lacks_is_read_from_its_words(message, sent, lacks):
    assert classify(400, message, sent=sent).lacks == lacks


def test_errors_of_the_connection():
    assert fault_of_error(TimeoutError(), 3).detail == "no reply within 3 s"
    assert fault_of_error(NoConnection("refused"), 3).unreachable


def test_retry_after_as_number_and_date():
    assert classify(429, "slow", **{"retry-after": "7"}).wait_s == 7
    assert classify(429, "slow", **{"retry-after": "Wed, 21 Oct 2015 07:28:00 GMT"}).wait_s == 0
    assert classify(429, "slow", **{"retry-after": "86400"}).wait_s == 300
    assert classify(429, "slow", **{"retry-after": "soon"}).wait_s is None


@pytest.mark.parametrize(
    "message",
    [
        "key secret-key is wrong",
        # Masked by the provider, with more stars than ours.
        "Incorrect API key provided: sk-proj-abcd*****wxyz.",
        "Bearer abcdefghijkl is not valid",
    ],
)
def test_keys_are_never_told(message):
    detail = classify(401, message).detail
    assert "***" in detail
    assert not any(word in detail for word in ("secret-key", "sk-proj", "abcd", "wxyz", "****"))


@given(st.text(min_size=30, max_size=200), st.integers(0, 5), st.text(max_size=20))
def test_a_message_that_quotes_the_prompt_is_left_out(prompt, cut, before):
    echoed = " ".join(prompt.split())
    detail = classify(400, before + prompt[cut:], prompt).detail
    if len(echoed) >= 40:
        assert echoed[8:38] not in detail


@pytest.mark.parametrize("body", [None, "<html>", [], {"error": None}, {"error": 3}])
def test_a_body_that_is_no_error_object_is_not_shown(body):
    answer = HttpAnswer(502, {}, b"<html>")
    fault = fault_of_answer(answer, body, key="", messages=[], sent=())
    assert fault.detail == "HTTP 502"


@pytest.mark.parametrize("url", ["https://api.openai.com/v1", "http://vllm:8000/v1"])
def test_sampling_is_told_alike_whatever_the_endpoint_calls_it(url):
    role = Role(base_url=url, model="m")
    call = Call(({"role": "user", "content": "x"},), "v", max_tokens=9, temperature=0.7)
    told = sampling_of(request_body(prepare(call, role), role, role.model))
    assert told == {"max_tokens": 9, "temperature": 0.7, "seed": "by call"}
    lacking = sampling_of(request_body(prepare(call, role), role, role.model, {"temperature"}))
    assert "temperature" not in lacking

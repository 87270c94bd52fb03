"""The client over real sockets, against a server that misbehaves."""

import asyncio
import logging
import time

import pytest

from resources.llm import engine
from resources.llm.client import LLMClient
from resources.llm.errors import BudgetError, LLMError, Unparsable
from resources.llm.readings import parse_json_list, preference
from resources.llm.store import ReplyStore
from resources.llm.types import Call, Reply
from tests.integration.llm.conftest import ONE_WAY, call

pytestmark = pytest.mark.usefixtures("short_waits")
SCHEMA = {
    "type": "object",
    "properties": {"tag": {"type": "string"}},
    "required": ["tag"],
    "additionalProperties": False,
}


def only(client: LLMClient, prompt: str) -> Reply:
    return client.complete([call(prompt)], label="test")[0]


def test_replies_come_in_order_and_a_second_run_makes_no_call(make_client, server):
    calls = [call(f"prompt {'x' * number}") for number in range(40)]
    with make_client(concurrency=8) as client:
        first = client.complete(calls, label="test")
        usage = client.usage
    assert [reply.text for reply in first] == [f'["reply to {7 + n} bytes"]' for n in range(40)]
    assert all(reply.status == "ok" and not reply.stored for reply in first)
    assert (usage.calls, usage.stored, usage.failed) == (40, 0, 0)
    assert (usage.prompt_tokens, usage.completion_tokens) == (40_000, 4_000)
    assert usage.cost_usd == pytest.approx(40 * (1000 * 0.15 + 100 * 0.60) / 1e6)
    assert server.stats()["requests"] == 40
    assert 1 < server.stats()["most_in_flight"] <= 8

    with make_client() as client:
        again = client.complete(calls, label="test")
        usage = client.usage
    assert [reply.text for reply in again] == [reply.text for reply in first]
    assert all(reply.stored for reply in again)
    assert (usage.calls, usage.stored, usage.cost_usd) == (40, 40, 0.0)
    assert server.stats()["requests"] == 40


@ONE_WAY
def test_equal_calls_are_sent_once(make_client, server):
    with make_client() as client:
        replies = client.complete([call("same")] * 5 + [call("other")], label="test")
        assert (client.usage.calls, client.usage.stored) == (6, 4)
    assert [reply.stored for reply in replies] == [False, True, True, True, True, False]
    assert server.stats()["requests"] == 2


@ONE_WAY
def test_nothing_to_do(make_client, server):
    with make_client() as client:
        assert client.complete([], label="test") == []
    assert server.stats()["requests"] == 0


def test_works_inside_a_running_event_loop(make_client):
    async def main() -> Reply:
        return only(client, "inside")

    with make_client() as client:
        assert asyncio.run(main()).status == "ok"


def test_retry_after_is_kept_to(make_client):
    started = time.monotonic()
    with make_client() as client:
        only(client, "fault=429x2")
    assert time.monotonic() - started >= 0.4


@pytest.mark.parametrize("fault", ["500", "reset"])
def test_exhausted_retries_fail_the_call_and_a_rerun_tries_again(make_client, server, fault):
    prompt = f"fault={fault}x{engine.RETRIES + 1}"
    with make_client() as client:
        failed, fine = client.complete([call(prompt), call("fine")], label="test")
        assert client.usage.failed == 1
    assert failed.status == "failed"
    assert failed.detail
    assert fine.status == "ok"
    with make_client() as client:
        assert only(client, prompt).status == "ok"


@ONE_WAY
def test_replies_before_a_stop_are_kept(make_client, server):
    calls = [call(f"fine {number}") for number in range(6)]
    with make_client(concurrency=1) as client, pytest.raises(LLMError, match="HTTP 401"):
        client.complete([*calls, call("fault=401")], label="test")
    with make_client() as client:
        assert all(reply.stored for reply in client.complete(calls, label="test"))


def test_connection_refused_stops_at_once(make_client):
    with make_client(base_url="http://127.0.0.1:9/v1") as client:
        with pytest.raises(LLMError, match=r"no connection.*roles\.tagger\.base_url"):
            only(client, "hello")
        assert client.report.retries == {"no connection": 1}


@pytest.mark.parametrize(
    ("fault", "status", "stored"),
    [
        ("toolong", "too_long", False),
        ("filter", "refused", False),
        ("malformed", "refused", False),
        ("empty", "refused", True),
        ("nochoice", "refused", True),
        ("stopped", "refused", True),
        ("length", "truncated", True),
    ],
)
def test_one_calls_trouble_is_its_status(make_client, server, fault, status, stored):
    with make_client() as client:
        reply, fine = client.complete([call(f"fault={fault}"), call("fine")], label="test")
    assert (reply.status, fine.status) == (status, "ok")
    assert reply.detail
    with make_client() as client:
        assert only(client, f"fault={fault}").stored is stored
    assert server.stats()["requests"] == (2 if stored else 3)


@ONE_WAY
def test_settings_that_the_endpoint_refuses_stop_early(make_client, server):
    calls = [call(f"{number} fault=malformed") for number in range(100)]
    with make_client() as client, pytest.raises(LLMError, match="Unknown parameter"):
        client.complete(calls, label="test")
    assert server.stats()["requests"] < 20


@ONE_WAY
def test_a_hopeless_prompt_is_not_sent(make_client, server):
    with make_client(context=1000) as client:
        reply = only(client, "word " * 2000)
    assert reply.status == "too_long"
    assert reply.detail is not None
    assert "1000" in reply.detail
    assert server.stats()["requests"] == 0


@ONE_WAY
def test_a_missing_key_is_named(make_client, monkeypatch):
    monkeypatch.delenv("TEST_API_KEY")
    with (
        make_client(base_url="https://models.example.org/v1") as client,
        pytest.raises(LLMError, match="TEST_API_KEY"),
    ):
        only(client, "hello")


def test_no_key_is_needed_on_this_machine(make_client, monkeypatch):
    monkeypatch.delenv("TEST_API_KEY")
    with make_client() as client:
        assert only(client, "hello").status == "ok"


def test_neither_prompt_nor_key_is_ever_told(make_client, caplog, capfd, tmp_path):
    caplog.set_level(logging.DEBUG)
    secret = "the quick brown fox jumps over the lazy dog in secret"
    told = []
    for fault in ("401", "quote", "500", "toolong", "html", "empty"):
        with make_client() as client:
            try:
                told.append(str(only(client, f"{secret} fault={fault}").detail))
            except LLMError as error:
                told.append(str(error))
    text = "\n".join([*told, caplog.text, *capfd.readouterr()])
    assert "quick brown fox" not in text
    assert "sk-tes" not in text
    stored = b"".join(path.read_bytes() for path in (tmp_path / "llm").iterdir())
    assert b"sk-testkey" not in stored


@ONE_WAY
def test_budget_stops_before_the_call_that_would_exceed_it(make_client, server):
    calls = [call(f"prompt {number} {'x' * 4000}", max_tokens=100) for number in range(20)]
    cost = (1000 * 30 + 100 * 60) / 1e6
    with make_client(model="gpt-4", budget_usd=5.5 * cost, concurrency=3, run="r1") as client:
        with pytest.raises(BudgetError) as caught:
            client.complete(calls, label="test")
        assert client.usage.cost_usd <= 5.5 * cost
    sent = server.stats()["requests"]
    assert 4 <= sent <= 5
    assert caught.value.spent_usd == pytest.approx(sent * cost)
    assert caught.value.remaining == 20 - sent

    with make_client(model="gpt-4", budget_usd=30 * cost, run="r1") as client:
        replies = client.complete(calls, label="test")
    assert sum(reply.stored for reply in replies) == sent
    assert server.stats()["requests"] == 20


@ONE_WAY
def test_budget_counts_the_whole_run(make_client, server):
    cost = (1000 * 30 + 100 * 60) / 1e6
    with make_client(model="gpt-4", budget_usd=1.2 * cost, run="r1") as client:
        only(client, "one")
    with (
        make_client(model="gpt-4", budget_usd=1.0 * cost, run="r1", role_name="judge") as client,
        pytest.raises(BudgetError),
    ):
        only(client, "two")
    with make_client(model="gpt-4", budget_usd=1.2 * cost, run="r2") as client:
        assert only(client, "two").status == "ok"


@ONE_WAY
def test_budget_with_an_unknown_price_makes_no_call(make_client, server):
    with (
        make_client(model="own-model", budget_usd=1.0) as client,
        pytest.raises(BudgetError, match=r"price of own-model is not known"),
    ):
        only(client, "hello")
    assert server.stats()["requests"] == 0


@ONE_WAY
def test_unknown_price_counts_tokens(make_client):
    with make_client(model="own-model") as client:
        assert only(client, "hello").cost_usd is None
        assert client.usage.cost_usd is None
        assert client.usage.prompt_tokens == 1000


def tags(reply: Reply) -> list[str]:
    return parse_json_list(reply.text)


def build(item: str, attempt: int, reason: str | None) -> Call:
    mended = item.replace("fault=", "was ")
    return call(item if reason is None else f"{mended} ({reason})", attempt=attempt)


def test_unusable_replies_are_asked_again_with_the_reason(make_client, server):
    items = ["fine", "fault=notjson", "fault=empty", "fault=length", "fault=toolong"]
    with make_client() as client:
        outcomes = client.complete_parsed(items, build, tags, label="tags", max_attempts=3)
    assert [outcome.status for outcome in outcomes] == ["ok", "ok", "ok", "ok", "too_long"]
    assert [outcome.attempts for outcome in outcomes] == [1, 2, 2, 2, 1]
    assert "was notjson (the reply has no complete JSON list)" in server.stats()["prompts"]
    unusable = [[each.status for each in outcome.unusable] for outcome in outcomes]
    assert unusable == [[], ["unparsable"], ["refused"], ["truncated"], ["too_long"]]
    assert outcomes[1].unusable[0].reply.text
    assert outcomes[1].unusable[0].detail == "the reply has no complete JSON list"

    before = server.stats()["requests"]
    with make_client() as client:
        again = client.complete_parsed(items, build, tags, label="tags", max_attempts=3)
    assert [outcome.value for outcome in again] == [outcome.value for outcome in outcomes]
    # The one that was never completed is asked again, nothing else.
    assert server.stats()["requests"] == before + 1


@ONE_WAY
def test_attempts_end(make_client):
    def again(item: str, attempt: int, reason: str | None) -> Call:
        return call(item, attempt=attempt)

    with make_client() as client:
        (outcome,) = client.complete_parsed(
            ["fault=notjson"], again, tags, label="tags", max_attempts=2
        )
    assert (outcome.status, outcome.value, outcome.attempts) == ("unparsable", None, 2)


@ONE_WAY
def test_a_build_that_forgets_the_attempt_is_told(make_client):
    def forgetful(item: str, attempt: int, reason: str | None) -> Call:
        return call(item)

    def never(reply: Reply) -> str:
        raise Unparsable("no")

    with make_client() as client, pytest.raises(ValueError, match="attempt"):
        client.complete_parsed(["x"], forgetful, never, label="tags", max_attempts=2)


def test_token_probabilities_survive_the_store(make_client):
    asked = call("A or B?", max_tokens=1, top_logprobs=40)
    for _ in range(2):
        with make_client(reading="logprobs") as client:
            (reply,) = client.complete([asked], label="test")
        assert preference(reply) == pytest.approx(1.5)
    assert reply.stored


def test_only_what_the_role_asks_for_is_sent(make_client, server):
    asked = call("hello", grammar='root ::= "A"', json_schema=SCHEMA, top_logprobs=40)
    bodies = []
    for form in ("json_schema", "tool", "grammar", "none"):
        with make_client(structured=form) as client:
            client.complete([asked], label="test")
        bodies.append(server.stats()["bodies"][-1])
    schema, tool, grammar, none = bodies
    assert schema["response_format"]["json_schema"]["schema"] == SCHEMA
    assert not {"grammar", "tools"} & schema.keys()
    assert tool["tools"][0]["function"]["parameters"] == SCHEMA
    assert tool["tool_choice"]["function"]["name"] == tool["tools"][0]["function"]["name"]
    assert not {"grammar", "response_format"} & tool.keys()
    assert grammar["grammar"] == 'root ::= "A"'
    assert not {"tools", "response_format"} & grammar.keys()
    assert not {"grammar", "response_format", "tools", "seed", "cache_prompt"} & none.keys()
    assert none["top_logprobs"] == 20


def test_a_seed_is_sent_where_sampling_is_random(make_client, server):
    with make_client() as client:
        client.complete([call("warm", temperature=0.7)], label="test")
        client.complete([call("cold", temperature=0.0)], label="test")
    warm, cold = server.stats()["bodies"][-2:]
    assert isinstance(warm["seed"], int)
    assert "seed" not in cold


@ONE_WAY
def test_estimate_makes_no_call_and_learns(make_client, server, tmp_path):
    (tmp_path / "prices.toml").write_text("[models]\nown = { input = 0.15, output = 0.60 }\n")
    calls = [call(f"prompt {'long ' * 50}{number}", max_tokens=500) for number in range(10)]
    with make_client(model="own") as client:
        estimate = client.estimate(calls)
        assert (estimate.calls, estimate.stored, estimate.seconds) == (10, 0, None)
        assert estimate.completion_tokens == 5000
        assert server.stats()["requests"] == 0
        client.complete(calls[:4], label="test")
        estimate = client.estimate(calls)
    assert estimate.stored == 4
    assert estimate.completion_tokens == 600
    assert estimate.prompt_tokens == pytest.approx(6000, rel=0.01)
    assert estimate.cost_usd == pytest.approx((6000 * 0.15 + 600 * 0.6) / 1e6, rel=0.01)
    assert estimate.seconds is not None
    assert estimate.seconds > 0


@ONE_WAY
def test_estimate_counts_tokens_where_the_tokenizer_is_known(make_client):
    with make_client(model="gpt-4o-mini") as client:
        estimate = client.estimate([call("hello world")])
    # Two tokens of text, four of the frame of a message, three of the beginning of the reply.
    assert estimate.prompt_tokens == 9


@ONE_WAY
def test_what_the_calls_will_take_is_said_before_the_first(make_client, server):
    said: list[tuple[str, int]] = []
    calls = [call(f"prompt {number}") for number in range(5)]
    with make_client(say=lambda line: said.append((line, server.stats()["requests"]))) as client:
        client.complete(calls[:2], label="test")
        client.complete(calls, label="test")
    (first, before_first), (second, before_second) = said
    assert first.startswith("2 calls: 0 stored, 2 to send")
    assert second.startswith("5 calls: 2 stored, 3 to send")
    assert "prices of" in second
    assert (before_first, before_second) == (0, 2)


@ONE_WAY
def test_a_stream_is_read_as_its_replies_are_taken(make_client):
    read = 0

    def calls():
        nonlocal read
        for number in range(100_000):
            read += 1
            yield call(f"prompt {number}")

    with make_client() as client:
        stream = client.stream(calls(), label="test")
        found = [next(stream) for _ in range(50)]
        stream.close()
    assert len({number for number, _ in found}) == 50
    assert all(reply.status == "ok" for _, reply in found)
    assert read <= 20_000


@ONE_WAY
def test_what_was_read_is_kept_beside_the_reply(make_client, tmp_path):
    with make_client() as client:
        client.complete_parsed(["fine", "fault=notjson"], build, tags, label="tags", max_attempts=2)
    with ReplyStore(tmp_path / "llm" / "replies.sqlite") as store:
        rows = store.usage_rows().group_by("readable").len().sort("readable")
    assert rows.rows() == [(False, 1), (True, 2)]


def test_latency_and_retries_are_reported(make_client):
    with make_client() as client:
        client.complete([call("fault=500x2"), call("fine")], label="test")
        metadata = client.report.metadata()
    assert metadata["requests_not_answered"] == {"HTTP 500": 2}
    assert metadata["latency_s_p50"] >= 0.02

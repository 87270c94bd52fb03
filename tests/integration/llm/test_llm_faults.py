"""Every row of the fault table, over real sockets, by both transports."""

from typing import Any

import pytest

from resources.llm.errors import LLMError
from resources.llm.readings import parse_json_list
from resources.llm.types import Call, Reply
from tests.integration.llm.conftest import ONE_WAY, call

pytestmark = pytest.mark.usefixtures("short_waits")


def build(item: str, attempt: int, reason: str | None) -> Call:
    return call(item, attempt=attempt)


def tags(reply: Reply) -> list[str]:
    return parse_json_list(reply.text)


@pytest.mark.parametrize(
    "fault", ["429x2", "429barex2", "500x2", "502x2", "503x1", "resetx2", "midbodyx2"]
)
def test_what_a_retry_can_mend_is_retried_and_answered_once(make_client, server, fault):
    # Few: where the rate is at fault, a refused call a second is as fast as it goes.
    calls = [call(f"{number} fault={fault}") for number in range(4)]
    with make_client() as client:
        replies = client.complete(calls, label="test")
    assert [reply.status for reply in replies] == ["ok"] * 4
    stats = server.stats()
    assert set(stats["answered"].values()) == {1}
    assert set(stats["prompts"].values()) == {int(fault[-1]) + 1}


@pytest.mark.parametrize("fault", ["hang", "headersonly", "endless", "slow"])
def test_a_reply_that_never_ends_meets_the_deadline_and_is_retried(make_client, server, fault):
    with make_client(timeout_s=0.5) as client:
        mended, fine = client.complete([call(f"fault={fault}x1"), call("fine")], label="test")
        assert client.report.retries == {"deadline": 1}
    assert (mended.status, fine.status) == ("ok", "ok")
    assert server.stats()["prompts"][f"fault={fault}x1"] == 2


def test_a_reply_that_never_ends_is_given_up_at_last(make_client):
    with make_client(timeout_s=0.1) as client:
        (reply,) = client.complete([call("fault=hang")], label="test")
    assert (reply.status, reply.detail) == ("failed", "no reply within 0.1 s")


@pytest.mark.parametrize(
    ("fault", "status", "words"),
    [
        ("toolong", "too_long", "maximum context length is 8192 tokens"),
        ("filter", "refused", "The prompt was filtered"),
        ("malformed", "refused", "Unknown parameter"),
    ],
)
def test_what_concerns_one_call_is_not_retried(make_client, server, fault, status, words):
    with make_client() as client:
        reply, fine = client.complete([call(f"fault={fault}"), call("fine")], label="test")
    assert (reply.status, fine.status) == (status, "ok")
    assert words in (reply.detail or "")
    assert server.stats()["prompts"][f"fault={fault}"] == 1


@pytest.mark.parametrize(
    ("fault", "words"),
    [
        ("401", r"Incorrect API key provided: \*\*\*.*check the key in TEST_API_KEY"),
        ("403", "Your project may not use this model.*check the key in TEST_API_KEY"),
        ("404", r"The model `m` does not exist.*roles\.tagger\.model"),
        ("quota", "You exceeded your quota.*raise the quota"),
    ],
)
def test_what_every_call_would_meet_fails_with_the_providers_words(
    make_client, server, fault, words
):
    with make_client() as client, pytest.raises(LLMError, match=words):
        client.complete([call(f"{number} fault={fault}") for number in range(100)], label="test")
    assert server.stats()["requests"] <= 4


@pytest.mark.parametrize(
    ("fault", "status"),
    [
        ("html", "garbled"),
        ("badjson", "garbled"),
        ("nochoice", "refused"),
        ("null", "refused"),
        ("empty", "refused"),
        ("length", "truncated"),
        ("stopped", "refused"),
        ("refusal", "refused"),
    ],
)
def test_an_unusable_reply_is_kept_retried_by_rule_and_then_missing(
    make_client, server, fault, status
):
    prompts = [f"fault={fault}x2", f"fault={fault}"]
    with make_client() as client:
        mended, missing = client.complete_parsed(prompts, build, tags, label="test", max_attempts=3)
    assert (mended.status, mended.attempts) == ("ok", 3)
    assert (missing.status, missing.value, missing.attempts) == (status, None, 3)
    assert missing.detail
    # Every attempt that had no value is told, in order, also where one after it had.
    assert [each.attempt for each in mended.unusable] == [0, 1]
    assert [each.attempt for each in missing.unusable] == [0, 1, 2]
    assert {each.status for each in missing.unusable} == {status}
    assert missing.unusable[-1].reply == missing.reply
    before = server.stats()["requests"]
    assert before == 6
    with make_client() as client:
        again = client.complete_parsed(prompts, build, tags, label="test", max_attempts=3)
        # It was paid for knowingly, and is not paid for again.
        assert client.usage.stored == 6
    assert [each.status for each in again] == ["ok", status]
    assert [len(each.unusable) for each in again] == [2, 3]
    assert server.stats()["requests"] == before


@ONE_WAY
def test_an_endpoint_that_answers_pages_only_is_given_up(make_client, server):
    calls = [call(f"{number} fault=html") for number in range(200)]
    with make_client() as client, pytest.raises(LLMError, match=r"not a chat completion.*base_url"):
        client.complete(calls, label="test")
    assert server.stats()["requests"] < 20


@ONE_WAY
def test_a_busy_server_gets_fewer_requests_and_answers_all(make_client, server):
    server.configure(latency=0.05, slots=8, queue=8)
    with make_client() as client:
        replies = client.complete([call(f"p {n}") for n in range(300)], label="test")
    assert {reply.status for reply in replies} == {"ok"}
    stats = server.stats()
    assert set(stats["answered"].values()) == {1}
    assert stats["overloaded"] < 150


def told(values: dict[str, Any]) -> str:
    return " ".join(str(value) for value in values.values())


def test_neither_prompt_nor_key_is_in_reports(make_client):
    secret = "the quick brown fox jumps over the lazy dog in secret"
    lines: list[str] = []
    with make_client(say=lines.append) as client:
        client.complete(
            [call(f"{secret} fault={fault}") for fault in ("500x1", "quote", "length", "html")],
            label="test",
        )
        lines.append(told(dict(client.report.metadata())))
    assert "quick brown" not in " ".join(lines)
    assert "sk-tes" not in " ".join(lines)

"""Odd endpoints, several endpoints, and what an endpoint does not have; over real sockets."""

import json
from pathlib import Path

import pytest
import sqlalchemy as sa

from resources.llm.errors import LLMError
from resources.llm.readings import parse_json_list
from resources.llm.store import REPLIES, ReplyStore
from resources.llm.types import Call, Reply
from tests.integration.llm.conftest import call, calls, client_for, started

pytestmark = pytest.mark.usefixtures("short_waits")
SCHEMA = {
    "type": "object",
    "properties": {"tags": {"type": "array", "items": {"type": "string"}}},
    "required": ["tags"],
    "additionalProperties": False,
}


@pytest.fixture(autouse=True)
def _key(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TEST_API_KEY", "k")


def bodies_of(server, client, asked: Call) -> tuple[Reply, dict]:
    (reply,) = client.complete([asked], label="test")
    return reply, server.stats()["bodies"][-1]


@pytest.mark.parametrize("fault", ["without", "ignores"])
def test_an_endpoint_without_schemas_is_asked_for_a_tool_call(tmp_path, fault):
    said: list[str] = []
    with started(f"--{fault}", "json_schema") as server:
        with client_for(server.url, tmp_path, say=said.append) as client:
            reply, body = bodies_of(server, client, call("hello", json_schema=SCHEMA))
        assert reply.status == "ok"
        assert isinstance(parse_json_list(reply.text)[0]["tags"], list)
        assert "tools" in body
        assert "response_format" not in body
        asked = server.stats()["requests"]
        # It is remembered, also by another process.
        with client_for(server.url, tmp_path, say=said.append) as client:
            client.complete([call("again", json_schema=SCHEMA)], label="test")
        assert server.stats()["requests"] == asked + 1
    assert sum("has no json_schema" in line for line in said) == 1


def test_an_endpoint_with_neither_is_asked_in_words(tmp_path):
    with started("--without", "json_schema,tools") as server:
        with client_for(server.url, tmp_path) as client:
            reply, body = bodies_of(server, client, call("hello", json_schema=SCHEMA))
        assert reply.status == "ok"
        assert not {"tools", "response_format"} & body.keys()


@pytest.mark.parametrize("feature", ["seed", "temperature", "max_tokens"])
def test_a_field_that_an_endpoint_refuses_is_left_out_with_a_message(tmp_path, feature):
    said: list[str] = []
    with (
        started("--without", feature) as server,
        client_for(server.url, tmp_path, say=said.append) as client,
    ):
        replies = client.complete(
            [call(f"prompt {n}", temperature=0.7) for n in range(20)], label="test"
        )
        body = server.stats()["bodies"][-1]
    assert {reply.status for reply in replies} == {"ok"}
    assert feature not in body
    assert sum(f"has no {feature}" in line for line in said) == 1


@pytest.mark.parametrize("fault", ["without", "ignores"])
def test_an_endpoint_without_probabilities_is_read_by_its_text(tmp_path, fault):
    said: list[str] = []
    with started(f"--{fault}", "logprobs") as server:
        with client_for(server.url, tmp_path, reading="logprobs", say=said.append) as client:
            assert client.reading == "generated"
        asked = server.stats()["requests"]
        assert asked == 1
        # An estimate asks nobody, also where nothing is known of the endpoint.
        other = tmp_path / "other"
        with client_for(server.url, other, reading="logprobs", ask_endpoints=False) as client:
            assert client.reading == "logprobs"
        assert server.stats()["requests"] == asked
    assert any("has no logprobs: scores are read from the generated text" in line for line in said)


def test_an_endpoint_with_probabilities_is_read_by_them(tmp_path):
    with started() as server, client_for(server.url, tmp_path, reading="logprobs") as client:
        assert client.reading == "logprobs"


def test_a_grammar_is_used_where_there_is_one(tmp_path):
    asked = call("hello", grammar='root ::= "yes"')
    with started() as server, client_for(server.url, tmp_path, structured="grammar") as client:
        assert client.complete([asked], label="test")[0].text == "yes"
    with (
        started("--ignores", "grammar") as server,
        client_for(server.url, tmp_path / "other", structured="grammar") as client,
    ):
        _, body = bodies_of(server, client, asked)
        assert "grammar" not in body


def test_azure(tmp_path):
    with started("--keys", "k") as server:
        with client_for(
            server.url,
            tmp_path,
            base_url=server.url,
            model="my-deployment",
            api_version="2024-10-21",
        ) as client:
            (reply,) = client.complete([call("hello")], label="test")
        assert reply.status == "ok"
        assert server.stats()["auth"] == "api-key"


@pytest.mark.parametrize("way", ["lean", "sdk"])
def test_tls_is_verified_and_spoken(tmp_path, monkeypatch, way):
    ca = tmp_path / "ca.pem"
    with started("--tls", "--ca", str(ca)) as server:
        assert server.url.startswith("https://")
        with (
            client_for(server.url, tmp_path, transport=way) as client,
            pytest.raises(LLMError, match=r"(?i)certificate"),
        ):
            client.complete([call("hello")], label="test")
        monkeypatch.setenv("SSL_CERT_FILE", str(ca))
        with client_for(server.url, tmp_path, transport=way) as client:
            replies = client.complete([*calls(20), call("fault=midbodyx1")], label="test")
        assert {reply.status for reply in replies} == {"ok"}


@pytest.mark.parametrize("way", ["lean", "sdk"])
def test_a_proxy_of_the_environment_is_used(tmp_path, monkeypatch, way):
    # The server takes whole URLs too, as a proxy gets them.
    with started() as server:
        monkeypatch.setenv("HTTP_PROXY", server.url)
        monkeypatch.setenv("http_proxy", server.url)
        with client_for(
            server.url, tmp_path, base_url="http://models.invalid/v1", transport=way
        ) as client:
            (reply,) = client.complete([call("hello")], label="test")
        assert reply.status == "ok"
        assert server.stats()["headers"]["host"] == "models.invalid"


def test_a_proxy_never_leads_to_this_machine(tmp_path, monkeypatch):
    monkeypatch.setenv("HTTP_PROXY", "http://127.0.0.1:9")
    monkeypatch.setenv("http_proxy", "http://127.0.0.1:9")
    for name in ("NO_PROXY", "no_proxy"):
        monkeypatch.delenv(name, raising=False)
    with started() as server, client_for(server.url, tmp_path) as client:
        assert client.complete([call("hello")], label="test")[0].status == "ok"


def test_several_endpoints_share_the_calls(tmp_path):
    with started("--latency", "0.05") as one, started("--latency", "0.05") as two:
        with client_for(
            one.url, tmp_path, endpoints=({"base_url": f"{two.url}/v1", "model": "m"},)
        ) as client:
            replies = client.complete(calls(400), label="test")
        counts = [server.stats()["requests"] for server in (one, two)]
    assert {reply.status for reply in replies} == {"ok"}
    assert sum(counts) == 400
    assert min(counts) > 100


def endpoints_by_prompt(home: Path) -> dict[str, str]:
    """The stored rows: by prompt the base URL of the endpoint whose reply was kept."""
    with (
        ReplyStore(home / "llm" / "replies.sqlite") as store,
        store.database.reading() as connection,
    ):
        rows = connection.execute(sa.select(REPLIES.c.request, REPLIES.c.endpoint)).all()
    return {json.loads(row.request)["messages"][-1]["content"]: row.endpoint for row in rows}


@pytest.mark.parametrize("way", ["killed", "wrong key", "never there"])
def test_another_endpoint_takes_over_and_nothing_is_paid_twice(tmp_path, way):
    options = ["--keys", "another"] if way == "wrong key" else []
    with (
        started("--latency", "0.05", *options) as one,
        started("--latency", "0.05") as two,
        client_for(
            one.url,
            tmp_path,
            base_url="http://127.0.0.1:9/v1" if way == "never there" else None,
            endpoints=({"base_url": f"{two.url}/v1"},),
        ) as client,
    ):
        came: dict[str, Reply] = {}
        by_one: set[str] = set()
        killed_after = 0
        for number, reply in client.stream(calls(600), label="test"):
            came[f"prompt {number}"] = reply
            if way == "killed" and len(came) == 100:
                by_one = set(one.stats()["answered"])
            # Not before all that it had answered by then has come.
            if by_one and not killed_after and by_one <= came.keys():
                one.process.kill()
                killed_after = len(came)
        assert {reply.status for reply in came.values()} == {"ok"}
        assert len(came) == 600
        by_two = two.stats()["answered"]
        assert set(two.stats()["prompts"].values()) == set(by_two.values()) == {1}
        if way == "killed":
            assert 100 <= killed_after < 600
        else:
            by_one = set(one.stats()["answered"])
    # Had one endpoint answered what was sent again to the other, its reply would be missing.
    kept = endpoints_by_prompt(tmp_path)
    assert {prompt for prompt, url in kept.items() if url == f"{two.url}/v1"} == by_two.keys()
    assert {kept[prompt] for prompt in by_one} <= {f"{one.url}/v1"}
    assert len(kept) == 600
    # Replies are the role's, whoever made them: asked again, no endpoint is needed.
    with client_for(one.url, tmp_path) as client:
        assert all(reply.stored for reply in client.complete(calls(600), label="test"))


def test_when_all_endpoints_are_gone_it_says_so(tmp_path):
    further = {"base_url": "http://127.0.0.1:10/v1"}
    with (
        client_for("http://127.0.0.1:9", tmp_path, endpoints=(further,)) as client,
        pytest.raises(LLMError, match=r"no connection.*start the endpoint"),
    ):
        client.complete(calls(5), label="test")


def test_hedging_takes_the_first_of_two(tmp_path: Path):
    with started("--latency", "0.02") as server:
        with client_for(server.url, tmp_path, hedge_after_s=0.3) as client:
            # The first never ends: without a second only the deadline would mend it.
            (reply,) = client.complete([call("fault=hangx1")], label="test")
            assert not client.report.retries
        assert reply.status == "ok"
        assert server.stats()["requests"] == 2
    with started("--latency", "0.5") as server:
        # Off by default.
        with client_for(server.url, tmp_path / "off") as client:
            client.complete([call("hello")], label="test")
        assert server.stats()["requests"] == 1


def test_an_error_in_an_answer_of_status_200_is_an_error(tmp_path):
    from resources.llm.completion import is_error
    from resources.llm.endpoint import _with_true_status
    from resources.llm.faults import HttpAnswer

    body = {"error": {"code": 429, "message": "slow down"}}
    assert is_error(body)
    assert _with_true_status(HttpAnswer(200, {}, b""), body).status == 429
    assert not is_error({"choices": [], "error": None})

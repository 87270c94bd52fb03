"""What ``opencs doctor`` says of endpoints, replies, prices and ceilings; real servers."""

import json
from pathlib import Path

import pytest

from opencs_assets.cli.doctor import Diagnosis, examine
from resources.llm.store import ReplyStore
from resources.settings import load_settings
from tests.integration.llm.conftest import KEY, TestServer, client_for, started
from tests.unit.resources.test_archive import key, record
from tests.unit.resources.test_reply_store import send, sent

ROLE = '[roles.tagger]\nbase_url = "{url}"\nmodel = "{model}"\napi_key_env = "TEST_API_KEY"\n'


@pytest.fixture(autouse=True)
def _quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """What takes seconds and is not looked at here."""
    monkeypatch.setattr("opencs_assets.cli.doctor._gpu", lambda: Diagnosis("gpu", "ok", ""))
    monkeypatch.delenv("OPENCS_HOME", raising=False)


def found(home: Path, settings: str = "", *, probe: bool = False) -> dict[str, Diagnosis]:
    (home / "settings.toml").write_text(settings)
    return {each.what: each for each in examine(load_settings(home), probe=probe)}


def role(server: TestServer, model: str = "m", **more: str) -> str:
    lines = ROLE.format(url=f"{server.url}/v1", model=model)
    return lines + "".join(f"{name} = {value}\n" for name, value in more.items())


def test_an_endpoint_that_answers_and_what_is_remembered_of_it(server, tmp_path):
    settings = role(server)
    before = found(tmp_path, settings)["role tagger"]
    assert before.state == "ok"
    assert "read by generated, replies held by json_schema; not asked yet" in before.detail
    assert server.stats()["requests"] == 0

    server.configure(without=["logprobs", "grammar"])
    asked = found(tmp_path, settings, probe=True)["role tagger"]
    assert (asked.state, asked.detail.split("; ", 1)[1]) == (
        "ok",
        "has json_schema; lacks grammar, logprobs",
    )
    server.reset()
    assert found(tmp_path, settings)["role tagger"] == asked
    assert server.stats()["requests"] == 0

    server.configure(without=["json_schema"])
    again = found(tmp_path, settings, probe=True)["role tagger"]
    assert again.detail.endswith("has tool, grammar, logprobs; lacks json_schema")


def test_a_probe_that_gets_no_plain_answer_says_nothing_of_features(server, tmp_path):
    server.configure(without=["messages"])
    asked = found(tmp_path, role(server), probe=True)["role tagger"]
    assert asked.state == "problem"
    assert "HTTP 400" in asked.detail
    assert "not asked yet" in found(tmp_path, role(server))["role tagger"].detail


def test_every_endpoint_of_a_role_is_looked_at(server, tmp_path, monkeypatch):
    monkeypatch.setenv("OTHER_KEY", "k")
    places = [
        {"base_url": f"{server.url}/v1", "model": "gpt-4o", "api_key_env": "OTHER_KEY"},
        {"base_url": "http://127.0.0.1:9/v1"},
        {"base_url": "https://api.example.com/v1", "api_key_env": "NO_SUCH_KEY"},
        {"base_url": "api.example.com/v1"},
        {"base_url": server.url, "model": "any-name", "api_version": "2024-10-21"},
    ]
    inline = ", ".join(
        "{" + ", ".join(f"{name} = {json.dumps(value)}" for name, value in each.items()) + "}"
        for each in places
    )
    seen = found(tmp_path, role(server, endpoints=f"[{inline}]"))
    states = [seen[f"role tagger, endpoint {number}"] for number in range(2, 7)]
    assert [each.state for each in states] == ["ok", "problem", "problem", "problem", "ok"]
    assert "does not answer" in states[1].detail
    assert "NO_SUCH_KEY" in states[2].detail
    assert "must begin with http" in states[3].detail
    assert "any-name at" in states[4].detail
    asked = found(tmp_path, role(server, endpoints=f"[{inline}]"), probe=True)
    assert "has json_schema" in asked["role tagger, endpoint 6"].detail


def test_keys_models_and_urls_that_are_wrong(server, tmp_path):
    unlisted = found(tmp_path, role(server, model="m2"))["role tagger"]
    assert (unlisted.state, "does not list m2, it lists gpt-4o-mini" in unlisted.detail) == (
        "warning",
        True,
    )
    elsewhere = ROLE.format(url=f"{server.url}/v2", model="m")
    lists_none = found(tmp_path, elsewhere)["role tagger"]
    assert (lists_none.state, "lists no models" in lists_none.detail) == ("warning", True)
    server.configure(keys=["another"])
    refused = found(tmp_path, role(server))["role tagger"]
    assert (refused.state, "check the key in TEST_API_KEY" in refused.detail) == ("problem", True)
    assert KEY not in str(refused)


def test_tls_that_is_not_trusted_is_told_and_how_to_trust_it(tmp_path, monkeypatch):
    monkeypatch.setenv("TEST_API_KEY", KEY)
    authority = tmp_path / "ca.pem"
    with started("--tls", "--ca", str(authority)) as server:
        refused = found(tmp_path, role(server))["role tagger"]
        assert refused.state == "problem"
        assert "TLS fails" in refused.detail
        assert "SSL_CERT_FILE" in refused.detail
        monkeypatch.setenv("SSL_CERT_FILE", str(authority))
        assert found(tmp_path, role(server))["role tagger"].state == "ok"
        plain = ROLE.format(url=f"{server.url.replace('https', 'http')}/v1", model="m")
        assert found(tmp_path, plain)["role tagger"].state == "problem"


def test_the_reply_store_is_opened_and_counted(tmp_path, postgres_url):
    with ReplyStore(tmp_path / "llm" / "replies.sqlite") as store:
        store.put_many([record(number) for number in range(3)])
    told = found(tmp_path)["reply store"]
    assert (told.state, told.detail.startswith("3 replies, ")) == ("ok", True)
    assert "version 3" in told.detail
    assert str(tmp_path) in told.detail
    postgres = found(tmp_path, f'replies_url = "{postgres_url}"\n')["reply store"]
    assert (postgres.state, postgres.detail.startswith("0 replies")) == ("ok", True)


def test_a_reply_store_that_can_not_be_used(server, tmp_path):
    dead = 'replies_url = "postgresql+psycopg://user:hidden@127.0.0.1:9/opencs"\n'
    seen = found(tmp_path, dead + role(server))
    for what in ("reply store", "role tagger"):
        assert seen[what].state == "problem"
        assert "check replies_url" in seen[what].detail
        assert "hidden" not in seen[what].detail


def test_whose_price_each_role_has(server, tmp_path):
    assert found(tmp_path)["prices"] == Diagnosis("prices", "ok", "every role is free")
    paid = '[roles.judge]\nbase_url = "https://api.openai.com/v1"\nmodel = "gpt-4o-mini"\n'
    listed = found(tmp_path, paid)["prices"]
    assert (listed.state, listed.detail.split()[:3]) == (
        "ok",
        ["gpt-4o-mini", "by", "genai-prices"],
    )
    missing = found(tmp_path, role(server) + paid)["prices"]
    assert (missing.state, "no price of m: add it to" in missing.detail) == ("warning", True)
    (tmp_path / "prices.toml").write_text(
        "as_of = 2025-02-28\n[models]\nm = { input = 1, output = 1 }\n"
    )
    own = found(tmp_path, role(server))["prices"]
    assert (own.state, own.detail) == ("ok", "m by prices.toml as of 2025-02-28")
    (tmp_path / "prices.toml").write_text("as_of = yesterday")
    assert found(tmp_path)["prices"].state == "problem"


def test_ceilings_with_what_was_spent_this_month(tmp_path):
    assert "no ceiling is set" in found(tmp_path)["budget"].detail
    with ReplyStore(tmp_path / "llm" / "replies.sqlite") as store:
        store.put(record(1, cost_usd=2.5))
    ceilings = (
        "[budget]\nmax_cost_usd = 5\nmax_cost_usd_per_month = 10\n"
        "max_cost_usd_per_asset = {open_tags = 3}\n"
    )
    told = found(tmp_path, ceilings)["budget"]
    assert (told.state, told.detail) == (
        "ok",
        "$2.5 spent this month of at most $10, a run at most $5, open_tags at most $3 in a run",
    )
    reached = found(tmp_path, "[budget]\nmax_cost_usd_per_month = 2\n")["budget"]
    assert (reached.state, "raise budget.max_cost_usd_per_month" in reached.detail) == (
        "warning",
        True,
    )


def test_calls_of_a_killed_process_are_in_the_line_of_the_budget(tmp_path):
    with ReplyStore(tmp_path / "llm" / "replies.sqlite") as store:
        store.put(record(1, cost_usd=2.5))
        send(store, sent(key(2), "an owner that is gone", most_usd=1.5))
    for _ in range(2):
        assert found(tmp_path)["budget"].detail == (
            "$4 spent this month ($1.5 of it for calls that were in flight when their process was "
            "killed), no ceiling is set"
        )


def test_usage_says_how_much_came_from_the_store_and_where_ceilings_stand(server, tmp_path):
    from opencs_assets.wiring.usage import usage_metadata
    from resources.llm.types import Call
    from resources.settings import BudgetSettings

    budget = BudgetSettings(
        max_cost_usd=1, max_cost_usd_per_asset={"open_tags": 2}, max_cost_usd_per_month=3
    )

    def ask(count: int) -> dict:
        with client_for(server.url, tmp_path, budget=budget, run="r") as client:
            calls = [Call(({"role": "user", "content": f"{n}"},), "v") for n in range(count)]
            client.complete(calls, label="calls")
        return usage_metadata(client)

    first = ask(3)
    cost = first["cost_usd"]
    assert (first["calls_from_store_pct"], first["calls_expected_new"]) == (0, 3)
    assert {"latency_s_p50", "latency_s_p95", "cost_usd_expected"} <= set(first)
    second = ask(4)
    assert (second["calls_from_store_pct"], second["calls_expected_new"]) == (75, 1)
    for scope, ceiling in (("run", 1), ("asset", 2), ("month", 3)):
        assert first[f"{scope}_spent_usd"] == pytest.approx(cost)
        assert second[f"{scope}_spent_usd"] == pytest.approx(cost * 4 / 3)
        assert second[f"{scope}_ceiling_usd"] == ceiling
    budget = BudgetSettings()
    assert not [name for name in ask(4) if "ceiling" in name or "spent" in name]
    assert key(1) not in str(second)

"""Judging through a client of a real process: what is asked, when it stops, what is told of it."""

import json
from collections import Counter
from collections.abc import Iterator

import httpx
import polars as pl
import pytest

from opencs_assets.protocols.stopping import EarlyStop
from opencs_assets.protocols.tasks import pair_tasks, single_tasks
from opencs_assets.verdicts.judging import judge_pairs, judge_single
from resources.llm.client import LLMClient
from resources.llm.resource import LLMResource
from tests.integration.servers.started import started
from tests.unit.protocols.frames import both_turns, pair_of, question_frame, single_of

EARLY = EarlyStop(0.95, 5, 0)


@pytest.fixture(scope="module")
def url() -> Iterator[str]:
    with started("verdict_server.py") as url:
        yield url


@pytest.fixture
def judge(url, tmp_path, monkeypatch) -> Iterator[LLMClient]:
    monkeypatch.setenv("TEST_API_KEY", "sk-test")
    httpx.post(f"{url}/configure", json={})
    (tmp_path / "settings.toml").write_text(
        f'[roles.judge]\nbase_url = "{url}/v1"\nmodel = "judge"\n'
        'api_key_env = "TEST_API_KEY"\nreading = "generated"\n'
    )
    with LLMResource(home=str(tmp_path)).client("judge", stage="pairwise_verdicts") as client:
        yield client


def asked(url: str) -> list[dict]:
    return httpx.get(f"{url}/asked").json()


def judged(judge, wins: int, losses: int = 0, early=None, protocol="scores", answered=1_000):
    """Verdicts on questions of which model a has the better answers to the first ones."""
    names = [f"q{n:02}" for n in range(wins + losses)]
    worth = {"a": [8] * wins + [2] * losses, "b": [5] * len(names)}
    answers = {
        side: pl.concat(
            both_turns(name, words=f"worth={each}")
            for name, each in zip(names, worths, strict=True)
        )
        for side, worths in worth.items()
    }
    tasks = pair_tasks(
        question_frame(*names), answers["a"], answers["b"].head(answered), "smoke",
        by_turn=pair_of(protocol).by_turn,
    )  # fmt: skip
    sides = {"model_a": "x", "model_b": "y"}
    return judge_pairs(judge, tasks, pair_of(protocol), early=early, **sides)


def test_all_are_asked_for_once_and_those_without_an_answer_never(judge, url):
    table, last = judged(judge, 2, 1, answered=5)
    assert last is None
    assert table["winner"].to_list() == ["a", "a", "a", "a", None, None]
    assert table["status"].to_list() == ["ok"] * 4 + ["no_answer"] * 2
    assert table.select("model_a", "model_b", "judge").unique().rows() == [("x", "y", "judge")]
    assert len(asked(url)) == 4
    assert judged(judge, 2, 1, answered=5)[0].equals(table)
    assert len(asked(url)) == 4


def test_it_stops_where_the_result_is_clear_and_goes_on_from_there(judge, url):
    table, last = judged(judge, 60, early=EARLY)
    counts = Counter(table["status"])
    assert set(counts) == {"ok", "stopped"}
    assert counts["ok"] == len(asked(url)) == 2 * last.questions
    assert last.questions % EARLY.batch == 0
    assert last.is_clear
    assert last.low > 0.5
    assert table["sampling"].n_unique() == 1
    assert set(judged(judge, 60)[0]["status"]) == {"ok"}
    assert len(asked(url)) == 120


def test_it_asks_for_all_where_the_result_is_not_clear(judge):
    table, last = judged(judge, 6, 6, early=EARLY, protocol="choice")
    assert set(table["status"]) == {"ok"}
    assert (last.questions, last.mean, last.is_clear) == (12, 0.5, False)


def test_what_could_not_be_read_decides_nothing_and_is_not_paid_for_again(judge, url):
    httpx.post(f"{url}/configure", json={"mode": "mute"})
    table, last = judged(judge, 6, early=EARLY)
    assert set(table["status"]) == {"unparsable"}
    assert table["winner"].null_count() == 12
    assert (last.questions, last.unread, last.is_clear) == (6, 6, False)
    # Asked again with the reason, three times in all.
    assert len(asked(url)) == 36
    assert sum("could not be used" in str(body) for body in asked(url)) == 24
    judged(judge, 6)
    assert len(asked(url)) == 36


@pytest.mark.parametrize("without", [[], ["temperature"]])
def test_the_sampling_is_what_was_sent(judge, url, without):
    httpx.post(f"{url}/configure", json={"without": without})
    table, _ = judged(judge, 1)
    (sampling,) = table["sampling"].unique()
    assert json.loads(sampling).keys() == {"max_tokens", "temperature"} - set(without)
    for body in asked(url):
        sent = {name: body[name] for name in body if name not in ("model", "messages")}
        assert json.loads(sampling) == sent


def test_single_scores_by_turn_and_nothing_to_judge(judge, url):
    questions, protocol = question_frame("q1"), single_of("generated")
    answers = both_turns("q1", words="worth=7")
    table = judge_single(judge, single_tasks(questions, answers), protocol)
    assert table.select("turn", "score", "status").rows() == [(1, 7.0, "ok"), (2, 7.0, "ok")]
    assert set(table["judge"]) == {"judge"}
    assert json.loads(table["sampling"][0]) == {"max_tokens": 256, "temperature": 0.0}
    assert len(asked(url)) == 2
    none = judge_single(judge, single_tasks(questions, answers.filter(turn=2)), protocol)
    assert none.select("score", "status", "sampling").unique().rows() == [(None, "no_answer", "{}")]

import dagster as dg
import pytest

from resources.llm.errors import LLMError
from resources.llm.replies_table import LLM_REPLIES
from resources.llm.resource import LLMResource
from resources.llm.store import ReplyStore
from tests.unit.resources.test_reply_store import send, sent


def test_roles_come_from_the_homes_settings_at_call_time(tmp_path):
    llm = LLMResource(home=str(tmp_path))
    with llm.client("judge", stage="test") as client:
        assert client.model_label == "embedded:smollm2-135m-instruct"
        assert (client.reading, client.structured) == ("logprobs", "grammar")
    (tmp_path / "settings.toml").write_text(
        '[roles.judge]\nbase_url = "https://api.openai.com/v1"\nmodel = "gpt-4"\n'
    )
    with llm.client("judge", stage="test") as client:
        assert client.model_label == "gpt-4"
        assert (client.reading, client.structured) == ("generated", "json_schema")


def test_an_unknown_role_is_named(tmp_path):
    known = "no role 'critic'; the roles are tagger, scorer, refiner, judge"
    with pytest.raises(LLMError, match=known):
        LLMResource(home=str(tmp_path)).client("critic", stage="test")


def test_no_replies_yet(tmp_path):
    replies = LLMResource(home=str(tmp_path)).replies()
    assert replies.schema == LLM_REPLIES.schema
    assert replies.height == 0


def test_calls_of_one_run_share_its_budget(tmp_path):
    seen = []

    @dg.asset
    def asks(context: dg.AssetExecutionContext, llm: LLMResource) -> None:
        with llm.client("tagger", stage="asks", log=context.log.info) as client:
            seen.append((client._run, context.run.run_id))

    dg.materialize([asks], resources={"llm": LLMResource(home=str(tmp_path))})
    assert seen[0][0] == seen[0][1]


def test_calls_of_a_killed_process_are_among_the_replies(tmp_path):
    with ReplyStore(tmp_path / "llm" / "replies.sqlite") as store:
        send(store, sent("k", "an owner that is gone"))
    assert LLMResource(home=str(tmp_path)).replies()["status"].to_list() == ["lost"]

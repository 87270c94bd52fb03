import polars as pl
import pytest

from opencs_assets.open_tags import tagging
from opencs_assets.tables.columns import MESSAGES
from opencs_assets.tables.open_tags import OPEN_TAGS, UNPARSABLE_TAGS
from resources.llm.errors import Unparsable
from resources.llm.types import Outcome, Reply, UnusableReply
from resources.schema import conform


def reply(text):
    return Reply(reply_id="r", status="ok", text=text)


def tags_of(text):
    return [item["tag"] for item in tagging.parse_tags(reply(text))]


@pytest.mark.parametrize(
    ("text", "tags"),
    [
        ('["poetry", "nature"]', ["poetry", "nature"]),
        ('[{"tag": "poetry", "explanation": "a poem"}]', ["poetry"]),
        ('{"tag": "poetry", "explanation": "a poem"}', ["poetry"]),
        ('{"tags": [{"tag": "poetry", "explanation": "x"}]}', ["poetry"]),
        ('```json\n["poetry"]\n```', ["poetry"]),
        ('Here are the tags: ["poetry"] I hope this helps!', ["poetry"]),
        ('["poetry", "poetry", " nature "]', ["poetry", "nature"]),
        ('["poetry", 3, null, "", {"x": 1}]', ["poetry"]),
    ],
)
def test_reads_what_models_write(text, tags):
    assert tags_of(text) == tags


@pytest.mark.parametrize("text", ["", "poetry", '["poetry", "nat', "[]", "[1, 2]", '{"a": 1}'])
def test_says_what_it_cannot_read(text):
    with pytest.raises(Unparsable):
        tagging.parse_tags(reply(text))


def test_an_endless_tag_is_no_tag():
    with pytest.raises(Unparsable):
        tagging.parse_tags(reply(f'["{"x" * 500}"]'))


def test_the_query_is_all_that_the_user_asks():
    frame = pl.DataFrame(
        {
            "sample_id": ["s"],
            "instruction": ["Summarize\n\nThe input text"],
            "messages": [
                [
                    {"role": "user", "content": "Summarize\n\nThe input text"},
                    {"role": "assistant", "content": "An answer"},
                    {"role": "user", "content": "Shorter please"},
                    {"role": "assistant", "content": "Ok"},
                ]
            ],
        },
        schema={"sample_id": pl.String, "instruction": pl.String, "messages": MESSAGES},
    )
    (query,) = tagging.queries(frame)
    assert query.text == "Summarize\n\nThe input text\n\nShorter please"


@pytest.mark.parametrize("form", ["compact", "explained"])
def test_a_retry_is_another_call_and_says_why(form):
    query = tagging.TaggedQuery("s", "Write a poem")
    first = tagging.build_call(query, 0, None, form)
    second = tagging.build_call(query, 1, "the reply has no tag", form)
    assert (first.attempt, second.attempt) == (0, 1)
    assert "the reply has no tag" in second.messages[-1]["content"]
    assert first.prompt_version == second.prompt_version


def test_a_changed_prompt_is_another_version(monkeypatch):
    before = tagging.prompt_version("compact")
    monkeypatch.setattr(tagging, "_COMPACT", "Something else.")
    assert tagging.prompt_version("compact") != before


def test_untagged_samples_keep_a_row():
    queries = [tagging.TaggedQuery("a", "x"), tagging.TaggedQuery("b", "y")]
    outcomes = [
        Outcome([{"tag": "t", "explanation": ""}], "ok", None, 1, reply("")),
        Outcome(None, "unparsable", "the reply has no list", 3, reply("")),
    ]
    table = tagging.tags_table(queries, outcomes, model="m", form="compact")
    conform(table, OPEN_TAGS)
    assert table["status"].to_list() == ["ok", "unparsable"]
    assert table["tags"].list.len().to_list() == [1, 0]


def test_every_reply_that_could_not_be_used_is_a_row():
    queries = [
        tagging.TaggedQuery("a", "x"),
        tagging.TaggedQuery("b", "y"),
        tagging.TaggedQuery("c", "z"),
    ]
    first = UnusableReply(0, "unparsable", "the reply has no list", reply("poetry, nature"))
    second = UnusableReply(1, "truncated", None, reply('["poetry", "na'))
    outcomes = [
        Outcome([{"tag": "t", "explanation": ""}], "ok", None, 1, reply("")),
        Outcome([{"tag": "t", "explanation": ""}], "ok", None, 2, reply(""), (first,)),
        Outcome(None, "truncated", None, 2, reply(""), (first, second)),
    ]
    table = tagging.unparsable_table(queries, outcomes, model="m", form="compact")
    conform(table, UNPARSABLE_TAGS)
    assert table.select("sample_id", "attempt", "status", "reason", "reply").rows() == [
        ("b", 1, "unparsable", "the reply has no list", "poetry, nature"),
        ("c", 1, "unparsable", "the reply has no list", "poetry, nature"),
        ("c", 2, "truncated", "truncated", '["poetry", "na'),
    ]

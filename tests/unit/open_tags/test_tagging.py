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


@pytest.mark.parametrize(
    ("text", "tags"),
    [
        ('["poetry", "nature"]', {"poetry": "", "nature": ""}),
        ('[{"tag": "poetry", "explanation": " a poem "}]', {"poetry": "a poem"}),
        ('{"tag": "poetry", "explanation": "a poem"}', {"poetry": "a poem"}),
        ('{"tags": [{"tag": "poetry", "explanation": "x"}]}', {"poetry": "x"}),
        ('[{"tags": "x", "tag": "poetry"}]', {"poetry": ""}),
        ('["poetry", {"tags": ["x"]}]', {"poetry": ""}),
        ('```json\n["poetry"]\n```', {"poetry": ""}),
        ('Here are the tags: ["poetry"] I hope this helps!', {"poetry": ""}),
        # Of equal tags the first is kept.
        ('["poetry", " b ", {"tag": "poetry", "explanation": "a"}]', {"poetry": "", "b": ""}),
        ('["poetry", 3, null, "", " ", {"x": 1}, {"tag": 1}]', {"poetry": ""}),
        ('[{"tag": "poetry", "explanation": 4}]', {"poetry": ""}),
        (f'["{"x" * 80}", " {"y" * 80} ", "{"z" * 81}"]', {"x" * 80: "", "y" * 80: ""}),
        (str(list("abcdefghij")).replace("'", '"'), dict.fromkeys("abcdefgh", "")),
    ],
)  # fmt: skip
def test_reads_what_models_write(text, tags):
    assert tagging.parse_tags(reply(text)) == [
        {"tag": tag, "explanation": why} for tag, why in tags.items()
    ]


@pytest.mark.parametrize(
    "text",
    ["", "poetry", '["poetry", "nat', "[]", "[1]", '{"a": 1}', '{"tags": "a"}', f'["{"x" * 81}"]'],
)
def test_says_what_it_cannot_read(text):
    with pytest.raises(Unparsable):
        tagging.parse_tags(reply(text))


@pytest.mark.parametrize(
    ("messages", "text"),
    [
        (["user Sum up\n\nThe input"], "Sum up\n\nThe input"),
        (
            ["user Sum up\n\nThe input", "assistant An answer", "user Shorter", "user Thanks"],
            "Sum up\n\nThe input\n\nShorter\n\nThanks",
        ),
    ],
)
def test_the_query_is_all_that_the_user_asks(messages, text):
    turns = [dict(zip(("role", "content"), each.split(" ", 1), strict=True)) for each in messages]
    frame = pl.DataFrame(
        {"sample_id": ["s"], "instruction": [turns[0]["content"]], "messages": [turns]},
        schema={"sample_id": pl.String, "instruction": pl.String, "messages": MESSAGES},
    )
    assert tagging.queries(frame) == [tagging.TaggedQuery("s", text)]


def test_the_calls_of_both_forms():
    query = tagging.TaggedQuery("s", "Write a poem")
    call = tagging.build_call(query, 0, None, "explained")
    assert (call.temperature, call.max_tokens) == (0.6, 1024)
    assert (call.json_schema, call.grammar) == (tagging.SCHEMA, None)
    assert [each["role"] for each in call.messages] == ["system", "user"]
    assert call.messages[1]["content"] == "Request:\nWrite a poem"
    call = tagging.build_call(query, 0, None, "compact")
    assert (call.max_tokens, call.json_schema, call.grammar) == (48, None, tagging.GRAMMAR)
    assert [each["role"] for each in call.messages] == [
        "system",
        *["user", "assistant"] * 5,
        "user",
    ]
    assert call.messages[-1]["content"] == "Write a poem"
    assert tagging.form_of("grammar") == "compact"
    assert tagging.form_of("json_schema") == tagging.form_of(None) == "explained"
    assert tagging.MAX_ATTEMPTS == 3


@pytest.mark.parametrize("form", ["compact", "explained"])
def test_a_retry_is_another_call_and_says_why(form):
    query = tagging.TaggedQuery("s", "Write a poem")
    first = tagging.build_call(query, 0, None, form)
    second = tagging.build_call(query, 1, "the reply has no tag", form)
    assert (first.attempt, second.attempt) == (0, 1)
    assert second.messages[-1]["content"].endswith(
        "Write a poem\n\n(The last reply could not be used: the reply has no tag. Reply with the "
        "list only.)"
    )
    assert first.prompt_version == second.prompt_version == tagging.prompt_version(form)


def test_a_changed_prompt_is_another_version(monkeypatch):
    # What was tagged before stays what it is as long as these do not change.
    assert tagging.prompt_version("compact") == "tagging-compact-d9ebf503"
    assert tagging.prompt_version("explained") == "tagging-explained-53760d81"
    monkeypatch.setattr(tagging, "_COMPACT", "Something else.")
    assert tagging.prompt_version("compact") != "tagging-compact-d9ebf503"


def test_every_sample_has_a_row_and_so_has_every_reply_that_could_not_be_used():
    queries = [tagging.TaggedQuery(name, name) for name in "abc"]
    tags = [{"tag": "t", "explanation": ""}]
    first = UnusableReply(0, "unparsable", "the reply has no list", reply("poetry, nature"))
    second = UnusableReply(1, "truncated", None, reply('["poetry", "na'))
    outcomes = [
        Outcome(tags, "ok", None, 1, reply("")),
        Outcome(tags, "ok", None, 2, reply(""), (first,)),
        Outcome(None, "truncated", "cut", 3, reply(""), (first, second)),
    ]
    version = tagging.prompt_version("compact")
    table = tagging.tags_table(queries, outcomes, model="m", form="compact")
    assert conform(table, OPEN_TAGS).rows() == [
        ("a", tags, "ok", None, 1, "r", "m", version),
        ("b", tags, "ok", None, 2, "r", "m", version),
        ("c", [], "truncated", "cut", 3, "r", "m", version),
    ]
    table = tagging.unparsable_table(queries, outcomes, model="m", form="compact")
    assert conform(table, UNPARSABLE_TAGS).select(
        "sample_id", "attempt", "status", "reason", "reply", "reply_id", "model", "prompt_version"
    ).rows() == [
        ("b", 1, "unparsable", "the reply has no list", "poetry, nature", "r", "m", version),
        ("c", 1, "unparsable", "the reply has no list", "poetry, nature", "r", "m", version),
        ("c", 2, "truncated", "truncated", '["poetry", "na', "r", "m", version),
    ]

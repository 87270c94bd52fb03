"""From a decoded answer to a reply's parts."""

import contextlib
import json
import math
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from resources.llm.completion import Completion, encodable, read_completion

NO_COMPLETION = "the endpoint's answer is not a chat completion"
USAGE = {"prompt_tokens": 9, "completion_tokens": 2, "total_tokens": 11}


def body(content: Any = "hello", *, choice: Any = None, **message: Any) -> dict[str, Any]:
    said = {"role": "assistant", "content": content, **message}
    first = {"index": 0, "message": said, "finish_reason": "stop", **(choice or {})}
    return {"id": "chatcmpl-1", "object": "chat.completion", "choices": [first], "usage": USAGE}


def read(answer: Any, *, wants_logprobs: bool = False) -> Completion:
    return read_completion(answer, max_tokens=16, wants_logprobs=wants_logprobs)


def with_logprobs(*positions: Any, content: Any = "A", finish_reason: str = "length") -> Any:
    return body(
        content, choice={"finish_reason": finish_reason, "logprobs": {"content": [*positions]}}
    )


def position(token: Any, logprob: Any, **top: Any) -> dict[str, Any]:
    listed = [{"token": name, "logprob": value, "bytes": None} for name, value in top.items()]
    return {"token": token, "logprob": logprob, "bytes": None, "top_logprobs": listed}


def call(arguments: Any) -> list[dict[str, Any]]:
    function = {"name": "reply", "arguments": arguments}
    return [{"id": "call_1", "type": "function", "function": function}]


def test_an_ordinary_completion():
    assert read(body()) == Completion(
        status="ok",
        detail=None,
        text="hello",
        logprobs=(),
        finish_reason="stop",
        prompt_tokens=9,
        completion_tokens=2,
        has_usage=True,
        provider_id="chatcmpl-1",
        cached_tokens=0,
    )


@pytest.mark.parametrize(
    ("answer", "status", "detail", "text"),
    [
        ({"choices": []}, "refused", "the endpoint returned no choice", ""),
        (body("so far", choice={"finish_reason": "content_filter"}),
         "refused", "the provider's content filter stopped the reply", "so far"),
        (body(None, refusal="I can't."), "refused", "the model refused", "I can't."),
        (body("once upon", choice={"finish_reason": "length"}),
         "truncated", "the reply was cut at 16 tokens", "once upon"),
        (body(None), "refused", "the reply is empty", ""),
        (body(" \n"), "refused", "the reply is empty", ""),
        (body([]), "refused", "the reply is empty", ""),
        (body("hello", refusal="", tool_calls=[]), "ok", None, "hello"),
        (body("half \ud83d of it"), "ok", None, "half ? of it"),
        (body(None, refusal="\udc00"), "refused", "the model refused", "?"),
        (body([{"type": "text", "text": "a"}, {"type": "thinking", "thinking": []},
               {"type": "text", "text": "b\n"}]), "ok", None, "ab\n"),
        (body(None, tool_calls=call('{"score": 7}')), "ok", None, '{"score": 7}'),
        (body("I'll call.", tool_calls=call("[1]"), choice={"finish_reason": "tool_calls"}),
         "ok", None, "[1]"),
        (body(None, tool_calls=call('{"sc'), choice={"finish_reason": "length"}),
         "truncated", "the reply was cut at 16 tokens", '{"sc'),
        (body(None, tool_calls=call("")), "refused", "the reply is empty", ""),
    ],
)  # fmt: skip
def test_what_a_completion_means(answer, status, detail, text):
    found = read(answer)
    assert (found.status, found.detail, found.text) == (status, detail, text)


@pytest.mark.parametrize(
    "answer",
    [
        None, [], "<html>", 3, {}, {"error": {"message": "secret"}},
        {"choices": None}, {"choices": {"0": {}}}, {"choices": [None]}, {"choices": ["secret"]},
        {"choices": [{}]}, {"choices": [{"message": None}]}, {"choices": [{"message": "secret"}]},
        {"choices": [{"text": "secret"}]}, {"choices": [{"delta": {"content": "secret"}}]},
        body(3), body({"text": "secret"}), body(["secret"]), body([{"type": "text"}]),
        body(refusal={"secret": 1}),
        body(tool_calls="secret"), body(tool_calls=["secret"]), body(tool_calls=[{}]),
        body(tool_calls=call(None)), body(tool_calls=call({"secret": 1})),
    ],
)  # fmt: skip
def test_what_is_no_completion_is_said_without_quoting_it(answer):
    with pytest.raises(ValueError, match=f"^{NO_COMPLETION}$"):
        read(answer)


@pytest.mark.parametrize(
    ("usage", "tokens", "has_usage"),
    [
        (USAGE, (9, 2, 0), True),
        (None, (0, 0, 0), False),
        ("much", (0, 0, 0), False),
        ({"prompt_tokens": 9}, (9, 0, 0), False),
        ({"prompt_tokens": 9, "completion_tokens": 0}, (9, 0, 0), True),
        ({"prompt_tokens": True, "completion_tokens": -1}, (0, 0, 0), False),
        ({"prompt_tokens": 10**30, "completion_tokens": "2"}, (0, 0, 0), False),
        ({**USAGE, "prompt_tokens_details": {"cached_tokens": 8}}, (9, 2, 8), True),
        ({**USAGE, "prompt_tokens_details": {"cached_tokens": None}}, (9, 2, 0), True),
        ({**USAGE, "prompt_tokens_details": None}, (9, 2, 0), True),
    ],
)
def test_usage(usage, tokens, has_usage):
    found = read({**body(), "usage": usage})
    counted = (found.prompt_tokens, found.completion_tokens, found.cached_tokens)
    assert (counted, found.has_usage) == (tokens, has_usage)


@pytest.mark.parametrize("given_id", [None, 7, {}])
def test_an_id_or_reason_of_another_kind_is_none(given_id):
    found = read({**body(choice={"finish_reason": given_id}), "id": given_id})
    assert (found.provider_id, found.finish_reason, found.status) == (None, None, "ok")


def test_alternatives_hold_the_token_itself():
    answer = with_logprobs(position("A", -0.5, B=-1, A=-0.5), position("C", -3.0, D=-0.1))
    found = read(answer, wants_logprobs=True)
    assert found.logprobs == ((("B", -1.0), ("A", -0.5)), (("D", -0.1), ("C", -3.0)))
    assert found.status == "ok"
    assert read(answer).logprobs == ()
    assert read(answer).status == "truncated"


def test_with_alternatives_a_blank_reply_can_be_read():
    found = read(with_logprobs(position("\n", -0.5, A=-1), content="\n"), wants_logprobs=True)
    assert (found.status, found.text) == ("ok", "\n")


@pytest.mark.parametrize(
    ("entry", "listed"),
    [
        (position("A", None, B=-1.0), (("B", -1.0),)),
        (position("A", -1, B=math.nan, C=-math.inf, D=math.inf, E=True, F=-(10**400)),
         (("A", -1.0),)),
        (position("A", 1e-7), (("A", 0.0),)),
        (position("\ud83d", -1.0), (("?", -1.0),)),
        (position(None, -1.0, B=-2.0), (("B", -2.0),)),
        ({"token": "A", "logprob": -1.0}, (("A", -1.0),)),
        ({"token": "A", "logprob": -1.0, "top_logprobs": [None, {"token": []}]}, (("A", -1.0),)),
        ("A", ()),
    ],
)  # fmt: skip
def test_alternatives_that_are_malformed_are_left_out(entry, listed):
    assert read(with_logprobs(entry), wants_logprobs=True).logprobs == (listed,)


@pytest.mark.parametrize("logprobs", [None, [], {}, {"content": None}, {"tokens": ["A"]}])
def test_without_alternatives_the_text_is_judged(logprobs):
    found = read(body(choice={"logprobs": logprobs}), wants_logprobs=True)
    assert (found.logprobs, found.status) == ((), "ok")


scalars = st.none() | st.booleans() | st.integers() | st.floats() | st.text()
characters = st.text(st.characters(categories=["L", "N", "P", "Z", "Cs"]))
values = st.recursive(
    scalars | characters,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=8,
)
parts = st.fixed_dictionaries({}, optional={"type": st.just("text") | values, "text": values})
functions = st.fixed_dictionaries({}, optional={"arguments": characters | values})
messages = st.fixed_dictionaries(
    {},
    optional={
        "content": characters | st.lists(parts | values, max_size=3) | values,
        "refusal": st.none() | characters | values,
        "tool_calls": st.lists(
            st.fixed_dictionaries({"function": functions | values}) | values, max_size=2
        ),
    },
)
entries = st.fixed_dictionaries(
    {}, optional={"token": characters | values, "logprob": st.floats() | values}
)
tops = st.fixed_dictionaries(
    {},
    optional={
        "token": characters | values,
        "logprob": st.floats() | values,
        "top_logprobs": st.lists(entries | values, max_size=3) | values,
    },
)
choices = st.fixed_dictionaries(
    {"message": messages | values},
    optional={
        "finish_reason": st.sampled_from(["stop", "length", "content_filter"]) | values,
        "logprobs": st.fixed_dictionaries({"content": st.lists(tops | values, max_size=3)})
        | values,
    },
)
answers = (
    st.fixed_dictionaries(
        {"choices": st.lists(choices | values, max_size=2) | values},
        optional={"id": values, "usage": st.dictionaries(st.text(), values) | values},
    )
    | values
)


@given(answers, st.booleans())
def test_any_answer_is_read_or_is_no_completion(answer, wants_logprobs):
    try:
        found = read(answer, wants_logprobs=wants_logprobs)
    except ValueError as error:
        if str(error) != NO_COMPLETION:
            raise
        return
    tokens = [token for listed in found.logprobs for token, _ in listed]
    for text in (found.text, found.finish_reason, found.provider_id, *tokens):
        (text or "").encode()
    assert all(-math.inf < logprob <= 0 for listed in found.logprobs for _, logprob in listed)
    assert json.dumps(found.text)
    assert found.status == "ok" or found.detail


@given(st.text(st.characters()))
def test_what_can_be_encoded_is_left_as_it_is(text):
    found = encodable(text)
    assert len(found) == len(text)
    with contextlib.suppress(UnicodeEncodeError):
        text.encode()
        assert found == text
    found.encode()

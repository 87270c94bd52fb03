"""Tokens of prompts to models whose tokenizer is known."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from resources.llm.tokens import TokenCounter

CL100K, O200K = TokenCounter("gpt-4"), TokenCounter("gpt-4o")
# The chat's frame around one message: its three tokens, its role, and the reply's beginning.
FRAME = 3 + 1 + 3


@pytest.mark.parametrize(
    ("text", "cl100k", "o200k"),
    [
        ("", 0, 0),
        ("hello world", 2, 2),
        ("tiktoken is great!", 6, 6),
        ("antidisestablishmentarianism", 6, 6),
        ("2 + 2 = 4", 7, 7),
        ("お誕生日おめでとう", 9, 8),
    ],
)
def test_counts_are_those_that_openai_publishes(text, cl100k, o200k):
    assert CL100K.count([text]) - FRAME == cl100k
    assert O200K.count([text]) - FRAME == o200k


def test_a_whole_prompt_counts_as_the_api_counts_it():
    # OpenAI's documentation of chat completions shows it with 19 prompt tokens.
    prompt = ["You are a helpful assistant.", "Hello!"]
    assert CL100K.count(prompt) == O200K.count(prompt) == 19
    # OpenAI's guide to counting has 129 and 124 for these, 14 of them for the messages' names.
    jargon = [
        "You are a helpful, pattern-following assistant that translates corporate jargon into "
        "plain English.",
        "New synergies will help drive top-line growth.",
        "Things working well together will increase revenue.",
        "Let's circle back when we have more bandwidth to touch base on opportunities for "
        "increased leverage.",
        "Let's talk later when we're less busy about how to do better.",
        "This late pivot means we don't have time to boil the ocean for the client deliverable.",
    ]
    assert CL100K.count(jargon) == 129 - 14
    assert O200K.count(jargon) == 124 - 14


@pytest.mark.parametrize(
    ("model", "like"),
    [
        ("gpt-3.5-turbo", CL100K),
        ("gpt-3.5-turbo-0125", CL100K),
        ("gpt-35-turbo-16k", CL100K),
        ("ft:gpt-3.5-turbo-0125:org::id", CL100K),
        ("gpt-4-turbo-2024-04-09", CL100K),
        ("gpt-4-0613", CL100K),
        ("gpt-4o-mini-2024-07-18", O200K),
        ("ft:gpt-4o-mini-2024-07-18:org::id", O200K),
        ("chatgpt-4o-latest", O200K),
        ("gpt-4.1-nano", O200K),
        ("gpt-5", O200K),
        ("gpt-5-mini-2025-08-07", O200K),
        ("gpt-5.1", O200K),
        ("o1", O200K),
        ("o3-mini", O200K),
        ("o4-mini-2025-04-16", O200K),
    ],
)
def test_openai_models_are_known(model, like):
    counter = TokenCounter(model)
    text = ["お誕生日おめでとう"]
    assert counter.known
    assert counter.count(text) == like.count(text)


@pytest.mark.parametrize(
    "model",
    ["", "embedded:smollm2-135m-instruct", "Qwen/Qwen2.5-7B-Instruct", "gpt-4all", "gpt-40",
     "my-gpt-4o", "o1x", "gpt-oss-20b"],
)  # fmt: skip
def test_other_models_are_not_known(model):
    counter = TokenCounter(model)
    assert not counter.known
    with pytest.raises(ValueError, match="not known"):
        counter.count(["hello"])


def test_special_words_are_plain_text():
    for counter in (CL100K, O200K):
        assert counter.count(["<|endoftext|><|im_start|>"]) > FRAME + 2


def test_no_text_is_too_long():
    assert O200K.count(["word " * 300_000]) > 300_000


@given(st.lists(st.text(st.characters(), max_size=50), max_size=4))
def test_any_prompt_is_counted(texts):
    size = sum(len(text.encode(errors="replace")) for text in texts)
    assert 3 + 4 * len(texts) <= O200K.count(texts) <= 3 + 4 * len(texts) + size
    assert O200K.count(texts) - 3 == sum(O200K.count([text]) - 3 for text in texts)

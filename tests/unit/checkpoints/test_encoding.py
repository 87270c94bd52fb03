"""Labels are the responses, all of them and nothing else, in the text that inference renders."""

from typing import Any

import pytest

from opencs_assets.checkpoints.encoding import (
    IGNORED,
    EncodingError,
    conversation,
    encode,
    render,
    response_spans,
)

TWO_TURNS = [
    {"role": "user", "content": "Name a colour."},
    {"role": "assistant", "content": "Blue, like the sky.\n\nOr red."},
    {"role": "user", "content": "Another: ünï 🎈?"},
    {"role": "assistant", "content": "Grün 🎈 (green)."},
]


def labelled(tokenizer: Any, labels: list[int]) -> list[str]:
    """Decoded runs of labels."""
    runs: list[list[int]] = [[]]
    for label in labels:
        if label == IGNORED:
            runs.append([])
        else:
            runs[-1].append(label)
    return [tokenizer.decode(run) for run in runs if run]


def test_loss_is_on_every_assistant_turn_with_its_end_of_turn(tokenizer):
    messages = conversation("Be brief.", TWO_TURNS)
    encoded = encode(tokenizer, messages, 512)
    assert labelled(tokenizer, encoded.labels) == [
        "Blue, like the sky.\n\nOr red.<|im_end|>",
        "Grün 🎈 (green).<|im_end|>",
    ]
    assert not encoded.truncated


@pytest.mark.parametrize("system", [None, "", "Be brief."])
def test_training_and_inference_render_the_same_bytes(tokenizer, system):
    messages = conversation(system, TWO_TURNS)
    encoded = encode(tokenizer, messages, 512)
    assert tokenizer.decode(encoded.input_ids) == render(tokenizer, messages)
    asked = tokenizer(render(tokenizer, messages[:-1], prompt=True), add_special_tokens=False)
    prompt = asked["input_ids"]
    assert encoded.input_ids[: len(prompt)] == prompt
    assert encoded.labels[len(prompt)] != IGNORED


def test_an_empty_system_prompt_is_no_system_prompt():
    assert conversation("", TWO_TURNS) == TWO_TURNS


def test_length_limit_cuts_the_end_of_the_response(tokenizer):
    messages = [
        {"role": "user", "content": "Count."},
        {"role": "assistant", "content": " ".join(str(number) for number in range(500))},
    ]
    whole = encode(tokenizer, messages, 10_000)
    cut = encode(tokenizer, messages, 64)
    assert len(whole.input_ids) > 64
    assert cut.truncated
    assert cut.input_ids == whole.input_ids[:64]
    assert cut.labels == whole.labels[:64]
    # A cut response must not teach the model to stop there.
    assert tokenizer.eos_token_id not in [label for label in cut.labels if label != IGNORED]


def test_a_prompt_that_fills_the_limit_leaves_nothing_to_train_on(tokenizer):
    messages = [
        {"role": "user", "content": "word " * 200},
        {"role": "assistant", "content": "Yes."},
    ]
    assert not encode(tokenizer, messages, 64).trainable
    assert encode(tokenizer, messages, 512).trainable


def test_a_response_that_begins_with_a_line_break_is_still_found(tokenizer):
    messages = [{"role": "user", "content": "Hi"}, {"role": "assistant", "content": "\n\nHello."}]
    (text,) = labelled(tokenizer, encode(tokenizer, messages, 128).labels)
    assert text.endswith("Hello.<|im_end|>")
    assert "assistant" not in text


def test_a_template_that_rewrites_earlier_turns_is_refused(tokenizer):
    class Rewriting:
        eos_token = "</s>"

        def apply_chat_template(self, messages, **_):
            last = len(messages) - 1
            return "".join(
                item["content"].upper() if place < last else item["content"]
                for place, item in enumerate(messages)
            )

    with pytest.raises(EncodingError, match="message 1 otherwise at inference"):
        response_spans(Rewriting(), TWO_TURNS)


def test_a_template_without_system_prompt_says_so(tokenizer):
    import copy

    strict = copy.deepcopy(tokenizer)
    strict.chat_template = (
        "{% if messages[0]['role'] == 'system' %}{{ raise_exception('no system') }}{% endif %}"
        + tokenizer.chat_template
    )
    with pytest.raises(EncodingError, match=r"refuses turns of system, user.*no system"):
        render(strict, conversation("Be brief.", TWO_TURNS))

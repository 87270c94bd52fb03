"""Labels are the responses, all of them and nothing else, in the text that inference renders."""

from typing import Any

import pytest

from opencs_assets.checkpoints.encoding import (
    IGNORED,
    Encoded,
    EncodingError,
    conversation,
    encode,
    refuse_unmarked,
    render,
    response_spans,
)
from tests.unit.checkpoints.stand_in import TAGGED, Pieces

TWO_TURNS = [
    {"role": "user", "content": "Name a colour."},
    {"role": "assistant", "content": "Blue, like the sky.\n\nOr red."},
    {"role": "user", "content": "Another: ünï 🎈?"},
    {"role": "assistant", "content": "Grün 🎈 (green)."},
]
THOUGHT = [
    {"role": "user", "content": "and?"},
    {"role": "assistant", "content": "[hm]blue"},
    {"role": "user", "content": "and?"},
    {"role": "assistant", "content": "[so]red"},
]


def asked(answer: str, question: str = "Hi") -> list[dict[str, str]]:
    return [{"role": "user", "content": question}, {"role": "assistant", "content": answer}]


def labelled(tokenizer: Any, labels: list[int]) -> list[str]:
    """Decoded runs of labels."""
    runs: list[list[int]] = [[]]
    for label in labels:
        if label == IGNORED:
            runs.append([])
        else:
            runs[-1].append(label)
    return [tokenizer.decode(run) for run in runs if run]


def learned(tokenizer: Pieces, messages: list[dict[str, str]]) -> list[str]:
    """The tokens that the loss is on."""
    text = render(tokenizer, messages)
    encoded = encode(tokenizer, messages, 1000)
    labels = {label for label in encoded.labels if label != IGNORED}
    return [each[0] for each in tokenizer.pieces.finditer(text) if each.start() in labels]


def test_loss_is_on_every_assistant_turn_with_its_end_of_turn(tokenizer):
    messages = conversation("Be brief.", TWO_TURNS)
    encoded = encode(tokenizer, messages, 512)
    assert labelled(tokenizer, encoded.labels) == [
        "Blue, like the sky.\n\nOr red.<|im_end|>",
        "Grün 🎈 (green).<|im_end|>",
    ]
    assert not encoded.truncated


def test_what_is_not_learned_has_the_label_that_pytorch_ignores():
    # <user>, Hi, </s>, <assistant>, Yes, </s>
    assert encode(Pieces(), asked("Yes"), 10) == Encoded(
        [0, 6, 8, 12, 23, 26], [-100, -100, -100, -100, 23, 26], truncated=False
    )


@pytest.mark.parametrize("system", [None, "", "Be brief."])
def test_training_and_inference_render_the_same_bytes(tokenizer, system):
    messages = conversation(system, TWO_TURNS)
    encoded = encode(tokenizer, messages, 512)
    assert tokenizer.decode(encoded.input_ids) == render(tokenizer, messages)
    prompt = tokenizer(render(tokenizer, messages[:-1], prompt=True), add_special_tokens=False)
    asked_ids = prompt["input_ids"]
    assert encoded.input_ids[: len(asked_ids)] == asked_ids
    assert encoded.labels[len(asked_ids)] != IGNORED
    assert messages[0]["role"] == ("system" if system else "user")


@pytest.mark.parametrize(
    ("tokenizer", "answer", "expected"),
    [
        (Pieces(), "Blue sky.", ["Blue", " sky.", "</s>"]),
        (Pieces(), "", ["</s>"]),
        # One token covers the end of the prompt and the beginning of the answer, or its end and
        # what follows: inference never generates it.
        (Pieces(pieces=r"nt>B|\w|\W"), "Blue", ["l", "u", "e", "<", "/", "s", ">"]),
        (Pieces(pieces=r"nt>|e</s>|\w|\W"), "Blue", ["B", "l", "u", "e</s>"]),
        (Pieces(TAGGED.replace("</s>", "</s>\n"), pieces=r"s>\n|\w|\W"), "B", ["B", "<", "/"]),
        # White space behind the end of the turn is no part of the answer; text there is.
        (Pieces(TAGGED.replace("</s>", "</s> \n")), "Blue", ["Blue", "</s>"]),
        (Pieces(TAGGED.replace("</s>", "</s><e>")), "Blue", ["Blue", "</s>", "<e>"]),
        (Pieces(eos=None), "Blue", ["Blue", "</s>"]),
        # An answer that holds the end-of-turn token is trained on to its own end.
        (Pieces(TAGGED.replace("</s>", "<e>")), "a</s>b", ["a", "</s>", "b", "<e>"]),
        (Pieces(), "a</s>b", ["a", "</s>", "b", "</s>"]),
    ],
)
def test_labels_are_the_tokens_that_lie_in_a_response(tokenizer, answer, expected):
    assert learned(tokenizer, asked(answer)) == expected
    assert learned(tokenizer, asked(answer) + asked(answer)) == 2 * expected


def test_length_limit_cuts_the_end_of_the_response(tokenizer):
    messages = asked(" ".join(str(number) for number in range(500)), "Count.")
    whole = encode(tokenizer, messages, 10_000)
    size = len(whole.input_ids)
    for limit in (size + 1, size, size - 1, 64):
        cut = encode(tokenizer, messages, limit)
        assert cut == Encoded(whole.input_ids[:limit], whole.labels[:limit], limit < size)
    # A cut response must not teach the model to stop there.
    assert tokenizer.eos_token_id in whole.labels
    assert tokenizer.eos_token_id not in cut.labels


def test_a_prompt_that_fills_the_limit_leaves_nothing_to_train_on(tokenizer):
    messages = asked("Yes.", "word " * 200)
    assert not encode(tokenizer, messages, 64).trainable
    assert encode(tokenizer, messages, 512).trainable


def test_a_response_that_begins_with_a_line_break_is_still_found(tokenizer):
    (text,) = labelled(tokenizer, encode(tokenizer, asked("\n\nHello."), 128).labels)
    assert text.endswith("Hello.<|im_end|>")
    assert "assistant" not in text


@pytest.mark.parametrize(
    ("template", "message"),
    [
        pytest.param(
            "{% for m in messages %}"
            "{{ m['content'] if loop.last else m['content'] | upper }}{% endfor %}",
            1,
            id="rewrites whatever is not last",
        ),
        pytest.param(
            TAGGED.replace(
                "{{ m['content'] }}",
                "{{ m['content'] if loop.last or ']' not in m['content'] "
                "else m['content'].split(']')[1] }}",
            ),
            1,
            id="strips the thoughts of earlier turns",
        ),
        pytest.param(TAGGED[: -len("{% endif %}")] + "[think]{% endif %}", 1, id="opens a thought"),
        pytest.param(
            TAGGED.replace("<{{ m['role'] }}>", "<{{ m['role'] }}{{ loop.index // 4 }}>").replace(
                "<assistant>", "<assistant0>"
            ),
            3,
            id="numbers the turns",
        ),
    ],
)
def test_a_template_that_renders_otherwise_at_inference_is_refused(template, message):
    with pytest.raises(EncodingError, match=f"message {message} otherwise at inference"):
        response_spans(Pieces(template), THOUGHT)


def test_a_template_that_refuses_a_role_says_so():
    strict = Pieces(
        "{% if messages[0]['role'] == 'system' %}{{ raise_exception('no system') }}{% endif %}"
    )
    with pytest.raises(EncodingError, match=r"refuses turns of system, user.*no system"):
        render(strict, conversation("Be brief.", TWO_TURNS))


@pytest.mark.parametrize(
    ("template", "says"),
    [
        ("{% for m in messages %}{{ m['content'] }}\n{% endfor %}", "where the assistant's turn b"),
        (
            "{% for m in messages %}{{ m['role'] }}: {{ m['content'] }} {% endfor %}",
            "where the assistant's turn ends",
        ),
        ("<u>{{ messages[0]['content'] }}<a>", "leaves out what the user or the assistant says"),
        ("<u>{{ messages[-1]['content'] }}<a>", "leaves out what the user or the assistant says"),
    ],
)
def test_a_template_that_marks_no_turns_is_refused(template, says):
    refuse_unmarked(Pieces())
    with pytest.raises(EncodingError, match=says):
        refuse_unmarked(Pieces(template))

"""The package's templates render as published, and mark what the assistant says."""

import copy
from typing import Any

import pytest

from opencs_assets.checkpoints.encoding import (
    IGNORED,
    conversation,
    encode,
    refuse_unmarked,
    render,
)
from opencs_assets.checkpoints.templates import TemplateError, declared_template, names

TURNS = [
    {"role": "user", "content": "Name a colour."},
    {"role": "assistant", "content": "Blue.\n\nLike the sky."},
    {"role": "user", "content": "Another?"},
    {"role": "assistant", "content": "Grün 🎈"},
]
VICUNA = (
    "A chat between a curious user and an artificial intelligence assistant. "
    "The assistant gives helpful, detailed, and polite answers to the user's questions."
)
ALPACA = (
    "Below is an instruction that describes a task. "
    "Write a response that appropriately completes the request."
)


@pytest.fixture
def with_template(tokenizer, base_model, tmp_path):
    """The embedded model's tokenizer with a template of the package's; it ends a turn so."""

    def with_template(name: str) -> Any:
        changed = copy.deepcopy(tokenizer)
        changed.chat_template = declared_template(name, base_model, tmp_path)
        return changed

    return with_template


@pytest.mark.parametrize(
    ("name", "system", "expected"),
    [
        (
            "vicuna",
            None,
            f"{VICUNA} USER: Name a colour. ASSISTANT: Blue.\n\nLike the sky.<eos>"
            "USER: Another? ASSISTANT: Grün 🎈<eos>",
        ),
        (
            "vicuna",
            "Be brief.",
            "Be brief. USER: Name a colour. ASSISTANT: Blue.\n\nLike the sky.<eos>"
            "USER: Another? ASSISTANT: Grün 🎈<eos>",
        ),
        (
            "alpaca",
            None,
            f"{ALPACA}\n\n### Instruction:\nName a colour.\n\n### Response:\n"
            "Blue.\n\nLike the sky.<eos>\n\n### Instruction:\nAnother?\n\n### Response:\n"
            "Grün 🎈<eos>",
        ),
        (
            "alpaca",
            "Be brief.",
            "Be brief.\n\n### Instruction:\nName a colour.\n\n### Response:\n"
            "Blue.\n\nLike the sky.<eos>\n\n### Instruction:\nAnother?\n\n### Response:\n"
            "Grün 🎈<eos>",
        ),
    ],
)
def test_published_templates_render_byte_for_byte(with_template, name, system, expected):
    tokenizer = with_template(name)
    expected = tokenizer.bos_token + expected.replace("<eos>", tokenizer.eos_token)
    whole = conversation(system, TURNS)
    assert render(tokenizer, whole) == expected
    # What is asked at inference is how training began.
    asked = render(tokenizer, whole[:-1], prompt=True)
    assert expected.startswith(asked)
    assert expected.removeprefix(asked).lstrip(" ") == f"Grün 🎈{tokenizer.eos_token}"


@pytest.mark.parametrize("name", names())
def test_the_loss_is_on_what_the_assistant_says_and_on_its_end(with_template, name):
    tokenizer = with_template(name)
    refuse_unmarked(tokenizer)
    encoded = encode(tokenizer, conversation(None, TURNS), 1000)
    kept = [label for label in encoded.labels if label != IGNORED]
    assert tokenizer.decode(kept).replace(" ", "") == (
        f"Blue.\n\nLikethesky.{tokenizer.eos_token}Grün🎈{tokenizer.eos_token}"
    )
    assert [
        token
        for token, label in zip(encoded.input_ids, encoded.labels, strict=True)
        if label not in (IGNORED, token)
    ] == []


def test_a_template_is_the_models_own_the_packages_or_a_file(base_model, tmp_path):
    own = declared_template(None, base_model, tmp_path)
    assert "im_start" in own
    (tmp_path / "mine.jinja").write_text("{{ messages }}")
    assert declared_template("mine.jinja", base_model, tmp_path) == "{{ messages }}"
    # A file of the home does not hide a template of the package.
    (tmp_path / "vicuna").write_text("{{ messages }}")
    assert "ASSISTANT" in declared_template("vicuna", base_model, tmp_path)
    with pytest.raises(TemplateError, match=r"no chat template 'llama'.*alpaca, vicuna"):
        declared_template("llama", base_model, tmp_path)

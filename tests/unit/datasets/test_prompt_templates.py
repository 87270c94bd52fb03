import pytest
from hypothesis import given
from hypothesis import strategies as st

from opencs_assets.datasets.templates import TEMPLATES, strip_template

TASK = "Below is an instruction that describes a task"
REQUEST = "Write a response that appropriately completes the request."
PAIRED = f"{TASK}, paired with an input that provides further context. {REQUEST}"
VICUNA = (
    "A chat between a curious user and an artificial intelligence assistant. The assistant gives "
    "helpful, detailed, and polite answers to the user's questions."
)
WRAPPED = [
    (f"{TASK}. {REQUEST}\n\n### Instruction:\nName a fruit.\n\n### Response:", "alpaca"),
    (f"{TASK}. {REQUEST}\n\n### Instruction:\nName a fruit.\n\n### Response:\n", "alpaca"),
    (f"{TASK}. {REQUEST} ### Instruction: Name a fruit.", "alpaca"),
    (f"{TASK}. {REQUEST} ### Instruction: Name a fruit. ### Response:", "alpaca"),
    (f"{PAIRED} ### Instruction: Name a fruit. ### Input:", "alpaca_input"),
    (f"{VICUNA} USER: Name a fruit. ASSISTANT:", "vicuna_v1.1"),
    (f"{VICUNA}\n### Human: Name a fruit.\n### Assistant:", "vicuna_v0"),
    ("### Human: Name a fruit.\n### Assistant:", "human_assistant"),
    ("### Human: Name a fruit. ### Assistant:", "human_assistant"),
]


@pytest.mark.parametrize(("text", "name"), WRAPPED)
def test_known_templates_are_taken_off_and_named(text, name):
    assert strip_template(text) == ("Name a fruit.", name)


@pytest.mark.parametrize(
    "text",
    [
        f"{PAIRED}\n\n### Instruction:\nSort these.\n\n### Input:\nb, a\n\n### Response:",
        f"{PAIRED} ### Instruction: Sort these. ### Input: b, a",
    ],
)
def test_alpaca_input_follows_the_question_after_a_blank_line(text):
    assert strip_template(text) == ("Sort these.\n\nb, a", "alpaca_input")


@pytest.mark.parametrize(
    "text",
    [
        "What does ### Instruction: mean in a prompt? And ### Input: or ### Response:?",
        f'Explain this prompt: "{TASK}. {REQUEST} ### Instruction: x ### Response:"',
        "### Instruction: what is this heading for?",
        "### Human: evolution\nSummarize the chapter above.",
        "USER: who is that?",
        "  spaces stay where nothing is stripped \n",
        "",
    ],
)
def test_a_persons_own_words_are_left_alone(text):
    assert strip_template(text) == (text, None)


def test_a_template_in_a_template_is_taken_off_and_the_outer_one_named():
    inner = "### Human: Name a fruit.\n### Assistant:"
    text = f"{TASK}. {REQUEST}\n\n### Instruction:\n{inner}\n\n### Response:"
    assert strip_template(text) == ("Name a fruit.", "alpaca")


def test_white_space_does_not_make_stripping_slow():
    text = f"{PAIRED} ### Instruction: a" + " \n" * 300_000 + "b"
    assert strip_template(text)[0].endswith("b")


PIECES = st.sampled_from(
    [
        f"{TASK}. {REQUEST}",
        PAIRED,
        VICUNA,
        "### Instruction:",
        "### Input:",
        "### Response:",
        "### Human:",
        "### Assistant:",
        "USER:",
        "ASSISTANT:",
        "\n",
        " ",
    ]
)


@given(st.lists(PIECES | st.text(max_size=8), max_size=14).map(" ".join))
def test_stripping_twice_is_stripping_once(text):
    stripped, name = strip_template(text)
    assert strip_template(stripped) == (stripped, None)
    if name is None:
        assert stripped == text


@given(st.text().map(str.strip))
def test_text_comes_back_from_any_template(question):
    text = f"{TASK}. {REQUEST}\n\n### Instruction:\n{question}\n\n### Response:"
    if not question.endswith("### Response:") and strip_template(question)[1] is None:
        assert strip_template(text) == (question, "alpaca")


def test_names_are_unique():
    names = [template.name for template in TEMPLATES]
    assert len(names) == len(set(names))

"""A file of judge prompts in FastChat's form, and the protocols that ask with it."""

import json
from pathlib import Path

import pytest

from opencs_assets.protocols.fastchat import JudgePrompts, read_prompts
from opencs_assets.protocols.protocol import PairProtocol, SingleProtocol
from tests.unit.protocols.frames import pair_of, single_of

RATE = (
    "Be an impartial judge of the answer that an assistant gave to the question of a user below. "
    "After providing your explanation, you must rate the answer on a scale of 1 to 10 by strictly "
    'following this format: "[[rating]]", for example: "Rating: [[5]]".'
)
CHOOSE = (
    "Be an impartial judge of the answers that two assistants gave to the question of a user. "
    "After providing your explanation, output your final verdict by strictly following this "
    'format: "[[A]]" if assistant A is better, "[[B]]" if assistant B is better, and "[[C]]" for a '
    "tie."
)
TWO = "U: {{question_1}}\n{0}: {{{1}_1}}\nU: {{question_2}}\n{0}: {{{1}_2}}"
KNOWN = "R: {ref_answer_1}\nR: {ref_answer_2}\n"
TEMPLATES = {
    "single-v1": "Q: {question}\nA: {answer}",
    "single-math-v1": "Q: {question}\nR: {ref_answer_1}\nA: {answer}",
    "single-v1-multi-turn": TWO.format("A", "answer"),
    "single-math-v1-multi-turn": KNOWN + TWO.format("A", "answer"),
    "pair-v2": "Q: {question}\nA: {answer_a}\nB: {answer_b}",
    "pair-math-v1": "Q: {question}\nR: {ref_answer_1}\nA: {answer_a}\nB: {answer_b}",
    "pair-v2-multi-turn": TWO.format("A", "answer_a") + "\n" + TWO.format("B", "answer_b"),
    "pair-math-v1-multi-turn": KNOWN
    + TWO.format("A", "answer_a")
    + "\n"
    + TWO.format("B", "answer_b"),
}


def prompt_rows() -> list[dict[str, str]]:
    """Prompts of FastChat's names in its form, in other words."""
    return [
        {
            "name": name,
            "type": "pairwise" if name.startswith("pair") else "single",
            "system_prompt": CHOOSE if name.startswith("pair") else RATE,
            "prompt_template": template,
            "description": "",
            "category": "general",
            "output_format": "[[A]]" if name.startswith("pair") else "[[rating]]",
        }
        for name, template in TEMPLATES.items()
    ]


def write_prompts(path: Path, rows: list[dict[str, str]]) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("\n".join(map(json.dumps, rows)), encoding="utf-8")
    return path


@pytest.fixture
def published(tmp_path: Path) -> JudgePrompts:
    return read_prompts(write_prompts(tmp_path / "judge_prompts.jsonl", prompt_rows()))


@pytest.fixture
def single_protocols(published: JudgePrompts) -> dict[str, SingleProtocol]:
    return {
        "own": single_of("generated"),
        "fastchat": single_of("generated", published),
    }


@pytest.fixture
def pair_protocols(published: JudgePrompts) -> dict[str, PairProtocol]:
    return {
        "scores": pair_of("scores"),
        "choice": pair_of("choice"),
        "fastchat": pair_of("choice", published),
    }

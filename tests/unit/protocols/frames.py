"""Questions, answers, replies and protocols for the tests of judging."""

import math

import polars as pl

from opencs_assets.protocols import fastchat
from opencs_assets.protocols.registry import pair_protocols
from opencs_assets.protocols.single import SINGLE
from opencs_assets.tables.catalog import TABLES
from resources.llm.types import Outcome, Reply


def question_frame(*ids: str, category: str = "writing", references: list[str] | None = None):
    return pl.DataFrame(
        [
            {
                "benchmark": "smoke",
                "question_id": name,
                "category": category,
                "turns": [f"{name} first?", f"{name} second?"],
                "references": references or [],
            }
            for name in ids
        ],
        schema=TABLES["benchmark_questions"].schema,
    )


def answer_frame(*turns: tuple[str, int], words: str = "says", finish_reason: str = "stop"):
    return pl.DataFrame(
        [
            {
                "benchmark": "smoke",
                "question_id": name,
                "category": "writing",
                "turn": turn,
                "answer": f"{words} {name}.{turn}",
                "finish_reason": finish_reason,
                "prompt_tokens": 1,
                "answer_tokens": 1,
                "temperature": 0.0,
                "seed": 0,
                "provenance": "p",
                "checkpoint": "c",
            }
            for name, turn in turns
        ],
        schema=TABLES["model_answers"].schema,
    )


def both_turns(*ids: str, words: str = "says"):
    return answer_frame(*[(name, turn) for name in ids for turn in (1, 2)], words=words)


def outcome(value, status: str = "ok"):
    return Outcome(value, status, None, 1, Reply("r", "ok"))


def reply(text: str = "", logprobs: dict[str, float] | None = None) -> Reply:
    alternatives = tuple((token, math.log(p)) for token, p in (logprobs or {}).items())
    return Reply("r", "ok", text=text, logprobs=(alternatives,) if alternatives else ())


def text_of(call) -> str:
    return "\n".join(message["content"] for message in call.messages)


def single_of(reading: str, published: fastchat.JudgePrompts | None = None):
    return fastchat.single_with(published) if published else SINGLE[reading]


def pair_of(name: str, published: fastchat.JudgePrompts | None = None):
    return fastchat.choice_with(published) if published else pair_protocols()[name]

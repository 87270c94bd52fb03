"""Answers of models that are not trained here, such as GPT-4, through the platform's LLM client."""

from collections.abc import Collection
from dataclasses import dataclass

import polars as pl

from opencs_assets.answers.store import Row
from opencs_assets.config.benchmarks import sampling_of
from opencs_assets.tables.answers import OUTSIDE_ANSWERS, UNANSWERED
from resources.llm.client import LLMClient
from resources.llm.types import Call, Message, Reply

# No prompt of ours: what is asked is the benchmark's question, turn by turn.
PROMPT_VERSION = "answer-1"
SEED_DIGITS = 7

Key = tuple[str, str, int]


@dataclass(frozen=True)
class _Asked:
    """A turn, and what was said before it; no messages where a turn before has no answer."""

    row: Row
    messages: tuple[Message, ...]


def asked(questions: pl.DataFrame, benchmarks: Collection[str] | None) -> pl.DataFrame:
    """The questions of some benchmarks; of all where none are named."""
    if benchmarks is None:
        return questions
    return questions.filter(pl.col("benchmark").is_in(list(benchmarks)))


def answer(questions: pl.DataFrame, client: LLMClient) -> pl.DataFrame:
    """Have every turn of every question answered once; replies that are stored cost nothing.

    Args:
        questions: Rows of ``benchmark_questions``.
        client: The model's client.

    Returns:
        One row a turn in the questions' order (schema ``OUTSIDE_ANSWERS``). A turn that came to
        nothing says why; the turns after it are not asked.

    Raises:
        LLMError: No call can succeed (key, model, address, store); replies so far are kept.
    """
    rows: dict[Key, Row] = {}
    listed = list(questions.iter_rows(named=True))
    for turn in range(1, max((len(each["turns"]) for each in listed), default=0) + 1):
        asked = [_turn(each, turn, rows) for each in listed if turn <= len(each["turns"])]
        calls = [each for each in asked if each.messages]
        replies = client.complete([_call(each) for each in calls], label=f"turn {turn} answered")
        for each, reply in zip(calls, replies, strict=True):
            each.row.update(_said(reply, each.row["temperature"]))
        rows.update({_key(each.row): each.row for each in asked})
    ordered = [
        rows[each["benchmark"], each["question_id"], turn]
        for each in listed
        for turn in range(1, len(each["turns"]) + 1)
    ]
    model = pl.lit(client.model_label).alias("model")
    table = pl.DataFrame([{**row, "model": ""} for row in ordered], schema=OUTSIDE_ANSWERS.schema)
    return table.with_columns(model)


def _turn(question: Row, turn: int, rows: dict[Key, Row]) -> _Asked:
    name = (question["benchmark"], question["question_id"])
    before = [rows[(*name, earlier)] for earlier in range(1, turn)]
    row = {
        "benchmark": name[0],
        "question_id": name[1],
        "category": question["category"],
        "turn": turn,
        "answer": "",
        "finish_reason": before[-1]["finish_reason"] if before else "",
        "prompt_tokens": 0,
        "answer_tokens": 0,
        "temperature": sampling_of(name[0]).temperature(question["category"]),
        "seed": None,
        "detail": "the turn before has no answer" if before else None,
        "reply_id": None,
    }
    if before and before[-1]["finish_reason"] in UNANSWERED:
        return _Asked(row, ())
    messages: list[Message] = []
    for text, earlier in zip(question["turns"], before, strict=False):
        messages.append({"role": "user", "content": text})
        messages.append({"role": "assistant", "content": earlier["answer"]})
    messages.append({"role": "user", "content": question["turns"][turn - 1]})
    return _Asked(row, tuple(messages))


def _call(asked: _Asked) -> Call:
    return Call(
        messages=asked.messages,
        prompt_version=PROMPT_VERSION,
        max_tokens=sampling_of(asked.row["benchmark"]).max_new_tokens,
        temperature=asked.row["temperature"],
    )


def _said(reply: Reply, temperature: float) -> Row:
    """What of an answer's row comes from the reply."""
    reasons = {"ok": reply.finish_reason or "stop", "truncated": "length"}
    return {
        "answer": reply.text.strip(),
        "finish_reason": reasons.get(reply.status, reply.status),
        "prompt_tokens": reply.prompt_tokens,
        "answer_tokens": reply.completion_tokens,
        # The client makes the seed of what determines the call; greedy calls have none.
        "seed": int(reply.reply_id[:SEED_DIGITS], 16) if temperature > 0 else None,
        "detail": reply.detail,
        "reply_id": reply.reply_id,
    }


def _key(row: Row) -> Key:
    return row["benchmark"], row["question_id"], row["turn"]

"""Answers of models that are not trained here, such as GPT-4, through the platform's LLM client."""

from collections.abc import Collection
from dataclasses import dataclass

import polars as pl

from opencs_assets.answers.asking import conversation
from opencs_assets.answers.store import Key, Row, expected_keys
from opencs_assets.config.benchmarks import sampling_of
from opencs_assets.tables.answers import OUTSIDE_ANSWERS, UNANSWERED
from resources.llm.client import LLMClient
from resources.llm.types import Call, Message, Reply

# The prompt is nothing but the benchmark's question, turn by turn.
PROMPT_VERSION = "answer-1"
SEED_DIGITS = 7


@dataclass(frozen=True)
class _Turn:
    """A turn's row and conversation, which is empty where a turn before has no answer."""

    row: Row
    messages: tuple[Message, ...]


def questions_of(questions: pl.DataFrame, benchmarks: Collection[str] | None) -> pl.DataFrame:
    """The questions of the named benchmarks; all questions where ``benchmarks`` is ``None``."""
    if benchmarks is None:
        return questions
    return questions.filter(pl.col("benchmark").is_in(list(benchmarks)))


def answer(questions: pl.DataFrame, client: LLMClient) -> pl.DataFrame:
    """Have every turn of every question answered once; replies that are stored cost nothing.

    Returns:
        One row a turn in the questions' order (schema ``OUTSIDE_ANSWERS``). The row of a turn
        without an answer says why; the turns after it are not asked.

    Raises:
        LLMError: No call can succeed (key, model, address, store); replies so far are kept.
    """
    rows: dict[Key, Row] = {}
    keys = expected_keys(questions)
    for number in range(1, max((key[2] for key in keys), default=0) + 1):
        turns = [
            _turn(question, number, rows)
            for question in questions.iter_rows(named=True)
            if number <= len(question["turns"])
        ]
        complete = [turn for turn in turns if turn.messages]
        replies = client.complete(
            [_call(turn) for turn in complete], label=f"turn {number} answered"
        )
        for turn, reply in zip(complete, replies, strict=True):
            turn.row.update(_of_reply(reply, turn.row["temperature"]))
        rows.update(
            {(turn.row["benchmark"], turn.row["question_id"], number): turn.row for turn in turns}
        )
    return pl.DataFrame(
        [{**rows[key], "model": client.model_label} for key in keys], schema=OUTSIDE_ANSWERS.schema
    )


def _turn(question: Row, turn: int, rows: dict[Key, Row]) -> _Turn:
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
        return _Turn(row, ())
    return _Turn(row, tuple(conversation(question["turns"], [row["answer"] for row in before])))


def _call(turn: _Turn) -> Call:
    return Call(
        messages=turn.messages,
        prompt_version=PROMPT_VERSION,
        max_tokens=sampling_of(turn.row["benchmark"]).max_new_tokens,
        temperature=turn.row["temperature"],
    )


def _of_reply(reply: Reply, temperature: float) -> Row:
    """The columns of an answer's row that come from the reply."""
    reasons = {"ok": reply.finish_reason or "stop", "truncated": "length"}
    return {
        "answer": reply.text.strip(),
        "finish_reason": reasons.get(reply.status, reply.status),
        "prompt_tokens": reply.prompt_tokens,
        "answer_tokens": reply.completion_tokens,
        # The client derives the seed from what determines the call; greedy calls have none.
        "seed": int(reply.reply_id[:SEED_DIGITS], 16) if temperature > 0 else None,
        "detail": reply.detail,
        "reply_id": reply.reply_id,
    }

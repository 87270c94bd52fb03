"""Judging: every expected judgment asked for, question by question, and what came of it as rows.

An answer that is missing leaves a verdict of status ``no_answer``, never one judgment less. A reply
that can't be read is a verdict without a value, neither a tie nor a score. Each reply is kept the
moment that it comes, so that judging again asks only for what is missing.
"""

import json
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import polars as pl

from opencs_assets.protocols.merging import merged_outcomes, swapped_back
from opencs_assets.protocols.protocol import JudgeProtocol, PairProtocol, SingleProtocol
from opencs_assets.protocols.reading import PairReply
from opencs_assets.protocols.stopping import EarlyStop, Look, batches, look
from opencs_assets.protocols.tasks import NO_ANSWER, STOPPED, PairTask, SingleTask
from opencs_assets.tables.verdicts import PAIRWISE_VERDICTS, SINGLE_VERDICTS
from resources.llm.client import LLMClient
from resources.llm.types import Call, Outcome

SampledAs = Callable[[Outcome[Any] | None], str]


def judge_single(
    client: LLMClient, tasks: Sequence[SingleTask], protocol: SingleProtocol
) -> pl.DataFrame:
    """Judge a benchmark's answers alone: one row an expected judgment (``SINGLE_VERDICTS``).

    Raises:
        LLMError: No call can succeed; replies so far are kept.
    """
    asked = [task for task in tasks if task.answered]
    outcomes = client.complete_read(
        asked,
        protocol.call,
        protocol.read,
        label="answers judged",
        max_attempts=protocol.attempts,
    )
    example = protocol.call(asked[0], 0, None) if asked else None
    return single_table(
        tasks,
        dict(zip(asked, outcomes, strict=True)),
        protocol,
        judge=client.model_label,
        sampling=JudgeSampling(client, outcomes, example).of,
    )


def judge_pairs(
    client: LLMClient,
    tasks: Sequence[PairTask],
    protocol: PairProtocol,
    *,
    model_a: str,
    model_b: str,
    early: EarlyStop | None = None,
) -> tuple[pl.DataFrame, Look | None]:
    """Judge pairs of answers, which stand question by question.

    ``early`` says when to stop before all are asked for; ``None`` asks for all.

    Returns:
        One row an expected judgment (schema ``PAIRWISE_VERDICTS``), and the last look where it may
        stop early.

    Raises:
        LLMError: No call can succeed; replies so far are kept.
    """
    asked = [task for task in tasks if task.answered]
    outcomes: dict[PairTask, Outcome[PairReply]] = {}
    last: Look | None = None
    for batch in batches(asked, early) if early else [asked]:
        batch_outcomes = client.complete_read(
            batch,
            protocol.call,
            protocol.read,
            label="pairs judged",
            max_attempts=protocol.attempts,
        )
        outcomes.update(zip(batch, batch_outcomes, strict=True))
        if early:
            last = look(merged_outcomes(outcomes, protocol), early.level)
            if last.is_clear:
                break
    example = protocol.call(asked[0], 0, None) if asked else None
    table = pair_table(
        tasks,
        outcomes,
        protocol,
        model_a=model_a,
        model_b=model_b,
        judge=client.model_label,
        sampling=JudgeSampling(client, list(outcomes.values()), example).of,
    )
    return table, last


class JudgeSampling:
    """How the judge was sampled, as JSON: what the stored requests hold.

    A call that was not sent is said to be sampled as most of the others were, or, where none has a
    stored reply, as ``example`` would be.
    """

    def __init__(
        self, client: LLMClient, outcomes: Sequence[Outcome[Any]], example: Call | None
    ) -> None:
        sent = client.sampled({outcome.reply.reply_id for outcome in outcomes})
        self._sent = {reply_id: _json(sampling) for reply_id, sampling in sent.items()}
        usual = Counter(self._sent.values()).most_common(1)
        self._otherwise = (
            usual[0][0] if usual else _json(client.sampling(example)) if example else "{}"
        )

    def of(self, outcome: Outcome[Any] | None) -> str:
        """How the judge was sampled for one verdict."""
        reply_id = outcome.reply.reply_id if outcome else ""
        return self._sent.get(reply_id, self._otherwise)


def single_table(
    tasks: Sequence[SingleTask],
    outcomes: Mapping[SingleTask, Outcome[float]],
    protocol: SingleProtocol,
    *,
    judge: str,
    sampling: SampledAs,
) -> pl.DataFrame:
    """One row an expected judgment (schema ``SINGLE_VERDICTS``); not all of them were asked for."""
    rows = []
    for task in tasks:
        outcome = outcomes.get(task)
        rows.append(
            {
                **_identity(task),
                "score": outcome.value if outcome else None,
                "status": _status(task, outcome),
                "with_reference": protocol.shows_reference(task),
                **_provenance(protocol, judge, sampling, outcome),
            }
        )
    return pl.DataFrame(rows, schema=SINGLE_VERDICTS.schema)


def pair_table(
    tasks: Sequence[PairTask],
    outcomes: Mapping[PairTask, Outcome[PairReply]],
    protocol: PairProtocol,
    *,
    model_a: str,
    model_b: str,
    judge: str,
    sampling: SampledAs,
) -> pl.DataFrame:
    """One row an expected judgment (schema ``PAIRWISE_VERDICTS``), swapped back to a and b.

    `outcomes` names the sides in the order in which the judge saw them.
    """
    rows = []
    for task in tasks:
        outcome = outcomes.get(task)
        reply = outcome.value if outcome else None
        verdict = swapped_back(reply, task.shown_first)._asdict() if reply else {}
        rows.append(
            {
                **_identity(task),
                "model_a": model_a,
                "model_b": model_b,
                "shown_first": task.shown_first,
                **verdict,
                "status": _status(task, outcome),
                **_provenance(protocol, judge, sampling, outcome),
            }
        )
    return pl.DataFrame(rows, schema=PAIRWISE_VERDICTS.schema)


def _identity(task: SingleTask | PairTask) -> dict[str, Any]:
    return {
        "benchmark": task.question.benchmark,
        "question_id": task.question.question_id,
        "category": task.question.category,
        "turn": task.turn,
    }


def _status(task: SingleTask | PairTask, outcome: Outcome[Any] | None) -> str:
    if outcome is not None:
        return outcome.status
    return STOPPED if task.answered else NO_ANSWER


def _provenance(
    protocol: JudgeProtocol[Any, Any], judge: str, sampling: SampledAs, outcome: Outcome[Any] | None
) -> dict[str, str | None]:
    return {
        "protocol": protocol.name,
        "reading": protocol.reading,
        "judge": judge,
        "prompt_version": protocol.version,
        "sampling": sampling(outcome),
        "reply_id": outcome.reply.reply_id if outcome else None,
    }


def _json(value: Mapping[str, Any]) -> str:
    return json.dumps(value, sort_keys=True)

"""Contrasting: one prompt shows two samples, and the reply gives each a score.

A reply is read in one of two ways. ``generated``: the scorer writes a score in [1, 100] for each
sample (as published; the criteria are in the project's own words). ``logprobs``: it answers A or B,
and the probabilities of the two labels are the scores; a small model's probabilities carry a signal
where its numbers carry none.
"""

import hashlib
import math
from collections.abc import Mapping, Sequence
from typing import Any

import polars as pl

from opencs_assets.scores.pairing import Comparison
from opencs_assets.tables.scores import SCORE_COMPARISONS
from resources.llm.readings import parse_score_pair, preference
from resources.llm.types import Call, Outcome, Reply
from resources.settings import Reading

LOW, HIGH = 1.0, 100.0
MAX_ATTEMPTS = 3
GENERATED_TOKENS = 256
LABELS = ("A", "B")
LABEL_GRAMMAR = 'root ::= "A" | "B"'
_LABEL_SAMPLING: dict[str, Any] = {
    "max_tokens": 1,
    "grammar": LABEL_GRAMMAR,
    "top_logprobs": 40,
}

_GENERATED = (
    "You compare two samples for training an assistant. Each has an instruction and a response. "
    "Judge each response by its own instruction: is it complete, clear, accurate, relevant, well "
    "explained, practical and safe? Give each sample a score from 1 to 100; a difference in "
    "quality must show as a difference in score. On the first line write the two scores, sample "
    "A's and sample B's, as two numbers with a space between them; then one sentence of reasons."
)
_LOGPROBS_SYSTEM = "You compare two question-answer examples and say which answer is better."
_LOGPROBS = "Which example has the more correct, complete and helpful answer, A or B?"


def prompt_version(reading: Reading) -> str:
    """Version of the prompt and its parser."""
    texts = {"generated": _GENERATED, "logprobs": _LOGPROBS_SYSTEM + _LOGPROBS + LABEL_GRAMMAR}
    text = texts[reading]
    return f"contrast-{reading}-{hashlib.sha256(f'{text}|layout-2'.encode()).hexdigest()[:8]}"


def texts_of(samples: pl.DataFrame) -> dict[str, tuple[str, str]]:
    """Instruction and response by sample id."""
    rows = samples.select("sample_id", "instruction", "response").iter_rows()
    return {sample: (instruction, response) for sample, instruction, response in rows}


def build_call(
    comparison: Comparison,
    texts: Mapping[str, tuple[str, str]],
    reading: Reading,
    attempt: int,
    reason: str | None,
) -> Call:
    """The call for one comparison; ``texts`` has instruction and response by sample id.

    ``attempt`` is 0-based, and ``reason`` says why the attempt before could not be read.
    """
    shown = (comparison.sample_a, comparison.sample_b)
    if comparison.shown_first == "b":
        shown = shown[::-1]
    layout = {
        "logprobs": "### Example {}\nQuestion: {}\nAnswer: {}",
        "generated": "[Sample {}]\nInstruction: {}\nResponse: {}",
    }[reading]
    samples = "\n\n".join(
        layout.format(label, *texts[sample]) for label, sample in zip(LABELS, shown, strict=True)
    )
    sampling: dict[str, Any] = {"max_tokens": GENERATED_TOKENS}
    system, content = _GENERATED, samples
    if reading == "logprobs":
        system, content, sampling = _LOGPROBS_SYSTEM, f"{samples}\n\n{_LOGPROBS}", _LABEL_SAMPLING
    elif reason:
        content += f"\n\n(The last reply could not be used: {reason}.)"
    return Call(
        messages=({"role": "system", "content": system}, {"role": "user", "content": content}),
        prompt_version=prompt_version(reading),
        temperature=0.0,
        attempt=attempt,
        **sampling,
    )


def parse_scores(reply: Reply, reading: Reading) -> tuple[float, float]:
    """The scores in [1, 100] of the sample shown first and of the one shown second.

    Raises:
        Unparsable: The reply holds no such scores.
    """
    if reading == "generated":
        return parse_score_pair(reply.text, LOW, HIGH)
    share = 1 / (1 + math.exp(-max(-50.0, min(50.0, preference(reply, LABELS)))))
    return LOW + (HIGH - LOW) * share, LOW + (HIGH - LOW) * (1 - share)


def comparison_table(
    comparisons: Sequence[Comparison],
    outcomes: Sequence[Outcome[tuple[float, float]]],
    *,
    model: str,
    reading: Reading,
) -> pl.DataFrame:
    """One row a comparison (schema ``SCORE_COMPARISONS``), scores swapped back to a and b."""
    rows = []
    for comparison, outcome in zip(comparisons, outcomes, strict=True):
        first, second = outcome.value or (None, None)
        swapped = comparison.shown_first == "b"
        rows.append(
            {
                "cluster": comparison.cluster,
                "sample_a": comparison.sample_a,
                "sample_b": comparison.sample_b,
                "shown_first": comparison.shown_first,
                "score_a": second if swapped else first,
                "score_b": first if swapped else second,
                "round": comparison.round,
                "status": outcome.status,
                "reading": reading,
                "reply_id": outcome.reply.reply_id,
                "model": model,
                "prompt_version": prompt_version(reading),
            }
        )
    return pl.DataFrame(rows, schema=SCORE_COMPARISONS.schema)

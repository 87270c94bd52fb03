"""Single scores: one sample at a time, by one criterion, for baselines and ablations.

The criterion ``helpfulness``, 0 to 5, is AlpaGasus's; ``complexity`` and ``quality``, 0 to 6, are
those of "what makes good data" (after Liu et al. 2024, DEITA).
"""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass

import polars as pl

from opencs_assets.tables.scores import SINGLE_SCORES
from resources.llm.readings import expected_number, parse_score
from resources.llm.types import Call, Outcome, Reply
from resources.settings import Criterion, Reading

MAX_ATTEMPTS = 3
GENERATED_TOKENS = 128
DIGIT_LOGPROBS = 40


@dataclass(frozen=True)
class Scale:
    """How a criterion is asked for, in the project's own words; its scores are 0 to ``high``."""

    prompt: str
    high: int

    @property
    def grammar(self) -> str:
        """The grammar of a reply: one digit."""
        return f"root ::= [0-{self.high}]"


SCALES: dict[Criterion, Scale] = {
    "helpfulness": Scale(
        "Rate how accurate and helpful the response is for its instruction, from 0 (useless) to 5 "
        "(excellent).",
        5,
    ),
    "complexity": Scale(
        "Rate how difficult and complex the instruction is, whatever its response, from 0 "
        "(nothing to think about) to 6 (many steps, or an expert's knowledge).",
        6,
    ),
    "quality": Scale(
        "Rate the quality of the response: how helpful, relevant, accurate, deep, creative and "
        "detailed it is for its instruction, from 0 (useless) to 6 (outstanding).",
        6,
    ),
}
LOW = 0.0
_GENERATED = " On the first line write the score only; then one sentence of reasons."
_LOGPROBS = " Answer with one digit only."


def prompt_version(criterion: Criterion, reading: Reading) -> str:
    """Version of the prompt and its parser."""
    scale = SCALES[criterion]
    how = {"generated": _GENERATED, "logprobs": _LOGPROBS + scale.grammar}[reading]
    digest = hashlib.sha256(f"{scale.prompt}{how}|layout-1".encode()).hexdigest()[:8]
    return f"single-{criterion}-{reading}-{digest}"


def build_call(
    instruction: str,
    response: str,
    criterion: Criterion,
    reading: Reading,
    attempt: int,
    reason: str | None,
) -> Call:
    """The call for one sample; ``reason`` is why the attempt before could not be read."""
    scale = SCALES[criterion]
    sample = f"Instruction: {instruction}\nResponse: {response}"
    version = prompt_version(criterion, reading)
    if reading == "logprobs":
        return Call(
            messages=({"role": "user", "content": f"{sample}\n\n{scale.prompt}{_LOGPROBS}"},),
            prompt_version=version,
            max_tokens=1,
            temperature=0.0,
            grammar=scale.grammar,
            top_logprobs=DIGIT_LOGPROBS,
            attempt=attempt,
        )
    repeat = f"\n\n(The last reply could not be used: {reason}.)" if reason else ""
    return Call(
        messages=(
            {"role": "system", "content": scale.prompt + _GENERATED},
            {"role": "user", "content": sample + repeat},
        ),
        prompt_version=version,
        max_tokens=GENERATED_TOKENS,
        temperature=0.0,
        attempt=attempt,
    )


def parse_rating(reply: Reply, reading: Reading, criterion: Criterion) -> float:
    """The score, from 0 to the criterion's highest.

    Raises:
        Unparsable: The reply holds no such score.
    """
    high = SCALES[criterion].high
    if reading == "generated":
        return parse_score(reply.text, LOW, high)
    return expected_number(reply, int(LOW), high)


def score_table(
    sample_ids: Sequence[str],
    criterion: Criterion,
    outcomes: Sequence[Outcome[float]],
    *,
    model: str,
    reading: Reading,
) -> pl.DataFrame:
    """One row a sample (schema ``SINGLE_SCORES``), unreadable ones with a null score."""
    count = len(sample_ids)
    return pl.DataFrame(
        {
            "sample_id": list(sample_ids),
            "criterion": [criterion] * count,
            "score": [outcome.value for outcome in outcomes],
            "status": [outcome.status for outcome in outcomes],
            "reading": [reading] * count,
            "reply_id": [outcome.reply.reply_id for outcome in outcomes],
            "model": [model] * count,
            "prompt_version": [prompt_version(criterion, reading)] * count,
        },
        schema=SINGLE_SCORES.schema,
    )

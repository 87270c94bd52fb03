"""Single scores: one sample at a time, 0 to 5, for the AlpaGasus baseline."""

import hashlib
from collections.abc import Sequence

import polars as pl

from opencs_assets.schemas import SINGLE_SCORES
from resources.llm.readings import expected_number, parse_score
from resources.llm.types import Call, Outcome, Reply
from resources.settings import Reading

LOW, HIGH = 0.0, 5.0
MAX_ATTEMPTS = 3
GENERATED_TOKENS = 128
DIGIT_LOGPROBS = 40
DIGIT_GRAMMAR = "root ::= [0-5]"

_PROMPT = (
    "Rate how accurate and helpful the response is for its instruction, from 0 (useless) to 5 "
    "(excellent)."
)
_GENERATED = " On the first line write the score only; then one sentence of reasons."
_LOGPROBS = " Answer with one digit only."


def prompt_version(reading: Reading) -> str:
    """Version of the prompt and its parser."""
    text = _PROMPT + {"generated": _GENERATED, "logprobs": _LOGPROBS + DIGIT_GRAMMAR}[reading]
    return f"single-{reading}-{hashlib.sha256(f'{text}|layout-1'.encode()).hexdigest()[:8]}"


def build_call(
    instruction: str, response: str, reading: Reading, attempt: int, reason: str | None
) -> Call:
    """The call for one sample; ``reason`` is why the attempt before could not be read."""
    sample = f"Instruction: {instruction}\nResponse: {response}"
    if reading == "logprobs":
        return Call(
            messages=({"role": "user", "content": f"{sample}\n\n{_PROMPT}{_LOGPROBS}"},),
            prompt_version=prompt_version(reading),
            max_tokens=1,
            temperature=0.0,
            grammar=DIGIT_GRAMMAR,
            top_logprobs=DIGIT_LOGPROBS,
            attempt=attempt,
        )
    repeat = f"\n\n(The last reply could not be used: {reason}.)" if reason else ""
    return Call(
        messages=(
            {"role": "system", "content": _PROMPT + _GENERATED},
            {"role": "user", "content": sample + repeat},
        ),
        prompt_version=prompt_version(reading),
        max_tokens=GENERATED_TOKENS,
        temperature=0.0,
        attempt=attempt,
    )


def parse_rating(reply: Reply, reading: Reading) -> float:
    """The score in [0, 5].

    Raises:
        Unparsable: The reply holds no such score.
    """
    if reading == "generated":
        return parse_score(reply.text, LOW, HIGH)
    return expected_number(reply, int(LOW), int(HIGH))


def score_table(
    sample_ids: Sequence[str],
    outcomes: Sequence[Outcome[float]],
    *,
    model: str,
    reading: Reading,
) -> pl.DataFrame:
    """One row a sample (schema ``SINGLE_SCORES``), unreadable ones with a null score."""
    return pl.DataFrame(
        {
            "sample_id": list(sample_ids),
            "score": [outcome.value for outcome in outcomes],
            "status": [outcome.status for outcome in outcomes],
            "reading": [reading] * len(sample_ids),
            "reply_id": [outcome.reply.reply_id for outcome in outcomes],
            "model": [model] * len(sample_ids),
            "prompt_version": [prompt_version(reading)] * len(sample_ids),
        },
        schema=SINGLE_SCORES.schema,
    )

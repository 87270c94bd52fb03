"""Refinement: a better response to the instruction, then a better instruction for that response.

This is the published second step of OpenCS (after Li et al. 2023, Reflection-Tuning), over the
whole subset, in the project's own words. A part that could not be refined is left as it was, with
the reason; a reply that was cut short is never used.
"""

import hashlib
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any, Literal, get_args

import polars as pl

from opencs_assets.tables.selection import REFINED_SAMPLES
from resources.llm.errors import Unparsable
from resources.llm.types import Call, Outcome, Reply

Part = Literal["response", "instruction"]

MAX_ATTEMPTS = 3
# Published sampling.
TEMPERATURE, TOP_P = 0.7, 0.8
START, END = "<better>", "</better>"

_ASK = {
    "response": (
        "Improve the response to the instruction below. Keep what it is asked for and what is "
        "right; mend what is wrong, add what is missing, explain where it helps, and leave out "
        f"what does not. Write the improved response between {START} and {END}, and nothing else."
    ),
    "instruction": (
        "Improve the instruction below so that the response is the best answer to it. Keep its "
        "subject and intent, and all text that it gives to work on; make it clear, specific and "
        f"complete. Write the improved instruction between {START} and {END}, and nothing else."
    ),
}
_LAYOUT = "layout-1"
# The grammar makes a small model begin and end its reply where it should.
_GRAMMAR = f'root ::= "{START}" [^<]+ "{END}"'
_BETTER = re.compile(rf"{re.escape(START)}(.*){re.escape(END)}", re.DOTALL)


@dataclass(frozen=True)
class Draft:
    """A sample to refine; ``response`` is the refined one once there is one."""

    sample_id: str
    instruction: str
    response: str


def prompt_version(part: Part) -> str:
    """Version of the prompt and its parser."""
    digest = hashlib.sha256(f"{_ASK[part]}|{_GRAMMAR}|{_LAYOUT}".encode()).hexdigest()
    return f"refine-{part}-{digest[:8]}"


def prompt_versions() -> str:
    """Versions of both prompts."""
    return "+".join(prompt_version(part) for part in get_args(Part))


def build_call(draft: Draft, part: Part, room: int, attempt: int, reason: str | None) -> Call:
    """The call that asks for a better part of a sample.

    The first attempt (0) allows ``room`` tokens, and each further one twice as many as the one
    before, so that a reply that was cut at the limit can be had whole. ``reason`` says why the
    attempt before could not be used.
    """
    repeat = f"\n\n(The last reply could not be used: {reason}.)" if reason else ""
    return Call(
        messages=(
            {"role": "system", "content": _ASK[part]},
            {
                "role": "user",
                "content": f"[Instruction]\n{draft.instruction}\n\n[Response]\n{draft.response}"
                + repeat,
            },
        ),
        prompt_version=prompt_version(part),
        max_tokens=room * 2**attempt,
        temperature=TEMPERATURE,
        top_p=TOP_P,
        grammar=_GRAMMAR,
        attempt=attempt,
    )


def parse_better(reply: Reply) -> str:
    """The text between the marks.

    Raises:
        Unparsable: A mark is missing, or nothing stands between them.
    """
    match = _BETTER.search(reply.text)
    if not match:
        missing = END if START in reply.text else START
        raise Unparsable(f"{missing} is missing")
    text = match.group(1).strip()
    if not text:
        raise Unparsable(f"nothing stands between {START} and {END}")
    return text


# The type of ``LLMClient.complete_parsed``, which has calls made, parsed and tried again.
Complete = Callable[..., list[Outcome[str]]]
SEVERAL_TURNS = "several_turns"


def refine(content: pl.DataFrame, complete: Complete, model: str, room: int) -> pl.DataFrame:
    """Refine every sample of a subset, the responses first.

    A sample of several turns is left as it is: what comes after the first turn refers to it.

    Args:
        content: The subset's conversations (``subset_content``).
        complete: The client's method of that type.
        model: The refiner's name.
        room: Most tokens of a first attempt's reply.

    Returns:
        One row a sample in the order of choice (schema ``REFINED_SAMPLES``).
    """
    rows = content.to_dicts()
    drafts = {
        row["sample_id"]: Draft(row["sample_id"], row["instruction"], row["response"])
        for row in rows
        if len(row["messages"]) == 2
    }
    responses = _better(list(drafts.values()), "response", complete, room)
    drafts = {
        sample: replace(draft, response=responses[sample].value or draft.response)
        for sample, draft in drafts.items()
    }
    instructions = _better(list(drafts.values()), "instruction", complete, room)
    return pl.DataFrame(
        [
            {
                "rank": rank,
                "sample_id": row["sample_id"],
                "model": model,
                "prompt_version": prompt_versions(),
                **_part(row, "response", responses.get(row["sample_id"])),
                **_part(row, "instruction", instructions.get(row["sample_id"])),
            }
            for rank, row in enumerate(rows)
        ],
        schema=REFINED_SAMPLES.schema,
    )


def unrefined_parts(refined: pl.DataFrame) -> dict[str, int]:
    """How many parts were left as they were, by part and status."""
    return {
        f"{part}: {status}": count
        for part in get_args(Part)
        for status, count in refined[f"{part}_status"].value_counts().sort("count").iter_rows()
        if status != "ok"
    }


def _better(
    drafts: list[Draft], part: Part, complete: Complete, room: int
) -> dict[str, Outcome[str]]:
    outcomes = complete(
        drafts,
        lambda draft, attempt, reason: build_call(draft, part, room, attempt, reason),
        parse_better,
        label=f"refined {part}s",
        max_attempts=MAX_ATTEMPTS,
    )
    return {draft.sample_id: outcome for draft, outcome in zip(drafts, outcomes, strict=True)}


def _part(row: Mapping[str, Any], part: Part, outcome: Outcome[str] | None) -> dict[str, Any]:
    return {
        f"{part}_before": row[part],
        part: row[part] if outcome is None else outcome.value or row[part],
        f"{part}_status": SEVERAL_TURNS if outcome is None else outcome.status,
        f"{part}_detail": None if outcome is None else outcome.detail,
        f"{part}_reply_id": None if outcome is None else outcome.reply.reply_id,
    }

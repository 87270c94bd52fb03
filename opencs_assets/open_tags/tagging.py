"""Asking the tagger for open tags and reading its replies.

The prompt has two forms: ``explained`` asks for tags with explanations, as published; ``compact``
asks for bare tags and shows a few examples, for a small model that is held to a grammar.
"""

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import polars as pl

from opencs_assets.tables.open_tags import OPEN_TAGS, UNPARSABLE_TAGS
from resources.llm.errors import Unparsable
from resources.llm.readings import parse_json_list
from resources.llm.types import Call, Message, Outcome, Reply

Form = Literal["compact", "explained"]
MAX_ATTEMPTS = 3
MAX_TAGS = 8
MAX_TAG_CHARACTERS = 80
# OpenCS tags with gpt-4o-mini at temperature 0.6 and at most 1024 tokens.
EXPLAINED_TEMPERATURE = 0.6
EXPLAINED_TOKENS = 1024
COMPACT_TOKENS = 48

_EXPLAINED = (
    "You label requests that people make to an assistant. Identify every intention behind the "
    "request below: its topic, the kind of task, the skills it needs. Give each a short tag of "
    "one to four words and a one-sentence explanation. Reply with a JSON list only, in the form "
    '[{"tag": "...", "explanation": "..."}].'
)
_COMPACT = (
    "Label the user's request with two or three short tags: the kind of task and its topic. "
    "Reply with a JSON list of strings."
)
_EXAMPLES: tuple[tuple[str, str], ...] = (
    ("Write a short poem about autumn leaves.", '["poetry writing", "nature"]'),
    ("What is 15% of 240?", '["arithmetic", "percentages"]'),
    ("Why does this Python loop never end?\n\nwhile x > 0: print(x)", '["debugging", "python"]'),
    ("Summarize this article about bees in two sentences.", '["summarization", "biology"]'),
    ("Suggest a healthy lunch for a busy student.", '["recommendation", "cooking", "nutrition"]'),
)
GRAMMAR = (
    'root ::= "[" tag (", " tag){1,2} "]"\n'
    'tag ::= "\\"" word (" " word){0,2} "\\""\n'
    "word ::= [a-zA-Z0-9+#-]{2,20}\n"
)
_TAG_OBJECT: Mapping[str, Any] = {
    "type": "object",
    "properties": {"tag": {"type": "string"}, "explanation": {"type": "string"}},
    "required": ["tag", "explanation"],
    "additionalProperties": False,
}
# OpenAI's schemas want an object at the top.
SCHEMA: Mapping[str, Any] = {
    "type": "object",
    "properties": {"tags": {"type": "array", "items": _TAG_OBJECT}},
    "required": ["tags"],
    "additionalProperties": False,
}


def prompt_version(form: Form) -> str:
    """Version of the prompt, its examples, its grammar and its parser; another version re-tags."""
    parts = {
        "compact": [_COMPACT, _EXAMPLES, GRAMMAR, COMPACT_TOKENS],
        "explained": [_EXPLAINED, SCHEMA, EXPLAINED_TEMPERATURE, EXPLAINED_TOKENS],
    }[form]
    text = json.dumps([*parts, MAX_TAGS, MAX_TAG_CHARACTERS, "parser-1"])
    return f"tagging-{form}-{hashlib.sha256(text.encode()).hexdigest()[:8]}"


def form_of(structured: str | None) -> Form:
    """The prompt's form for a model whose replies are held to ``structured``."""
    return "compact" if structured == "grammar" else "explained"


@dataclass(frozen=True)
class TaggedQuery:
    """The text that the tagger is shown of a sample: all that the user asks, over all turns."""

    sample_id: str
    text: str


def queries(samples: pl.DataFrame) -> list[TaggedQuery]:
    """The queries of samples (``raw_dataset``), in their order.

    The first turn is ``instruction``, which holds Alpaca's ``input`` too; further user turns
    follow, each after a blank line.
    """
    sample_queries = []
    for sample_id, instruction, messages in samples.select(
        "sample_id", "instruction", "messages"
    ).iter_rows():
        later = [message["content"] for message in messages if message["role"] == "user"][1:]
        sample_queries.append(TaggedQuery(sample_id, "\n\n".join([instruction, *later])))
    return sample_queries


def build_call(query: TaggedQuery, attempt: int, reason: str | None, form: Form) -> Call:
    """The tagging call for a query; ``attempt`` is 0-based.

    ``reason``, why the attempt before could not be read, is appended to the request.
    """
    request = query.text
    if reason:
        request += f"\n\n(The last reply could not be used: {reason}. Reply with the list only.)"
    if form == "compact":
        messages: list[Message] = [{"role": "system", "content": _COMPACT}]
        for question, answer in _EXAMPLES:
            messages.append({"role": "user", "content": question})
            messages.append({"role": "assistant", "content": answer})
        messages.append({"role": "user", "content": request})
        return Call(
            messages=tuple(messages),
            prompt_version=prompt_version(form),
            max_tokens=COMPACT_TOKENS,
            grammar=GRAMMAR,
            attempt=attempt,
        )
    return Call(
        messages=(
            {"role": "system", "content": _EXPLAINED},
            {"role": "user", "content": f"Request:\n{request}"},
        ),
        prompt_version=prompt_version(form),
        max_tokens=EXPLAINED_TOKENS,
        temperature=EXPLAINED_TEMPERATURE,
        json_schema=SCHEMA,
        attempt=attempt,
    )


def parse_tags(reply: Reply) -> list[dict[str, str]]:
    """The tags of a reply; among equal ones, the first is kept.

    Accepts a list of strings or of ``{"tag", "explanation"}``, one such object alone, and an
    object with such a list under ``tags``; code fences and text around it are passed over.

    Raises:
        Unparsable: The reply has no list, or no tag of at most 80 characters in it.
    """
    tags: dict[str, str] = {}
    for item in _items(parse_json_list(reply.text)):
        if isinstance(item, Mapping):
            tag, explanation = item.get("tag"), item.get("explanation")
        else:
            tag, explanation = item, ""
        if isinstance(tag, str) and 0 < len(tag.strip()) <= MAX_TAG_CHARACTERS:
            tags.setdefault(
                tag.strip(), explanation.strip() if isinstance(explanation, str) else ""
            )
    if not tags:
        raise Unparsable("the reply has no tag")
    return [{"tag": tag, "explanation": why} for tag, why in list(tags.items())[:MAX_TAGS]]


def unparsable_table(
    tagged_queries: Sequence[TaggedQuery],
    outcomes: Sequence[Outcome[list[dict[str, str]]]],
    *,
    model: str,
    form: Form,
) -> pl.DataFrame:
    """One row a reply that could not be used (schema ``UNPARSABLE_TAGS``).

    A sample that got its tags by a later attempt has rows of its earlier replies.
    """
    return pl.DataFrame(
        [
            {
                "sample_id": query.sample_id,
                "attempt": unusable.attempt + 1,
                "status": unusable.status,
                "reason": unusable.detail or unusable.status,
                "reply": unusable.reply.text,
                "reply_id": unusable.reply.reply_id,
                "model": model,
                "prompt_version": prompt_version(form),
            }
            for query, outcome in zip(tagged_queries, outcomes, strict=True)
            for unusable in outcome.unusable
        ],
        schema=UNPARSABLE_TAGS.schema,
    )


def _items(items: Sequence[Any]) -> Sequence[Any]:
    if len(items) == 1 and isinstance(items[0], Mapping) and "tag" not in items[0]:
        nested = items[0].get("tags")
        return nested if isinstance(nested, list) else []
    return items


def tags_table(
    tagged_queries: Sequence[TaggedQuery],
    outcomes: Sequence[Outcome[list[dict[str, str]]]],
    *,
    model: str,
    form: Form,
) -> pl.DataFrame:
    """One row a sample (schema ``OPEN_TAGS``), those that could not be tagged included."""
    return pl.DataFrame(
        {
            "sample_id": [query.sample_id for query in tagged_queries],
            "tags": [outcome.value or [] for outcome in outcomes],
            "status": [outcome.status for outcome in outcomes],
            "detail": [outcome.detail for outcome in outcomes],
            "attempts": [outcome.attempts for outcome in outcomes],
            "reply_id": [outcome.reply.reply_id for outcome in outcomes],
            "model": [model] * len(tagged_queries),
            "prompt_version": [prompt_version(form)] * len(tagged_queries),
        },
        schema=OPEN_TAGS.schema,
    )

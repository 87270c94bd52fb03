"""Canonical samples: what the whole platform works on, made from any file of samples.

Every row of the file becomes a sample or a rejected row with a reason, exactly once.
"""

import hashlib
import json
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path
from typing import Any, Final

import polars as pl

from opencs_assets.datasets.errors import DatasetError, DatasetRowError
from opencs_assets.datasets.shapes import FIELDS, MARKERS, Conversation, Turn, read_row
from opencs_assets.datasets.templates import join_context, strip_template
from opencs_assets.files.reading import open_rows
from opencs_assets.files.rejections import RejectedRowError
from opencs_assets.files.rows import AcceptedFiles, RawRow
from opencs_assets.tables.datasets import RAW_DATASET, REJECTED_ROWS
from resources.provenance import file_hash

MAX_CHARS: Final = 1_000_000
"""Longest message, in characters. The longest contexts in use hold a few million characters in
all; one message of this size was dumped into the data by mistake, and every prompt that shows it
would be paid for."""

SAMPLE_ID_CHARS: Final = 32
"""Hex digits of a sample's id: with 128 bits, no two of a billion samples share one by chance."""

ACCEPTED: Final = AcceptedFiles(DatasetError, markers=MARKERS, columns=FIELDS)

# Rows are handed to Polars in batches: a million Python dicts at once would need gigabytes.
_BATCH: Final = 10_000

Record = dict[str, Any]


@dataclass(frozen=True)
class DatasetRead:
    """The samples (schema ``RAW_DATASET``) and rejected rows (``REJECTED_ROWS``) of a file.

    Both frames are in the file's order, and their heights add up to ``rows``. ``container`` and
    ``encoding`` are those of ``FileRows``; ``sha256`` is of the file's bytes as they are stored.
    """

    samples: pl.DataFrame
    rejected: pl.DataFrame
    rows: int
    container: str
    encoding: str
    sha256: str


@dataclass
class _Frame:
    """A frame that is built of batches of records."""

    schema: pl.Schema
    records: list[Record] = field(default_factory=list)
    batches: list[pl.DataFrame] = field(default_factory=list)

    def add(self, record: Record) -> None:
        self.records.append(record)
        if len(self.records) == _BATCH:
            self._flush()

    def _flush(self) -> None:
        self.batches.append(pl.DataFrame(self.records, schema=self.schema, orient="row"))
        self.records = []

    def build(self) -> pl.DataFrame:
        self._flush()
        return pl.concat(self.batches)


def read_dataset(path: Path, *, limit: int | None = None) -> DatasetRead:
    """Read a file of samples in any known container and row shape, or only its first rows.

    Text is kept as it is, but for prompt templates, white space around a message and Windows line
    breaks, so that the same content has the same id whatever file it came in.

    Raises:
        DatasetError: The file can't be read as a whole, or no row of it is usable; the message then
            counts the reasons.
        ValueError: ``limit`` is below 1.
    """
    if limit is not None and limit < 1:
        raise ValueError(f"limit must be at least 1, is {limit}")
    samples, rejected = _Frame(RAW_DATASET.schema), _Frame(REJECTED_ROWS.schema)
    reasons: Counter[str] = Counter()
    first_rows: dict[str, int] = {}
    rows = 0
    with open_rows(path, ACCEPTED) as file:
        for raw in islice(file.rows, limit):
            rows += 1
            try:
                record = _sample(raw)
                first = first_rows.setdefault(record["sample_id"], raw.row)
                if first != raw.row:
                    raise DatasetRowError("duplicate", f"same content as row {first}")
            except RejectedRowError as error:
                reasons[error.reason] += 1
                rejected.add(_rejection(raw, error))
            else:
                samples.add(record)
    if not first_rows:
        first_detail = rejected.build()["detail"].first()
        raise DatasetError(_nothing_usable(path, rows, reasons, first_detail))
    return DatasetRead(
        samples=samples.build(),
        rejected=rejected.build(),
        rows=rows,
        container=file.container,
        encoding=file.encoding,
        sha256=file_hash(path),
    )


def sample_id(system: str | None, messages: Sequence[dict[str, str]]) -> str:
    """Return the id of a sample: a hash of its content alone.

    Raises:
        UnicodeEncodeError: A text holds half a surrogate pair, which is no character.
    """
    content = json.dumps(
        {"system": system, "messages": messages},
        sort_keys=True,
        ensure_ascii=False,
        separators=(",", ":"),
    )
    return hashlib.sha256(content.encode()).hexdigest()[:SAMPLE_ID_CHARS]


def _nothing_usable(path: Path, rows: int, reasons: Counter[str], first_detail: object) -> str:
    if not rows:
        return f"{path}: has no rows. Name a file with samples."
    counts = ", ".join(f"{reason} {count}" for reason, count in reasons.most_common())
    message = (
        f"{path}: none of {rows} rows can be used ({counts}). The first: {first_detail}. Rows need "
        "`instruction` and `output`, `prompt` and `completion`, `messages` or `conversations`."
    )
    if "bad_encoding" in reasons:
        return f"{message} Convert it: `iconv -f WINDOWS-1252 -t UTF-8 {path.name} > utf8.json`."
    return message


def _rejection(raw: RawRow, error: RejectedRowError) -> Record:
    return {
        "row": raw.row,
        "line": raw.line,
        "reason": error.reason,
        "detail": error.detail,
        "excerpt": raw.excerpt(),
    }


def _sample(raw: RawRow) -> Record:
    """Return one row's record for ``RAW_DATASET``, or raise RejectedRowError."""
    if raw.problem is not None:
        raise raw.problem
    conversation = read_row(raw.value)
    system, turns = _system(conversation)
    _check_roles([role for role, _ in turns])
    messages, template = _messages(conversation, turns)
    _check_lengths(system, messages)
    try:
        identity = sample_id(system, messages)
    except UnicodeEncodeError as error:
        half = error.object[error.start]
        detail = f"the text holds half a surrogate pair ({half!a}), which is no character"
        raise DatasetRowError("bad_encoding", detail) from None
    return {
        "sample_id": identity,
        "row": raw.row,
        "system": system,
        "messages": messages,
        "instruction": messages[0]["content"],
        "response": messages[1]["content"],
        "turns": len(messages) // 2,
        "template": template,
        "source_format": conversation.source_format,
    }


def _clean(text: str | None) -> str:
    return (text or "").replace("\r\n", "\n").strip()


def _system(conversation: Conversation) -> tuple[str | None, Sequence[Turn]]:
    """Return the system prompt, from its field or the first turn, and the turns without it."""
    turns = conversation.turns
    from_field, from_turn = _clean(conversation.system), ""
    if turns and turns[0][0] == "system":
        from_turn, turns = _clean(turns[0][1]), turns[1:]
    if from_field and from_turn and from_field != from_turn:
        detail = "the field `system` and the first turn are different system prompts; keep one"
        raise DatasetRowError("bad_roles", detail)
    return from_field or from_turn or None, turns


def _check_roles(roles: Sequence[str]) -> None:
    """Accept user and assistant in turn, beginning with a question and ending with an answer."""
    if not roles:
        raise DatasetRowError("no_instruction", "the conversation is empty")
    for number, role in enumerate(roles, 1):
        expected = "user" if number % 2 else "assistant"
        if role != expected:
            detail = f"message {number} is from {role}, expected {expected}"
            raise DatasetRowError("bad_roles", detail)
    if len(roles) == 1:
        raise DatasetRowError("no_response", "the only question has no answer")
    if roles[-1] == "user":
        detail = f"message {len(roles)}, the last, is a question without an answer"
        raise DatasetRowError("bad_roles", detail)


def _messages(
    conversation: Conversation, turns: Sequence[Turn]
) -> tuple[list[dict[str, str]], str | None]:
    """Return the messages without templates, and the name of the first template."""
    messages: list[dict[str, str]] = []
    template = None
    for number, (role, raw_text) in enumerate(turns, 1):
        text = _clean(raw_text)
        if role == "user":
            text, message_template = strip_template(text)
            template = template or message_template
            if not text:
                raise DatasetRowError("no_instruction", f"message {number}, a question, is blank")
            if number == 1:
                text = join_context(text, _clean(conversation.context))
        elif not text:
            raise DatasetRowError("no_response", f"message {number}, an answer, is blank")
        messages.append({"role": role, "content": text})
    return messages, template


def _check_lengths(system: str | None, messages: Sequence[dict[str, str]]) -> None:
    texts = [("the system prompt", system or "")]
    texts += [(f"message {n}", message["content"]) for n, message in enumerate(messages, 1)]
    for name, text in texts:
        if len(text) > MAX_CHARS:
            detail = f"{name} has {len(text):,} characters, more than {MAX_CHARS:,}"
            raise DatasetRowError("too_long", detail)

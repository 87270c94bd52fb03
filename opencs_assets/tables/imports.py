"""Tables of verdicts and answers that people bring along."""

import polars as pl

from opencs_assets.tables.columns import (
    ANSWER,
    BENCHMARK,
    CATEGORY,
    DETAIL,
    EXCERPT,
    JUDGED_TURN,
    PROTOCOL,
    QUESTION_ID,
    SAMPLING,
    WINNER,
)
from resources.schema import Column, Table

_FILE = Column(pl.String, "Hex SHA-256 of the imported file's bytes")
_FILE_NAME = Column(pl.String, "Name that the file had")
_FILE_ROW = Column(pl.Int64, "0-based row in the file")

IMPORTED_VERDICTS = Table(
    "imported_verdicts",
    (),
    ("file", "row", "shown_first", "turn"),
    {
        "kind": Column(pl.String, "single (one answer scored) or pair (two compared)"),
        "benchmark": BENCHMARK,
        "question_id": QUESTION_ID,
        "category": CATEGORY,
        "turn": JUDGED_TURN,
        "model_a": Column(pl.String, "The model that was judged; of a pair the first by name"),
        "model_b": Column(pl.String, "The pair's second model; null of a single", nullable=True),
        "shown_first": Column(
            pl.String,
            "a or b: whose answer the prompt showed first; merged where the file holds one outcome "
            "of both orders; unknown of a vote or of a single",
        ),
        "winner": WINNER,
        "score_a": Column(
            pl.Float64,
            "Score of model_a in [1, 10], or 0 where the judge gave that",
            nullable=True,
        ),
        "score_b": Column(pl.Float64, "Score of model_b, as score_a", nullable=True),
        "orders_disagree": Column(
            pl.Boolean, "The two orders behind a merged outcome disagreed", nullable=True
        ),
        "status": Column(pl.String, "ok, or unparsable where the judge gave no value"),
        "judge": Column(pl.String, "Model or person that judged"),
        "judge_group": Column(
            pl.String,
            "Who is counted as one judge: the model, or of people their kind, such as expert",
        ),
        "is_human": Column(pl.Boolean, "A person judged"),
        "protocol": PROTOCOL,
        "prompt": Column(pl.String, "Name of the prompt as the file has it", nullable=True),
        "prompt_version": Column(
            pl.String, "The prompt's family, one for all turns and categories of a result"
        ),
        "sampling": SAMPLING,
        "reply": Column(pl.String, "What the judge wrote, where the file has it", nullable=True),
        "format": Column(pl.String, "Form that the file was recognized by"),
        "file": _FILE,
        "file_name": _FILE_NAME,
        "row": _FILE_ROW,
        "state": Column(
            pl.String,
            "used; duplicate (another row says the same of the same judgment), conflict (another "
            "file says otherwise and no person has chosen) or overruled (a person chose another)",
        ),
    },
)

REJECTED_VERDICTS = Table(
    "rejected_verdicts",
    (),
    ("file", "row"),
    {
        "file": _FILE,
        "file_name": _FILE_NAME,
        "row": Column(pl.Int64, "0-based row in the file; -1 of the whole file"),
        "reason": Column(pl.String, "Code of the reason, such as unknown_question"),
        "detail": DETAIL,
        "excerpt": EXCERPT,
    },
)

IMPORTED_ANSWERS = Table(
    "imported_answers",
    (),
    ("model", "benchmark", "question_id", "turn"),
    {
        "model": Column(pl.String, "Model that answered"),
        "benchmark": BENCHMARK,
        "question_id": QUESTION_ID,
        "category": CATEGORY,
        "turn": Column(pl.Int64, "1-based turn"),
        "answer": ANSWER,
        "file": _FILE,
        "file_name": _FILE_NAME,
        "row": _FILE_ROW,
    },
)

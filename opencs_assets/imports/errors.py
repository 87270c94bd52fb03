"""Errors about a file of verdicts as a whole and about one of its rows."""

from collections.abc import Mapping
from types import MappingProxyType
from typing import Final

from opencs_assets.files.rejections import DAMAGES, RejectedRowError
from resources.errors import MendableError

REASONS: Final[Mapping[str, str]] = MappingProxyType(
    {
        **DAMAGES,
        "other_form": "the row has not the fields of the form that the file has",
        "no_benchmark": "the benchmark is not in this home",
        "unknown_question": "no benchmark here asks this, or it has no question of this id",
        "other_question": "the prompt in the row asks something else than the benchmark's question",
        "unknown_turn": "the turn is missing, no number, or not one of the question's",
        "no_model": "a model's name is missing, blank or not text",
        "self_pair": "a model is compared with itself",
        "no_judge": "the row does not say who judged, and no judge was named",
        "bad_score": "the score is missing or no finite number",
        "score_out_of_range": "the score is neither -1 (unparsable) nor in [0, 10]",
        "bad_winner": "the winner is neither a side, a tie nor an error",
        "contradicts_reply": "the scores are not those that the judge's reply begins with",
        "no_answer": "an answer is missing or not text",
        "conflicting_answer": "another row has another answer of the model to the question",
        "unreadable_file": "the kept file is gone, was changed, or can't be read any more",
    }
)
"""Code of each reason for which a row is rejected, and what it means."""


class VerdictFileError(MendableError):
    """A file, an option or a choice that can't be used as a whole; the message says what to do."""


class NotUnderstoodError(VerdictFileError):
    """A file of no form that can be imported; ``recognize.refusal`` adds which forms can be."""


class VerdictRowError(RejectedRowError):
    """One row that can't become a verdict or an answer."""

    reasons = REASONS

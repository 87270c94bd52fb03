"""Recognizing the form of a file by its content."""

import io
from collections.abc import Mapping, Sequence
from typing import Any, Final, NamedTuple

from opencs_assets.files.reading import rows_of
from opencs_assets.files.rows import AcceptedFiles, RawRow
from opencs_assets.imports.errors import NotUnderstoodError, VerdictFileError
from opencs_assets.imports.forms import alpaca_eval, fastchat, reviews, table, votes
from opencs_assets.imports.forms.form import Form
from opencs_assets.imports.options import ImportOptions
from opencs_assets.imports.questions import Questions

# A row is of the first form that fits, so the forms with the most specific fields come first.
FORMS: Final[Sequence[Form]] = (
    fastchat.SINGLE,
    fastchat.PAIR,
    fastchat.ANSWERS,
    votes.FORM,
    alpaca_eval.FORM,
    reviews.FORM,
)
ALL_FORMS: Final[Sequence[Form]] = (*FORMS, table.FORM)
ACCEPTED: Final = AcceptedFiles(
    VerdictFileError,
    not_understood=NotUnderstoodError,
    markers=("question_id",),
    # All rows of a file are held at once, because its form is recognized from many of them.
    most_unpacked=2 << 30,
)
_SNIFFED_ROWS: Final = 50


class Recognized(NamedTuple):
    """A file whose form is known, with all its rows, readable or not, and a CSV's header."""

    form: Form
    rows: Sequence[RawRow]
    header: Sequence[str]

    def fields(self) -> list[Mapping[str, Any]]:
        """The fields of the rows that can be read."""
        return [row.value for row in self.rows if row.problem is None]


def recognize(data: bytes, name: str) -> Recognized:
    """Tell the form of a file from its bytes.

    Raises:
        NotUnderstoodError: The file has no known form.
        VerdictFileError: The file is empty or broken as a whole.
    """
    file = rows_of(io.BufferedReader(io.BytesIO(data)), name, ACCEPTED)
    recognized = Recognized(table.FORM, list(file.rows), file.header)
    if not recognized.rows:
        below = " below its header" if file.header else ""
        raise VerdictFileError(f"{name}: has no rows{below}")
    if file.header:
        return recognized
    sample = recognized.fields()[:_SNIFFED_ROWS]
    forms = [next((form for form in FORMS if form.fits(row)), None) for row in sample]
    best = max(FORMS, key=forms.count)
    if best not in forms:
        fields = ", ".join(list(sample[0])[:12]) if sample else "no object with fields"
        raise NotUnderstoodError(
            f"{name} is of no form that can be imported; its rows have {fields}"
        )
    return recognized._replace(form=best)


def check(data: bytes, name: str, options: ImportOptions) -> Form:
    """Accept a file that can be imported with these options, and return its form.

    Raises:
        VerdictFileError: The file is not understood, or an option is missing.
    """
    recognized = recognize(data, name)
    form = recognized.form
    try:
        if form is table.FORM:
            table.columns_of(recognized.header, options)
        form.reader(recognized.fields(), options, Questions.none())
    except VerdictFileError as error:
        raise VerdictFileError(f"{name}: {error}") from None
    return form


def refusal(error: VerdictFileError) -> str:
    """An error's message; for a file that is not understood, it adds the forms that are."""
    if not isinstance(error, NotUnderstoodError):
        return str(error)
    return f"{error}. Forms that can be: {'; '.join(form.title for form in ALL_FORMS)}"


def unused(form: Form, options: ImportOptions) -> list[str]:
    """The names of options that have a value but no meaning to a form."""
    return [name for name in options.values() if name not in form.uses]

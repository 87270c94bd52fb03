"""Which form a file has, by its content."""

from collections.abc import Sequence
from typing import Any, Final, NamedTuple

from opencs_assets.imports.contents import Contents, Row, read_contents
from opencs_assets.imports.errors import NotUnderstoodError, VerdictFileError
from opencs_assets.imports.forms import alpaca_eval, fastchat, reviews, table, votes
from opencs_assets.imports.forms.form import Form
from opencs_assets.imports.options import ImportOptions
from opencs_assets.imports.questions import Questions

# The most telling first: a row is of the first that fits.
FORMS: Final[Sequence[Form]] = (
    fastchat.SINGLE,
    fastchat.PAIR,
    fastchat.ANSWERS,
    votes.FORM,
    alpaca_eval.FORM,
    reviews.FORM,
)
ALL_FORMS: Final[Sequence[Form]] = (*FORMS, table.FORM)
_SNIFFED_ROWS: Final = 50


class Recognized(NamedTuple):
    """A file whose form is known.

    Attributes:
        form: Its form.
        contents: Its rows.
    """

    form: Form
    contents: Contents

    def fields(self) -> list[Row]:
        """The rows that could be read."""
        return [row for row in self.contents.rows if isinstance(row, dict)]


def recognize(data: bytes, name: str) -> Recognized:
    """Tell the form of a file from its bytes.

    Args:
        data: The file's bytes.
        name: The file, for a person.

    Raises:
        NotUnderstoodError: It is none that is known.
        VerdictFileError: It is empty or broken as a whole.
    """
    contents = read_contents(data, name)
    if contents.container == "csv":
        return Recognized(table.FORM, contents)
    found = {form.name: 0 for form in FORMS}
    sample = [row for row in contents.rows if isinstance(row, dict)][:_SNIFFED_ROWS]
    for row in sample:
        for form in FORMS:
            if form.fits(row):
                found[form.name] += 1
                break
    best = max(FORMS, key=lambda form: found[form.name])
    if not found[best.name]:
        fields = ", ".join(list(sample[0])[:12]) if sample else "no object with fields"
        raise NotUnderstoodError(
            f"{name} is of no form that can be imported; its rows have {fields}"
        )
    return Recognized(best, contents)


def check(data: bytes, name: str, options: ImportOptions) -> Form:
    """Accept a file that can be imported with these options.

    Args:
        data: The file's bytes.
        name: The file, for a person.
        options: What was said about it.

    Returns:
        Its form.

    Raises:
        VerdictFileError: It is not understood, or an option is missing.
    """
    form, contents = found = recognize(data, name)
    try:
        if form is table.FORM:
            table.columns_of(contents.header, options)
        form.reader(found.fields(), options, Questions.none())
    except VerdictFileError as error:
        raise VerdictFileError(f"{name}: {error}") from None
    return form


def told(error: VerdictFileError) -> str:
    """What is wrong with a file, for a person; of one that is not understood, which forms are."""
    if not isinstance(error, NotUnderstoodError):
        return str(error)
    return f"{error}. Forms that can be: {'; '.join(form.title for form in ALL_FORMS)}"


def unused(form: Form, options: ImportOptions) -> dict[str, Any]:
    """What was said about a file that means nothing to its form."""
    return {name: value for name, value in options.given().items() if name not in form.uses}

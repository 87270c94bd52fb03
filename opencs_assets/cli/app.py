"""The command ``opencs``: what people do from a terminal, over the definitions of the UI.

It exits with 0 when all is done, 1 when something failed, 2 when an argument is wrong and 130 when
it is interrupted.
"""

import warnings

import typer

from opencs_assets.cli import data, planning, replies, results, running, verdicts
from opencs_assets.cli.common import err, fail
from resources.errors import OpenCSError

app = typer.Typer(
    no_args_is_help=True,
    add_completion=False,
    rich_markup_mode="markdown",
    pretty_exceptions_enable=False,
    help=(
        "Choose the instruction samples that make the best fine-tuned model, and prove it.\n\n"
        "Everything is kept under OPENCS_HOME (default: .opencs in this folder)."
    ),
)
for group in (data, running, planning, results, verdicts):
    app.add_typer(group.app)
app.add_typer(replies.app, name="replies", rich_help_panel="Results and upkeep")


def main() -> None:
    """Run the command; a known error is one message, not a traceback."""
    warnings.filterwarnings("ignore")
    try:
        app()
    except OpenCSError as error:
        raise SystemExit(fail(str(error))) from None
    except KeyboardInterrupt:
        err.print("interrupted; what was done so far is kept")
        raise SystemExit(130) from None
    except Exception as error:
        if not _is_of_sqlite(error):
            raise
        raise SystemExit(
            fail(
                f"Dagster's database can't be used: {error.__cause__ or error}. Run `opencs doctor`"
            )
        ) from None


def _is_of_sqlite(error: Exception) -> bool:
    """Whether SQLAlchemy reports that it could not use a SQLite file of Dagster's."""
    import sqlite3

    return isinstance(error.__cause__ or getattr(error, "orig", None), sqlite3.DatabaseError)

"""The home, lines, tables and errors on a terminal, for all groups of commands."""

import json
import sys
from typing import Annotated, Any

import typer
from rich.console import Console

# A file or a pipe has no width of its own.
PIPE_WIDTH = 160
WHOLE = 10_000
out = Console(width=None if sys.stdout.isatty() else PIPE_WIDTH)
err = Console(stderr=True)

JsonOption = Annotated[bool, typer.Option("--json", help="Print JSON instead of a table.")]


def prepared_settings() -> Any:
    """The settings of the home, whose folders are made where they are missing."""
    from opencs_assets.tables.home import prepare_home

    return prepare_home()


def say(line: str) -> None:
    """Print a line as it is."""
    out.print(line, highlight=False, markup=False)


def note(line: str) -> None:
    """Print a line as it is on stderr, where it is apart from the command's result."""
    err.print(line, highlight=False, markup=False)


def size_text(count: int) -> str:
    """A number of bytes as a person reads it."""
    return f"{count / 1e6:,.1f} MB" if count >= 1e5 else f"{count:,} bytes"


def print_rows(
    title: str, rows: list[dict[str, Any]], as_json: bool, cut: int | None = None
) -> None:
    """Print rows as JSON, or as a table whose cells have at most ``cut`` characters."""
    if as_json:
        print(json.dumps(rows, default=str, indent=2))
        return
    import polars as pl

    from opencs_assets.cli.summary import SHOWN_CHARACTERS, print_frame

    if rows:
        frame = pl.DataFrame(rows, infer_schema_length=None)
        print_frame(out, title, frame, cut or SHOWN_CHARACTERS)
    else:
        out.print(f"{title}: none")


def print_outcome(outcome: dict[str, Any], line: str, as_json: bool, **options: Any) -> None:
    """Print what a command came to: as JSON, or as a line for a person."""
    if as_json:
        print(json.dumps(outcome, **options))
    else:
        say(line)


def fail(message: str, code: int = 1) -> int:
    """Print an error; returns the exit code that goes with it."""
    err.print(f"error: {message}", style="red", highlight=False, markup=False)
    return code

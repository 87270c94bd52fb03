"""Commands about verdicts that people bring along."""

from pathlib import Path
from typing import Annotated, Any

import typer

from opencs_assets.cli.common import (
    WHOLE,
    JsonOption,
    fail,
    note,
    prepared_settings,
    print_rows,
)
from opencs_assets.cli.running import plan_runs, run_step
from opencs_assets.config.experiments import load_experiments

app = typer.Typer()


@app.command("import-verdicts", rich_help_panel="Verdicts of others")
def import_verdicts(
    paths: Annotated[
        list[Path], typer.Argument(metavar="PATH...", help="Files, or folders with such files.")
    ],
    benchmark: Annotated[
        str | None, typer.Option(help="Benchmark of the questions, where it is not told by them.")
    ] = None,
    model_a: Annotated[
        str | None,
        typer.Option("--model-a", help="First model (Answer1's), where the file names none."),
    ] = None,
    model_b: Annotated[
        str | None, typer.Option("--model-b", help="Second model, where the file names none.")
    ] = None,
    judge: Annotated[
        str | None,
        typer.Option(help="Who judged, where the file does not say; of people, their kind."),
    ] = None,
    human: Annotated[bool, typer.Option("--human", help="People judged.")] = False,
    reversed_order: Annotated[
        str | None,
        typer.Option(
            "--reversed",
            metavar="as-shown|swapped-back",
            help="How two-score reviews hold the reversed order, where their texts do not tell.",
        ),
    ] = None,
    mapping: Annotated[
        Path | None, typer.Option(help="YAML or JSON: which column of a CSV holds what.")
    ] = None,
    column: Annotated[
        list[str] | None,
        typer.Option(metavar="WHAT=COLUMN", help="One column of a CSV; may be repeated."),
    ] = None,
    as_json: JsonOption = False,
) -> None:
    """Import verdicts and answers that you have: FastChat, votes, reviews, AlpacaEval, CSV.

    Files are recognized by their content and kept. Exits with 1 if a file or rows were rejected;
    the others are taken.
    """
    from opencs_assets.imports import options, taking
    from opencs_assets.tables.lake import Lake

    given = options.ImportOptions(benchmark, model_a, model_b, judge, human, reversed_order)
    import_options = options.read_options(given, mapping, column or [])
    settings = prepared_settings()
    taken = taking.take(settings.home, paths, import_options)
    rows: list[dict[str, Any]] = []
    if taken.kept_files:
        _read_imports(settings)
        rows = taking.outcomes(Lake(settings.lake), taken.kept_files)
        _print_imports("Imported", rows, as_json)
        for line in taking.first_details(Lake(settings.lake), taken.kept_files):
            note(f"rejected {line}")
    elif as_json:
        print("[]")
    for line in taken.notes:
        note(line)
    if any(row["conflict"] for row in rows):
        note(
            "files claim the same judgments with different scores, and none of these counts; "
            "say which is right: opencs prefer-verdicts FILE"
        )
    for message in taken.refused:
        fail(message)
    if taken.refused or any(row["rejected"] for row in rows):
        raise typer.Exit(1)


@app.command("prefer-verdicts", rich_help_panel="Verdicts of others")
def prefer_verdicts(
    file: Annotated[
        str, typer.Argument(help="The file that is right: a path, its name, or its hash.")
    ],
    row: Annotated[
        int | None, typer.Option(min=0, help="Only this row of it, 0-based; unset: all.")
    ] = None,
    reason: Annotated[str, typer.Option(help="Why, for whoever asks later.")] = "",
    as_json: JsonOption = False,
) -> None:
    """Say which imported file is right where several claim the same judgment differently.

    It is kept in verdict_choices.csv of the home; a later choice has the last word.
    """
    from opencs_assets.imports import taking
    from opencs_assets.tables.lake import Lake

    settings = prepared_settings()
    lake = Lake(settings.lake)
    preferred = taking.prefer(settings.home, lake, file, row, reason)
    _read_imports(settings)
    _print_imports("Preferred", taking.outcomes(lake, [preferred]), as_json)


def _print_imports(title: str, rows: list[dict[str, Any]], as_json: bool) -> None:
    """Print the outcome of each imported file; a person's table leaves the long columns out."""
    left_out = () if as_json else ("sha256", "reasons")
    shown = [{name: row[name] for name in row if name not in left_out} for row in rows]
    print_rows(title, shown, as_json, cut=WHOLE)


def _read_imports(settings: Any) -> None:
    """Make the tables of the import anew, in a run that the UI shows."""
    from resources.instance import open_instance

    with open_instance(settings.home) as instance:
        from definitions import defs

        experiments = load_experiments(settings.home)
        for step in plan_runs(defs, instance, experiments, "imported_verdicts"):
            run_step(defs, instance, step)

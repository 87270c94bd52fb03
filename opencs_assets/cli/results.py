"""Commands that show results, write reports and check the home."""

import json
from pathlib import Path
from typing import Annotated

import typer

from opencs_assets.cli.common import (
    WHOLE,
    JsonOption,
    fail,
    note,
    out,
    prepared_settings,
    print_outcome,
    print_rows,
    size_text,
)
from opencs_assets.datasets.catalog import current_source
from resources.settings import load_settings

app = typer.Typer()
MOST_FAULTS = 100


@app.command(rich_help_panel="Results and upkeep")
def summary(
    dataset: Annotated[str, typer.Argument(help="The dataset.")],
) -> None:
    """Sum up what has been materialized for a dataset."""
    from opencs_assets.cli.summary import print_summary

    settings = prepared_settings()
    current_source(settings.home, dataset)
    print_summary(out, settings, dataset, {})


@app.command(rich_help_panel="Results and upkeep")
def sql(
    statement: Annotated[str, typer.Argument(help='For instance "select * from win_rates".')],
    as_json: JsonOption = False,
) -> None:
    """Query the warehouse; read-only, and never in the way of a run."""
    from resources.warehouse import query

    frame = query(load_settings().warehouse, statement)
    if as_json:
        print(frame.write_json())
    else:
        print_rows(f"{frame.height} rows", frame.to_dicts(), False)


@app.command(rich_help_panel="Results and upkeep")
def verify(as_json: JsonOption = False) -> None:
    """Derive all verdicts and published numbers anew from the kept replies and files.

    Names each row that is edited, missing or doubled. Exits with 1 if there is one.
    """
    from opencs_assets.verification.home import verify_home

    outcome = verify_home(prepared_settings())
    if as_json:
        print(json.dumps(outcome.as_dict(), indent=2))
    else:
        print_rows("Verified", outcome.rows(), False)
        for line in outcome.notes:
            note(f"note: {line}")
        for fault in outcome.faults[:MOST_FAULTS]:
            out.print(fault.line(), highlight=False, markup=False, soft_wrap=True)
        if len(outcome.faults) > MOST_FAULTS:
            out.print(f"and {len(outcome.faults) - MOST_FAULTS:,} more; --json has them all")
    if outcome.faults:
        fail(f"{len(outcome.faults):,} things do not follow from what is kept")
        raise typer.Exit(1)


@app.command(rich_help_panel="Results and upkeep")
def report(
    out_file: Annotated[
        Path | None,
        typer.Option("--out", help="File to write; unset: report.html in OPENCS_HOME."),
    ] = None,
    as_json: JsonOption = False,
) -> None:
    """Write all results as one HTML file that opens without a server, with every number's query."""
    from opencs_assets.evaluation.report import write_report

    settings = prepared_settings()
    written = write_report(settings.warehouse, out_file or settings.home / "report.html")
    size = written.stat().st_size
    outcome = {"file": str(written), "bytes": size}
    print_outcome(outcome, f"{written}, {size_text(size)}", as_json)


@app.command(rich_help_panel="Results and upkeep")
def doctor(
    probe: Annotated[
        bool,
        typer.Option(
            "--probe", help="Ask the endpoints anew what they can do: a few tiny, paid calls each."
        ),
    ] = False,
    as_json: JsonOption = False,
) -> None:
    """Look at keys, endpoints, models, replies, runs, databases, prices, disk, GPU and versions.

    Exits with 1 on a problem.
    """
    from opencs_assets.cli.doctor import examine

    diagnoses = examine(prepared_settings(), probe=probe)
    print_rows("Doctor", [vars(diagnosis) for diagnosis in diagnoses], as_json, cut=WHOLE)
    if any(diagnosis.state == "problem" for diagnosis in diagnoses):
        raise typer.Exit(1)

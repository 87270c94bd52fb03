"""Commands about what comes in: datasets, benchmarks, the embedded models."""

from pathlib import Path
from typing import Annotated

import typer

from opencs_assets.cli.common import (
    WHOLE,
    JsonOption,
    note,
    prepared_settings,
    print_outcome,
    print_rows,
)
from opencs_assets.datasets import catalog

app = typer.Typer()
benchmarks = typer.Typer(
    no_args_is_help=True, help="List the benchmarks, and fetch them from their public sources."
)
app.add_typer(benchmarks, name="benchmarks", rich_help_panel="Data")


@app.command(rich_help_panel="Data")
def add(
    file: Annotated[Path, typer.Argument(help="JSON, JSONL, CSV or Parquet, gzipped or not.")],
    name: Annotated[
        str | None, typer.Option(help="Name of the dataset; unset: made from the file's name.")
    ] = None,
    as_json: JsonOption = False,
) -> None:
    """Add a file as a dataset, or as a new version of one; starts no run."""
    source = add_dataset(file, name)
    outcome = {"name": source.name, "sha256": source.sha256, "bytes": source.bytes}
    state = "new version" if source.is_new_version else "unchanged"
    line = f"{source.name}: {source.bytes:,} bytes of {source.original} ({state})"
    print_outcome(outcome, line, as_json)


@app.command(rich_help_panel="Data")
def datasets(as_json: JsonOption = False) -> None:
    """List the datasets that have been added."""
    rows = [
        {
            "name": source.name,
            "file": source.original,
            "bytes": source.bytes,
            "added_at": source.added_at,
            "sha256": source.sha256,
        }
        for source in catalog.list_sources(prepared_settings().home)
    ]
    print_rows("Datasets", rows, as_json)


@app.command(rich_help_panel="Plans")
def estimate(
    dataset: Annotated[str, typer.Argument(help="A dataset that has been added.")],
    limit: Annotated[int | None, typer.Option(min=1, help="Only the first rows.")] = None,
    as_json: JsonOption = False,
) -> None:
    """Say what tagging and scoring a dataset would take: calls, tokens, dollars, time."""
    from opencs_assets.datasets.canonical import read_dataset
    from opencs_assets.planning.estimate import estimate_dataset
    from resources.llm.resource import LLMResource

    settings = prepared_settings()
    source = catalog.current_source(settings.home, dataset)
    costs = estimate_dataset(
        read_dataset(source.path, limit=limit).samples,
        settings,
        LLMResource(home=str(settings.home)).planned(dataset),
        dataset,
        is_whole=not limit,
    )
    rows = [
        {"stage": cost.stage, "role": cost.role, "model": cost.model, **vars(cost.estimate)}
        for cost in costs
    ]
    print_rows(f"Estimate for {dataset}", rows, as_json)


@app.command(rich_help_panel="Data")
def models() -> None:
    """Fetch and prepare the embedded models, so that everything after runs offline."""
    from resources.models import fetch

    fetch(prepared_settings().models, note)


@benchmarks.command("list")
def list_benchmarks(as_json: JsonOption = False) -> None:
    """List the benchmarks with their questions, their sources and whether they are there."""
    from opencs_assets.benchmarks.fetching import list_benchmarks as listed

    rows = listed(prepared_settings().home)
    shown = [
        {name: value for name, value in row.items() if as_json or name != "file"} for row in rows
    ]
    print_rows("Benchmarks", shown, as_json, cut=WHOLE)


@benchmarks.command("fetch")
def fetch_benchmarks(
    names: Annotated[
        list[str] | None, typer.Argument(metavar="[NAME]...", help="Benchmarks; unset: all.")
    ] = None,
    source: Annotated[
        str | None,
        typer.Option("--from", help="A folder that has the files, or the URL of one (a mirror)."),
    ] = None,
    as_json: JsonOption = False,
) -> None:
    """Fetch benchmarks; a file is kept only if it is the published one, by its SHA-256."""
    from opencs_assets.benchmarks.fetching import fetch

    rows = [
        {
            "benchmark": file.benchmark,
            "file": file.path.name,
            "bytes": file.bytes,
            "state": file.state,
            "source": file.source,
        }
        for file in fetch(prepared_settings().home, names or [], source=source, say=note)
    ]
    print_rows("Benchmarks", rows, as_json, cut=WHOLE)


def add_dataset(file: Path, name: str | None) -> catalog.Source:
    """Keep a file as a dataset, and make it known as a partition."""
    from opencs_assets.wiring.running import register_dataset
    from resources.instance import open_instance

    settings = prepared_settings()
    source = catalog.add_source(settings.home, file, name)
    with open_instance(settings.home) as instance:
        register_dataset(instance, source.name)
    return source

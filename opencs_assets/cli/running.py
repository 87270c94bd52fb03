"""Commands that run: materialize, the demo, the UI."""

import os
import socket
import sys
import time
from pathlib import Path
from typing import Annotated, Any

import typer

from opencs_assets.cli.common import (
    WHOLE,
    JsonOption,
    err,
    fail,
    out,
    prepared_settings,
    print_rows,
)
from opencs_assets.cli.data import add_dataset
from opencs_assets.config.experiments import Experiments, load_experiments
from resources.settings import load_settings

app = typer.Typer()
SAMPLE = Path(__file__).parents[1] / "datasets" / "sample_data" / "sample.jsonl"
HOST = "127.0.0.1"
DEMO_ASSETS = "not (key:whole_set_scores or key:whole_set_comparisons or key:refined_samples)"


@app.command(rich_help_panel="Runs")
def materialize(
    selection: Annotated[
        str, typer.Argument(help="Assets in Dagster's selection syntax: `*`, `*selected_subset`.")
    ],
    dataset: Annotated[list[str] | None, typer.Option(help="Dataset; may be repeated.")] = None,
    selector: Annotated[list[str] | None, typer.Option(help="Selector; may be repeated.")] = None,
    experiment: Annotated[
        list[str] | None, typer.Option(help="Experiment; may be repeated.")
    ] = None,
    limit: Annotated[
        int | None, typer.Option(min=1, help="Read only the file's first rows (raw_dataset).")
    ] = None,
    everything: Annotated[
        bool, typer.Option("--all", help="Every selector, experiment and matchup.")
    ] = False,
    force: Annotated[
        bool, typer.Option(help="Make checkpoints and answers again that could be reused.")
    ] = False,
    dry_run: Annotated[bool, typer.Option(help="Print the plan and stop.")] = False,
    as_json: JsonOption = False,
) -> None:
    """Materialize assets: prints the plan, then runs it in order, one run a partition."""
    _materialize(
        selection,
        limit=limit,
        force=force,
        dry_run=dry_run,
        as_json=as_json,
        datasets=dataset or [],
        selectors=selector or [],
        chosen_experiments=experiment or [],
        everything=everything,
    )


@app.command(rich_help_panel="Runs")
def demo(
    file: Annotated[
        Path | None, typer.Argument(help="Your own file; unset: the sample dataset.")
    ] = None,
    limit: Annotated[int | None, typer.Option(min=1, help="Read only the first rows.")] = None,
) -> None:
    """Run the whole chain on the sample dataset, or on your own file, and sum it up.

    Refinement and the ablation that compares the whole set are left out: they take the small model
    many minutes.
    """
    from opencs_assets.cli.summary import print_summary

    source = add_dataset(file or SAMPLE, None)
    started = time.monotonic()
    seconds = _materialize(
        DEMO_ASSETS,
        limit=limit,
        datasets=[source.name],
        selectors=_quick_selectors(),
        everything=True,
    )
    print_summary(out, load_settings(), source.name, seconds)
    out.print(f"All in {time.monotonic() - started:.0f} s")


@app.command(rich_help_panel="Runs")
def ui(
    port: Annotated[int, typer.Option(help="Port on 127.0.0.1.")] = 3000,
) -> None:
    """Open Dagster's UI on the same instance, with sensors running."""
    from resources.instance import open_instance
    from resources.runs.dead import free_dead_runs
    from resources.runs.leftovers import end_leftovers

    settings = prepared_settings()
    lines = end_leftovers(settings.instance)
    with open_instance(settings.home) as instance:
        lines += free_dead_runs(instance)
    for line in lines:
        err.print(line, highlight=False, markup=False, soft_wrap=True)
    with socket.socket() as probe:
        # The server does so too: a port that only waits out a closed connection counts as free.
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((HOST, port))
        except OSError as error:
            raise SystemExit(
                fail(
                    f"port {port} on {HOST} can't be used: {error.strerror}. Stop what uses it, or "
                    f"choose another: `opencs ui --port {port + 1}` or `make ui PORT={port + 1}`."
                )
            ) from None
    environment = {
        **os.environ,
        "OPENCS_HOME": str(settings.home),
        "DAGSTER_HOME": str(settings.instance),
        "PYTHONWARNINGS": "ignore",
    }
    err.print(f"UI on http://{HOST}:{port} (Ctrl-C ends it)")
    command = [sys.executable, "-m", "dagster", "dev", "-m", "definitions"]
    os.execve(  # noqa: S606
        sys.executable, [*command, "-h", HOST, "-p", str(port)], environment
    )


def _quick_selectors() -> list[str]:
    """The selectors whose subsets the demo can make."""
    from opencs_assets.selection.registry import METHODS

    slow = {name for name, method in METHODS.items() if "whole_set_scores" in method.needs}
    declared = load_experiments(prepared_settings().home).selectors
    return [
        name
        for name, selector in declared.items()
        if not selector.refine and selector.method not in slow
    ]


def _materialize(
    selection: str,
    *,
    limit: int | None,
    force: bool = False,
    dry_run: bool = False,
    as_json: bool = False,
    **choice: Any,
) -> dict[str, float]:
    """Plan and run a selection; returns seconds by step. ``choice`` is what ``walk.plan`` takes."""
    from opencs_assets.wiring.selected import PlanError
    from resources.instance import open_instance

    settings = prepared_settings()
    with open_instance(settings.home) as instance:
        # The definitions are built for the same home when they are imported.
        from definitions import defs

        try:
            experiments = load_experiments(settings.home)
            steps = plan_runs(defs, instance, experiments, selection, **choice)
        except PlanError as error:
            raise SystemExit(fail(str(error), 2)) from None
        rows = [
            {
                "run": number,
                "family": step.family,
                "partition": step.partition,
                "assets": ", ".join(step.assets),
            }
            for number, step in enumerate(steps, start=1)
        ]
        if limit is not None and not any("raw_dataset" in step.assets for step in steps):
            raise SystemExit(fail("--limit is for raw_dataset, which is not selected", 2))
        print_rows("Plan", rows, as_json, cut=WHOLE)
        if dry_run:
            return {}
        return run_steps(defs, instance, steps, limit=limit, force=force)


def plan_runs(
    defs: Any, instance: Any, experiments: Experiments, selection: str, **choice: Any
) -> list[Any]:
    """The runs that materialize a selection; ``choice`` is what ``walk.plan`` takes."""
    from opencs_assets.planning.walk import plan
    from opencs_assets.wiring.running import known_datasets
    from opencs_assets.wiring.selected import select_assets

    selected = select_assets(defs, selection)
    return plan(selected, known_datasets(instance), experiments, **choice)


def run_steps(
    defs: Any, instance: Any, steps: list[Any], *, limit: int | None, force: bool = False
) -> dict[str, float]:
    """Run steps in order until one fails; returns seconds by step name."""
    seconds: dict[str, float] = {}
    for number, step in enumerate(steps, start=1):
        err.print(
            f"[bold]{number}/{len(steps)} {step.family} {step.partition or ''}[/bold]",
            highlight=False,
        )
        for name, spent in run_step(defs, instance, step, limit=limit, force=force).seconds.items():
            seconds[name] = seconds.get(name, 0.0) + spent
    return seconds


def run_step(defs: Any, instance: Any, step: Any, **options: Any) -> Any:
    """Run one step; a failure ends the command."""
    from opencs_assets.wiring.running import run

    ran = run(defs, instance, step, **options)
    if ran.error:
        fail(f"{ran.error}\n(run {ran.run_id}; see it with `opencs ui`)")
        raise typer.Exit(1)
    return ran

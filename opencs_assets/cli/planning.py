"""Commands that plan: what settings would choose, what experiments and judging would take."""

import json
from typing import Annotated, Any, Literal

import typer

from opencs_assets.cli.common import (
    WHOLE,
    JsonOption,
    fail,
    note,
    prepared_settings,
    print_rows,
    say,
)
from opencs_assets.cli.running import plan_runs, run_steps
from opencs_assets.config.experiments import load_experiments
from opencs_assets.datasets.catalog import current_source

app = typer.Typer()


@app.command("what-if", rich_help_panel="Plans")
def what_if(
    dataset: Annotated[str, typer.Argument(help="A dataset that has been tagged.")],
    alpha: Annotated[int | None, typer.Option(help="Tags in fewer samples are dropped.")] = None,
    clusters: Annotated[str | None, typer.Option(help="Number of clusters, or auto.")] = None,
    quota: Annotated[int | None, typer.Option(help="Samples from a cluster in its turn.")] = None,
    k: Annotated[int | None, typer.Option(help="Samples in the subset.")] = None,
    seed: Annotated[int | None, typer.Option(help="Seed of clusters, pairs and ties.")] = None,
    as_json: JsonOption = False,
) -> None:
    """Say what other settings would choose, and how many new calls they would make; makes none.

    The subset is that of method opencs, chosen from the tags and comparisons that are kept.
    """
    from opencs_assets.planning.what_if import what_if as ask
    from resources.embedder import EmbedderResource
    from resources.llm.resource import LLMResource

    settings = prepared_settings()
    current_source(settings.home, dataset)
    options = {"alpha": alpha, "clusters": clusters, "quota": quota, "k": k, "seed": seed}
    change = {name: value for name, value in options.items() if value is not None}
    home = str(settings.home)
    outcome = ask(
        dataset,
        settings,
        change,
        EmbedderResource(home=home).embed,
        LLMResource(home=home).planned(dataset),
    )
    changes = ", ".join(f"{name} = {value}" for name, value in change.items())
    print_rows(f"{dataset}, if {changes or 'nothing changed'}", [outcome.row()], as_json)


@app.command(rich_help_panel="Plans")
def reproduce(
    name: Annotated[
        Literal["alpaca", "evol_instruct"],
        typer.Argument(help="The published grid on Alpaca-52k, or on Evol-Instruct-70k."),
    ],
    scale: Annotated[
        Literal["published", "small"],
        typer.Option(
            help="`small`: one small base model, the package's benchmark, the first rows.",
        ),
    ] = "published",
    base_model: Annotated[
        list[str] | None, typer.Option(help="Only this base model of the grid; may be repeated.")
    ] = None,
    dataset: Annotated[
        str | None, typer.Option(help="The dataset's name here; unset: NAME.")
    ] = None,
    limit: Annotated[
        int | None,
        typer.Option(min=1, help="Read only the file's first rows; with `small` 200, if unset."),
    ] = None,
    device: Annotated[str, typer.Option(help="GPU that hours are told of.")] = "A100",
    dry_run: Annotated[bool, typer.Option(help="Print what it takes, and stop.")] = False,
    yes: Annotated[bool, typer.Option("--yes", help="Run without asking.")] = False,
    as_json: JsonOption = False,
) -> None:
    """Run the published experiments: says what they take, and asks before anything runs.

    Subsets of 1,000 samples by OpenCS, Longest (both refined, too), AlpaGasus, LIMA, random and
    k-center, and the whole set, trained into LLaMA2-7B, LLaMA2-13B and Mistral-7B. Pairs: OpenCS
    against four baselines (the whole set, LIMA, AlpaGasus, Longest, those of the published table)
    and refined OpenCS against refined Longest, on Koala, LIMA, Self-Instruct, Vicuna and WizardLM.
    Each model alone: MT-Bench. The grid is written to `experiments.d` of OPENCS_HOME.
    """
    from opencs_assets.planning import reproduce as grids
    from opencs_assets.planning.grid_hours import check_device

    settings = prepared_settings()
    check_device(device)
    if scale == "small" and limit is None:
        limit = grids.SMALL_ROWS
    dataset = dataset or name
    grid = grids.load_grid(settings.home, scale, base_model or ())
    needs = grids.needs(grid, settings, name, dataset, limit)
    takes = _what_a_grid_takes(grid, settings, name, dataset, limit, device)
    _print_grid(f"{name} ({scale})", needs, takes, as_json)
    missing = [need for need in needs if need.is_here is False]
    if dry_run:
        return
    if missing:
        remedies = "\n".join(f"  {need.what}: {need.remedy}" for need in missing)
        raise SystemExit(fail(f"not all that is needed is here:\n{remedies}"))
    if not yes:
        writes = "" if grid.is_declared else f"Write {grid.target} and start"
        typer.confirm(
            f"{writes or 'Start'} these {takes.totals()['runs']:,} runs?", abort=True, err=True
        )
    if not grid.is_declared:
        grids.declare(grid)
        note(
            f"{grid.target} is written; an open UI shows its partitions once its definitions are "
            "reloaded"
        )
    _run_grid(grid, settings, dataset, limit)


@app.command("sample-size", rich_help_panel="Plans")
def sample_size(
    effect: Annotated[
        list[float] | None,
        typer.Option(
            help="Points of the win rate away from 50 % (5: won 55 %), or of the mean score; may "
            "be repeated."
        ),
    ] = None,
    kind: Annotated[
        Literal["pair", "single"],
        typer.Option(help="Two models compared, or the scores of two models judged alone."),
    ] = "pair",
    matchup: Annotated[
        str | None,
        typer.Option(
            help="Take noise and answers of this matchup, where it has any; or noise of an "
            "imported one, `A vs B`."
        ),
    ] = None,
    dataset: Annotated[str | None, typer.Option(help="The matchup's dataset.")] = None,
    power: Annotated[float, typer.Option(help="How often the effect is to be seen.")] = 0.8,
    level: Annotated[float, typer.Option(help="Level of the interval that is to show it.")] = 0.95,
    as_json: JsonOption = False,
) -> None:
    """Say how many questions show an effect, and what judging them costs; makes no call.

    The judge's noise is that of the matchup's verdicts where there are any, else an assumption that
    is printed.
    """
    from opencs_assets.planning.sample_size import sample_size as ask
    from resources.llm.resource import LLMResource

    settings = prepared_settings()
    sizes = ask(
        settings,
        load_experiments(settings.home),
        LLMResource(home=str(settings.home)).planned(dataset),
        kind=kind,
        effects=effect or (),
        matchup=matchup,
        dataset=dataset,
        level=level,
        power=power,
    )
    if as_json:
        print(json.dumps({**vars(sizes), "noise": vars(sizes.noise)}, indent=2))
        return
    noise = f"deviation of a question's outcome {sizes.noise.deviation:.3f}, {sizes.noise.source}"
    print_rows(f"Seen in {power:.0%} of all cases", sizes.needed, False, cut=WHOLE)
    print_rows("What each benchmark shows", sizes.benchmarks, False, cut=WHOLE)
    for line in (f"Noise: {noise}", *sizes.notes):
        say(line)


def _plan_grid(grid: Any, defs: Any, instance: Any, dataset: str) -> list[Any]:
    from opencs_assets.planning.reproduce import SELECTION

    return plan_runs(
        defs,
        instance,
        grid.experiments,
        SELECTION,
        datasets=[dataset],
        chosen_experiments=grid.names,
        chosen_matchups=grid.matchups,
    )


def _what_a_grid_takes(
    grid: Any, settings: Any, name: str, dataset: str, limit: int | None, device: str
) -> Any:
    """Plan a grid as it would be run, and estimate it; the dataset need not be there yet."""
    from collections import Counter

    import dagster as dg

    from definitions import defs
    from opencs_assets.planning import grid_cost
    from opencs_assets.wiring.running import register_dataset
    from resources.llm.resource import LLMResource

    with dg.DagsterInstance.ephemeral() as instance:
        register_dataset(instance, dataset)
        steps = _plan_grid(grid, defs, instance, dataset)
    return grid_cost.what_it_takes(
        grid,
        settings,
        LLMResource(home=str(settings.home)).planned(dataset),
        name=name,
        dataset=dataset,
        limit=limit,
        device=device,
        runs=Counter(step.family for step in steps),
        stages={asset for step in steps for asset in step.assets},
    )


def _run_grid(grid: Any, settings: Any, dataset: str, limit: int | None) -> None:
    from definitions import build_defs
    from opencs_assets.wiring.running import register_dataset
    from resources.instance import open_instance

    with open_instance(settings.home) as instance:
        register_dataset(instance, dataset)
        # The definitions are built again, since the home declares the grid's partitions only now.
        defs = build_defs(settings.home)
        run_steps(defs, instance, _plan_grid(grid, defs, instance, dataset), limit=limit)


def _print_grid(title: str, needs: list[Any], takes: Any, as_json: bool) -> None:
    rows = {
        "needs": [need.row() for need in needs],
        "runs": [{"family": family, "runs": count} for family, count in takes.runs.items()],
        "calls": [cost.row() for cost in takes.calls],
        "gpu_hours": [hours.row(takes.usd_per_hour) for hours in takes.hours],
    }
    totals = takes.totals()
    if as_json:
        print(json.dumps({**rows, "totals": totals, "assumed": takes.assumptions}, indent=2))
        return
    for part, part_rows in rows.items():
        print_rows(f"{title}: {part.replace('_', ' ')}", part_rows, False, cut=WHOLE)
    say(takes.summary())
    for line in takes.assumptions:
        say(f"Assumed: {line}")

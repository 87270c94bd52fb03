"""The command ``opencs``: what people do from a terminal, over the definitions of the UI.

Exit codes: 0 done, 1 something failed, 2 the call's words are off, 130 interrupted.
"""

import json
import os
import socket
import sys
import time
import warnings
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated, Any, Literal

import typer
from rich.console import Console

from opencs_assets.config.experiments import load_experiments
from opencs_assets.datasets import catalog
from resources.errors import OpenCSError
from resources.settings import load_settings

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
replies = typer.Typer(
    no_args_is_help=True,
    help="Look after the models' replies: copy them out and in, clean up, look at one.",
)
app.add_typer(replies, name="replies")
benchmarks = typer.Typer(
    no_args_is_help=True, help="List the benchmarks, and fetch them from their public sources."
)
app.add_typer(benchmarks, name="benchmarks")
# Into a file or a pipe there is no width to keep to.
PIPE_WIDTH = 160
WHOLE = 10_000
MOST_FAULTS = 100
out = Console(width=None if sys.stdout.isatty() else PIPE_WIDTH)
err = Console(stderr=True)
SAMPLE = Path(__file__).parents[1] / "datasets" / "sample_data" / "sample.jsonl"
HOST = "127.0.0.1"
DEMO_ASSETS = "not (key:whole_set_scores or key:whole_set_comparisons or key:refined_samples)"

JsonOption = Annotated[bool, typer.Option("--json", help="Print JSON instead of a table.")]


@app.command()
def add(
    file: Annotated[Path, typer.Argument(help="JSON, JSONL, CSV or Parquet, gzipped or not.")],
    name: Annotated[
        str | None, typer.Option(help="Name of the dataset; unset: made from the file's name.")
    ] = None,
    as_json: JsonOption = False,
) -> None:
    """Add a file as a dataset, or as a new version of one; starts no run."""
    source = _add(file, name)
    if as_json:
        print(json.dumps({"name": source.name, "sha256": source.sha256, "bytes": source.bytes}))
    else:
        state = "new version" if source.is_new_version else "unchanged"
        out.print(f"{source.name}: {source.bytes:,} bytes of {source.original} ({state})")


@app.command()
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
        datasets=dataset or [],
        selectors=selector or [],
        experiments=experiment or [],
        limit=limit,
        everything=everything,
        force=force,
        dry_run=dry_run,
        as_json=as_json,
    )


@app.command()
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

    source = _add(file or SAMPLE, None)
    started = time.monotonic()
    seconds = _materialize(
        DEMO_ASSETS,
        datasets=[source.name],
        selectors=_quick_selectors(),
        experiments=[],
        limit=limit,
        everything=True,
        force=False,
        dry_run=False,
        as_json=False,
    )
    print_summary(out, load_settings(), source.name, seconds)
    out.print(f"All in {time.monotonic() - started:.0f} s")


@app.command()
def summary(
    dataset: Annotated[str, typer.Argument(help="The dataset.")],
) -> None:
    """Sum up what has been materialized for a dataset."""
    from opencs_assets.cli.summary import print_summary

    settings = _prepare()
    _source(settings.home, dataset)
    print_summary(out, settings, dataset, {})


@app.command()
def datasets(as_json: JsonOption = False) -> None:
    """List the datasets that have been added."""
    found = catalog.list_sources(_prepare().home)
    rows = [
        {
            "name": source.name,
            "file": source.original,
            "bytes": source.bytes,
            "added_at": source.added_at,
            "sha256": source.sha256,
        }
        for source in found
    ]
    _print_rows("Datasets", rows, as_json)


@app.command()
def estimate(
    dataset: Annotated[str, typer.Argument(help="A dataset that has been added.")],
    limit: Annotated[int | None, typer.Option(min=1, help="Only the first rows.")] = None,
    as_json: JsonOption = False,
) -> None:
    """Say what tagging and scoring a dataset would take: calls, tokens, dollars, time."""
    from opencs_assets.datasets.canonical import read_dataset
    from opencs_assets.planning.estimate import estimate_dataset, kept_comparisons, known_clusters
    from opencs_assets.tables.lake import Lake
    from resources.llm.resource import LLMResource

    settings = _prepare()
    source = _source(settings.home, dataset)
    lake = Lake(settings.lake)
    llm = LLMResource(home=str(settings.home))
    stages = estimate_dataset(
        read_dataset(source.path, limit=limit).samples,
        settings,
        lambda role, stage: llm.client(role, stage=stage, dataset=dataset, ask_endpoints=False),
        None if limit else known_clusters(lake, dataset),
        lambda stage: kept_comparisons(lake, dataset, stage),
    )
    _print_rows(f"Estimate for {dataset}", [each.row() for each in stages], as_json)


@app.command("import-verdicts")
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

    said = options.read_options(
        benchmark=benchmark,
        model_a=model_a,
        model_b=model_b,
        judge=judge,
        human=human,
        reversed_order=reversed_order,
        mapping=mapping,
        columns=column or [],
    )
    settings = _prepare()
    taken = taking.take(settings.home, paths, said)
    rows: list[dict[str, Any]] = []
    if taken.kept:
        _read_imports(settings)
        rows = taking.outcomes(Lake(settings.lake), taken.kept)
        _print_imports("Imported", rows, as_json)
        for line in taking.first_details(Lake(settings.lake), taken.kept):
            err.print(f"rejected {line}", highlight=False, markup=False)
    elif as_json:
        print("[]")
    for line in taken.notes:
        err.print(line, highlight=False, markup=False)
    if any(row["conflict"] for row in rows):
        err.print(
            "files claim the same judgments with different scores, and none of these counts; "
            "say which is right: opencs prefer-verdicts FILE",
            highlight=False,
            markup=False,
        )
    for message in taken.refused:
        _fail(message)
    if taken.refused or any(row["rejected"] for row in rows):
        raise typer.Exit(1)


@app.command("prefer-verdicts")
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

    settings = _prepare()
    lake = Lake(settings.lake)
    kept = taking.prefer(settings.home, lake, file, row, reason)
    _read_imports(settings)
    _print_imports("Preferred", taking.outcomes(lake, [kept]), as_json)


@app.command("what-if")
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

    settings = _prepare()
    _source(settings.home, dataset)
    given = {"alpha": alpha, "clusters": clusters, "quota": quota, "k": k, "seed": seed}
    change = {name: value for name, value in given.items() if value is not None}
    home = str(settings.home)
    found = ask(
        dataset,
        settings,
        change,
        EmbedderResource(home=home).embed,
        lambda: LLMResource(home=home).client(
            "scorer", stage="contrastive_scores", dataset=dataset, ask_endpoints=False
        ),
    )
    told = ", ".join(f"{name} = {value}" for name, value in change.items()) or "nothing changed"
    _print_rows(f"{dataset}, if {told}", [found.row()], as_json)


@app.command()
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
    from opencs_assets.planning import grid_cost
    from opencs_assets.planning import reproduce as grids

    settings = _prepare()
    grid_cost.check(device)
    if scale == "small" and limit is None:
        limit = grids.SMALL_ROWS
    named = dataset or name
    grid = grids.load_grid(settings.home, scale, base_model or ())
    needs = grids.needs(grid, settings, name, named, limit)
    takes = _what_a_grid_takes(grid, settings, name, named, limit, device)
    _print_grid(f"{name} ({scale})", needs, takes, as_json)
    missing = [need for need in needs if need.is_here is False]
    if dry_run:
        return
    if missing:
        remedies = "\n".join(f"  {need.what}: {need.remedy}" for need in missing)
        raise SystemExit(_fail(f"not all that is needed is here:\n{remedies}"))
    if not yes:
        writes = "" if grid.is_declared else f"Write {grid.target} and start"
        typer.confirm(
            f"{writes or 'Start'} these {takes.totals()['runs']:,} runs?", abort=True, err=True
        )
    if not grid.is_declared:
        grids.declare(grid)
        err.print(
            f"{grid.target} is written; an open UI shows its partitions once its definitions are "
            "reloaded",
            highlight=False,
            markup=False,
        )
    _run_grid(grid, settings, named, limit)


@app.command("sample-size")
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
    is told.
    """
    from opencs_assets.planning.sample_size import sample_size as ask
    from resources.llm.resource import LLMResource

    settings = _prepare()
    llm = LLMResource(home=str(settings.home))
    found = ask(
        settings,
        load_experiments(settings.home),
        lambda role, stage: llm.client(role, stage=stage, dataset=dataset, ask_endpoints=False),
        kind=kind,
        effects=effect or (),
        matchup=matchup,
        dataset=dataset,
        level=level,
        power=power,
    )
    noise = f"deviation of a question's outcome {found.noise.deviation:.3f}, {found.noise.source}"
    if as_json:
        told = {"needed": found.needed, "benchmarks": found.benchmarks}
        print(json.dumps({**told, "noise": vars(found.noise), "notes": found.notes}, indent=2))
        return
    _print_rows(f"Seen in {power:.0%} of all cases", found.needed, False, cut=WHOLE)
    _print_rows("What each benchmark shows", found.benchmarks, False, cut=WHOLE)
    for line in (f"Noise: {noise}", *found.notes):
        out.print(line, highlight=False, markup=False)


@app.command()
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

    found = examine(_prepare(), probe=probe)
    _print_rows("Doctor", [vars(finding) for finding in found], as_json, cut=WHOLE)
    if any(finding.state == "problem" for finding in found):
        raise typer.Exit(1)


@app.command()
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
        _print_rows(f"{frame.height} rows", frame.to_dicts(), False)


@app.command()
def verify(as_json: JsonOption = False) -> None:
    """Derive all verdicts and published numbers anew from the kept replies and files.

    Names each row that is edited, missing or doubled. Exits with 1 if there is one.
    """
    from opencs_assets.verification.home import verify_home

    found = verify_home(_prepare())
    if as_json:
        print(json.dumps(found.as_dict(), indent=2))
    else:
        _print_rows("Verified", found.rows(), False)
        for note in found.notes:
            err.print(f"note: {note}", highlight=False, markup=False)
        for fault in found.faults[:MOST_FAULTS]:
            out.print(fault.line(), highlight=False, markup=False, soft_wrap=True)
        if len(found.faults) > MOST_FAULTS:
            out.print(f"and {len(found.faults) - MOST_FAULTS:,} more; --json has them all")
    if found.faults:
        _fail(f"{len(found.faults):,} things do not follow from what is kept")
        raise typer.Exit(1)


@app.command()
def report(
    out_file: Annotated[
        Path | None,
        typer.Option("--out", help="File to write; unset: report.html in OPENCS_HOME."),
    ] = None,
    as_json: JsonOption = False,
) -> None:
    """Write all results as one HTML file that opens without a server, with every number's query."""
    from opencs_assets.evaluation.report import write_report

    settings = _prepare()
    written = write_report(settings.warehouse, out_file or settings.home / "report.html")
    if as_json:
        print(json.dumps({"file": str(written), "bytes": written.stat().st_size}))
    else:
        size = _size(written.stat().st_size)
        out.print(f"{written}, {size}", markup=False, highlight=False)


@app.command()
def ui(
    port: Annotated[int, typer.Option(help="Port on 127.0.0.1.")] = 3000,
) -> None:
    """Open Dagster's UI on the same instance, with sensors running."""
    from resources.instance import open_instance
    from resources.runs.dead import free_dead_runs
    from resources.runs.leftovers import end_leftovers

    settings = _prepare()
    lines = end_leftovers(settings.instance)
    with open_instance(settings.home) as instance:
        lines += free_dead_runs(instance)
    for line in lines:
        err.print(line, highlight=False, markup=False, soft_wrap=True)
    with socket.socket() as probe:
        # As the server itself does: a port that is only waiting out a closed connection is free.
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((HOST, port))
        except OSError as error:
            raise SystemExit(
                _fail(
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


@app.command()
def models() -> None:
    """Fetch and prepare the embedded models, so that everything after runs offline."""
    from resources.models import fetch

    fetch(_prepare().models, lambda line: err.print(line, highlight=False))


@benchmarks.command("list")
def list_benchmarks(as_json: JsonOption = False) -> None:
    """List the benchmarks: how many questions, where from, and whether they are there."""
    from opencs_assets.benchmarks.fetching import list_benchmarks as listed

    rows = listed(_prepare().home)
    shown = [
        {name: value for name, value in row.items() if as_json or name != "file"} for row in rows
    ]
    _print_rows("Benchmarks", shown, as_json, cut=WHOLE)


@benchmarks.command("fetch")
def fetch_benchmarks(
    names: Annotated[
        list[str] | None, typer.Argument(metavar="[NAME]...", help="Which; unset: all.")
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
            "benchmark": each.benchmark,
            "file": each.path.name,
            "bytes": each.bytes,
            "state": each.state,
            "source": each.source,
        }
        for each in fetch(
            _prepare().home,
            names or [],
            source=source,
            say=lambda line: err.print(line, highlight=False, markup=False),
        )
    ]
    _print_rows("Benchmarks", rows, as_json, cut=WHOLE)


@replies.command("export")
def export_replies(
    file: Annotated[Path, typer.Argument(help="File to write: .parquet, .jsonl or .jsonl.gz.")],
    dataset: Annotated[str | None, typer.Option(help="Asked for this dataset only.")] = None,
    stage: Annotated[
        str | None, typer.Option(help="Asked by this asset only, such as open_tags.")
    ] = None,
    since: Annotated[
        datetime | None,
        typer.Option(
            formats=["%Y-%m-%d", "%Y-%m-%dT%H:%M:%S"], help="Stored since then only, in UTC."
        ),
    ] = None,
    with_requests: Annotated[
        bool,
        typer.Option(
            "--with-requests/--without-requests",
            help="Write the requests too, which hold the prompts. Replies are found without them.",
        ),
    ] = True,
    as_json: JsonOption = False,
) -> None:
    """Write stored replies and what was read from them to a file."""
    from resources.llm import archive

    with _open_store() as store:
        written = archive.export_replies(
            store,
            file,
            dataset=dataset,
            stage=stage,
            since=since.replace(tzinfo=UTC) if since else None,
            with_requests=with_requests,
        )
    if as_json:
        print(json.dumps({"file": str(file), "replies": written.replies, "bytes": written.bytes}))
    else:
        size = _size(written.bytes)
        out.print(f"{written.replies:,} replies in {file}, {size}", markup=False, highlight=False)


@replies.command("import")
def import_replies(
    source: Annotated[
        str,
        typer.Argument(
            help="What `opencs replies export` wrote, another store's .sqlite file, or its URL."
        ),
    ],
    as_json: JsonOption = False,
) -> None:
    """Take replies into the store; what it has stays, and doing so again changes nothing.

    Exits with 1 if rows were rejected; the others are taken.
    """
    from resources.llm import archive

    with _open_store() as store:
        found = archive.import_replies(store, source)
    if as_json:
        print(json.dumps(vars(found), indent=2))
    else:
        out.print(
            f"{found.new:,} new, {found.already_there:,} already there, {found.rejected:,} rejected"
        )
    for reason in found.reasons:
        err.print(f"rejected {reason}", highlight=False, markup=False)
    if found.rejected > len(found.reasons):
        err.print(f"and {found.rejected - len(found.reasons):,} more")
    if found.unknown_columns:
        err.print(
            f"left out, as the store has no such columns: {', '.join(found.unknown_columns)}",
            highlight=False,
            markup=False,
        )
    if found.rejected:
        raise typer.Exit(1)


@replies.command("compact")
def compact_replies(
    raw: Annotated[
        bool,
        typer.Option(
            "--drop-raw", help="Forget the answers' bodies as they came; texts and costs stay."
        ),
    ] = False,
    unusable: Annotated[
        bool,
        typer.Option(
            "--drop-unusable",
            help="Delete replies that no stage could use, so that they are asked and paid again.",
        ),
    ] = False,
    yes: Annotated[bool, typer.Option("--yes", help="Delete without asking.")] = False,
    as_json: JsonOption = False,
) -> None:
    """Give the store's free space back, best while no run asks; without options nothing is lost."""
    from resources.llm import upkeep

    dropped_raw = dropped = 0
    with _open_store() as store:
        found = upkeep.unusable(store) if unusable else upkeep.Unusable(0, 0.0, 0)
        if found.replies and not yes:
            typer.confirm(
                f"Delete {found.replies:,} replies that {_had_cost(found)}? Their calls will be "
                "asked and paid again, and no ceiling counts what they had cost any more.",
                abort=True,
                err=True,
            )
        before = upkeep.size_of(store).bytes
        if found.replies:
            dropped = upkeep.drop_unusable(store)
        if raw:
            dropped_raw = upkeep.drop_raw(store)
        upkeep.compact(store)
        after = upkeep.size_of(store)
    if as_json:
        told = {
            "bytes_before": before,
            "bytes_after": after.bytes,
            "replies": after.replies,
            "dropped_raw": dropped_raw,
            "dropped_unusable": dropped,
            "dropped_cost_usd": found.cost_usd,
            "dropped_of_unknown_cost": found.unpriced,
        }
        print(json.dumps(told))
        return
    if unusable:
        out.print(f"deleted {dropped:,} unusable replies, which {_had_cost(found)}")
    if raw:
        out.print(f"forgot the bodies of {dropped_raw:,} answers")
    out.print(f"{after.replies:,} replies; {_size(before)} before, {_size(after.bytes)} now")


@replies.command("show")
def show_reply(
    reply_id: Annotated[
        str, typer.Argument(help="The reply's id, or its first 8 or more characters.")
    ],
    as_json: JsonOption = False,
) -> None:
    """Print one reply with its prompt: who asked which model, what came and what was read."""
    from opencs_assets.cli.summary import print_reply
    from resources.llm import upkeep

    with _open_store() as store:
        listed = upkeep.find_replies(store, reply_id)
        if not listed:
            raise SystemExit(_fail(f"no reply's id begins with {reply_id}"))
        if len(listed) > 1:
            _print_rows("Replies", listed, as_json, cut=WHOLE)
            raise SystemExit(_fail(f"{reply_id} is the beginning of several ids: give more", 2))
        kept = upkeep.read_reply(store, listed[0]["reply_id"])
    if as_json:
        print(json.dumps(kept.as_dict(), indent=2, ensure_ascii=False))
    else:
        print_reply(out, kept)


def main() -> None:
    """Run the command; a known error is one message, not a traceback."""
    warnings.filterwarnings("ignore")
    try:
        app()
    except OpenCSError as error:
        raise SystemExit(_fail(str(error))) from None
    except KeyboardInterrupt:
        err.print("interrupted; what was done so far is kept")
        raise SystemExit(130) from None
    except Exception as error:
        if not _is_of_a_database(error):
            raise
        raise SystemExit(
            _fail(
                f"Dagster's database can't be used: {error.__cause__ or error}. Run `opencs doctor`"
            )
        ) from None


def _is_of_a_database(error: Exception) -> bool:
    """Whether a SQLite file of Dagster's could not be read, as SQLAlchemy says it."""
    import sqlite3

    return isinstance(error.__cause__ or getattr(error, "orig", None), sqlite3.DatabaseError)


def _prepare() -> Any:
    from opencs_assets.tables.home import prepare_home

    return prepare_home()


def _open_store() -> Any:
    from resources.llm.store import ReplyStore

    return ReplyStore(_prepare().replies)


def _quick_selectors() -> list[str]:
    """The selectors whose subsets the demo can make."""
    from opencs_assets.selection.registry import METHODS

    slow = {name for name, method in METHODS.items() if "whole_set_scores" in method.needs}
    declared = load_experiments(_prepare().home).selectors
    return [
        name
        for name, selector in declared.items()
        if not selector.refine and selector.method not in slow
    ]


def _size(count: int) -> str:
    return f"{count / 1e6:,.1f} MB" if count >= 1e5 else f"{count:,} bytes"


def _had_cost(found: Any) -> str:
    """What unusable replies had cost, in words."""
    cost = f"had cost ${found.cost_usd:,.4f}"
    return f"{cost} and {found.unpriced:,} an unknown sum" if found.unpriced else cost


def _source(home: Path, dataset: str) -> catalog.Source:
    catalog.check_name(dataset)
    return catalog.current_source(home, dataset)


def _add(file: Path, name: str | None) -> catalog.Source:
    from opencs_assets.planning.walk import register_dataset
    from resources.instance import open_instance

    settings = _prepare()
    source = catalog.add_source(settings.home, file, name)
    with open_instance(settings.home) as instance:
        register_dataset(instance, source.name)
    return source


def _materialize(
    selection: str,
    *,
    datasets: list[str],
    selectors: list[str],
    experiments: list[str],
    limit: int | None,
    everything: bool,
    force: bool,
    dry_run: bool,
    as_json: bool,
) -> dict[str, float]:
    from opencs_assets.planning import walk
    from resources.instance import open_instance

    settings = _prepare()
    with open_instance(settings.home) as instance:
        # Made when they are imported, for the same home.
        from definitions import defs

        try:
            steps = walk.plan(
                defs,
                instance,
                load_experiments(settings.home),
                selection,
                datasets=datasets,
                selectors=selectors,
                chosen_experiments=experiments,
                everything=everything,
            )
        except walk.PlanError as error:
            raise SystemExit(_fail(str(error), 2)) from None
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
            raise SystemExit(_fail("--limit is for raw_dataset, which is not selected", 2))
        _print_rows("Plan", rows, as_json, cut=WHOLE)
        if dry_run:
            return {}
        return _run_steps(defs, instance, steps, limit=limit, force=force)


def _run_steps(
    defs: Any, instance: Any, steps: list[Any], *, limit: int | None, force: bool = False
) -> dict[str, float]:
    """Run steps in order until one fails; seconds by step name."""
    from opencs_assets.planning import walk

    seconds: dict[str, float] = {}
    for number, step in enumerate(steps, start=1):
        err.print(
            f"[bold]{number}/{len(steps)} {step.family} {step.partition or ''}[/bold]",
            highlight=False,
        )
        ran = walk.run(defs, instance, step, limit=limit, force=force)
        for name, spent in ran.seconds.items():
            seconds[name] = seconds.get(name, 0.0) + spent
        if ran.error:
            _fail(f"{ran.error}\n(run {ran.run_id}; see it with `opencs ui`)")
            raise typer.Exit(1)
    return seconds


def _plan_grid(grid: Any, defs: Any, instance: Any, dataset: str) -> list[Any]:
    from opencs_assets.planning import walk
    from opencs_assets.planning.reproduce import SELECTION

    return walk.plan(
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
    from opencs_assets.planning.walk import register_dataset
    from resources.llm.resource import LLMResource

    with dg.DagsterInstance.ephemeral() as instance:
        register_dataset(instance, dataset)
        steps = _plan_grid(grid, defs, instance, dataset)
    llm = LLMResource(home=str(settings.home))
    return grid_cost.what_it_takes(
        grid,
        settings,
        lambda role, stage: llm.client(role, stage=stage, dataset=dataset, ask_endpoints=False),
        name=name,
        dataset=dataset,
        limit=limit,
        device=device,
        runs=Counter(step.family for step in steps),
        stages={asset for step in steps for asset in step.assets},
    )


def _run_grid(grid: Any, settings: Any, dataset: str, limit: int | None) -> None:
    from definitions import build_defs
    from opencs_assets.planning import walk
    from resources.instance import open_instance

    with open_instance(settings.home) as instance:
        walk.register_dataset(instance, dataset)
        # Made again: the grid's partitions are in the home now.
        defs = build_defs(settings.home)
        _run_steps(defs, instance, _plan_grid(grid, defs, instance, dataset), limit=limit)


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
    for part, found in rows.items():
        _print_rows(f"{title}: {part.replace('_', ' ')}", found, False, cut=WHOLE)
    out.print(takes.summary(), highlight=False, markup=False)
    for line in takes.assumptions:
        out.print(f"Assumed: {line}", highlight=False, markup=False)


def _print_imports(title: str, rows: list[dict[str, Any]], as_json: bool) -> None:
    """What became of imported files; for a person without what takes too much room."""
    left_out = () if as_json else ("sha256", "reasons")
    shown = [{name: row[name] for name in row if name not in left_out} for row in rows]
    _print_rows(title, shown, as_json, cut=WHOLE)


def _read_imports(settings: Any) -> None:
    """Make the tables of the import anew, in a run that the UI shows."""
    from opencs_assets.planning import walk
    from resources.instance import open_instance

    with open_instance(settings.home) as instance:
        from definitions import defs

        experiments = load_experiments(settings.home)
        for step in walk.plan(defs, instance, experiments, "imported_verdicts"):
            ran = walk.run(defs, instance, step)
            if ran.error:
                _fail(f"{ran.error}\n(run {ran.run_id}; see it with `opencs ui`)")
                raise typer.Exit(1)


def _print_rows(
    title: str, rows: list[dict[str, Any]], as_json: bool, cut: int | None = None
) -> None:
    import polars as pl

    if as_json:
        print(json.dumps(rows, default=str, indent=2))
        return
    from opencs_assets.cli.summary import SHOWN_CHARACTERS, print_frame

    if rows:
        frame = pl.DataFrame(rows, infer_schema_length=None)
        print_frame(out, title, frame, cut or SHOWN_CHARACTERS)
    else:
        out.print(f"{title}: none")


def _fail(message: str, code: int = 1) -> int:
    err.print(f"error: {message}", style="red", highlight=False, markup=False)
    return code


if __name__ == "__main__":
    main()

"""Summaries for a terminal: a dataset's outcome from lake and warehouse, tables, one reply."""

import re
from collections.abc import Mapping
from pathlib import Path

import polars as pl
from rich.console import Console
from rich.table import Table
from rich.text import Text

from opencs_assets.tables.lake import Lake
from resources.llm.upkeep import KeptReply
from resources.settings import Settings
from resources.warehouse import HOW_TO_BUILD, Warehouse, query

SHOWN_CHARACTERS = 60
# A table of so many columns is readable even when its cells wrap.
FEW_COLUMNS = 6
_CONTROL = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f]")


def print_summary(
    console: Console, settings: Settings, dataset: str, seconds: Mapping[str, float]
) -> None:
    """Print samples, tags, clusters, subsets, scores, win/tie/lose, cost, times and places.

    The dataset's name is a checked one, which holds no quote. ``seconds`` by stage may be empty.
    """
    lake = Lake(settings.lake)
    console.print(_counts(lake, dataset))
    warehouse = settings.warehouse
    if warehouse.exists():
        published = Warehouse(warehouse).tables()["table"]
        for mart, (title, sql) in _QUERIES.items():
            if mart not in published:
                console.print(
                    f"{title}: the warehouse was built by another release and has no {mart}; "
                    f"build it anew: {HOW_TO_BUILD}"
                )
                continue
            frame = query(warehouse, sql.format(dataset=dataset))
            if frame.height:
                print_frame(console, title + _total(frame), frame)
    if seconds:
        times = pl.DataFrame(
            {"stage": list(seconds), "seconds": [round(value, 1) for value in seconds.values()]}
        )
        print_frame(console, f"Time: {sum(seconds.values()):.0f} s in the stages", times)
    console.print(f"Warehouse  {_short(warehouse)}")
    console.print('Query      opencs sql "select * from win_rates"')
    console.print("UI         make ui, then http://127.0.0.1:3000")


def print_frame(
    console: Console, title: str, frame: pl.DataFrame, cut: int = SHOWN_CHARACTERS
) -> None:
    """Print a frame as a table, or where it is too wide, each row as a list of its values.

    A value has at most ``cut`` characters.
    """
    rows = [[_cell(value, cut) for value in row] for row in frame.iter_rows()]
    names = frame.columns
    widths = [
        max([len(name), *(len(row[place]) for row in rows)]) + 3 for place, name in enumerate(names)
    ]
    if len(names) > FEW_COLUMNS and sum(widths) > console.width:
        console.print(f"[bold]{title}[/bold]")
        for number, row in enumerate(rows, start=1):
            console.print(f"── row {number}", highlight=False)
            grid = Table.grid(padding=(0, 2))
            for name, value in zip(names, row, strict=True):
                grid.add_row(Text(name, style="dim"), Text(value))
            console.print(grid)
        return
    drawn = Table(title=title, title_justify="left", title_style="bold")
    for name, dtype in frame.schema.items():
        drawn.add_column(name, justify="right" if dtype.is_numeric() else "left", overflow="fold")
    for row in rows:
        drawn.add_row(*map(Text, row))
    console.print(drawn)


def print_reply(console: Console, reply: KeptReply) -> None:
    """Print what is known of one stored reply, its prompt's messages and its text."""
    row = reply.row
    cost = "unknown" if row["cost_usd"] is None else f"{row['cost_usd']:.6f} US dollars"
    facts = {
        "reply": row["reply_id"],
        "asked by": f"{row['role']} for {row['stage']}, dataset {row['dataset']}",
        "run": row["run"],
        "model": f"{row['model']} at {row['endpoint']}",
        "prompt version": row["prompt_version"],
        "status": row["status"] + (f": {row['detail']}" if row["detail"] else ""),
        "finish reason": row["finish_reason"],
        "tokens": f"{row['prompt_tokens']:,} in ({row['cached_tokens']:,} cached), "
        f"{row['completion_tokens']:,} out",
        "cost": cost,
        "time": f"{reply.created_at:%Y-%m-%d %H:%M:%S} UTC, {row['latency_s']:.2f} s, "
        f"by {row['via']}",
        "request id": row["request_id"],
    }
    for reading in reply.readings:
        outcome = reading["detail"] or reading["value"] or ""
        facts[f"read by {reading['prompt_version']}"] = f"{reading['status']} {outcome}".strip()
    grid = Table.grid(padding=(0, 2))
    for name, value in facts.items():
        if value:
            grid.add_row(Text(name, style="dim"), Text(_printable(str(value))))
    console.print(grid)
    for message in reply.messages:
        console.rule(Text(_printable(str(message.get("role")))), align="left")
        _print_whole(console, message.get("content"))
    if not reply.messages:
        console.rule("the request was not kept", align="left")
    console.rule("reply", align="left")
    _print_whole(console, row["text"])


# The tables of a summary by their titles, each with its query of the marts.
_QUERIES = {
    "answer_scores": (
        "Scores (1 to 10)",
        "select model, benchmark, round(score, 2) as score, round(turn_1, 2) as turn_1, "
        "round(turn_2, 2) as turn_2, judged, expected, judge from answer_scores "
        "where dataset = '{dataset}' order by score desc",
    ),
    "win_rates": (
        "Win / tie / lose",
        "select model_a, model_b, benchmark, win, tie, lose, unparsable, judged, expected, judge "
        "from win_rates where dataset = '{dataset}' and is_default_rule order by model_a, model_b",
    ),
    "llm_usage": (
        "Language model calls",
        "select stage, model, calls, prompt_tokens, completion_tokens, "
        "round(cost_usd, 4) as cost_usd from llm_usage where dataset = '{dataset}' "
        "and calls > 0 order by stage",
    ),
    "selected_samples": (
        "Chosen first by opencs",
        "select rank, instruction, cluster_name, round(score, 1) as score from selected_samples "
        "where dataset = '{dataset}' and selector = 'opencs' order by rank "
        "limit 5",
    ),
}


def _counts(lake: Lake, dataset: str) -> Table:
    def height(name: str) -> int | None:
        table = lake.find(name, {"dataset": dataset})
        return None if table is None else table.height

    counts = {"samples": height("raw_dataset"), "rejected rows": height("rejected_rows")}
    lineage = lake.find("tag_lineage", {"dataset": dataset})
    if lineage is not None:
        counts["tags before normalization"] = lineage["raw_tag"].n_unique()
        counts["tags after normalization"] = lineage["normalized_tag"].drop_nulls().n_unique()
    counts["clusters"] = height("clusters")
    for partition in lake.partitions("selected_subset"):
        if partition["dataset"] == dataset:
            subset = lake.read("selected_subset", partition)
            counts[f"subset {partition['selector']}"] = subset.height
    drawn = Table(title=f"Dataset {dataset}", title_justify="left", title_style="bold")
    drawn.add_column("what")
    drawn.add_column("count", justify="right")
    for what, count in counts.items():
        drawn.add_row(what, "not yet" if count is None else f"{count:,}")
    return drawn


def _total(frame: pl.DataFrame) -> str:
    """The words for the sum of a table's costs; empty where it has none."""
    if "cost_usd" not in frame.columns:
        return ""
    if frame["cost_usd"].null_count():
        return ": cost unknown, a model has no price (see prices.toml)"
    return f": {frame['cost_usd'].sum():.2f} US dollars in all"


def _print_whole(console: Console, text: object) -> None:
    """Print a text as it is, whatever its width."""
    console.print(Text(_printable(str(text))), soft_wrap=True)


def _printable(text: str) -> str:
    """A text whose control characters are shown, since a terminal would obey them."""
    return _CONTROL.sub(lambda control: f"\\x{ord(control[0]):02x}", text)


def _cell(value: object, cut: int) -> str:
    if value is None:
        return ""
    if isinstance(value, float):
        value = f"{value:.4f}".rstrip("0").rstrip(".")
    text = " ".join(str(value).split())
    return text if len(text) <= cut else text[: cut - 1] + "…"


def _short(path: Path) -> str:
    here = Path.cwd()
    return str(path.relative_to(here)) if path.is_relative_to(here) else str(path)

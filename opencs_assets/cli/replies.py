"""Commands about the kept replies of language models."""

import json
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated, Any

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

app = typer.Typer(
    no_args_is_help=True,
    help="Look after the models' replies: copy them out and in, clean up, look at one.",
)


@app.command("export")
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
    outcome = {"file": str(file), "replies": written.replies, "bytes": written.bytes}
    line = f"{written.replies:,} replies in {file}, {size_text(written.bytes)}"
    print_outcome(outcome, line, as_json)


@app.command("import")
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
        taken = archive.import_replies(store, source)
    counts = (
        f"{taken.new:,} new, {taken.already_there:,} already there, {taken.rejected:,} rejected"
    )
    print_outcome(vars(taken), counts, as_json, indent=2)
    for reason in taken.reasons:
        note(f"rejected {reason}")
    if taken.rejected > len(taken.reasons):
        note(f"and {taken.rejected - len(taken.reasons):,} more")
    if taken.unknown_columns:
        note(f"left out, as the store has no such columns: {', '.join(taken.unknown_columns)}")
    if taken.rejected:
        raise typer.Exit(1)


@app.command("compact")
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
        useless = upkeep.unusable(store) if unusable else upkeep.UnusableReplies(0, 0.0, 0)
        if useless.replies and not yes:
            typer.confirm(
                f"Delete {useless.replies:,} replies that {_had_cost(useless)}? Their calls will "
                "be asked and paid again, and no ceiling counts what they had cost any more.",
                abort=True,
                err=True,
            )
        before = upkeep.size_of(store).bytes
        if useless.replies:
            dropped = upkeep.drop_unusable(store)
        if raw:
            dropped_raw = upkeep.drop_raw(store)
        upkeep.compact(store)
        after = upkeep.size_of(store)
    if as_json:
        outcome = {
            "bytes_before": before,
            "bytes_after": after.bytes,
            "replies": after.replies,
            "dropped_raw": dropped_raw,
            "dropped_unusable": dropped,
            "dropped_cost_usd": useless.cost_usd,
            "dropped_of_unknown_cost": useless.unpriced,
        }
        print(json.dumps(outcome))
        return
    if unusable:
        out.print(f"deleted {dropped:,} unusable replies, which {_had_cost(useless)}")
    if raw:
        out.print(f"forgot the bodies of {dropped_raw:,} answers")
    out.print(
        f"{after.replies:,} replies; {size_text(before)} before, {size_text(after.bytes)} now"
    )


@app.command("show")
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
            raise SystemExit(fail(f"no reply's id begins with {reply_id}"))
        if len(listed) > 1:
            print_rows("Replies", listed, as_json, cut=WHOLE)
            raise SystemExit(fail(f"{reply_id} is the beginning of several ids: give more", 2))
        reply = upkeep.read_reply(store, listed[0]["reply_id"])
    if as_json:
        print(json.dumps(reply.as_dict(), indent=2, ensure_ascii=False))
    else:
        print_reply(out, reply)


def _open_store() -> Any:
    from resources.llm.store import ReplyStore

    return ReplyStore(prepared_settings().replies)


def _had_cost(replies: Any) -> str:
    """The words for the cost of unusable replies."""
    cost = f"had cost ${replies.cost_usd:,.4f}"
    return f"{cost} and {replies.unpriced:,} an unknown sum" if replies.unpriced else cost

"""The report: one HTML file of all that the warehouse says, with the query behind every number.

Each number links to the query of its row, which the page shows when the link is followed; the
pictures are in the file. It needs no server, no network and no scripts. What is on the page, in
which order, is ``report_sections``; its look is ``report.html.jinja``.
"""

import base64
import io
import re
import shlex
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined

from opencs_assets.evaluation.errors import ReportError
from opencs_assets.evaluation.mart_columns import BADGE, ReportColumn
from opencs_assets.evaluation.report_sections import FACTS, SECTIONS, Shown, TableSpec
from resources.files import SHARED, write_whole
from resources.warehouse import HOW_TO_BUILD, query

TEMPLATE = "report.html.jinja"
# Rows of one table on the page; the query gives the others.
MOST_ROWS = 300
NOTHING = "–"
# Longer texts are wrapped.
_SHORT = 32
_DPI = 120
_TRIES = 3
# Inside double quotes a shell reads these.
_READ_BY_SHELLS = re.compile(r'["$`\\!]')
_RELATION = re.compile(r"\b(?:from|join)\s+([a-z_]+)")


@dataclass(frozen=True)
class ReportQuery:
    """A query that gives numbers of the page, in the element ``back``.

    One ``of_row`` gives one row of a table, and is shown only where a link leads to it.
    """

    anchor: str
    title: str
    sql: str
    back: str
    of_row: bool

    @property
    def command(self) -> str:
        """The command line that runs it, to be copied into a shell."""
        return f"opencs sql {shell_quoted(self.sql)}"


@dataclass(frozen=True)
class Part:
    """A piece of a cell: text, or a number with the anchor and column of its query."""

    text: str
    anchor: str | None = None
    column: str = ""


@dataclass(frozen=True)
class Cell:
    """A cell of a table; ``kind`` is its look: text, number, or a badge's name."""

    kind: str
    parts: Sequence[Part]


@dataclass(frozen=True)
class TableRow:
    """A row of a table on the page."""

    anchor: str
    cells: Sequence[Cell]


@dataclass(frozen=True)
class PageTable:
    """A table on the page.

    Attributes:
        title: Its heading; empty where the section's is enough.
        folded: It is closed until somebody opens it.
        query: The query that gives all of it; ``None`` where there is nothing to ask.
        headings: Heading and look (text or number) of each column.
        rows: The rows that are shown; ``left_out`` more are not.
        empty: What to say where there are no rows.
    """

    title: str
    folded: bool
    query: ReportQuery | None
    headings: Sequence[tuple[str, str]] = ()
    rows: Sequence[TableRow] = ()
    left_out: int = 0
    empty: str = ""
    notes: Sequence[str] = ()


@dataclass(frozen=True)
class Picture:
    """A picture on the page: its PNG as base64, what it shows and the query of its numbers."""

    data: str
    says: str
    query: ReportQuery


@dataclass(frozen=True)
class PageSection:
    """A section of the page."""

    anchor: str
    title: str
    says: str
    tables: Sequence[PageTable]
    picture: Picture | None


@dataclass(frozen=True)
class PageFact:
    """One line of the summary: what, and the number with its query."""

    says: str
    part: Part


@dataclass
class _Queries:
    """The page's queries in order of appearance."""

    listed: list[ReportQuery] = field(default_factory=list)

    def add(self, title: str, sql: str, back: str, *, of_row: bool = False) -> ReportQuery:
        made = ReportQuery(f"q{len(self.listed) + 1}", title, sql, back, of_row)
        self.listed.append(made)
        return made


def write_report(warehouse: Path, out: Path) -> Path:
    """Write the report of a warehouse.

    Raises:
        WarehouseError: There is no warehouse, or it can't be read.
        ReportError: The file can't be written.
    """
    page = render(warehouse)
    try:
        out.parent.mkdir(parents=True, exist_ok=True)
        write_whole(out, page.encode(), SHARED)
    except OSError as error:
        raise ReportError(
            f"{out} can't be written: {error.strerror or error}. Name another with --out."
        ) from None
    return out


def render(warehouse: Path) -> str:
    """The report's HTML; where a run publishes another warehouse meanwhile, it is made anew.

    Raises:
        WarehouseError: There is no warehouse, or it can't be read.
    """
    for _ in range(_TRIES):
        page, before = _render(warehouse)
        if _identity(warehouse) == before:
            break
    return page


def shell_quoted(sql: str) -> str:
    """A statement as one word of a shell's command line."""
    return shlex.quote(sql) if _READ_BY_SHELLS.search(sql) else f'"{sql}"'


def _render(warehouse: Path) -> tuple[str, tuple[int, ...]]:
    # Raises where there is none.
    known = _columns(warehouse)
    identity = _identity(warehouse)
    queries = _Queries()
    facts = list(_facts(warehouse, known, queries))
    sections = [_section(warehouse, known, each, queries) for each in SECTIONS]
    environment = Environment(
        loader=FileSystemLoader(Path(__file__).parent),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    page = environment.get_template(TEMPLATE).render(
        made_at=_moment(datetime.now(UTC)),
        built_at=_moment(datetime.fromtimestamp(identity[1] / 1e9, UTC)),
        warehouse=str(warehouse),
        bytes=f"{identity[2]:,}",
        release=version("opencs-platform"),
        facts=facts,
        embedded=_embedded_notes(warehouse, known),
        sections=sections,
        queries=queries.listed,
    )
    return page, identity


def _identity(path: Path) -> tuple[int, ...]:
    """What tells one published file from the next: inode, time in ns, bytes."""
    stat = path.stat()
    return stat.st_ino, stat.st_mtime_ns, stat.st_size


def _columns(warehouse: Path) -> dict[str, set[str]]:
    """Columns of each table."""
    columns = "select table_name, list(column_name) from duckdb_columns() where not internal"
    rows = query(warehouse, f"{columns} group by table_name").iter_rows()
    return {table: set(names) for table, names in rows}


def _facts(warehouse: Path, known: dict[str, set[str]], queries: _Queries) -> Iterator[PageFact]:
    for fact in FACTS:
        if not known.keys() >= set(_RELATION.findall(fact.sql)):
            continue
        value = query(warehouse, fact.sql).item()
        made = queries.add(fact.says, fact.sql, "summary")
        if value is None:
            yield PageFact(fact.says, Part(fact.unknown or NOTHING))
        else:
            yield PageFact(fact.says, Part(format(value, fact.form), made.anchor, "value"))


def _section(
    warehouse: Path, known: dict[str, set[str]], shown: Shown, queries: _Queries
) -> PageSection:
    tables = [
        _table(warehouse, known.get(spec.reads), spec, shown, queries) for spec in shown.tables
    ]
    picture = None
    if shown.picture is not None and any(table.rows for table in tables):
        sql = f"from {shown.tables[0].reads}"
        made = queries.add(f"picture of {shown.title.lower()}", sql, shown.anchor)
        picture = Picture(_png(shown.picture(query(warehouse, sql))), shown.title, made)
    return PageSection(shown.anchor, shown.title, shown.says, tables, picture)


def _table(
    warehouse: Path, there: set[str] | None, spec: TableSpec, shown: Shown, queries: _Queries
) -> PageTable:
    lacking = sorted(spec.needs - there) if there is not None else []
    if there is None or lacking:
        what = f"table {spec.reads}" if there is None else f"columns {', '.join(lacking)}"
        empty = f"This warehouse has no {what}: it was built by another release. Build it anew:"
        return PageTable(spec.title, False, None, empty=f"{empty} {HOW_TO_BUILD}")
    frame = query(warehouse, spec.sql())
    title = f"{shown.title}: {spec.title}" if spec.title else shown.title
    made = queries.add(title, spec.sql(), shown.anchor)
    columns = [
        column
        for column in spec.shown
        if column.name not in spec.if_varied or frame[column.name].n_unique() > 1
    ]
    rows = [
        _row(row, spec, columns, queries) for row in frame.head(MOST_ROWS).iter_rows(named=True)
    ]
    notes = sorted(set(frame["note"].drop_nulls())) if "note" in frame.columns else []
    return PageTable(
        title=spec.title,
        folded=spec.folded and bool(rows),
        query=made,
        headings=[(column.heading, column.look) for column in columns],
        rows=rows,
        left_out=frame.height - len(rows),
        empty="" if rows else spec.empty,
        notes=notes,
    )


def _row(
    row: dict[str, Any], spec: TableSpec, columns: Sequence[ReportColumn], queries: _Queries
) -> TableRow:
    anchor = f"r{len(queries.listed) + 1}"
    made = queries.add(spec.row_title(row), spec.row_sql(row), anchor, of_row=True)
    cells = []
    for column in columns:
        parts: list[Part] = []
        for name in column.names:
            value = row[name]
            if parts:
                parts.append(Part(" to "))
            if value is None:
                parts.append(Part(NOTHING))
            elif column.look == "number":
                parts.append(Part(format(value, column.form), made.anchor, name))
            else:
                parts.append(Part(_said(value)))
        if len(column.names) > 1 and all(row[name] is None for name in column.names):
            parts = [Part(NOTHING)]
        kind = column.look
        if kind == BADGE:
            kind += f" {row[column.name]}"
        elif kind == "text" and len(parts[0].text) > _SHORT:
            kind += " long"
        cells.append(Cell(kind, parts))
    return TableRow(anchor, cells)


def _said(value: Any) -> str:
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, list):
        return ", ".join(str(each) for each in value) or NOTHING
    return str(value)


def _embedded_notes(warehouse: Path, known: dict[str, set[str]]) -> list[str]:
    """What to know of the tables that the embedded model filled."""
    notes: set[str] = set()
    for name in sorted(known):
        if {"filled_by_embedded", "note"} <= known[name]:
            where = "filled_by_embedded and note is not null"
            notes.update(query(warehouse, f'select note from "{name}" where {where}')["note"])  # noqa: S608
    return sorted(notes)


def _png(figure: Any) -> str:
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", dpi=_DPI, bbox_inches="tight")
    return base64.b64encode(buffer.getvalue()).decode()


def _moment(at: datetime) -> str:
    return f"{at:%Y-%m-%d %H:%M} UTC"

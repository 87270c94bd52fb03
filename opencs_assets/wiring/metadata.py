"""The metadata of assets in the UI: column schemas, short previews and plots."""

import base64
import io
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import dagster as dg
import polars as pl

from opencs_assets.tables.catalog import TABLES
from opencs_assets.wiring.jobs import Family
from resources.schema import Table

if TYPE_CHECKING:
    # Importing matplotlib takes a second, which commands that draw nothing need not spend.
    from matplotlib.figure import Figure

PREVIEW_ROWS = 5
PREVIEW_CHARACTERS = 80


def column_schema(table: Table) -> dg.TableSchema:
    """The table's columns, as the UI shows them; partition dimensions first."""
    return dg.TableSchema(
        columns=[
            dg.TableColumn(name, "String", "Partition dimension (folder)")
            for name in table.dimensions
        ]
        + [
            dg.TableColumn(
                name,
                str(column.dtype),
                column.description,
                dg.TableColumnConstraints(nullable=column.nullable),
            )
            for name, column in table.columns.items()
        ]
    )


def table_metadata(name: str) -> dict[str, dg.TableSchema]:
    """Definition metadata of an asset that writes a table."""
    return {"dagster/column_schema": column_schema(TABLES[name])}


def table_out(
    name: str,
    description: str,
    *,
    family: Family,
    group: str,
    kinds: set[str],
    code_version: str,
    automation_condition: dg.AutomationCondition[Any] | None = None,
    owners: Sequence[str] = ("team:data",),
) -> dg.AssetOut:
    """One of several tables that one computation writes to the lake."""
    return dg.AssetOut(
        io_manager_key="lake",
        description=description,
        kinds=kinds,
        owners=list(owners),
        group_name=group,
        tags=family.tags,
        metadata=table_metadata(name),
        code_version=code_version,
        automation_condition=automation_condition,
    )


def preview(frame: pl.DataFrame, rows: int = PREVIEW_ROWS) -> dg.MarkdownMetadataValue:
    """The first rows as a Markdown table with every cell cut short."""
    shown = [name for name, dtype in frame.schema.items() if dtype != pl.List(pl.Float32)]
    lines = ["| " + " | ".join(shown) + " |", "|" + " --- |" * len(shown)]
    for row in frame.select(shown).head(rows).iter_rows():
        lines.append("| " + " | ".join(_cell(value) for value in row) + " |")
    return dg.MetadataValue.md("\n".join(lines))


def plot(figure: "Figure") -> dg.MarkdownMetadataValue:
    """A figure as an inline image."""
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", dpi=90, bbox_inches="tight")
    encoded = base64.b64encode(buffer.getvalue()).decode()
    return dg.MetadataValue.md(f"![plot](data:image/png;base64,{encoded})")


def bullets(notes: Sequence[str]) -> dg.MarkdownMetadataValue:
    """Notes for a person, one a line."""
    return dg.MetadataValue.md("\n".join(f"- {note}" for note in notes))


def _cell(value: object) -> str:
    if value is None:
        return ""
    if isinstance(value, list):
        value = ", ".join(_cell(item) for item in value)
    elif isinstance(value, dict):
        value = next((_cell(item) for item in value.values()), "")
    elif isinstance(value, float):
        value = f"{value:.4g}"
    text = " ".join(str(value).split()).replace("|", "\\|")
    return text if len(text) <= PREVIEW_CHARACTERS else text[: PREVIEW_CHARACTERS - 1] + "…"

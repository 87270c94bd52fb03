"""How the report shows columns of the marts, which the dbt project declares beside their types."""

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from typing import Any

from resources.dbt_project import declared_marts

BADGE = "badge"


@dataclass(frozen=True)
class ReportColumn:
    """A column on the page.

    Attributes:
        names: Columns of the query; several are shown as one range.
        heading: Its heading.
        form: Format of its numbers, or ``badge``; empty for text.
    """

    names: tuple[str, ...]
    heading: str
    form: str = ""

    @property
    def name(self) -> str:
        """The first column of the query."""
        return self.names[0]

    @property
    def look(self) -> str:
        """How it is shown: as ``text``, ``number`` or ``badge``."""
        if self.form == BADGE:
            return BADGE
        return "number" if self.form else "text"


@cache
def columns_of(mart: str) -> Mapping[str, ReportColumn]:
    """The columns of a mart by name."""
    return {column["name"]: _as_shown(column) for column in declared_marts()[mart]["columns"]}


def _as_shown(column: Mapping[str, Any]) -> ReportColumn:
    name, meta = column["name"], column.get("config", {}).get("meta", {})
    plain = ",d" if column["data_type"] == "bigint" else ""
    return ReportColumn(
        (name,), meta.get("heading", name.replace("_", " ")), meta.get("format", plain)
    )

"""The report: one file, nothing from elsewhere, and every number is what its query gives."""

import re
import shlex
import shutil
import subprocess
from html.parser import HTMLParser
from pathlib import Path

import duckdb
import pytest
from typer.testing import CliRunner

from opencs_assets.cli.app import app
from opencs_assets.evaluation.report import ReportQuery, render, shell_quoted, write_report
from resources.warehouse import Warehouse, WarehouseError, query

EVIL = "<script>alert('x')</script> & \"it's\" `$HOME`"
# One that the embedded model judged, and of the gate's lake three, two of which have a defect.
DATASETS = ("embedded", "good", "half", "epochs_apart")
VOID = {"meta", "link", "img", "br", "wbr", "input", "hr"}
ALLOWED = {
    "html", "head", "meta", "title", "style", "body", "header", "main", "nav", "section", "h1",
    "h2", "h3", "p", "span", "b", "a", "ul", "li", "div", "table", "thead", "tbody", "tr", "th",
    "td", "figure", "figcaption", "img", "details", "summary", "pre", "code",
}  # fmt: skip


class Page(HTMLParser):
    """A page taken apart: what is balanced, which ids there are, and its links."""

    def __init__(self, html: str) -> None:
        super().__init__(convert_charrefs=True)
        self.open: list[tuple[str, dict[str, str]]] = []
        self.tags: set[str] = set()
        self.ids: list[str] = []
        self.links: list[tuple[str, str, str, str]] = []
        self.cells: list[tuple[str, str]] = []
        self.commands: dict[str, str] = {}
        self.references: list[str] = []
        self.text: list[str] = []
        self._query = ""
        self.feed(html)
        self.close()
        assert not self.open, self.open

    def handle_starttag(self, tag, attributes):
        given = dict(attributes)
        self.tags.add(tag)
        self.ids += [given["id"]] if "id" in given else []
        self.references += [given[name] for name in ("src", "href", "srcset") if name in given]
        assert not any(name.startswith("on") for name in given)
        if "query" in (given.get("class") or "").split():
            self._query = given["id"]
        if tag == "td":
            self.cells.append((given["class"], ""))
        if tag == "a":
            self.links.append((given["href"], given.get("data-column", ""), "", self._cell()))
        if tag not in VOID:
            self.open.append((tag, given))

    def handle_endtag(self, tag):
        assert self.open.pop()[0] == tag

    def handle_data(self, data):
        inside = [tag for tag, _ in self.open]
        if "style" in inside:
            return
        self.text.append(data)
        if "td" in inside:
            kind, text = self.cells[-1]
            self.cells[-1] = (kind, text + data)
        if inside[-1:] == ["a"]:
            href, column, text, cell = self.links[-1]
            self.links[-1] = (href, column, text + data, cell)
        if inside[-1:] == ["code"] and "pre" in inside:
            self.commands[self._query] = self.commands.get(self._query, "") + data

    def _cell(self) -> str:
        return next((given["class"] for tag, given in self.open if tag == "td"), "")


def few_results(built: Path, path: Path) -> Path:
    """A copy of a warehouse with the results of few datasets, of which one model's name is odd."""
    shutil.copy(built, path)
    with duckdb.connect(path) as connection:
        columns = connection.execute(
            "select table_name, column_name from duckdb_columns() join duckdb_tables() as tables "
            "using (table_name, schema_name) where schema_name = 'main' and not tables.internal"
        ).fetchall()
        for table, column in columns:
            if column == "dataset":
                connection.execute(f"delete from {table} where dataset not in {DATASETS}")
        for table, column in columns:
            if column in ("model", "model_a", "model_b"):
                changed = f"update {table} set {column} = ? where {column} = 'two'"
                connection.execute(changed, [EVIL])
        connection.execute("delete from judge_agreement where benchmark <> 'short'")
        connection.execute(
            "insert into rejected_imports by name select 'f' as file, 'gpt-4.jsonl' as file_name, "
            "0 as row, 'unknown_question' as reason, 'no such question' as detail, '' as excerpt"
        )
    return path


@pytest.fixture(scope="module")
def results(warehouse: Warehouse, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return few_results(warehouse.path, tmp_path_factory.mktemp("report") / "w.duckdb")


@pytest.fixture(scope="module")
def html(results: Path) -> str:
    return render(results)


@pytest.fixture(scope="module")
def page(html: str) -> Page:
    return Page(html)


def test_is_well_formed_and_needs_nothing_from_elsewhere(html, page):
    assert page.tags <= ALLOWED
    assert len(page.ids) == len(set(page.ids))
    assert page.references
    assert all(each.startswith(("#", "data:image/png;base64,")) for each in page.references)
    style = re.search(r"<style>(.*?)</style>", html, re.DOTALL).group(1)
    assert "url(" not in style
    assert "@import" not in style
    assert sum(each.startswith("data:") for each in page.references) == 5


def test_every_link_leads_somewhere(page):
    assert {href[1:] for href, *_ in page.links} <= set(page.ids)


def test_every_number_is_what_its_query_gives(page, results):
    """The linked command, taken out of the page and run, gives the number as it is shown."""
    numbers = [each for each in page.links if each[1]]
    answers = {
        anchor: query(results, _unquoted(command)) for anchor, command in page.commands.items()
    }
    for href, column, text, _ in numbers:
        given = answers[href[1:]]
        assert given.height == 1, page.commands[href[1:]]
        value = given[column].item()
        decimals = len(text.partition(".")[2])
        assert f"{value:,.{decimals}f}" == text, page.commands[href[1:]]
    assert len(numbers) > 300


def test_no_number_stands_without_its_query(page):
    linked = sum(cell == "number" and bool(column) for _, column, _, cell in page.links)
    shown = [text for kind, text in page.cells if kind == "number" and text != "–"]
    assert all(any(character.isdigit() for character in text) for text in shown)
    # An interval is two numbers in one cell.
    assert linked == sum(2 if " to " in text else 1 for text in shown)


def test_names_are_text_and_never_markup(html, page):
    assert "<script" not in html
    assert any(EVIL in text for kind, text in page.cells if kind.startswith("text"))


def test_queries_with_odd_names_can_be_copied_into_a_shell(page, results):
    command = next(each for each in page.commands.values() if "alert" in each)
    assert query(results, _unquoted(command)).height


@pytest.mark.parametrize("sql", ["select 1", "select 'it''s'", 'select "a"', "select '$HOME `a`!'"])
def test_a_shell_reads_the_statement_as_it_is(sql):
    ran = subprocess.run(
        ["/bin/bash", "-c", f"printf %s {shell_quoted(sql)}"], capture_output=True, text=True
    )
    assert ran.stdout == sql
    assert ReportQuery("q", "t", sql, "b", False).command.startswith("opencs sql ")


def test_what_is_not_published_is_named_with_its_reason(page):
    said = " ".join(page.text)
    assert "40 of 80 judgments are missing" in said
    assert "which is more than 1 % apart" in said
    assert {kind for kind, _ in page.cells} >= {"badge incomplete", "badge unfair"}
    assert "unknown_question" in said


def test_the_embedded_model_is_named_first(page):
    said = " ".join(page.text)
    assert said.index("filled by the embedded model") < said.index("Summary")


def test_a_warehouse_without_results_says_what_is_missing(tmp_path):
    path = tmp_path / "empty.duckdb"
    duckdb.connect(path).close()
    page = Page(render(path))
    said = " ".join(page.text)
    assert "no results yet" in said
    assert "no table win_rates" in said
    assert "opencs materialize group:evaluation" in said


def test_tables_without_rows_say_what_to_do(results, tmp_path):
    path = Path(shutil.copy(results, tmp_path))
    with duckdb.connect(path) as connection:
        for (name,) in connection.execute(
            "select table_name from duckdb_tables() where schema_name = 'main'"
        ).fetchall():
            connection.execute(f"delete from {name}")
    page = Page(render(path))
    said = " ".join(page.text)
    assert "opencs materialize pairwise_verdicts" in said
    assert "Every comparison is published" in said
    assert not any(each.startswith("data:") for each in page.references)


def test_a_home_without_warehouse_is_told_how_to_build_one(tmp_path):
    with pytest.raises(WarehouseError, match="build it"):
        write_report(tmp_path / "none.duckdb", tmp_path / "report.html")
    assert not (tmp_path / "report.html").exists()


def test_the_command_writes_the_file(results, tmp_path, monkeypatch):
    monkeypatch.setenv("OPENCS_HOME", str(tmp_path))
    shutil.copy(results, tmp_path / "warehouse.duckdb")
    written = tmp_path / "to" / "results.html"
    ran = CliRunner().invoke(app, ["report", "--out", str(written)])
    assert ran.exit_code == 0, ran.output
    Page(written.read_text(encoding="utf-8"))
    assert CliRunner().invoke(app, ["report"]).exit_code == 0
    assert (tmp_path / "report.html").exists()


def _unquoted(command: str) -> str:
    words = shlex.split(command)
    assert words[:2] == ["opencs", "sql"]
    assert len(words) == 3
    return words[2]

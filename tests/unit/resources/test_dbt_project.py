"""How the dbt project is read: what makes a manifest stale, and who parses."""

import json
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
import yaml

from opencs_assets.tables.catalog import TABLES
from resources import dbt_project
from resources.dbt_project import DbtError, NodeResult, dbt_manifest, refuse_broken


@pytest.fixture
def project(tmp_path: Path) -> Path:
    folder = tmp_path / "project"
    (folder / "models").mkdir(parents=True)
    (folder / "models" / "one.sql").write_text("select 1")
    return folder


@pytest.fixture
def parsed(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Parses that were asked for; dbt itself is not run."""
    calls: list[str] = []

    def run(arguments, home, lake, database, project):
        calls.append((project / "models" / "one.sql").read_text())
        target = home / "dbt" / "target"
        target.mkdir(parents=True, exist_ok=True)
        (target / "manifest.json").write_text(json.dumps(calls))
        return 0, ""

    monkeypatch.setattr(dbt_project, "_run", run)
    return calls


def test_it_is_parsed_once(tmp_path, project, parsed):
    assert dbt_manifest(tmp_path, project) == dbt_manifest(tmp_path, project)
    assert parsed == ["select 1"]


def test_an_edited_model_is_parsed_again(tmp_path, project, parsed):
    dbt_manifest(tmp_path, project)
    (project / "models" / "one.sql").write_text("select 2")
    manifest = dbt_manifest(tmp_path, project)
    assert parsed == ["select 1", "select 2"]
    assert json.loads(manifest.read_text()) == parsed
    assert list(manifest.parent.glob("*.json")) == [manifest]


def test_processes_that_start_together_parse_once(tmp_path, project, parsed):
    with ThreadPoolExecutor(8) as pool:
        paths = set(pool.map(lambda _: dbt_manifest(tmp_path, project), range(8)))
    assert len(paths) == len(parsed) == 1


def test_a_project_that_does_not_parse_is_told(tmp_path, project, monkeypatch):
    monkeypatch.setattr(dbt_project, "_run", lambda *_: (2, "Parsing Error at line 3"))
    with pytest.raises(DbtError, match="Parsing Error at line 3"):
        dbt_manifest(tmp_path, project)


@pytest.mark.parametrize(
    ("lake", "written"),
    [("/a/b", "/a/b"), ("/it's", "/it''s"), ("/[x]{y}", "/[[]x]{{y}}"), ("s3://b/l", "s3://b/l")],
)
def test_a_folders_name_is_taken_literally(lake, written):
    assert dbt_project._quoted_location(lake) == written


def test_what_failed_is_named_and_a_warning_is_no_failure(tmp_path):
    results = [
        NodeResult("model.p.one", "success", 0.1, "OK", 0),
        NodeResult("test.p.two.abc", "warn", 0.1, "Got 3 results", 3),
    ]
    refuse_broken(results, tmp_path)
    results += [
        NodeResult("test.p.three.abc", "fail", 0.1, "Got 1 result", 1),
        NodeResult("model.p.four", "skipped", 0.0, "", 0),
    ]
    with pytest.raises(DbtError, match="three: Got 1 result") as raised:
        refuse_broken(results, tmp_path)
    assert "four" not in str(raised.value)


def test_every_source_is_a_table_of_the_lake():
    text = (dbt_project.PROJECT / "models" / "sources.yml").read_text(encoding="utf-8")
    (source,) = yaml.safe_load(text)["sources"]
    assert {table["name"] for table in source["tables"]} <= set(TABLES)

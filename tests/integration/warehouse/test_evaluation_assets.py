"""The warehouse's assets through Dagster."""

from pathlib import Path

import dagster as dg
import pytest

from opencs_assets.config.experiments import load_experiments
from opencs_assets.evaluation.assets import build_evaluation_assets
from opencs_assets.evaluation.checks import MARTS as PUBLISHED
from opencs_assets.evaluation.checks import RULES, build_evaluation_checks
from opencs_assets.tables.catalog import TABLES
from opencs_assets.tables.lake import Lake
from opencs_assets.wiring.lake_io import LakeIOManager
from resources import dbt_project
from resources.llm.resource import LLMResource
from resources.settings import load_settings
from resources.warehouse import Warehouse
from tests.integration.warehouse.conftest import DEPRECATED, INTERIM, MARTS, pair_rows

DECLARED = {"declared_models", "declared_matchups", "judge_protocols"}


def assets(home: Path) -> list:
    return build_evaluation_assets(load_settings(home), load_experiments(home))


def materialize(home: Path, **options) -> dg.ExecuteInProcessResult:
    return dg.materialize(
        [*assets(home), *build_evaluation_checks(load_settings(home))],
        resources={"lake": LakeIOManager(home=str(home)), "llm": LLMResource(home=str(home))},
        instance=dg.DagsterInstance.ephemeral(),
        **options,
    )


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dg.ExecuteInProcessResult]:
    home = tmp_path_factory.mktemp("home")
    return home, materialize(home)


def test_an_empty_lake_builds_and_shows_what_a_person_looks_for(run):
    _home, result = run
    events = {
        event.asset_key.path[-1]: event.step_materialization_data.materialization.metadata
        for event in result.get_asset_materialization_events()
    }
    assert set(events) == MARTS | INTERIM | DECLARED | DEPRECATED.keys() | {"llm_replies"}
    for name in MARTS | INTERIM | DEPRECATED.keys():
        # The lake has a file without rows of each table.
        assert (events[name]["dagster/row_count"].value == 0) == (name != "lake_contents")
        assert {"dagster/row_count", "preview", "query", "seconds"} <= set(events[name])
    assert "plot" in events["win_rates"]


def test_dbt_tests_are_asset_checks(run):
    _home, result = run
    checks = result.get_asset_check_evaluations()
    assert all(check.passed for check in checks)
    tested = {check.asset_key.path[-1] for check in checks}
    # A view of tables that are tested, each verdict once, has nothing of its own to test.
    assert tested == MARTS - {"verdict_trace"}


def test_each_rule_of_the_gate_is_a_check_that_does_not_block(run):
    _home, result = run
    checks = [
        each for each in result.get_asset_check_evaluations() if each.check_name[:5] == "gate_"
    ]
    found = {(check.asset_key.path[-1], check.check_name) for check in checks}
    assert found == {
        (mart, f"gate_{rule}")
        for mart, kind in PUBLISHED.items()
        for rule, (_, kinds) in RULES.items()
        if kind in kinds
    }
    assert len(found) == 18
    assert all(check.passed and check.severity == dg.AssetCheckSeverity.WARN for check in checks)


def test_the_project_stays_clean_and_the_manifest_is_read_once(run, monkeypatch):
    home, _result = run
    assert {path.name for path in dbt_project.PROJECT.iterdir()} == {
        "dbt_project.yml",
        "profiles.yml",
        "models",
        "macros",
        "tests",
    }
    monkeypatch.setattr(dbt_project, "_run", None)
    assert dbt_project.dbt_manifest(home).exists()


def test_sources_are_the_lakes_assets(run):
    home, _result = run
    *_, marts = assets(home)
    upstream = {key.path[-1] for keys in marts.asset_deps.values() for key in keys}
    upstream -= MARTS | INTERIM | DEPRECATED.keys()
    assert upstream <= set(TABLES)
    assert upstream > DECLARED | {"selected_subset", "pairwise_verdicts", "llm_replies"}
    for spec in marts.specs:
        assert spec.group_name == "evaluation"
        assert spec.owners
        assert {"dbt", "duckdb"} <= spec.kinds
        assert spec.automation_condition is not None
        if spec.key.path[-1] in MARTS | DEPRECATED.keys():
            columns = spec.metadata["dagster/column_schema"].columns
            assert all(column.description for column in columns)


def test_one_mart_can_be_asked_for(run):
    home, _result = run
    result = materialize(home, selection=["win_rates"])
    events = result.get_asset_materialization_events()
    assert [event.asset_key.path[-1] for event in events] == ["win_rates"]


def test_a_build_that_fails_fails_the_run_and_leaves_what_was_published(run):
    home, _result = run
    warehouse = Warehouse(home / "warehouse.duckdb")
    before = warehouse.path.read_bytes()
    lake, of_matchup = Lake(str(home / "lake")), {"dataset": "d", "matchup": "m"}
    unknown = pair_rows({"q1": ("a", "a")}, benchmark="smoke", protocol="of nobody")
    lake.write("pairwise_verdicts", unknown, of_matchup)

    result = materialize(home, raise_on_error=False)

    assert not result.success
    failure = result.failure_data_for_node("warehouse")
    for words in ("pair_outcomes", "the judge protocol of nobody", "stays as it was"):
        assert words in failure.user_failure_data.description
    assert warehouse.path.read_bytes() == before
    assert not warehouse.build_path.exists()
    Path(lake.path(TABLES["pairwise_verdicts"], of_matchup)).unlink()

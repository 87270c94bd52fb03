"""deploy/laptop and deploy/cluster: real instances, the cluster's on a real Postgres."""

import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import dagster as dg
import pytest
import sqlalchemy as sa
import yaml
from dagster._core.definitions.run_request import InstigatorType
from dagster._core.remote_origin import (
    InProcessCodeLocationOrigin,
    RemoteInstigatorOrigin,
    RemoteRepositoryOrigin,
)
from dagster._core.scheduler.instigation import (
    InstigatorState,
    InstigatorStatus,
    SensorInstigatorData,
)
from dagster._core.types.loadable_target_origin import LoadableTargetOrigin
from dagster_postgres.event_log import PostgresEventLogStorage
from dagster_postgres.run_storage import PostgresRunStorage
from dagster_postgres.schedule_storage import PostgresScheduleStorage

from resources.instance import open_instance
from resources.runs.cluster import ClusterRunLauncher


@pytest.fixture
def dagster_home(deploy: Path, tmp_path: Path) -> Path:
    folder = tmp_path / "dagster_home"
    folder.mkdir()
    shutil.copyfile(deploy / "cluster" / "dagster.yaml", folder / "dagster.yaml")
    return folder


@pytest.fixture
def instance(
    dagster_home: Path, cluster_environment: dict[str, str], pod: None
) -> Iterator[dg.DagsterInstance]:
    with dg.DagsterInstance.from_config(str(dagster_home)) as opened:
        yield opened


@dg.asset(pool="gpu")
def answer() -> dg.MaterializeResult[None]:
    print("to stdout")
    return dg.MaterializeResult(metadata={"value": 42})


def test_the_clusters_storages_are_postgres_and_its_launcher_kubernetes(
    instance: dg.DagsterInstance,
) -> None:
    assert isinstance(instance.run_storage, PostgresRunStorage)
    assert isinstance(instance.event_log_storage, PostgresEventLogStorage)
    assert isinstance(instance.schedule_storage, PostgresScheduleStorage)
    launcher = instance.run_launcher
    assert isinstance(launcher, ClusterRunLauncher)
    assert launcher.job_namespace == "opencs"
    assert launcher.service_account_name == "opencs-run"
    assert launcher.job_image.startswith("registry.example.com/opencs/orchestrator@sha256:")


def test_a_materialization_is_kept_in_postgres(
    instance: dg.DagsterInstance, postgres_url: str
) -> None:
    result = dg.materialize([answer], instance=instance)
    assert result.success
    kept = instance.get_latest_materialization_event(dg.AssetKey("answer"))
    assert kept.asset_materialization.metadata["value"].value == 42
    engine = sa.create_engine(postgres_url)
    with engine.connect() as connection:
        runs = connection.execute(sa.text("select run_id, status from runs")).all()
    engine.dispose()
    assert [tuple(run) for run in runs] == [(result.run_id, "SUCCESS")]


def test_what_a_sensor_keeps_is_kept_in_postgres(instance: dg.DagsterInstance) -> None:
    target = LoadableTargetOrigin(module_name="definitions")
    location = InProcessCodeLocationOrigin(target, location_name="opencs")
    origin = RemoteInstigatorOrigin(RemoteRepositoryOrigin(location, "__repository__"), "landing")
    instance.add_instigator_state(
        InstigatorState(
            origin,
            InstigatorType.SENSOR,
            InstigatorStatus.RUNNING,
            SensorInstigatorData(cursor="what was seen"),
        )
    )
    (state,) = instance.all_instigator_state()
    assert isinstance(state.instigator_data, SensorInstigatorData)
    assert state.instigator_data.cursor == "what was seen"


def test_pools_have_the_limits_that_the_file_says_to_set(
    instance: dg.DagsterInstance, dagster_home: Path, cluster_environment: dict[str, str]
) -> None:
    assert instance.get_concurrency_config().pool_config.default_pool_limit == 1
    lines = [
        line.lstrip("# ")
        for line in (dagster_home / "dagster.yaml").read_text().splitlines()
        if "concurrency set" in line
    ]
    assert len(lines) == 3
    # As the chart's job does it: in a pod without a token.
    outside = {k: v for k, v in cluster_environment.items() if "KUBERNETES" not in k}
    done = subprocess.run(
        ["/bin/sh", "-ec", "\n".join(lines)],
        env={
            **outside,
            "DAGSTER_HOME": str(dagster_home),
            "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}",
        },
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    slots = {
        pool: instance.event_log_storage.get_concurrency_info(pool).slot_count
        for pool in ("llm_api", "gpu", "warehouse")
    }
    assert slots == {"llm_api": 4, "gpu": 2, "warehouse": 1}


def test_a_full_pool_holds_a_claim_back(instance: dg.DagsterInstance) -> None:
    storage = instance.event_log_storage
    storage.set_concurrency_slots("gpu", 2)
    claims = [storage.claim_concurrency_slot("gpu", f"run{n}", "step") for n in range(3)]
    assert [claim.is_claimed for claim in claims] == [True, True, False]
    storage.free_concurrency_slots_for_run("run0")
    assert storage.claim_concurrency_slot("gpu", "run2", "step").is_claimed


def test_crashed_runs_are_retried_and_failed_assets_are_not(instance: dg.DagsterInstance) -> None:
    assert instance.run_retries_enabled
    assert instance.run_retries_max_retries == 2
    assert instance.run_retries_retry_on_asset_or_op_failure is False
    assert instance.run_monitoring_enabled
    assert instance.run_monitoring_start_timeout_seconds == 900
    assert instance.run_monitoring_cancel_timeout_seconds == 300
    assert instance.run_monitoring_max_resume_run_attempts == 0


def test_the_laptops_file_is_an_instance_that_runs(deploy: Path, tmp_path: Path) -> None:
    shutil.copyfile(deploy / "laptop" / "dagster.yaml", tmp_path / "dagster.yaml")
    with dg.DagsterInstance.from_config(str(tmp_path)) as instance:
        assert dg.materialize([answer], instance=instance).success
        assert instance.get_concurrency_config().pool_config.default_pool_limit == 1
        assert instance.run_retries_retry_on_asset_or_op_failure is False
        assert instance.run_retries_max_retries == 2
        assert instance.run_launcher.supports_check_run_worker_health


@pytest.mark.parametrize("place", ["laptop/dagster.yaml", "cluster/dagster.yaml"])
def test_every_instance_watches_its_runs_and_frees_what_they_held(deploy: Path, place: str) -> None:
    monitoring = yaml.safe_load((deploy / place).read_text())["run_monitoring"]
    assert monitoring["enabled"] is True
    assert monitoring["free_slots_after_run_end_seconds"] > 0


def test_the_command_line_uses_the_instance_that_the_variable_names(
    dagster_home: Path,
    cluster_environment: dict[str, str],
    pod: None,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    home = tmp_path / "home"
    monkeypatch.setenv("OPENCS_DAGSTER_HOME", str(dagster_home))
    monkeypatch.setenv("DAGSTER_HOME", str(dagster_home))
    monkeypatch.setenv("OPENCS_HOME", str(home))
    with open_instance(home) as instance:
        assert isinstance(instance.run_storage, PostgresRunStorage)
    assert not (home / "dagster").exists()

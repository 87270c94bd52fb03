"""The values for Dagster's official chart.

The chart itself is not part of the project. With ``DAGSTER_HELM_CHART`` naming its folder it is
rendered; without it, what the values lead to is checked through dagster-k8s itself.
"""

import copy
import json
import os
import shutil
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import dagster as dg
import jsonschema
import kubernetes_validate
import pytest
import yaml
from dagster import DagsterRun
from dagster._config import process_config, resolve_to_config_type
from dagster._core.code_pointer import ModuleCodePointer
from dagster._core.origin import JobPythonOrigin, RepositoryPythonOrigin
from dagster_k8s import K8sRunLauncher
from dagster_k8s.job import construct_dagster_k8s_job
from kubernetes.client import ApiClient
from referencing import Registry, Resource
from referencing.jsonschema import DRAFT202012

from definitions import build_defs
from resources.runs.cluster import ClusterRunLauncher
from tests.integration.deploy.manifests import Manifest, by_name, check, render, secret_values

RELEASE = "dagster"


@pytest.fixture(scope="module")
def values(deploy: Path) -> dict[str, Any]:
    loaded: dict[str, Any] = yaml.safe_load((deploy / "helm" / "values.yaml").read_text())
    return loaded


def launcher_config(values: Mapping[str, Any]) -> dict[str, Any]:
    """What the chart writes into dagster.yaml for our launcher: its values as they are."""
    given: dict[str, Any] = values["runLauncher"]["config"]["customRunLauncher"]
    assert (given["module"], given["class"]) == (
        ClusterRunLauncher.__module__,
        ClusterRunLauncher.__name__,
    )
    config: dict[str, Any] = given["config"]
    return config


@pytest.fixture(autouse=True)
def of_the_chart(monkeypatch: pytest.MonkeyPatch, values: dict[str, Any]) -> None:
    """The variables that the chart sets in the daemon and the webserver (`dagster.shared_env`)."""
    for name, value in {
        "DAGSTER_HOME": "/opt/dagster/dagster_home",
        "DAGSTER_K8S_PIPELINE_RUN_NAMESPACE": "opencs",
        "DAGSTER_K8S_INSTANCE_CONFIG_MAP": f"{RELEASE}-instance",
        "DAGSTER_K8S_PG_PASSWORD_SECRET": values["global"]["postgresqlSecretName"],
        "DAGSTER_K8S_PIPELINE_RUN_ENV_CONFIGMAP": f"{RELEASE}-pipeline-env",
    }.items():
        monkeypatch.setenv(name, value)


def coerced(config: Mapping[str, Any]) -> dict[str, Any]:
    result = process_config(resolve_to_config_type(K8sRunLauncher.config_type()), dict(config))
    assert result.success, result.errors
    return dict(result.value)


def run_job(launcher: K8sRunLauncher) -> Manifest:
    """The Job of a run, put together by dagster-k8s as the launcher does."""
    repository = RepositoryPythonOrigin(
        executable_path="python",
        code_pointer=ModuleCodePointer("definitions", "defs", None),
        container_image="registry.example.com/opencs/orchestrator@sha256:" + "0" * 64,
    )
    run = DagsterRun("dataset_job", job_code_origin=JobPythonOrigin("dataset_job", repository))
    context = launcher.get_container_context_for_run(run)
    job = construct_dagster_k8s_job(
        job_config=context.get_k8s_job_config(repository.container_image, launcher),
        args=["dagster", "api", "execute_run"],
        job_name="dagster-run-1",
        component="run_worker",
        user_defined_k8s_config=context.run_k8s_config,
    )
    made: Manifest = ApiClient().sanitize_for_serialization(job)
    return made


def test_run_pods_are_what_the_cluster_lets_in(values: dict[str, Any], pod: None) -> None:
    launcher = ClusterRunLauncher(**coerced(launcher_config(values)))
    assert launcher.job_namespace == "opencs"
    assert launcher.service_account_name == values["global"]["serviceAccountName"]
    job = run_job(launcher)
    check([{"apiVersion": "batch/v1", "kind": "Job", **job}])
    made = job["spec"]["template"]["spec"]
    (container,) = made["containers"]
    assert made["serviceAccountName"] == "opencs-run"
    assert made["automountServiceAccountToken"] is True
    assert made["terminationGracePeriodSeconds"] == 240
    assert container["resources"]["requests"] == {"cpu": "2", "memory": "8Gi"}
    assert {"name": "home", "mountPath": "/opencs"} in container["volumeMounts"]
    variables = {entry["name"]: entry.get("value") for entry in container["env"]}
    assert variables["OPENCS_HOME"] == "/opencs"
    assert variables["OPENCS_DAGSTER_HOME"] == variables["DAGSTER_HOME"]
    assert {"secretRef": {"name": "opencs-env"}} in container["envFrom"]
    assert job["spec"]["ttlSecondsAfterFinished"] == 86400


def test_nothing_of_the_code_server_goes_to_its_runs(values: dict[str, Any]) -> None:
    """Its account would win over the run pods' own, which may make a training's service."""
    (deployment,) = values["dagster-user-deployments"]["deployments"]
    assert deployment["includeConfigInLaunchedRuns"] == {"enabled": False}


def test_a_run_is_stopped_before_dagster_gives_it_up(values: dict[str, Any]) -> None:
    run = launcher_config(values)["run_k8s_config"]["pod_spec_config"]
    monitoring = values["dagsterDaemon"]["runMonitoring"]
    assert monitoring["cancelTimeoutSeconds"] > run["terminationGracePeriodSeconds"]


def test_layers_of_retries_do_not_multiply(values: dict[str, Any], deploy: Path) -> None:
    retries = values["dagsterDaemon"]["runRetries"]
    assert retries["retryOnAssetOrOpFailure"] is False
    plain = yaml.safe_load((deploy / "cluster" / "dagster.yaml").read_text())
    assert plain["run_retries"]["retry_on_asset_or_op_failure"] is False
    assert plain["run_retries"]["max_retries"] == retries["maxRetries"]


def test_both_ways_to_a_cluster_say_the_same(values: dict[str, Any], deploy: Path) -> None:
    plain = yaml.safe_load((deploy / "cluster" / "dagster.yaml").read_text())
    given = launcher_config(values)["run_k8s_config"]
    ours = plain["run_launcher"]["config"]["run_k8s_config"]
    container = {k: v for k, v in given["container_config"].items() if k != "env"}
    pod = {k: v for k, v in given["pod_spec_config"].items() if k != "serviceAccountName"}
    for name in ("module", "class"):
        named = values["runLauncher"]["config"]["customRunLauncher"][name]
        assert plain["run_launcher"][name] == named
    assert ours["pod_spec_config"] == pod
    assert ours["container_config"] == container
    monitoring = values["dagsterDaemon"]["runMonitoring"]
    assert plain["run_monitoring"]["cancel_timeout_seconds"] == monitoring["cancelTimeoutSeconds"]
    assert plain["run_monitoring"]["start_timeout_seconds"] == monitoring["startTimeoutSeconds"]
    assert (
        plain["concurrency"]["runs"]["max_concurrent_runs"]
        == (values["concurrency"]["runs"]["maxConcurrentRuns"])
    )


def test_the_two_charts_name_the_same_things(
    values: dict[str, Any], helm: Path, deploy: Path
) -> None:
    ours = render(helm, deploy / "chart", "opencs", "--set=images.orchestrator=r/o@sha256:1")
    (deployment,) = values["dagster-user-deployments"]["deployments"]
    claim = deployment["volumes"][0]["persistentVolumeClaim"]["claimName"]
    assert by_name(ours, "PersistentVolumeClaim", claim)
    assert by_name(ours, "Service", values["postgresql"]["postgresqlHost"])
    assert by_name(ours, "ServiceAccount", values["global"]["serviceAccountName"])
    toolbox = by_name(ours, "Deployment", "opencs-toolbox")["spec"]["template"]["spec"]
    instance = next(volume for volume in toolbox["volumes"] if volume["name"] == "instance")
    assert instance["configMap"]["name"] == f"{RELEASE}-instance"
    database = by_name(ours, "StatefulSet", "opencs-postgres")["spec"]["template"]["spec"]
    variables = {entry["name"]: entry for entry in database["containers"][0]["env"]}
    assert variables["POSTGRES_USER"]["value"] == values["postgresql"]["postgresqlUsername"]
    assert variables["POSTGRES_DB"]["value"] == values["postgresql"]["postgresqlDatabase"]
    secret = variables["POSTGRES_PASSWORD"]["valueFrom"]["secretKeyRef"]
    assert secret["name"] == values["global"]["postgresqlSecretName"]
    settings = by_name(ours, "Job", "opencs-settings")["spec"]["template"]["spec"]["volumes"]
    assert claim in {v.get("persistentVolumeClaim", {}).get("claimName") for v in settings}


def pool_commands(values: Mapping[str, Any]) -> str:
    (job,) = values["extraManifests"]
    (container,) = job["spec"]["template"]["spec"]["containers"]
    script: str = container["command"][-1]
    return script


def limits(script: str) -> dict[str, int]:
    """The limits that a script or a comment sets, by pool."""
    words = [line.lstrip("# ").split() for line in script.splitlines()]
    prefix = ["dagster", "instance", "concurrency", "set"]
    return {line[4]: int(line[5]) for line in words if line[:4] == prefix}


def test_every_pool_that_an_asset_names_has_a_limit(
    values: dict[str, Any], tmp_path: Path, deploy: Path
) -> None:
    defs = build_defs(tmp_path)
    named = {
        node.pool
        for asset in defs.resolve_asset_graph().assets_defs
        if isinstance(asset.node_def, dg.OpDefinition)
        for node in [asset.node_def]
        if node.pool
    }
    assert named == {"llm_api", "gpu", "warehouse"}
    assert limits(pool_commands(values)).keys() == named
    assert limits(pool_commands(values))["warehouse"] == 1
    plain = (deploy / "cluster" / "dagster.yaml").read_text()
    assert limits(plain) == limits(pool_commands(values))


@pytest.fixture(scope="module")
def official(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy of the official chart without the parts that the values switch off."""
    given = os.environ.get("DAGSTER_HELM_CHART")
    if not given:
        pytest.skip("set DAGSTER_HELM_CHART to the folder of Dagster's chart to have it rendered")
    chart = tmp_path_factory.mktemp("official") / "dagster"
    shutil.copytree(given, chart)
    described = yaml.safe_load((chart / "Chart.yaml").read_text())
    kept = [d for d in described["dependencies"] if d["name"] == "dagster-user-deployments"]
    (chart / "Chart.yaml").write_text(yaml.safe_dump({**described, "dependencies": kept}))
    (chart / "Chart.lock").unlink(missing_ok=True)
    for folder in (chart / "charts").iterdir():
        if folder.name != "dagster-user-deployments":
            shutil.rmtree(folder) if folder.is_dir() else folder.unlink()
    return chart


@pytest.fixture(scope="module")
def rendered(helm: Path, official: Path, deploy: Path) -> list[Manifest]:
    # Its schema refers to definitions on the network; it is checked with local ones below.
    given = deploy / "helm" / "values.yaml"
    return render(helm, official, RELEASE, "--values", str(given), "--skip-schema-validation")


def test_the_official_chart_takes_the_values(official: Path, values: dict[str, Any]) -> None:
    defaults = yaml.safe_load((official / "values.yaml").read_text())
    definitions = json.loads(
        (
            Path(kubernetes_validate.__file__).parent
            / "kubernetes-json-schema"
            / f"v{kubernetes_validate.latest_version()}-local"
            / "_definitions.json"
        ).read_text()
    )["$defs"]
    local = Resource.from_contents(
        {"definitions": definitions, "$defs": definitions}, default_specification=DRAFT202012
    )
    schema = json.loads((official / "values.schema.json").read_text())
    registry: Registry[Any] = Registry(retrieve=lambda _: local)
    errors = [
        f"{'.'.join(map(str, error.absolute_path))}: {error.message[:200]}"
        for error in jsonschema.Draft202012Validator(schema, registry=registry).iter_errors(
            laid_over(defaults, values)
        )
    ]
    assert errors == []


def laid_over(under: dict[str, Any], over: dict[str, Any]) -> dict[str, Any]:
    result = copy.deepcopy(under)
    for key, value in over.items():
        both = isinstance(value, dict) and isinstance(result.get(key), dict)
        result[key] = laid_over(result[key], value) if both else value
    return result


def test_every_value_is_known_to_the_official_chart(official: Path, values: dict[str, Any]) -> None:
    """A misspelt key is not refused by Helm: it just does nothing."""
    defaults = yaml.safe_load((official / "values.yaml").read_text())
    allowed = {"extraManifests", "concurrency"} | defaults.keys()
    assert values.keys() <= allowed
    for key in ("dagsterWebserver", "dagsterDaemon", "postgresql", "global"):
        assert values[key].keys() <= defaults[key].keys(), key


def test_what_the_official_chart_makes_is_valid(rendered: list[Manifest]) -> None:
    check(rendered)
    assert not [m for m in rendered if m["kind"] in {"Secret", "Role", "RoleBinding"}]
    assert not [name for name in secret_values(rendered) if "CELERY" not in name]
    run = next(m for m in rendered if m["metadata"]["name"] == f"{RELEASE}-pools")
    assert "dagster instance concurrency set gpu" in str(run)


def test_the_official_charts_instance_is_one_that_dagster_opens(
    rendered: list[Manifest],
    values: dict[str, Any],
    cluster_environment: dict[str, str],
    tmp_path: Path,
) -> None:
    made = by_name(rendered, "ConfigMap", f"{RELEASE}-instance")["data"]["dagster.yaml"]
    config = yaml.safe_load(made)
    launcher = config["run_launcher"]["config"]
    assert launcher == launcher_config(values)
    coerced(launcher)
    # The pod's token and volume, and the service's name, are the cluster's alone.
    config["run_launcher"] = {"module": "dagster", "class": "DefaultRunLauncher"}
    config["compute_logs"]["config"]["base_dir"] = str(tmp_path / "logs")
    for storage in ("run_storage", "event_log_storage", "schedule_storage"):
        database = config[storage]["config"]["postgres_db"]
        database["hostname"] = cluster_environment["DAGSTER_PG_HOST"]
        database["port"] = int(cluster_environment["DAGSTER_PG_PORT"])
        database["username"] = cluster_environment["DAGSTER_PG_USERNAME"]
        database["db_name"] = cluster_environment["DAGSTER_PG_DB"]
    (tmp_path / "dagster.yaml").write_text(yaml.safe_dump(config))
    with dg.DagsterInstance.from_config(str(tmp_path)) as instance:
        assert instance.get_concurrency_config().pool_config.default_pool_limit == 1
        assert instance.run_monitoring_enabled
        done = subprocess.run(
            ["/bin/sh", "-ec", pool_commands(values)],
            env={**cluster_environment, "DAGSTER_HOME": str(tmp_path), **path_of_dagster()},
            capture_output=True,
            text=True,
        )
        assert done.returncode == 0, done.stderr
        assert instance.event_log_storage.get_concurrency_info("gpu").slot_count == 2


def path_of_dagster() -> dict[str, str]:
    return {"PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}"}

"""The chart `opencs`, rendered by real Helm."""

import re
import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml

from resources.launcher.kubernetes.spec import COMPONENT, CONTAINER, failure_rules
from resources.settings import load_settings
from tests.integration.deploy.manifests import (
    HOOK,
    Manifest,
    by_name,
    check,
    coerce,
    pod_of,
    render,
    secret_values,
    selects,
)

DIGEST = "sha256:" + "1" * 64
IMAGES = (
    f"--set=images.orchestrator=registry.example.com/opencs/orchestrator@{DIGEST}",
    f"--set=images.trainer=registry.example.com/opencs/trainer@{DIGEST}",
)
EVERYTHING = (
    *IMAGES,
    "--set=priorityClass.create=true",
    "--set=resourceQuota.enabled=true",
    "--set=images.pullSecrets[0]=registry",
    "--set=home.storageClass=nfs",
    "--set-json=networkPolicies.webserverFrom="
    '[{"namespaceSelector":{"matchLabels":{"kubernetes.io/metadata.name":"ingress-nginx"}}}]',
    "--set-json=vllm.servers="
    '[{"name":"judge","model":"Qwen/Qwen2.5-72B-Instruct-AWQ","servedName":"judge","gpus":2,'
    '"args":["--max-model-len=16384"],"nodeSelector":{"gpu":"h100"},'
    '"tolerations":[{"key":"nvidia.com/gpu","operator":"Exists","effect":"NoSchedule"}]},'
    '{"name":"tagger","model":"/opencs/models/tagger"}]',
)
# What dagster-k8s and the training launcher call, as verbs of the API.
PODS_AND_JOBS = {
    ("batch", "jobs", "create"),
    ("batch", "jobs", "get"),
    ("batch", "jobs", "list"),
    ("batch", "jobs", "delete"),
    ("batch", "jobs/status", "get"),
    ("", "pods", "get"),
    ("", "pods", "list"),
    ("", "pods", "delete"),
    ("", "pods/log", "get"),
    ("", "events", "list"),
}
SERVICES = {("", "services", verb) for verb in ("create", "delete")}
RIGHTS = {"opencs-orchestrator": PODS_AND_JOBS, "opencs-run": PODS_AND_JOBS | SERVICES}
# Labels of pods that this chart does not make.
RUN_POD = {"app.kubernetes.io/name": "dagster", "app.kubernetes.io/component": "run_worker"}
DAEMON = {"app.kubernetes.io/name": "dagster", "component": "dagster-daemon"}
CODE_SERVER = {
    "app.kubernetes.io/name": "dagster-user-deployments",
    "component": "user-deployments",
}
TRAINING = {"opencs.io/component": "training"}


@pytest.fixture(scope="module")
def chart(helm: Path, deploy: Path) -> list[Manifest]:
    return render(helm, deploy / "chart", "opencs", *IMAGES)


@pytest.fixture(scope="module")
def everything(helm: Path, deploy: Path) -> list[Manifest]:
    return render(helm, deploy / "chart", "opencs", *EVERYTHING)


def rules(role: Manifest) -> set[tuple[str, str, str]]:
    return {
        (group, resource, verb)
        for rule in role["rules"]
        for group in rule["apiGroups"]
        for resource in rule["resources"]
        for verb in rule["verbs"]
    }


def test_the_defaults_are_valid(chart: list[Manifest]) -> None:
    check(chart)


def test_everything_that_can_be_switched_on_is_valid(everything: list[Manifest]) -> None:
    check(everything)
    assert {"PriorityClass", "ResourceQuota"} <= {manifest["kind"] for manifest in everything}


def test_lint_has_nothing_to_say(helm: Path, deploy: Path) -> None:
    done = subprocess.run(
        [helm, "lint", "--strict", deploy / "chart", *IMAGES], capture_output=True, text=True
    )
    assert done.returncode == 0, done.stdout


def test_without_an_image_nothing_is_rendered(helm: Path, deploy: Path) -> None:
    done = subprocess.run(
        [helm, "template", "opencs", deploy / "chart"], capture_output=True, text=True
    )
    assert done.returncode != 0
    assert "set images.orchestrator" in done.stderr


def test_no_secret_is_made_or_written_out(everything: list[Manifest]) -> None:
    assert not [manifest for manifest in everything if manifest["kind"] == "Secret"]
    assert not secret_values(everything)


def test_roles_hold_what_is_called_and_nothing_else(chart: list[Manifest]) -> None:
    for name, needed in RIGHTS.items():
        assert rules(by_name(chart, "Role", name)) == needed
    assert not [m for m in chart if m["kind"] in {"ClusterRole", "ClusterRoleBinding"}]


def test_rights_are_bound_to_the_account_that_the_other_files_name(
    chart: list[Manifest], deploy: Path
) -> None:
    values = yaml.safe_load((deploy / "helm" / "values.yaml").read_text())
    launcher = values["runLauncher"]["config"]["customRunLauncher"]["config"]
    run = launcher["run_k8s_config"]["pod_spec_config"]
    named = {
        "opencs-orchestrator": values["global"]["serviceAccountName"],
        "opencs-run": run["serviceAccountName"],
    }
    for role, account in named.items():
        binding = by_name(chart, "RoleBinding", role)
        assert binding["roleRef"]["name"] == role
        assert [subject["name"] for subject in binding["subjects"]] == [account]
        assert by_name(chart, "ServiceAccount", account)


def test_training_pods_have_an_account_without_rights_or_token(chart: list[Manifest]) -> None:
    account = by_name(chart, "ServiceAccount", "opencs-training")
    assert account["automountServiceAccountToken"] is False
    bound = {s["name"] for m in chart if m["kind"] == "RoleBinding" for s in m["subjects"]}
    assert "opencs-training" not in bound


def test_only_the_toolbox_gets_a_token(everything: list[Manifest]) -> None:
    with_token = {
        manifest["metadata"]["name"]
        for manifest in everything
        if (pod := pod_of(manifest)) and pod.get("automountServiceAccountToken", True)
    }
    assert with_token == {"opencs-toolbox"}


@pytest.mark.parametrize(
    ("target", "port", "allowed", "refused"),
    [
        ({"app.kubernetes.io/component": "postgres"}, 5432, [RUN_POD, DAEMON, CODE_SERVER],
         [TRAINING, {"app.kubernetes.io/component": "vllm"}]),
        ({"app.kubernetes.io/component": "vllm"}, 8000, [RUN_POD, TRAINING, CODE_SERVER],
         [{"app.kubernetes.io/component": "postgres"}]),
        (CODE_SERVER, 3030, [RUN_POD, DAEMON], [TRAINING]),
        (TRAINING, 29500, [TRAINING], [RUN_POD, {"app.kubernetes.io/component": "vllm"}]),
    ],
)  # fmt: skip
def test_network_policies_let_in_who_has_business_there(
    everything: list[Manifest],
    target: dict[str, str],
    port: int,
    allowed: list[dict[str, str]],
    refused: list[dict[str, str]],
) -> None:
    labels = {"app.kubernetes.io/instance": "opencs", **target}
    policies = [
        m["spec"]
        for m in everything
        if m["kind"] == "NetworkPolicy" and selects(m["spec"]["podSelector"], labels)
    ]

    def lets_in(source: dict[str, str]) -> bool:
        return any(
            selects(peer["podSelector"], source)
            and (not rule.get("ports") or port in {entry["port"] for entry in rule["ports"]})
            for policy in policies
            for rule in policy.get("ingress", [])
            for peer in rule["from"]
            if "podSelector" in peer
        )

    # The one that selects every pod and lets in nobody: what is not named is refused.
    assert any("Ingress" in policy["policyTypes"] for policy in policies)
    assert [source for source in allowed if not lets_in(source)] == []
    assert [source for source in refused if lets_in(source)] == []


def test_training_pods_reach_names_https_and_each_other_only(everything: list[Manifest]) -> None:
    policy = by_name(everything, "NetworkPolicy", "opencs-training")["spec"]
    assert set(policy["policyTypes"]) == {"Ingress", "Egress"}
    ports = [
        sorted({entry["port"] for entry in rule.get("ports", [])}) for rule in policy["egress"]
    ]
    assert ports == [[53], [], [8000], [443]]
    outside = policy["egress"][3]["to"][0]["ipBlock"]
    # The address of cloud metadata, which hands out the node's credentials.
    assert "169.254.0.0/16" in outside["except"]


def test_vllm_is_what_a_role_can_name(everything: list[Manifest]) -> None:
    service = by_name(everything, "Service", "opencs-judge")
    deployment = by_name(everything, "Deployment", "opencs-judge")
    pod = deployment["spec"]["template"]
    (container,) = pod["spec"]["containers"]
    assert selects({"matchLabels": service["spec"]["selector"]}, pod["metadata"]["labels"])
    other = by_name(everything, "Deployment", "opencs-tagger")["spec"]["template"]["metadata"]
    assert not selects({"matchLabels": service["spec"]["selector"]}, other["labels"])
    assert service["spec"]["ports"][0]["port"] == 8000
    assert "--served-model-name=judge" in container["args"]
    assert "--tensor-parallel-size=2" in container["args"]
    assert container["args"][-1] == "--max-model-len=16384"
    assert container["resources"]["limits"]["nvidia.com/gpu"] == 2
    token = next(entry for entry in container["env"] if entry["name"] == "HF_TOKEN")
    assert token["valueFrom"]["secretKeyRef"] == {
        "name": "opencs-env", "key": "HF_TOKEN", "optional": True,
    }  # fmt: skip
    probe = container["startupProbe"]
    assert probe["periodSeconds"] * probe["failureThreshold"] == 1800
    assert re.search(r":v\d+\.\d+\.\d+$", container["image"])


def test_settings_are_installed_before_a_release_counts_as_done(
    chart: list[Manifest], tmp_path: Path
) -> None:
    job = by_name(chart, "Job", "opencs-settings")
    assert job["metadata"]["annotations"][HOOK] == "post-install,post-upgrade"
    data = by_name(chart, "ConfigMap", "opencs-settings")["data"]
    (tmp_path / "settings.toml").write_text(data["settings.toml"])
    settings = load_settings(tmp_path)
    launcher = settings.launcher.kubernetes
    assert settings.launcher.kind == "kubernetes"
    assert launcher.image == f"registry.example.com/opencs/trainer@{DIGEST}"
    assert (launcher.namespace, launcher.home_claim) == ("opencs", "opencs-home")
    assert by_name(chart, "ServiceAccount", launcher.service_account)
    # The policies of the chart hold for the pods that the launcher makes.
    assert TRAINING.items() <= COMPONENT.items()
    assert data["install_settings.py"].startswith('"""Check settings.toml')


def test_the_volume_outlives_the_release_and_one_of_ones_own_can_be_named(
    helm: Path, deploy: Path, chart: list[Manifest]
) -> None:
    claim = by_name(chart, "PersistentVolumeClaim", "opencs-home")
    assert claim["metadata"]["annotations"] == {"helm.sh/resource-policy": "keep"}
    assert claim["spec"]["accessModes"] == ["ReadWriteMany"]
    own = render(helm, deploy / "chart", "opencs", *IMAGES, "--set=home.existingClaim=data")
    assert not [m for m in own if m["kind"] == "PersistentVolumeClaim"]
    claims = {
        volume["persistentVolumeClaim"]["claimName"]
        for manifest in own
        if (pod := pod_of(manifest))
        for volume in pod.get("volumes", [])
        if "persistentVolumeClaim" in volume
    }
    assert claims == {"data"}


@pytest.mark.parametrize("name", ["train.yaml", "train-nodes.yaml"])
def test_jobs_for_use_by_hand_are_valid(deploy: Path, name: str) -> None:
    manifests: list[Manifest] = list(
        yaml.safe_load_all((deploy / "jobs" / name).read_text(encoding="utf-8"))
    )
    check(manifests)
    job: Any = coerce(manifests[-1])
    pod = job.spec.template.spec
    (container,) = pod.containers
    assert container.resources.limits["nvidia.com/gpu"] == "8"
    shared = next(volume for volume in pod.volumes if volume.name == "shm")
    assert shared.empty_dir.medium == "Memory"
    actions = {rule.action for rule in job.spec.pod_failure_policy.rules}
    assert actions == {"Ignore", "FailJob"}
    assert pod.restart_policy == "Never", "podFailurePolicy holds for no other"
    # The same rules as the launcher's.
    rules = yaml.safe_load_all((deploy / "jobs" / name).read_text(encoding="utf-8"))
    *_, plain = rules
    assert plain["spec"]["podFailurePolicy"]["rules"] == failure_rules(job.spec.completions)
    assert container.name == CONTAINER


def test_the_pods_of_several_nodes_find_the_first_one(deploy: Path) -> None:
    service, job = yaml.safe_load_all((deploy / "jobs" / "train-nodes.yaml").read_text())
    (container,) = job["spec"]["template"]["spec"]["containers"]
    variables = {entry["name"]: entry["value"] for entry in container["env"]}
    assert service["spec"]["clusterIP"] == "None"
    assert service["spec"]["publishNotReadyAddresses"] is True
    assert job["spec"]["template"]["spec"]["subdomain"] == service["metadata"]["name"]
    assert variables["OPENCS_MASTER_ADDR"] == (
        f"{job['metadata']['name']}-0.{service['metadata']['name']}"
    )
    assert service["spec"]["selector"] == {"batch.kubernetes.io/job-name": job["metadata"]["name"]}
    assert job["spec"]["completions"] == job["spec"]["parallelism"] == 2
    assert job["spec"]["completionMode"] == "Indexed"


def test_the_namespace_asks_for_what_the_pods_meet(deploy: Path) -> None:
    namespace = yaml.safe_load((deploy / "namespace.yaml").read_text())
    check([namespace])
    assert namespace["metadata"]["labels"]["pod-security.kubernetes.io/enforce"] == "restricted"

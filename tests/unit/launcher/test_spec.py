"""The launcher's Jobs as Kubernetes would read them, and what the settings for them must be."""

from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from resources.launcher.kubernetes import spec
from resources.launcher.protocol import JobRequest
from resources.launcher.work import LONGEST_NAME, Work
from resources.settings import KubernetesLauncher, Launcher, SettingsError, load_settings
from tests.integration.deploy import manifests

IMAGE = f"registry.example.com/opencs/trainer@sha256:{'ab' * 32}"
WORK = Work(
    "opencs_assets.checkpoints.train",
    {"output": "/opencs/checkpoints/x"},
    asset="checkpoint",
    partition="alpaca 52k/全|opencs@llama2-7b",
    provenance="0123456789abcdef" * 4,
    parallel=True,
)
EVERYTHING: dict[str, Any] = {
    "claims": {"/data": "data", "/models": "models"},
    "env": {"NCCL_DEBUG": "WARN"},
    "env_secrets": ["opencs-env", "more"],
    "image_pull_secrets": ["registry"],
    "gpus": 8,
    "nodes": 4,
    "node_selector": {"gpu": "h100"},
    "tolerations": [{"key": "team", "operator": "Equal", "value": "x", "effect": "NoSchedule"}],
    "spot": True,
    "priority_class": "training",
}


def launcher(**values: Any) -> KubernetesLauncher:
    return KubernetesLauncher.model_validate({"image": IMAGE, "home_claim": "home", **values})


def job(work: Work = WORK, **values: Any) -> dict[str, Any]:
    own = launcher(**values)
    request = JobRequest(
        work,
        job_name(work, own),
        "/opencs/jobs/name/0123",
        {"DAGSTER_PIPES_CONTEXT": "x", "DAGSTER_PIPES_MESSAGES": "y"},
        "3f1c7e4e-0000-4000-8000-000000000000",
    )
    return spec.job_manifest(request, own, "/opencs")


def job_name(work: Work, own: KubernetesLauncher, home: str = "/opencs") -> str:
    return work.job_name(spec.home_label(own, home))


@pytest.mark.parametrize("values", [{}, EVERYTHING, {"gpus": 0}, {"nodes": 2}])
def test_the_job_is_strictly_valid_and_restricted(values):
    found = [job(**values)]
    if values.get("nodes", 1) > 1:
        found.append(spec.service_manifest(found[0]["metadata"]["name"], launcher(**values)))
    manifests.check(found)
    pod = found[0]["spec"]["template"]["spec"]
    assert pod["restartPolicy"] == "Never"
    assert pod["automountServiceAccountToken"] is False


def test_the_hand_made_check_of_values_bites():
    wrong = job()
    wrong["spec"]["template"]["spec"]["restartPolicy"] = "OnFailures"
    with pytest.raises(AssertionError):
        manifests.check([wrong])


def test_everything_that_is_set_is_in_the_pod():
    found = job(**EVERYTHING)["spec"]
    pod = found["template"]["spec"]
    (container,) = pod["containers"]
    assert container["image"] == IMAGE
    assert container["resources"]["limits"]["nvidia.com/gpu"] == 8
    assert container["resources"]["limits"]["memory"] == "64Gi"
    assert [each["secretRef"]["name"] for each in container["envFrom"]] == ["opencs-env", "more"]
    assert pod["imagePullSecrets"] == [{"name": "registry"}]
    assert pod["nodeSelector"] == {"gpu": "h100"}
    assert pod["priorityClassName"] == "training"
    taints = {each["key"] for each in pod["tolerations"]}
    assert {"team", "nvidia.com/gpu", "cloud.google.com/gke-spot"} <= taints
    mounts = {each["mountPath"] for each in container["volumeMounts"]}
    assert mounts == {"/opencs", "/data", "/models", "/dev/shm", "/tmp"}
    claims = {
        each["persistentVolumeClaim"]["claimName"]
        for each in pod["volumes"]
        if "persistentVolumeClaim" in each
    }
    assert claims == {"home", "data", "models"}
    shm = next(each for each in pod["volumes"] if each["name"] == "shm")
    assert shm["emptyDir"] == {"medium": "Memory", "sizeLimit": "16Gi"}
    assert (found["completions"], found["parallelism"]) == (4, 4)
    assert found["completionMode"] == "Indexed"
    env = {each["name"]: each.get("value") for each in container["env"]}
    name = job(**EVERYTHING)["metadata"]["name"]
    assert env["OPENCS_MASTER_ADDR"] == f"{name}-0.{name}"
    assert pod["subdomain"] == name


def test_without_gpus_no_gpu_is_asked_for_and_no_taint_of_theirs_is_borne():
    pod = job(gpus=0)["spec"]["template"]["spec"]
    assert "tolerations" not in pod
    assert set(pod["containers"][0]["resources"]["limits"]) == {"memory"}


def outcome(rules: list[dict[str, Any]], code: int, *, disrupted: bool = False) -> str:
    """What a pod's end means to its Job, as Kubernetes reads the rules: the first that fits."""
    for rule in rules:
        if "onPodConditions" in rule and disrupted:
            return str(rule["action"])
        if code in rule.get("onExitCodes", {}).get("values", []):
            return str(rule["action"])
    return "Count"


@pytest.mark.parametrize(
    ("code", "disrupted", "one", "several"),
    [
        (2, False, "FailJob", "FailJob"),
        (1, False, "FailJob", "Count"),
        (137, False, "FailJob", "FailJob"),
        (75, False, "Ignore", "Ignore"),
        (139, False, "Count", "Count"),
        (137, True, "Ignore", "Ignore"),
        (1, True, "Ignore", "Ignore"),
    ],
)
def test_preemption_is_retried_and_an_error_of_the_job_never(code, disrupted, one, several):
    assert outcome(spec.failure_rules(1), code, disrupted=disrupted) == one
    assert outcome(spec.failure_rules(2), code, disrupted=disrupted) == several


def test_the_name_comes_from_partition_and_provenance_and_not_from_the_run():
    name = job_name(WORK, launcher())
    assert name == job()["metadata"]["name"]
    assert name.startswith("opencs-checkpoint-alpaca-52k-opencs-")
    others = [
        Work(**{**vars(WORK), "provenance": "1" * 64}),
        Work(**{**vars(WORK), "partition": "alpaca 52k/全|opencs@llama2-13b"}),
        Work(**{**vars(WORK), "asset": "model_answers"}),
    ]
    names = {job_name(each, launcher()) for each in others}
    names |= {job_name(WORK, launcher(), "/other"), name}
    names |= {job_name(WORK, launcher(home_claim="another"))}
    assert len(names) == 6


TEXT = st.text(st.characters(exclude_categories=["Cs"]), max_size=200)


@settings(max_examples=30, deadline=None)
@given(asset=TEXT, partition=TEXT, made=TEXT)
def test_names_and_labels_are_such_as_kubernetes_takes(asset, partition, made):
    work = Work("m", {}, asset=asset, partition=partition, provenance=made, parallel=True)
    found = job(work, nodes=2)
    manifests.kubernetes_validate.validate(found, manifests.KUBERNETES, strict=True)
    assert len(found["metadata"]["name"]) <= LONGEST_NAME
    for value in found["metadata"]["labels"].values():
        assert len(value) <= 63
        assert value == "" or (value[0].isalnum() and value[-1].isalnum() and value.isascii())


def test_labels_of_different_partitions_differ():
    long = "x" * 70
    assert len({spec.label(each) for each in ("a|b", "a_b", "a/b", long, f"{long}y")}) == 5


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ('kind = "kubernetes"', "needs the table [launcher.kubernetes]"),
        ('kind = "slurm"', "launcher.kind"),
        ('[launcher.kubernetes]\nimage = "opencs/trainer:latest"\nhome_claim = "h"', "image"),
        (f'[launcher.kubernetes]\nimage = "{IMAGE}"', "launcher.kubernetes.home_claim"),
        (f'[launcher.kubernetes]\nimage = "{IMAGE}"\nhome_claim = "h"\ngpu = 1', "kubernetes.gpu:"),
        (
            f'[launcher.kubernetes]\nimage = "{IMAGE}"\nhome_claim = "h"\nenv = {{HF_TOKEN = "x"}}',
            "HF_TOKEN looks like a secret",
        ),
        (
            f'kind = "kubernetes"\n[launcher.kubernetes]\nimage = "{IMAGE}"\nhome_claim = "h"\n'
            "nodes = 2",
            "set kind = 'kubernetes_multinode'",
        ),
        (
            f'kind = "kubernetes_multinode"\n[launcher.kubernetes]\nimage = "{IMAGE}"\n'
            'home_claim = "h"',
            "needs nodes of 2 or more",
        ),
    ],
)
def test_settings_that_can_not_be_are_named(tmp_path: Path, text: str, says: str):
    (tmp_path / "settings.toml").write_text(f"[launcher]\n{text}\n")
    with pytest.raises(SettingsError) as caught:
        load_settings(tmp_path)
    assert says in str(caught.value)


def test_the_default_is_a_process_here(tmp_path: Path):
    assert load_settings(tmp_path).launcher == Launcher(kind="local")

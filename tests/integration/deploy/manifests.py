"""What every rendered manifest must be, beyond being YAML."""

import subprocess
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import kubernetes.client as k8s
import kubernetes_validate
import yaml
from dagster_k8s.models import k8s_model_from_dict, k8s_snake_case_dict

Manifest = dict[str, Any]
KUBERNETES = kubernetes_validate.latest_version()
# What strict validation lets pass because the schema says only "string".
ENUMS = {
    "restartPolicy": {"Always", "OnFailure", "Never"},
    "imagePullPolicy": {"Always", "IfNotPresent", "Never"},
    "dnsPolicy": {"ClusterFirst", "ClusterFirstWithHostNet", "Default", "None"},
    "completionMode": {"Indexed", "NonIndexed"},
    "operator": {"In", "NotIn", "Exists", "DoesNotExist", "Equal", "Gt", "Lt"},
    "effect": {"NoSchedule", "PreferNoSchedule", "NoExecute"},
    "protocol": {"TCP", "UDP", "SCTP"},
}
HOOK = "helm.sh/hook"


def render(helm: Path, chart: Path, release: str, *arguments: str) -> list[Manifest]:
    """A chart's manifests by real Helm, hooks and tests too."""
    done = subprocess.run(
        [helm, "template", release, chart, "--namespace", "opencs", *arguments],
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert done.returncode == 0, done.stderr
    return [manifest for manifest in yaml.safe_load_all(done.stdout) if manifest]


def check(manifests: list[Manifest]) -> None:
    """Strictly valid, of a known kind, no name twice, and coerced through the client's models."""
    names = [(manifest["kind"], manifest["metadata"]["name"]) for manifest in manifests]
    assert len(names) == len(set(names)), names
    for manifest in manifests:
        # A kind without a schema raises as well.
        kubernetes_validate.validate(manifest, KUBERNETES, strict=True)
        coerce(manifest)
        for key, value in _scalars(manifest):
            if key in ENUMS:
                assert value in ENUMS[key], f"{manifest['metadata']['name']}: {key}: {value}"
        pod = pod_of(manifest)
        if pod:
            check_pod(manifest, pod)


def coerce(manifest: Manifest) -> Any:
    """The manifest as an object of the Kubernetes client, which refuses fields that it lacks."""
    version = manifest["apiVersion"].rpartition("/")[2]
    model = getattr(k8s, version[0].upper() + version[1:] + manifest["kind"])
    return k8s_model_from_dict(model, k8s_snake_case_dict(model, _without_null(manifest)))


def check_pod(manifest: Manifest, pod: Manifest) -> None:
    """Values that only the server would refuse, and what Pod Security's "restricted" asks for."""
    name = f"{manifest['kind']} {manifest['metadata']['name']}"
    if manifest["kind"] == "Job":
        assert pod.get("restartPolicy") in {"Never", "OnFailure"}, name
    else:
        assert pod.get("restartPolicy", "Always") == "Always", name
    assert not pod.get("hostNetwork"), name
    assert not pod.get("hostPID"), name
    assert pod["securityContext"]["runAsNonRoot"] is True, name
    assert pod["securityContext"]["runAsUser"] > 0, name
    assert pod["securityContext"]["seccompProfile"]["type"] == "RuntimeDefault", name
    claims = manifest["spec"].get("volumeClaimTemplates", [])
    volumes = {volume["name"] for volume in pod.get("volumes", [])}
    volumes |= {claim["metadata"]["name"] for claim in claims}
    for volume in pod.get("volumes", []):
        assert "hostPath" not in volume, name
    containers = [*pod.get("initContainers", []), *pod["containers"]]
    assert len({container["name"] for container in containers}) == len(containers), name
    for container in containers:
        security = container["securityContext"]
        assert security["allowPrivilegeEscalation"] is False, name
        assert security["capabilities"]["drop"] == ["ALL"], name
        tag = container["image"].rpartition(":")[2]
        assert tag not in {"", "latest"}, f"{name}: {container['image']}"
        assert "/" not in tag, f"{name}: {container['image']} has no version"
        mounts = container.get("volumeMounts", [])
        assert {mount["name"] for mount in mounts} <= volumes, name
        assert len({mount["mountPath"] for mount in mounts}) == len(mounts), name
        ports = {port["name"] for port in container.get("ports", []) if "name" in port}
        for probe in ("startupProbe", "readinessProbe", "livenessProbe"):
            port = container.get(probe, {}).get("httpGet", {}).get("port")
            assert not isinstance(port, str) or port in ports, f"{name}: {probe}"


def pod_of(manifest: Manifest) -> Manifest | None:
    """The pod of whatever makes pods."""
    spec = manifest.get("spec", {})
    pod: Manifest | None = spec if manifest["kind"] == "Pod" else None
    return pod or (spec.get("template") or {}).get("spec")


def by_name(manifests: list[Manifest], kind: str, name: str) -> Manifest:
    """The one manifest of a kind and name."""
    (found,) = [m for m in manifests if m["kind"] == kind and m["metadata"]["name"] == name]
    return found


def secret_values(manifests: list[Manifest]) -> list[str]:
    """Names of variables that hold a value where only a reference may stand."""
    suspicious = ("PASSWORD", "TOKEN", "SECRET", "API_KEY")
    return [
        f"{manifest['metadata']['name']}: {entry['name']}"
        for manifest in manifests
        if (pod := pod_of(manifest))
        for container in [*pod.get("initContainers", []), *pod["containers"]]
        for entry in container.get("env", [])
        if "value" in entry and any(word in entry["name"] for word in suspicious)
    ]


def selects(selector: Mapping[str, Any], labels: Mapping[str, str]) -> bool:
    """Whether a label selector takes a pod with these labels."""
    exact = selector.get("matchLabels", {})
    wide = selector.get("matchExpressions", [])
    assert all(expression["operator"] == "In" for expression in wide)
    return all(labels.get(key) == value for key, value in exact.items()) and all(
        labels.get(expression["key"]) in expression["values"] for expression in wide
    )


def _scalars(value: Any, key: str = "") -> Iterator[tuple[str, Any]]:
    if isinstance(value, dict):
        for name, inner in value.items():
            yield from _scalars(inner, name)
    elif isinstance(value, list):
        for inner in value:
            yield from _scalars(inner, key)
    else:
        yield key, value


def _without_null(value: Any) -> Any:
    """The server takes null as absent; the client's models do not."""
    if isinstance(value, dict):
        return {name: _without_null(inner) for name, inner in value.items() if inner is not None}
    return [_without_null(inner) for inner in value] if isinstance(value, list) else value

"""The Job of a work, and the headless service of one on several nodes, as Kubernetes has them."""

import re
from typing import Any

from resources.launcher.job import EXIT_CRASH, EXIT_JOB_ERROR, EXIT_STOPPED
from resources.launcher.mailbox import POD
from resources.launcher.protocol import JobRequest
from resources.launcher.work import Work
from resources.provenance import content_hash
from resources.settings import KubernetesLauncher

Manifest = dict[str, Any]

CONTAINER = "training"
COMPONENT = {"app.kubernetes.io/name": "opencs", "opencs.io/component": "training"}
ASSET, PARTITION, PROVENANCE = "opencs.io/asset", "opencs.io/partition", "opencs.io/provenance"
# Two homes may share a namespace, and have partitions of the same names.
HOME = "opencs.io/home"
RUN = "dagster/run-id"
# Set by Kubernetes on the pods of an indexed Job.
INDEX = "batch.kubernetes.io/job-completion-index"
# Where the Job's files are; whoever takes it over reads its reports there.
FOLDER = "opencs.io/folder"
PORT = 29500
# 128 + SIGKILL: what a container ends with that was out of memory.
EXIT_KILLED = 137
LONGEST_LABEL = 63
# Taints of spot nodes where the provider sets one; others only label them.
SPOT = (
    {"key": "cloud.google.com/gke-spot", "operator": "Equal", "value": "true"},
    {"key": "kubernetes.azure.com/scalesetpriority", "operator": "Equal", "value": "spot"},
)


def home_label(launcher: KubernetesLauncher, home: str) -> str:
    """What tells a home's Jobs from another's."""
    return content_hash([launcher.home_claim, home])[:12]


def label(text: str) -> str:
    """A text as a label's value; long ones end in a hash, so that different ones stay different."""
    value = re.sub(r"[^A-Za-z0-9._-]", "_", text)
    if value != text or len(value) > LONGEST_LABEL:
        value = f"{value[: LONGEST_LABEL - 9]}-{content_hash(text)[:8]}"
    return value.strip("._-")


def selector(work: Work, launcher: KubernetesLauncher, home: str) -> str:
    """Label selector of all Jobs of the work's asset and partition."""
    place = home_label(launcher, home)
    return f"{HOME}={place},{ASSET}={label(work.asset)},{PARTITION}={label(work.partition)}"


def nodes_of(work: Work, launcher: KubernetesLauncher) -> int:
    """Pods that the work runs in at once."""
    return launcher.nodes if work.parallel else 1


def job_manifest(request: JobRequest, launcher: KubernetesLauncher, home: str) -> Manifest:
    """The Job of a request, with the home's claim mounted at the home's path."""
    work, nodes = request.work, nodes_of(request.work, launcher)
    labels = {
        **COMPONENT,
        HOME: home_label(launcher, home),
        ASSET: label(work.asset),
        PARTITION: label(work.partition),
        PROVENANCE: label(work.provenance[:16]),
        RUN: request.run_id,
    }
    several = {"completionMode": "Indexed"} if nodes > 1 else {}
    return {
        "apiVersion": "batch/v1",
        "kind": "Job",
        "metadata": {
            "name": request.name,
            "namespace": launcher.namespace,
            "labels": labels,
            "annotations": {FOLDER: request.folder, PARTITION: work.partition},
        },
        "spec": {
            **several,
            "completions": nodes,
            "parallelism": nodes,
            # Where one of several is lost, the others crash, and each counts.
            "backoffLimit": launcher.retries if nodes == 1 else max(launcher.retries, 6) * nodes,
            "activeDeadlineSeconds": launcher.deadline_s,
            "ttlSecondsAfterFinished": launcher.keep_s,
            # Never two pods on one training: the next starts when the one before has ended.
            "podReplacementPolicy": "Failed",
            "podFailurePolicy": {"rules": failure_rules(nodes)},
            "template": {
                "metadata": {"labels": labels},
                "spec": pod_spec(request, launcher, home),
            },
        },
    }


def failure_rules(nodes: int) -> list[Manifest]:
    """What the end of a pod means to its Job; the first rule that fits counts.

    Args:
        nodes: Pods at once. With several, a crash may only be that another one was lost.
    """
    final = (
        [EXIT_JOB_ERROR, EXIT_KILLED] if nodes > 1 else [EXIT_CRASH, EXIT_JOB_ERROR, EXIT_KILLED]
    )

    def codes(action: str, values: list[int]) -> Manifest:
        on = {"containerName": CONTAINER, "operator": "In", "values": values}
        return {"action": action, "onExitCodes": on}

    return [
        # Preempted, evicted, the node gone: goes on from the last kept state, and is not counted.
        {"action": "Ignore", "onPodConditions": [{"type": "DisruptionTarget", "status": "True"}]},
        # Told to stop, as when its pod is deleted by hand: likewise.
        codes("Ignore", [EXIT_STOPPED]),
        # An error that the same again would end in, or not enough memory.
        codes("FailJob", sorted(final)),
    ]


def pod_spec(request: JobRequest, launcher: KubernetesLauncher, home: str) -> Manifest:
    """The pods' specification; see ``job_manifest``."""
    name, nodes, environment = request.name, nodes_of(request.work, launcher), request.environment
    mounts = {"shm": "/dev/shm", "tmp": "/tmp"}  # noqa: S108
    volumes: list[Manifest] = [
        {"name": "shm", "emptyDir": {"medium": "Memory", "sizeLimit": launcher.shm}},
        {"name": "tmp", "emptyDir": {}},
    ]
    claims = {**launcher.claims, home: launcher.home_claim}
    for place, (path, claim) in enumerate(sorted(claims.items())):
        volumes.append({"name": f"claim-{place}", "persistentVolumeClaim": {"claimName": claim}})
        mounts[f"claim-{place}"] = path
    several: Manifest = {}
    if nodes > 1:
        # The pods' names in DNS are NAME-0.NAME, NAME-1.NAME, …
        environment = {
            **environment,
            "OPENCS_MASTER_ADDR": f"{name}-0.{name}",
            "OPENCS_MASTER_PORT": str(PORT),
        }
        several = {"subdomain": name, "affinity": apart(name)}
    gpus = {launcher.gpu_resource: launcher.gpus} if launcher.gpus else {}
    optional = {
        "nodeSelector": dict(launcher.node_selector),
        "tolerations": tolerations(launcher),
        "priorityClassName": launcher.priority_class,
        "imagePullSecrets": [{"name": each} for each in launcher.image_pull_secrets],
    }
    return {
        **several,
        **{key: value for key, value in optional.items() if value},
        "restartPolicy": "Never",
        "serviceAccountName": launcher.service_account,
        "automountServiceAccountToken": False,
        "terminationGracePeriodSeconds": launcher.grace_s,
        "securityContext": {
            "runAsNonRoot": True,
            "runAsUser": launcher.user,
            "runAsGroup": launcher.user,
            "fsGroup": launcher.user,
            "fsGroupChangePolicy": "OnRootMismatch",
            "seccompProfile": {"type": "RuntimeDefault"},
        },
        "containers": [
            {
                "name": CONTAINER,
                "image": launcher.image,
                "imagePullPolicy": "IfNotPresent",
                "command": ["python", *request.arguments],
                "env": [
                    {"name": key, "value": value}
                    for key, value in {
                        "OPENCS_HOME": home,
                        "PYTHONUNBUFFERED": "1",
                        **launcher.env,
                        **environment,
                    }.items()
                ]
                + [{"name": POD, "valueFrom": {"fieldRef": {"fieldPath": "metadata.name"}}}],
                "envFrom": [{"secretRef": {"name": each}} for each in launcher.env_secrets],
                "ports": [{"name": "rendezvous", "containerPort": PORT}] if nodes > 1 else [],
                "securityContext": {
                    "allowPrivilegeEscalation": False,
                    "capabilities": {"drop": ["ALL"]},
                },
                "resources": {
                    "requests": {"cpu": launcher.cpu, "memory": launcher.memory, **gpus},
                    "limits": {"memory": launcher.memory, **gpus},
                },
                "volumeMounts": [{"name": key, "mountPath": path} for key, path in mounts.items()],
            }
        ],
        "volumes": volumes,
    }


def tolerations(launcher: KubernetesLauncher) -> list[Manifest]:
    """Taints that the pods bear."""
    found: list[Manifest] = [dict(each) for each in launcher.tolerations]
    if launcher.gpus:
        found.append({"key": launcher.gpu_resource, "operator": "Exists", "effect": "NoSchedule"})
    if launcher.spot:
        found += [{**each, "effect": "NoSchedule"} for each in SPOT]
    return found


def apart(name: str) -> Manifest:
    """Each pod of a Job on a node of its own, where there are so many."""
    term = {
        "topologyKey": "kubernetes.io/hostname",
        "labelSelector": {"matchLabels": {"batch.kubernetes.io/job-name": name}},
    }
    rule = {"weight": 100, "podAffinityTerm": term}
    return {"podAntiAffinity": {"preferredDuringSchedulingIgnoredDuringExecution": [rule]}}


def service_manifest(name: str, launcher: KubernetesLauncher) -> Manifest:
    """The headless service by which the pods of a Job on several nodes find each other.

    It belongs to no Job, for one of the same name that has just been deleted would take it along.

    Args:
        name: The Job's name.
        launcher: How it runs.
    """
    return {
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": {
            "name": name,
            "namespace": launcher.namespace,
            "labels": dict(COMPONENT),
        },
        "spec": {
            "clusterIP": "None",
            # The first node's name must resolve before its pod is ready: the others wait for it.
            "publishNotReadyAddresses": True,
            "selector": {"batch.kubernetes.io/job-name": name},
            "ports": [{"name": "rendezvous", "port": PORT}],
        },
    }

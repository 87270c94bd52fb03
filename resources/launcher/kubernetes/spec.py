"""Kubernetes' manifests of a work's Job, and of the headless service of one on several nodes."""

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
# Label that Kubernetes sets on the pods of an indexed Job.
INDEX = "batch.kubernetes.io/job-completion-index"
# Annotation with the Job's folder, from which a run that takes the Job over reads its reports.
FOLDER = "opencs.io/folder"
PORT = 29500
# Exit status of a container that ran out of memory: 128 + SIGKILL.
EXIT_KILLED = 137
LONGEST_LABEL = 63
# Taints of spot nodes where the provider sets one; others only label them.
SPOT = (
    {"key": "cloud.google.com/gke-spot", "operator": "Equal", "value": "true"},
    {"key": "kubernetes.azure.com/scalesetpriority", "operator": "Equal", "value": "spot"},
)


def home_label(launcher: KubernetesLauncher, home: str) -> str:
    """The label by which a home's Jobs are told from another home's."""
    return content_hash([launcher.home_claim, home])[:12]


def label(text: str) -> str:
    """A text as a label's value; a changed one ends in a hash, so that different ones stay so."""
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
            # Where one of several pods is lost, the others crash, and each crash counts.
            "backoffLimit": launcher.retries if nodes == 1 else max(launcher.retries, 6) * nodes,
            "activeDeadlineSeconds": launcher.deadline_s,
            "ttlSecondsAfterFinished": launcher.keep_s,
            # A pod starts only when the one before has ended, so that no two share a training.
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

    With several nodes a crash is not final, because it may come from the loss of another pod.
    """
    final = (
        [EXIT_JOB_ERROR, EXIT_KILLED] if nodes > 1 else [EXIT_CRASH, EXIT_JOB_ERROR, EXIT_KILLED]
    )

    def on_codes(action: str, codes: list[int]) -> Manifest:
        condition = {"containerName": CONTAINER, "operator": "In", "values": codes}
        return {"action": action, "onExitCodes": condition}

    return [
        # A preempted or evicted pod, or one whose node is gone, does not count as an attempt: the
        # next one goes on from the last kept state.
        {"action": "Ignore", "onPodConditions": [{"type": "DisruptionTarget", "status": "True"}]},
        # Neither does a pod count that was told to stop, as when somebody deletes it.
        on_codes("Ignore", [EXIT_STOPPED]),
        # A repeat would end in the same error, or run out of memory again.
        on_codes("FailJob", sorted(final)),
    ]


def pod_spec(request: JobRequest, launcher: KubernetesLauncher, home: str) -> Manifest:
    """The specification of the Job's pods, with the home's claim mounted at the home's path."""
    name, nodes, environment = request.name, nodes_of(request.work, launcher), request.environment
    mounts = {"shm": "/dev/shm", "tmp": "/tmp"}  # noqa: S108
    volumes: list[Manifest] = [
        {"name": "shm", "emptyDir": {"medium": "Memory", "sizeLimit": launcher.shm}},
        {"name": "tmp", "emptyDir": {}},
    ]
    claims = {**launcher.claims, home: launcher.home_claim}
    for number, (path, claim) in enumerate(sorted(claims.items())):
        volumes.append({"name": f"claim-{number}", "persistentVolumeClaim": {"claimName": claim}})
        mounts[f"claim-{number}"] = path
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
        "imagePullSecrets": [{"name": secret} for secret in launcher.image_pull_secrets],
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
                "envFrom": [{"secretRef": {"name": secret}} for secret in launcher.env_secrets],
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
    borne: list[Manifest] = [dict(toleration) for toleration in launcher.tolerations]
    if launcher.gpus:
        borne.append({"key": launcher.gpu_resource, "operator": "Exists", "effect": "NoSchedule"})
    if launcher.spot:
        borne += [{**taint, "effect": "NoSchedule"} for taint in SPOT]
    return borne


def apart(name: str) -> Manifest:
    """The affinity by which each pod of a Job gets a node of its own, where there are enough."""
    term = {
        "topologyKey": "kubernetes.io/hostname",
        "labelSelector": {"matchLabels": {"batch.kubernetes.io/job-name": name}},
    }
    rule = {"weight": 100, "podAffinityTerm": term}
    return {"podAntiAffinity": {"preferredDuringSchedulingIgnoredDuringExecution": [rule]}}


def service_manifest(name: str, launcher: KubernetesLauncher) -> Manifest:
    """The headless service by which the pods of a Job on several nodes find each other.

    It belongs to no Job: an earlier Job of the name, whose deletion ends only now, would take the
    service along.
    """
    return {
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": {"name": name, "namespace": launcher.namespace, "labels": dict(COMPONENT)},
        "spec": {
            "clusterIP": "None",
            # The first node's name must resolve before its pod is ready: the others wait for it.
            "publishNotReadyAddresses": True,
            "selector": {"batch.kubernetes.io/job-name": name},
            "ports": [{"name": "rendezvous", "port": PORT}],
        },
    }

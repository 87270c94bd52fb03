"""What the cluster is told when it starts, or later by ``/_test/configure``."""

from dataclasses import dataclass, field
from typing import Any


@dataclass
class Config:
    """The node, its images and volumes, and how long things take."""

    root: str  # scratch folder of the cluster's own
    # Folder below which mount points may be made (as symbolic links); the root where unset.
    mounts: str = ""
    # Name of an image as a pod has it: the environment that it brings (PATH and so on).
    images: dict[str, dict[str, str]] = field(default_factory=dict)
    # Name of a claim, or "namespace/name": the folder that it is; made in each namespace.
    claims: dict[str, str] = field(default_factory=dict)
    namespaces: list[str] = field(default_factory=lambda: ["default"])
    service_accounts: list[str] = field(default_factory=list)  # besides "default", everywhere
    allocatable: dict[str, str] = field(
        default_factory=lambda: {"cpu": "64", "memory": "256Gi", "pods": "110"}
    )
    node_labels: dict[str, str] = field(default_factory=dict)
    taints: list[dict[str, str]] = field(default_factory=list)
    # Set in each container, over what its pod says: what a network of its own would differ in.
    env: dict[str, str] = field(default_factory=dict)
    # Names of headless services' pods become 127.0.0.1 in arguments and environment.
    resolve_services: bool = True
    strict: bool = True  # refuse fields that Kubernetes does not know
    grace_scale: float = 1.0  # factor on termination grace periods
    backoff_s: float = 0.2  # before a Job's pod, or a container, is started again; then doubled
    longest_backoff_s: float = 2.0
    retry_s: float = 0.2  # between tries to pull an image, read a secret or mount a volume
    start_s: float = 0.05  # a container's creation
    node_loss_s: float = 0.3  # from a node's loss to its pods' eviction, and on to their removal
    # Name of a secret token: who has it may do this only, {"namespace": ..., "rules": [...]}.
    tokens: dict[str, dict[str, Any]] = field(default_factory=dict)

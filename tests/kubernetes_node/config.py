"""What the cluster is told when it starts, or later by ``/_test/configure``."""

from dataclasses import dataclass, field
from typing import Any


@dataclass
class Config:
    """The node, its images and volumes, and how long things take."""

    root: str  # scratch folder of the cluster's own
    mounts: str  # folder below which mount points may be made (as symbolic links)
    # Name of an image as a pod has it: the environment that it brings (PATH and so on).
    images: dict[str, dict[str, str]] = field(default_factory=dict)
    # Name of a claim: the folder that it is.
    claims: dict[str, str] = field(default_factory=dict)
    service_accounts: list[str] = field(default_factory=list)  # besides "default"
    allocatable: dict[str, str] = field(
        default_factory=lambda: {"cpu": "64", "memory": "256Gi", "pods": "110"}
    )
    backoff_s: float = 0.2  # before a Job's next pod, doubled at each failure
    longest_backoff_s: float = 2.0
    retry_s: float = 0.2  # between tries to pull an image, read a secret or mount a volume
    node_loss_s: float = 0.3  # from a node's loss to its pods' eviction, and on to their removal
    # Name of a secret token: who has it may do this only, {"namespace": ..., "rules": [...]}.
    tokens: dict[str, dict[str, Any]] = field(default_factory=dict)

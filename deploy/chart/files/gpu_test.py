"""Check that a node can train: ``python gpu_test.py HOME GPUS``, run by ``helm test``.

It prints the GPUs, and exits with 1 and a sentence for each reason why a training would fail.
"""

import os
import sys
import uuid
from pathlib import Path


def problems(home: Path, gpus: int) -> list[str]:
    """What would keep a training from working on this node with a shared volume as its home."""
    import torch

    reasons = []
    if torch.cuda.device_count() < gpus:
        reasons.append(
            f"torch {torch.__version__} sees {torch.cuda.device_count()} of {gpus} GPUs: check the "
            "device plugin, the node's driver and that the trainer image is a CUDA build"
        )
    for device in range(torch.cuda.device_count()):
        print(f"GPU {device}: {torch.cuda.get_device_name(device)}")
        if not torch.cuda.is_bf16_supported():
            reasons.append(f"GPU {device} can't compute in bf16")
        square = torch.ones(64, 64, device=f"cuda:{device}")
        if float((square @ square).sum()) != 64.0**3:
            reasons.append(f"GPU {device} computes wrongly")
    probe = home / f".gpu-test-{uuid.uuid4().hex}"
    try:
        probe.write_text("probe", encoding="utf-8")
        probe.unlink()
    except OSError as error:
        reasons.append(f"{home} is not writable for user {os.getuid()}: {error.strerror}")
    # NCCL's mount, not a temporary file.
    shared = os.statvfs("/dev/shm")  # noqa: S108
    if shared.f_frsize * shared.f_blocks < 2**30:
        reasons.append("/dev/shm is smaller than 1 GiB: NCCL needs it")  # noqa: S108
    return reasons


if __name__ == "__main__":
    trouble = problems(Path(sys.argv[1]), int(sys.argv[2]))
    sys.exit("\n".join(trouble) if trouble else 0)

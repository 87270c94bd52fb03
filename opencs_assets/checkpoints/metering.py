"""What a training takes: speed, utilization, memory, GPU hours and their price."""

import resource
import sys
from typing import Any

# Dense peak at bfloat16 in TFLOP/s, from the vendors' data sheets.
PEAK_TFLOPS = {
    "A100": 312.0,
    "A10G": 70.0,
    "H100": 989.0,
    "H200": 989.0,
    "B200": 2250.0,
    "L40S": 362.0,
    "L4": 121.0,
    "V100": 125.0,
    "T4": 65.0,
}


def peak_tflops(device: str, declared: float | None) -> float | None:
    """Peak of one device in TFLOP/s, as declared in the settings or by the device's name.

    It is ``None`` where a device such as ``NVIDIA H100 80GB HBM3`` is not known.
    """
    if declared is not None:
        return declared
    # The longest name counts: an L40S is no L4.
    known = max((name for name in PEAK_TFLOPS if name in device), key=len, default="")
    return PEAK_TFLOPS.get(known)


def flops_a_token(
    parameters: int, layers: int, heads: int, head_size: int, length: float, trained: bool = True
) -> float:
    """Floating-point operations for one token, forward and backward.

    They are 6N + 12·L·H·Q·T (PaLM, appendix B), with N parameters but for the embeddings, L layers
    of H attention heads of size Q, and T tokens in a sequence. Where only adapters are ``trained``,
    no gradients of the weights are computed: 4N. Recomputed activations are not counted, as is
    usual for MFU.
    """
    return (6 if trained else 4) * parameters + 12 * layers * heads * head_size * length


def model_flops(model: Any, length: float, trained: bool) -> float | None:
    """``flops_a_token`` of a transformers model; ``None`` where its config lacks the sizes."""
    config = model.config
    try:
        layers, heads = int(config.num_hidden_layers), int(config.num_attention_heads)
        size = int(getattr(config, "head_dim", None) or config.hidden_size // heads)
        embedding = model.get_input_embeddings()
        # Embeddings that are also the head are multiplied with, and so they count.
        tied = bool(getattr(config, "tie_word_embeddings", False))
        outside = 0 if tied else _count(embedding.weight)
        parameters = sum(map(_count, model.parameters())) - outside
    except (AttributeError, TypeError):
        return None
    return flops_a_token(parameters, layers, heads, size, length, trained)


def _count(parameter: Any) -> int:
    # ZeRO-3 leaves an empty tensor in place of a weight that is elsewhere.
    return int(getattr(parameter, "ds_numel", parameter.numel()))


def device_name() -> str:
    """Name of the device that is trained on."""
    import torch

    return torch.cuda.get_device_name() if torch.cuda.is_available() else "cpu"


def peak_memory_mb() -> float:
    """Peak memory in MB of the GPU, or of this process where there is none."""
    import torch

    if torch.cuda.is_available():
        return torch.cuda.max_memory_allocated() / 1e6
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak / 1e6 if sys.platform == "darwin" else peak / 1e3

"""Packing: the samples of a forward pass one after the other, without seeing each other.

Whether a model keeps them apart depends on its code and its attention kernel, so it is tried with
the model itself before anything is trained.
"""

from collections.abc import Sequence
from typing import Any

from opencs_assets.checkpoints.encoding import IGNORED, Encoded

# Of the loss, relative; bfloat16 itself has 8 bits.
TOLERANCE = 1e-4
TOLERANCE_BF16 = 2e-2
TRIED = 4


def packed_batch(samples: Sequence[Encoded]) -> dict[str, Any]:
    """Samples as one row whose positions begin anew with each of them.

    Args:
        samples: At least one sample.

    Returns:
        ``input_ids``, ``position_ids`` and ``labels``, each int64 of shape (1, tokens). There is
        no attention mask: from the positions the model sees where a sample begins. The first label
        of each sample is ignored, for what stands before it is another sample.
    """
    import torch

    ids = [token for sample in samples for token in sample.input_ids]
    positions = [at for sample in samples for at in range(len(sample.input_ids))]
    labels = [
        label for sample in samples for label in (IGNORED, *sample.labels[1:])[: len(sample.labels)]
    ]
    return {
        "input_ids": torch.tensor([ids]),
        "position_ids": torch.tensor([positions]),
        "labels": torch.tensor([labels]),
    }


def losses(model: Any, samples: Sequence[Encoded]) -> tuple[float, float]:
    """Mean loss over the responses' tokens: each sample alone, and all of them packed.

    Args:
        model: A causal language model.
        samples: Samples.
    """
    import torch

    training = model.training
    model.eval()
    try:
        with torch.no_grad():
            total, count = 0.0, 0
            for sample in samples:
                alone = {
                    name: each.to(model.device) for name, each in packed_batch([sample]).items()
                }
                tokens = int((alone["labels"] != IGNORED).sum())
                if tokens:
                    total += float(model(**alone, use_cache=False).loss) * tokens
                    count += tokens
            both = {name: each.to(model.device) for name, each in packed_batch(samples).items()}
            packed = float(model(**both, use_cache=False).loss)
    finally:
        model.train(training)
    return total / max(1, count), packed


def keeps_apart(model: Any, samples: Sequence[Encoded], *, bf16: bool) -> tuple[bool, str]:
    """Whether the model's loss is the same packed and alone, and the two in words.

    Args:
        model: A causal language model.
        samples: Samples of the subset; the first few are tried.
        bf16: The model computes in bfloat16.
    """
    alone, packed = losses(model, samples[:TRIED])
    tolerance = TOLERANCE_BF16 if bf16 else TOLERANCE
    same = abs(alone - packed) <= tolerance * max(1.0, abs(alone))
    return same, f"loss {alone:.6f} alone, {packed:.6f} packed"

"""Packing: the samples of a forward pass one after the other, without seeing each other.

Whether a model keeps them apart depends on its code and its attention kernel, so it is tried with
the model itself before anything is trained.
"""

from collections.abc import Sequence
from typing import Any

from opencs_assets.checkpoints.encoding import IGNORED, Encoded

# So much may a token's loss differ, in units of the mean; bfloat16 itself has 8 bits.
TOLERANCE = 1e-4
TOLERANCE_BF16 = 5e-2
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


def losses(model: Any, samples: Sequence[Encoded]) -> tuple[list[float], list[float]]:
    """Loss of each token of the responses: each sample alone, and all of them packed.

    Args:
        model: A causal language model.
        samples: Samples.
    """
    import torch

    training = model.training
    model.eval()
    try:
        with torch.no_grad():
            alone = [loss for sample in samples for loss in _losses(model, [sample])]
            packed = _losses(model, samples)
    finally:
        model.train(training)
    return alone, packed


def _losses(model: Any, samples: Sequence[Encoded]) -> list[float]:
    from torch.nn.functional import cross_entropy

    batch = {name: each.to(model.device) for name, each in packed_batch(samples).items()}
    labels = batch.pop("labels")[0, 1:]
    logits = model(**batch, use_cache=False).logits[0, :-1].float()
    found = cross_entropy(logits, labels, reduction="none", ignore_index=IGNORED)
    return [float(loss) for loss in found[labels != IGNORED]]


def keeps_apart(model: Any, samples: Sequence[Encoded], *, bf16: bool) -> tuple[bool, str]:
    """Whether the model's losses are the same packed and alone, and the two in words.

    Token by token, for in a mean what a sample sees of another one may go under.

    Args:
        model: A causal language model.
        samples: Samples of the subset; the first few are tried.
        bf16: The model computes in bfloat16.
    """
    alone, packed = losses(model, samples[:TRIED])
    tolerance = TOLERANCE_BF16 if bf16 else TOLERANCE
    apart = max((abs(a - b) for a, b in zip(alone, packed, strict=True)), default=0.0)
    count = max(1, len(alone))
    same = apart <= tolerance * max(1.0, sum(alone) / count)
    return same, (
        f"loss {sum(alone) / count:.6f} alone, {sum(packed) / count:.6f} packed, of a token up to "
        f"{apart:.6f} apart"
    )

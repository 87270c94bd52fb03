"""Packing, which puts samples into one row without their seeing each other.

Whether a model keeps them apart depends on its code and its attention kernel, so it is tried with
the model itself before anything is trained.
"""

from collections.abc import Sequence
from typing import Any

from opencs_assets.checkpoints.encoding import IGNORED, Encoded

# A token's loss may differ by so much, in units of the mean loss; bfloat16 itself has 8 bits.
TOLERANCE = 1e-4
TOLERANCE_BF16 = 5e-2
TRIED = 4


def packed_batch(samples: Sequence[Encoded]) -> dict[str, Any]:
    """Samples as one row whose positions begin anew with each of them.

    Returns:
        ``input_ids``, ``position_ids`` and ``labels``, each int64 of shape (1, tokens). There is
        no attention mask, since the positions show where a sample begins. The first label of each
        sample is ignored, for the token before it belongs to another sample.
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
    """The loss of each response token, with each sample alone and with all of them packed."""
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

    batch = {name: tensor.to(model.device) for name, tensor in packed_batch(samples).items()}
    labels = batch.pop("labels")[0, 1:]
    logits = model(**batch, use_cache=False).logits[0, :-1].float()
    by_token = cross_entropy(logits, labels, reduction="none", ignore_index=IGNORED)
    return [float(loss) for loss in by_token[labels != IGNORED]]


def keeps_apart(model: Any, samples: Sequence[Encoded], *, bf16: bool) -> tuple[bool, str]:
    """Whether the first samples' losses are the same packed and alone, and both in words.

    They are compared token by token, for in a mean what a sample sees of another may go under.
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

"""Rows of several samples, and the trial whether a model keeps these apart."""

from types import SimpleNamespace
from typing import Any

import pytest

from opencs_assets.checkpoints.encoding import IGNORED, Encoded
from opencs_assets.checkpoints.packing import TRIED, keeps_apart, losses, packed_batch

SAMPLES = [
    Encoded([5, 6, 7], [IGNORED, 6, 7], truncated=False),
    Encoded([8], [8], truncated=False),
    Encoded([1, 2], [1, 2], truncated=False),
]


def test_positions_begin_anew_and_no_label_follows_another_sample():
    batch = {name: tensor.tolist() for name, tensor in packed_batch(SAMPLES).items()}
    assert batch == {
        "input_ids": [[5, 6, 7, 8, 1, 2]],
        "position_ids": [[0, 1, 2, 0, 0, 1]],
        "labels": [[IGNORED, 6, 7, IGNORED, IGNORED, 2]],
    }


class Model:
    """Says the next number with a loss that grows with what stands before the sample."""

    def __init__(self, leaks: dict[int, float]) -> None:
        self.training, self.leaks = True, leaks
        self.device = "cpu"

    def eval(self) -> None:
        self.training = False

    def train(self, mode: bool) -> None:
        self.training = mode

    def __call__(self, input_ids: Any, position_ids: Any, use_cache: bool) -> Any:
        import torch

        assert not self.training
        ids, positions = input_ids[0].tolist(), position_ids[0].tolist()
        logits = torch.zeros(1, len(ids), 10)
        for at, (token, position) in enumerate(zip(ids, positions, strict=True)):
            leak = self.leaks.get(token, 0.0) if at > position else 0.0
            # The loss of the next number is 1, and with the leak so much more.
            right = torch.exp(torch.tensor(-1.0 - leak))
            logits[0, at] = torch.log((1 - right) / 9)
            logits[0, at, (token + 1) % 10] = torch.log(right)
        return SimpleNamespace(logits=logits)


PAIRS = [Encoded([at, at + 1, at + 2], [IGNORED, at + 1, at + 2], truncated=False) for at in (1, 4)]


@pytest.mark.parametrize(
    ("leaks", "bf16", "same"),
    [
        ({}, False, True),
        ({4: 5e-5}, False, True),
        ({4: 3e-4}, False, False),
        ({4: 3e-4}, True, True),
        ({4: 0.04}, True, True),
        ({4: 0.07}, True, False),
        # What one token's loss gains another one's loses: the mean stays.
        ({4: 0.2, 5: -0.2}, False, False),
        ({5: -0.2}, False, False),
    ],
)
def test_samples_are_kept_apart_where_each_token_has_the_same_loss(leaks, bf16, same):
    model = Model(leaks)
    alone, packed = losses(model, PAIRS)
    assert alone == pytest.approx([1.0] * 4)
    assert packed == pytest.approx([1, 1, 1 + leaks.get(4, 0), 1 + leaks.get(5, 0)])
    found, words = keeps_apart(model, PAIRS, bf16=bf16)
    assert found is same
    assert words.startswith("loss 1.000000 alone, ")
    assert model.training


def test_the_first_samples_are_tried():
    few = [PAIRS[0]] * (TRIED - 1)
    assert not keeps_apart(Model({4: 1.0}), [*few, PAIRS[1]], bf16=False)[0]
    assert keeps_apart(Model({4: 1.0}), [*few, PAIRS[0], PAIRS[1]], bf16=False)[0]
    assert keeps_apart(Model({}), [Encoded([1], [IGNORED], truncated=False)], bf16=False)[0]

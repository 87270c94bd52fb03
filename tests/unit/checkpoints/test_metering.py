from types import SimpleNamespace

import pytest

from opencs_assets.checkpoints.fit import training_figures
from opencs_assets.checkpoints.metering import (
    device_name,
    flops_a_token,
    model_flops,
    peak_memory_mb,
    peak_tflops,
)
from opencs_assets.checkpoints.watch import LossCurve
from resources.settings import TrainingSettings


@pytest.mark.parametrize(
    ("device", "peak"),
    [
        ("NVIDIA H100 80GB HBM3", 989.0),
        ("NVIDIA A100-SXM4-80GB", 312.0),
        ("NVIDIA L40S", 362.0),
        ("NVIDIA L4", 121.0),
        ("NVIDIA A10G", 70.0),
        ("cpu", None),
        ("NVIDIA GeForce RTX 9090", None),
    ],
)
def test_the_peak_of_the_usual_devices_is_known(device, peak):
    assert peak_tflops(device, None) == peak
    assert peak_tflops(device, 5.0) == 5.0


def test_operations_for_a_token_are_those_of_the_palm_paper():
    # LLaMA2-7B without its embeddings, 2,048 tokens: 6N + 12 L H Q T.
    parameters = 6_607_343_616
    found = flops_a_token(parameters, 32, 32, 128, 2048.0)
    assert found == 6 * parameters + 12 * 32 * 32 * 128 * 2048
    assert found == pytest.approx(4.29e10, rel=0.01)
    # Of an adapter's base no gradients of the weights are computed.
    assert found - flops_a_token(parameters, 32, 32, 128, 2048.0, False) == 2 * parameters


SIZES = {"num_hidden_layers": 2, "num_attention_heads": 4, "hidden_size": 8}


def weight(count: int, **more: int) -> SimpleNamespace:
    return SimpleNamespace(numel=lambda: count, **more)


@pytest.mark.parametrize(
    ("config", "trained", "expected"),
    [
        (SIZES, True, 6 * 30 + 12 * 2 * 4 * 2 * 10),
        (SIZES, False, 4 * 30 + 12 * 2 * 4 * 2 * 10),
        # Embeddings that are the head too are multiplied with.
        ({**SIZES, "tie_word_embeddings": True}, True, 6 * 130 + 12 * 2 * 4 * 2 * 10),
        ({**SIZES, "head_dim": 3}, True, 6 * 30 + 12 * 2 * 4 * 3 * 10),
        ({**SIZES, "head_dim": None}, True, 6 * 30 + 12 * 2 * 4 * 2 * 10),
        ({"num_hidden_layers": 2, "hidden_size": 8}, True, None),
        ({**SIZES, "num_hidden_layers": None}, True, None),
    ],
)
def test_operations_of_a_model_are_those_of_its_sizes(config, trained, expected):
    embedding = weight(100)
    # ZeRO-3 leaves an empty tensor in place of a weight that is elsewhere.
    parameters = [embedding, weight(20), weight(0, ds_numel=10)]
    model = SimpleNamespace(
        config=SimpleNamespace(**config),
        parameters=lambda: parameters,
        get_input_embeddings=lambda: SimpleNamespace(weight=embedding),
    )
    assert model_flops(model, 10, trained) == expected


def test_the_memory_of_this_process_is_told_in_megabytes():
    import torch

    assert device_name() == (torch.cuda.get_device_name() if torch.cuda.is_available() else "cpu")
    assert 50 < peak_memory_mb() < 100_000


def test_utilization_speed_hours_and_price_fit_together():
    """Two devices of 100 TFLOP/s: 1,000 tokens in 20 seconds at 10 GFLOP a token."""
    curve = LossCurve({"log": [{"loss": 2.0}, {"loss": 1.0}], "tokens": 1000, "seconds": 20.0})
    settings = TrainingSettings(peak_tflops=100, gpu_usd_per_hour=3.6)
    found = training_figures(curve, 2, 1e10, settings, "NVIDIA H100", on_gpu=True)
    assert found["tokens_per_second"] == 50
    assert found["mfu"] == pytest.approx(50 * 1e10 / (2 * 100e12))
    assert found["gpu_hours"] == pytest.approx(2 * 20 / 3600)
    assert found["cost_usd"] == pytest.approx(2 * 20 / 3600 * 3.6)
    assert (found["first_loss"], found["final_loss"], found["train_seconds"]) == (2.0, 1.0, 20.0)

    on_cpu = training_figures(curve, 2, 1e10, TrainingSettings(), "cpu", on_gpu=False)
    assert (on_cpu["mfu"], on_cpu["gpu_hours"], on_cpu["cost_usd"]) == (None, 0.0, None)
    free = training_figures(curve, 1, 1e10, TrainingSettings(gpu_usd_per_hour=0), "x", on_gpu=True)
    assert free["cost_usd"] == 0
    unpriced = training_figures(curve, 1, None, TrainingSettings(), "NVIDIA H100", on_gpu=True)
    assert (unpriced["mfu"], unpriced["cost_usd"]) == (None, None)
    stopped = LossCurve({"log": curve.log, "tokens": 1000})
    found = training_figures(stopped, 1, 1e10, settings, "NVIDIA H100", on_gpu=True)
    assert (found["tokens_per_second"], found["mfu"], found["cost_usd"]) == (0, 0, None)

import pytest

from opencs_assets.checkpoints.metering import flops_a_token, peak_tflops


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


def test_utilization_speed_hours_and_price_fit_together():
    """Two devices of 100 TFLOP/s: 1,000 tokens in 20 seconds at 10 GFLOP a token."""

    from opencs_assets.checkpoints.fit import training_figures
    from opencs_assets.checkpoints.watch import LossCurve
    from resources.settings import TrainingSettings

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
    unpriced = training_figures(curve, 1, None, TrainingSettings(), "NVIDIA H100", on_gpu=True)
    assert (unpriced["mfu"], unpriced["cost_usd"]) == (None, None)

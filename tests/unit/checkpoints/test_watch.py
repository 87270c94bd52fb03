"""The loss curve across stops, and SIGTERM."""

import os
import signal
import threading

import pytest

from opencs_assets.checkpoints.watch import LossCurve, StopRequest
from resources.launcher.job import JobError

LOGGED = {"loss": 2.0, "learning_rate": 1e-4, "grad_norm": 0.5, "num_tokens": 30.0}
ROW = {"step": 1, "loss": 2.0, "learning_rate": 1e-4, "grad_norm": 0.5, "tokens": 30}


def plain(row: dict) -> dict:
    return {name: value for name, value in row.items() if name != "tokens_per_second"}


def test_a_curve_goes_on_where_a_stopped_one_ended():
    first = LossCurve()
    first.begin()
    row = first.add(1, 3, LOGGED)
    assert plain(row) == ROW
    assert row["tokens_per_second"] == pytest.approx(30 / first.seconds)
    assert first.log == [row]
    kept = first.notes()
    assert kept == {"log": [row], "tokens": 30, "seconds": first.seconds}

    # The trainer of a new process counts its own tokens from 0, over all its steps.
    second = LossCurve({**kept, "seconds": 100.0})
    assert (second.log, second.tokens, second.seconds) == ([row], 30, 100.0)
    second.begin()
    second.add(2, 3, {**LOGGED, "num_tokens": 20})
    before = second.seconds
    last = second.add(3, 3, {**LOGGED, "num_tokens": 25, "grad_norm": None})
    assert [each["tokens"] for each in second.log] == [30, 50, 55]
    assert last["grad_norm"] == 0
    assert 100 < before < second.seconds < 200
    assert last["tokens_per_second"] == pytest.approx(5 / (second.seconds - before))
    # The notes of a state are those of its step.
    assert kept["log"] == [row]


@pytest.mark.parametrize("name", ["loss", "grad_norm"])
@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_a_number_that_is_none_ends_the_training(name, value):
    curve = LossCurve()
    with pytest.raises(JobError, match=rf"{name} is {value} at step 2 of 9; lower"):
        curve.add(2, 9, {**LOGGED, name: value})
    assert curve.log == []


def test_sigterm_is_heard_while_it_is_listened_to_and_not_after():
    heard: list[int] = []
    before = signal.signal(signal.SIGTERM, lambda *_: heard.append(1))
    try:
        with StopRequest() as stop:
            assert not stop.agreed()
            os.kill(os.getpid(), signal.SIGTERM)
            assert stop.agreed()
        assert heard == []
        os.kill(os.getpid(), signal.SIGTERM)
        assert heard == [1]
    finally:
        signal.signal(signal.SIGTERM, before)


def test_in_a_thread_sigterm_is_left_alone():
    seen: list[object] = []

    def listen() -> None:
        with StopRequest():
            seen.append(signal.getsignal(signal.SIGTERM))

    before = signal.getsignal(signal.SIGTERM)
    thread = threading.Thread(target=listen)
    thread.start()
    thread.join()
    assert seen == [before]
    assert signal.getsignal(signal.SIGTERM) == before

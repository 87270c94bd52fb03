"""Trackers get the curve besides Dagster: real runs of Weights & Biases and MLflow, offline."""

import sqlite3

import pytest

from resources.settings import TrainingSettings

pytestmark = [pytest.mark.train, pytest.mark.soak]


def test_both_trackers_get_the_curve(make_job, start, tmp_path):
    pytest.importorskip("wandb")
    pytest.importorskip("mlflow")
    job, content = make_job(steps=3, settings=TrainingSettings(report_to=("wandb", "mlflow")))
    result = start(
        content,
        WANDB_MODE="offline",
        WANDB_DIR=str(tmp_path),
        WANDB_SILENT="true",
        MLFLOW_TRACKING_URI=f"sqlite:///{tmp_path / 'mlflow.db'}",
    ).result()

    (run,) = (tmp_path / "wandb").glob("offline-run-*/run-*.wandb")
    assert b"train/loss" in run.read_bytes()
    assert job.provenance[:16].encode() in run.read_bytes()
    with sqlite3.connect(tmp_path / "mlflow.db") as database:
        rows = database.execute(
            "select step, value from metrics where key = 'loss' order by step"
        ).fetchall()
        (name,) = database.execute("select name from runs").fetchone()
    assert rows == [(row["step"], pytest.approx(row["loss"])) for row in result["log"]]
    assert name == job.provenance[:16]

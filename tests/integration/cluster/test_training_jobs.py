"""Real fine-tunings as Jobs of the launcher: on one node, preempted, on two nodes, and from a run
that is a pod itself.
"""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import dagster as dg
import pytest
import tomli_w

from tests.integration.cluster.launching import IMAGE, SETTINGS
from tests.integration.cluster.orchestrator import PARTITION, Orchestrator, orchestrating
from tests.integration.training.test_launcher import Platform, failure, told
from tests.kubernetes_node.client import IMAGE as RUN_IMAGE
from tests.kubernetes_node.client import JOBS, PYTHON_IMAGE, ROOT, Cluster

pytestmark = pytest.mark.train
LABEL = "opencs.io/component=training"


def configure(home: Path, model: Path, kubeconfig: Path, kind: str = "kubernetes", **values: Any):
    launcher = {
        **SETTINGS,
        "memory": "4Gi",
        "claims": {str(model): "model"},
        "kubeconfig": str(kubeconfig),
        **values,
    }
    content = {
        "training": {"save_every_steps": 4},
        "launcher": {"kind": kind, "kubernetes": launcher},
    }
    (home / "settings.toml").write_text(tomli_w.dumps(content))


@pytest.fixture
def home(tmp_path: Path) -> Path:
    folder = tmp_path / "home"
    folder.mkdir()
    return folder


@pytest.fixture
def cluster(cluster: Cluster, home: Path, tiny_model: Path) -> Cluster:
    image = {**PYTHON_IMAGE, "KUBECONFIG": str(cluster.kubeconfig), "DS_ACCELERATOR": "cpu"}
    cluster.configure(
        images={IMAGE: image, RUN_IMAGE: image},
        claims={"home": str(home), "model": str(tiny_model)},
    )
    return cluster


def test_a_fine_tuning_and_its_answers_are_jobs_that_report(cluster, home, tiny_model):
    configure(home, tiny_model, cluster.kubeconfig)
    platform = Platform(home, tiny_model)
    platform.run("benchmark_questions")
    result = platform.run("checkpoint", "model_answers")
    checkpoint = told(result, "checkpoint")
    assert (checkpoint["samples"], checkpoint["steps"], checkpoint["devices"]) == (4, 2, 1)
    assert checkpoint["loss_curve"].startswith("![plot](data:image/png;base64,")
    assert (Path(checkpoint["checkpoint"]) / "opencs.json").exists()
    assert told(result, "model_answers")["generated"] == 24
    trained, answered = cluster.requests("create", JOBS)
    labels = trained["body"]["metadata"]["labels"]
    assert labels["opencs.io/asset"] == "checkpoint"
    assert labels["dagster/run-id"] == result.run_id
    assert answered["body"]["metadata"]["labels"]["opencs.io/asset"] == "model_answers"
    said = [entry.user_message for entry in platform.instance.all_logs(result.run_id)]
    assert any(line.startswith("training on 4 samples for 2 steps") for line in said)

    again = platform.run("checkpoint", "model_answers")
    assert told(again, "checkpoint")["reused"]
    assert told(again, "model_answers")["reused"]
    assert len(cluster.requests("create", JOBS)) == 2


def test_what_training_says_is_the_failure(cluster, home, tiny_model):
    configure(home, tiny_model, cluster.kubeconfig)
    platform = Platform(home, tiny_model)
    platform.choose([])
    data = failure(platform.run("checkpoint", raises=False), "checkpoint").user_failure_data
    assert "is empty; materialize its selector first" in data.description


def states(home: Path) -> list[Path]:
    return list((home / "checkpoints").glob("d/random@tiny/.training-*/states/*/complete.json"))


def when_kept(cluster: Cluster, home: Path) -> str:
    """Wait for a kept state; returns the name of the pod that kept it."""
    cluster.wait(lambda: states(home), 120)
    (pod,) = [pod for pod in cluster.pods(labels=LABEL) if pod["status"]["phase"] == "Running"]
    return str(pod["metadata"]["name"])


@pytest.mark.soak
def test_a_preempted_forced_fine_tuning_goes_on_from_its_state(cluster, home, tiny_model):
    # Forced, since "begin anew" must not be said again to the pod that takes over.
    from concurrent.futures import ThreadPoolExecutor

    configure(home, tiny_model, cluster.kubeconfig)
    platform = Platform(home, tiny_model, steps=24)
    with ThreadPoolExecutor(1) as beside:
        running = beside.submit(platform.run, "checkpoint", force=True)
        cluster.preempt(when_kept(cluster, home))
        checkpoint = told(running.result(300), "checkpoint")
    assert checkpoint["resumed_from_step"] >= 1
    assert checkpoint["steps"] == 24
    assert len(cluster.requests("create", JOBS)) == 1


def test_a_fine_tuning_on_two_nodes(cluster, home, tiny_model):
    configure(home, tiny_model, cluster.kubeconfig, "kubernetes_multinode", nodes=2)
    platform = Platform(home, tiny_model)
    checkpoint = told(platform.run("checkpoint"), "checkpoint")
    assert (checkpoint["devices"], checkpoint["steps"], checkpoint["samples"]) == (2, 2, 4)
    (made,) = cluster.requests("create", JOBS)
    assert made["body"]["spec"]["completionMode"] == "Indexed"


@pytest.fixture
def orchestrator(cluster: Cluster, home: Path, tiny_model: Path, monkeypatch) -> Iterator[Any]:
    monkeypatch.setenv("OPENCS_HOME", str(home))
    monkeypatch.setenv("PYTHONPATH", str(ROOT))
    configure(home, tiny_model, cluster.kubeconfig)
    # Long enough that it is not done when the end comes.
    Platform(home, tiny_model, steps=160)
    with orchestrating(cluster, home) as running:
        yield running


@pytest.mark.soak
def test_a_run_in_a_pod_trains_in_a_job_and_is_terminated_with_it(orchestrator: Orchestrator):
    cluster, home = orchestrator.cluster, orchestrator.home
    run_id = orchestrator.launch("train_job", PARTITION)
    when_kept(cluster, home)
    # As the UI does.
    assert orchestrator.instance.run_launcher.terminate(run_id)
    assert orchestrator.finish(run_id).status == dg.DagsterRunStatus.CANCELED
    cluster.wait(lambda: not cluster.pods(labels=LABEL) and not cluster.jobs(labels=LABEL), 60)
    assert states(home)

    run_id = orchestrator.launch("train_job", PARTITION)
    pod = orchestrator.pod_of(run_id)
    assert orchestrator.finish(run_id, 300).status == dg.DagsterRunStatus.SUCCESS, cluster.log(pod)
    event = orchestrator.instance.get_latest_materialization_event(dg.AssetKey("checkpoint"))
    found = {name: each.value for name, each in event.asset_materialization.metadata.items()}
    assert int(str(found["resumed_from_step"])) >= 1
    marker = Path(str(found["checkpoint"])) / "opencs.json"
    assert json.loads(marker.read_text())

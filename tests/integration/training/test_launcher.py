"""Checkpoint and answers as assets: real processes through Pipes, reused, and failing clearly."""

import os
import subprocess
import sys
import time
from pathlib import Path

import dagster as dg
import polars as pl
import pytest

from opencs_assets.answers.assets import build_answer_assets
from opencs_assets.answers.checks import build_answer_checks
from opencs_assets.benchmarks.assets import build_benchmark_assets
from opencs_assets.checkpoints.assets import build_checkpoint_assets
from opencs_assets.checkpoints.checks import build_checkpoint_checks
from opencs_assets.config.experiments import load_experiments
from opencs_assets.tables.datasets import RAW_DATASET
from opencs_assets.tables.lake import Lake
from opencs_assets.tables.selection import OUTSIDE_SAMPLES, SELECTED_SUBSET
from opencs_assets.wiring.home import Home
from opencs_assets.wiring.lake_io import LakeIOManager
from opencs_assets.wiring.partitions import build_partitions
from resources.launcher.resource import TrainingLauncher
from resources.launcher.work import Work
from resources.settings import load_settings

KEY = dg.MultiPartitionKey({"dataset": "d", "experiment": "random@tiny"})
EXPERIMENTS = """
base_models:
  tiny: {{source: {model}}}
recipes:
  fast: {{steps: {steps}, max_length: 96, batch_size: 32, learning_rate: 0.001, max_new_tokens: 4}}
experiments:
  random@tiny: {{selector: random, base_model: tiny, recipe: fast}}
"""


class Platform:
    """The assets over one home, with a subset of four samples in its lake."""

    def __init__(self, home: Path, model: Path, steps: int = 2) -> None:
        self.home = home
        self.instance = dg.DagsterInstance.ephemeral()
        self.instance.add_dynamic_partitions("dataset", ["d"])
        self.declare(model, steps)
        rows = [
            {
                "sample_id": f"s{place}",
                "row": place,
                "system": None,
                "messages": [
                    {"role": "user", "content": f"Say {place}."},
                    {"role": "assistant", "content": f"It is {place}."},
                ],
                "instruction": f"Say {place}.",
                "response": f"It is {place}.",
                "turns": 1,
                "template": None,
                "source_format": "openai",
            }
            for place in range(6)
        ]
        self.lake = Lake(load_settings(home).lake)
        raw = pl.DataFrame(rows, schema=RAW_DATASET.schema)
        self.lake.write("raw_dataset", raw, {"dataset": "d"})
        self.choose([3, 1, 0, 5])

    def declare(self, model: Path, steps: int) -> None:
        text = EXPERIMENTS.format(model=model, steps=steps)
        (self.home / "experiments.yaml").write_text(text)

    def choose(self, places: list[int]) -> None:
        rows = [
            {"rank": rank, "sample_id": f"s{place}", "reason": "chosen", "pinned": False}
            for rank, place in enumerate(places)
        ]
        subset = pl.DataFrame(rows, schema=SELECTED_SUBSET.schema)
        where = {"dataset": "d", "selector": "random"}
        self.lake.write("selected_subset", subset, where)
        self.lake.write("outside_samples", OUTSIDE_SAMPLES.empty(), where)

    def run(self, *names: str, force: bool = False, raises: bool = True):
        experiments = load_experiments(self.home)
        partitions = build_partitions(experiments)
        own = [
            *build_checkpoint_assets(experiments, partitions),
            *build_benchmark_assets(experiments),
            *build_answer_assets(experiments, partitions),
        ]
        before = [
            dg.AssetSpec("raw_dataset", partitions_def=partitions.dataset),
            dg.AssetSpec("selected_subset", partitions_def=partitions.dataset_selector),
        ]
        checks = [
            *build_checkpoint_checks(partitions),
            *build_answer_checks(experiments, partitions),
        ]
        partitioned = names != ("benchmark_questions",)
        return dg.materialize(
            [*own, *[spec.with_io_manager_key("lake") for spec in before], *checks],
            selection=dg.AssetSelection.assets(*names),
            partition_key=KEY if partitioned else None,
            instance=self.instance,
            tags={"opencs/force": "true"} if force else None,
            raise_on_error=raises,
            resources={
                "home": Home(path=str(self.home)),
                "lake": LakeIOManager(home=str(self.home)),
                "launcher": TrainingLauncher(home=str(self.home)),
            },
        )


@pytest.fixture
def platform(tmp_path: Path, tiny_model: Path, warm) -> Platform:
    return Platform(tmp_path, tiny_model)


def told(result, asset: str) -> dict:
    (event,) = result.asset_materializations_for_node(asset)
    return {name: entry.value for name, entry in event.metadata.items()}


@pytest.mark.soak
@pytest.mark.train
def test_trained_and_answered_once_and_reused_after(platform, capfd):
    platform.run("benchmark_questions")
    result = platform.run("checkpoint", "model_answers")
    checkpoint = told(result, "checkpoint")
    assert not checkpoint["reused"]
    assert (checkpoint["samples"], checkpoint["steps"]) == (4, 2)
    assert checkpoint["loss_curve"].startswith("![plot](data:image/png;base64,")
    assert Path(checkpoint["checkpoint"]).parent == platform.home / "checkpoints/d/random@tiny"
    assert told(result, "model_answers")["generated"] == 24
    evaluations = result.get_asset_check_evaluations()
    assert len(evaluations) == 6
    # Random weights may well have nothing to say, which is told and does not block.
    assert {each.check_name for each in evaluations if not each.passed} <= {"few_empty"}
    # The processes' own progress reaches the terminal.
    shown = capfd.readouterr().err
    assert "2/2 steps" in shown
    assert "24/24 answers" in shown

    again = platform.run("checkpoint", "model_answers")
    assert told(again, "checkpoint")["reused"]
    assert told(again, "model_answers")["reused"]

    forced = platform.run("checkpoint", "model_answers", force=True)
    assert not told(forced, "checkpoint")["reused"]
    assert not told(forced, "model_answers")["reused"]

    platform.choose([3, 1, 0, 4])
    changed = platform.run("checkpoint", "model_answers")
    assert told(changed, "checkpoint")["provenance"] != checkpoint["provenance"]
    assert told(changed, "model_answers")["generated"] == 24


def failure(result, step: str) -> dg.Failure:
    (event,) = [event for event in result.all_events if event.is_step_failure]
    assert event.step_key == step
    return event.step_failure_data


@pytest.mark.train
def test_what_the_process_says_is_the_failure(platform):
    platform.choose([])
    data = failure(platform.run("checkpoint", raises=False), "checkpoint")
    assert "is empty; materialize its selector first" in data.user_failure_data.description
    assert "DagsterPipesExecutionError" not in data.user_failure_data.description


MODULE = """
import os, signal, sys, time
from resources.launcher.job import JobError, run_job

def work(job, channel):
    if job["do"] == "mendable":
        raise JobError("the folder x is full; free 2 GB")
    if job["do"] == "bug":
        return {}["missing"]
    if job["do"] == "killed":
        os.kill(os.getpid(), signal.SIGKILL)
    if job["do"] == "dies":
        print("half a line of hope", file=sys.stderr)
        print("libfoo.so: cannot open", file=sys.stderr, flush=True)
        os._exit(7)
    if job["do"] == "sleep":
        open(job["file"], "w").write(str(os.getpid()))
        time.sleep(600)
    return {"did": job["do"], "rows": __import__("polars").read_parquet(job["table"]).height}

sys.exit(run_job(work, sys.argv[1:]))
"""


@pytest.fixture
def launch(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    (tmp_path / "child_of_test.py").write_text(MODULE)
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    results: list = []

    def launch(do: str, module: str = "child_of_test"):
        @dg.asset
        def started(context: dg.AssetExecutionContext, launcher: TrainingLauncher):
            tables = {"table": pl.DataFrame({"x": [1, 2]})}
            results.append(launcher.run(context, Work(module, {"do": do}, tables)))
            return dg.MaterializeResult()

        return dg.materialize(
            [started],
            resources={"launcher": TrainingLauncher(home=str(tmp_path))},
            raise_on_error=False,
        )

    launch.results = results
    return launch


def test_job_and_tables_go_out_and_the_result_comes_back(launch):
    assert launch("fine").success
    assert launch.results == [{"did": "fine", "rows": 2}]


@pytest.mark.parametrize(
    ("do", "module", "says"),
    [
        ("mendable", "child_of_test", "child_of_test: the folder x is full; free 2 GB"),
        ("bug", "child_of_test", "child_of_test: KeyError: 'missing'"),
        ("killed", "child_of_test", "killed by SIGKILL, as the system does when memory runs out"),
        ("dies", "child_of_test", "child_of_test: libfoo.so: cannot open"),
        ("fine", "no_such_module", "No module named no_such_module"),
    ],
)
def test_a_failed_process_is_one_clear_failure(launch, do, module, says):
    data = failure(launch(do, module), "started").user_failure_data
    assert says in data.description
    assert "\n" not in data.description


PARENT = """
import sys
import dagster as dg
from resources.launcher.resource import TrainingLauncher
from resources.launcher.work import Work

@dg.asset
def started(context: dg.AssetExecutionContext, launcher: TrainingLauncher):
    launcher.run(context, Work("child_of_test", {"do": "sleep", "file": sys.argv[1]}))

dg.materialize([started], resources={"launcher": TrainingLauncher(home=".")})
"""


def test_a_process_does_not_outlive_the_run_that_started_it(launch, tmp_path):
    script, file = tmp_path / "parent.py", tmp_path / "pid"
    script.write_text(PARENT)
    root = str(Path(__file__).parents[3])
    parent = subprocess.Popen(
        [sys.executable, str(script), str(file)],
        env={**os.environ, "PYTHONPATH": f"{tmp_path}{os.pathsep}{root}"},
        stderr=subprocess.DEVNULL,
    )
    for _ in range(600):
        if file.exists() and file.read_text():
            break
        time.sleep(0.1)
    child = int(file.read_text())
    parent.kill()
    parent.wait()
    for _ in range(100):
        if not alive(child):
            return
        time.sleep(0.1)
    os.kill(child, 9)
    pytest.fail("the process went on without its parent")


def alive(pid: int) -> bool:
    """Whether the process runs; one that ended and that nobody waited for does not."""
    status = Path(f"/proc/{pid}/stat")
    try:
        return status.read_text().rsplit(")", 1)[1].split()[0] != "Z"
    except FileNotFoundError:
        return False
